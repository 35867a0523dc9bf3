"""Control characters are made visible."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.text import safe


@pytest.mark.parametrize(
    "character",
    [
        "\x1b",
        "\x07",
        "\x00",
        "\r",
        "\x7f",
        "\x9b",
        "\x85",
        "\u202e",
        "\u2066",
        "\u200b",
        "\u2028",
        "\ud800",
        "\ufeff",
    ],
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
