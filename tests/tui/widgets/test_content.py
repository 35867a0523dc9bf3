"""Untrusted text can't act on a terminal; bars are readable without colour."""

from __future__ import annotations

import math
from typing import get_args

from textual.content import Content

from rnnlm_tui.schema.formatting import visible
from rnnlm_tui.tui.text import (
    Newlines,
    WrappedText,
    bar,
    fitting,
    safe_content,
    safe_text,
    time_left,
)

HOSTILE = {
    "ESC": "\x1b[31mred\x1b[0m",
    "OSC 52": "\x1b]52;c;ZXZpbA==\x07",
    "OSC 8": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "DCS": "\x1bP+q544e\x1b\\",
    "C1 CSI": "\x9b31m",
    "C1 OSC": "\x9d0;title\x9c",
    "BEL, BS, DEL": "a\x07b\x08c\x7f",
    "NUL": "\x00",
    "CR": "safe\rover",
    "bidi": "abc\u202edef\u2066x\u2069\u200f",
    "zero width": "a\u200bb\ufeffd\u00ade",
    "line separators": "a\u2028b\u2029c",
    "surrogate": "a\ud800b",
    "tags": "a\U000e0041b",
}
MARKUP = (
    "[red]", "[/", "[/red]", "[@click=app.quit]here[/]", "[b]", "\\[", "[link=http://x]y[/link]",
    "]]", "[$primary]",
)  # fmt: skip


def test_no_control_sequence_is_left_and_markup_is_text() -> None:
    for text in HOSTILE.values():
        for newlines in get_args(Newlines):
            safe = safe_text(text, newlines=newlines)
            assert all(character == "\n" or character.isprintable() for character in safe)
            assert len(safe) >= len(text.replace("\r\n", "\n"))
            safe.encode("utf-8")
    assert safe_text("\x1b\x00\x7f\x9b\u202e") == "␛␀␡‹9b›‹202e›"
    assert visible("\U000e0041") == "‹e0041›"
    for text in MARKUP:
        content = safe_content(text)
        assert (content.plain, content.spans) == (text, [])


def test_ordinary_text_of_any_script_is_untouched() -> None:
    for text in (
        "naïve façade — “quotes”", "日本語のテキスト", "Ελληνικά", "עברית العربية", "🚀 100 %",
        "a\nb", "می\u200cخواهم", "👩\u200d👩\u200d👧", "❤\ufe0f", "葛\U000e0100",
    ):  # fmt: skip
        assert safe_text(text) == text


def test_line_ends_are_kept_joined_or_shown() -> None:
    assert safe_text("a\r\nb\nc") == "a\nb\nc"
    assert safe_text("a\r\nb\nc\td", newlines="space") == "a b c d"
    assert safe_text("a\r\nb\n\t", newlines="show") == "a␍␊b␊␉"
    assert safe_text("a\tb") == "a   b"


def test_limit_counts_cells_and_marks_the_cut() -> None:
    for text, limit, cut in (
        ("abcdef", 6, "abcdef"), ("abcdefg", 6, "abcde…"), ("日本語", 5, "日本…"), ("abc", 0, ""),
        ("\x1b" * 1_000_000, 3, "␛␛…"),
    ):  # fmt: skip
        assert safe_text(text, limit=limit) == cut


def test_keys_before_the_last_one_go_first_where_not_all_fit() -> None:
    keys = [Content(text) for text in ("↑ ↓ scroll", "n next", "esc close")]
    shown = [[key.plain for key in fitting(keys, room, 2)] for room in (29, 28, 21, 20, 0)]
    names = [key.plain for key in keys]
    assert shown == [names, [names[0], names[2]], [names[0], names[2]], names[2:], names[2:]]


def test_a_line_is_never_broken_within_a_grapheme() -> None:
    family, text = "👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧" * 5
    wrapped = WrappedText(4, text)
    lines = [text[slice(*wrapped.span(line))] for line in range(len(wrapped))]
    assert lines == [family * 2, family * 2, family]


def test_any_share_gets_a_cell_and_only_a_full_share_fills_the_bar() -> None:
    for fraction, filled in (
        (0.0, 0), (None, 0), (math.nan, 0), (0.001, 1), (0.5, 5), (0.999, 9), (1.0, 10), (7.0, 10),
        (-1.0, 0),
    ):  # fmt: skip
        assert bar(10, fraction).plain == "━" * filled + "─" * (10 - filled)


def test_time_left_and_margin_are_separate() -> None:
    assert time_left(24.2, 3.1) == ("24 s left", "±3")
    assert time_left(24.2) == ("24 s left", "")
    assert time_left(24.2, 0.2) == ("24 s left", "")
    assert time_left(7500, 300) == ("2 h 05 min left", "±5")
    assert time_left(None) == ("time left unknown", "")
