"""Texts with line breaks in one line."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.text import escaped, escaped_list, unescaped, unescaped_list

TEXTS = ["plain", "two\nlines\t", "a\\n", "\\", "a|b", "\\|", " ", "ends with \\", "漢\n\n"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_reads_back_as_it_was_from_one_line(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert "\n" not in escaped(text)


def test_several_texts_read_back_from_one_line() -> None:
    assert unescaped_list(escaped_list(TEXTS)) == TEXTS
    assert unescaped_list("") == []


def test_people_may_leave_bars_at_the_ends_and_write_other_backslashes() -> None:
    assert unescaped_list(r"\n|The end|") == ["\n", "The end"]
    assert unescaped_list("||.|") == ["."]
    assert unescaped(r"\d+") == r"\d+"
    assert unescaped_list("a\\") == ["a\\"]
