"""Control characters are made visible, and escape sequences are reversible."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnnlm_tui.schema.formatting import escaped, escaped_list, safe, unescaped, unescaped_list


@pytest.mark.parametrize(
    "character", "\x1b\x07\x00\r\x7f\x9b\x85\u202e\u2066\u200b\u2028\ud800\ufeff"
)
def test_control_characters_are_made_visible(character: str) -> None:
    shown = safe(f"a{character}b")
    assert character not in shown
    assert shown.isprintable()
    assert (shown[0], shown[-1]) == ("a", "b")
    assert len(shown) > 2


def test_ordinary_text_is_unchanged() -> None:
    text = "[red] [/ [@click=app.quit] “Grüße” 日本語 🙂\nnext"
    assert safe(text) == text
    assert safe("a\nb", keep="") == "a␊b"


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "👩\u200d👩\u200d👧", "❤\ufe0f ☎\ufe0e", "葛\U000e0100城", "क्\u200dष"]
)
def test_joiners_and_variation_selectors_are_text(text: str) -> None:
    assert safe(text) == text


TEXTS = st.text("ab\n\t\\n|漢 ", min_size=1)


@given(st.lists(TEXTS))
@example(["plain", "two\nlines\t", "a\\n", "\\", "a|b", "\\|", " ", "ends with \\", "漢\n\n"])
def test_escaping_is_reversible(texts: list[str]) -> None:
    for text in texts:
        assert unescaped(escaped(text)) == text
        assert "\n" not in escaped(text)
    assert unescaped_list(escaped_list(texts)) == texts


def test_extra_bars_and_other_backslashes_are_accepted() -> None:
    assert unescaped_list(r"\n|The end|") == ["\n", "The end"]
    assert unescaped_list("||.|") == ["."]
    assert unescaped(r"\d+") == r"\d+"
    assert unescaped_list("a\\") == ["a\\"]
