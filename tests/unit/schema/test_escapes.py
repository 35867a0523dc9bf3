"""Texts with line breaks in one line."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.text import escaped, escaped_list, unescaped, unescaped_list

TEXTS = ["plain", "two\nlines\t", "a\\n", "\\", "a|b", "\\|", " ", "ends with \\", "漢\n\n"]


@pytest.mark.parametrize("text", TEXTS)
def test_escaping_is_reversible(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert "\n" not in escaped(text)


def test_escaping_a_list_is_reversible() -> None:
    assert unescaped_list(escaped_list(TEXTS)) == TEXTS
    assert unescaped_list("") == []


def test_extra_bars_and_other_backslashes_are_accepted() -> None:
    assert unescaped_list(r"\n|The end|") == ["\n", "The end"]
    assert unescaped_list("||.|") == ["."]
    assert unescaped(r"\d+") == r"\d+"
    assert unescaped_list("a\\") == ["a\\"]
