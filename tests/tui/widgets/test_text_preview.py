"""The preview of a draft's text shows every character, and tokens with and without colours."""

from __future__ import annotations

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.widgets.form import preview_lines

CODE = Preview(
    "raw",
    "the file is code (.py)",
    (("def", " f", "():", "\n"), ("\t", "return", " 1", "\n")),
    exact=True,
)


def test_white_space_is_visible_and_neighbouring_tokens_differ_in_colour() -> None:
    head, unit, first, second = preview_lines(CODE, 60)
    assert head.plain.strip() == "layout raw: the file is code (.py)"
    assert unit.plain.strip() == "first lines as tokens"
    assert (first.plain, second.plain) == ("   def·f():↵", "   →return·1↵")
    assert [str(span.style) for span in first.spans] == [
        palette.TEXT,
        palette.TRAIN,
        palette.TEXT,
        palette.TRAIN,
    ]


def test_tokens_are_separated_without_colours() -> None:
    assert preview_lines(CODE, 60, apart=True)[2].plain == "   def|·f|():|↵"


def test_no_line_is_too_wide_and_escapes_are_text() -> None:
    long = Preview(
        "raw", "x" * 200, (("word ",) * 80, ("\x1b[31m", "[@click=app.quit]")), exact=False
    )
    lines = preview_lines(long, 40)
    assert all(line.cell_length <= 40 for line in lines)
    assert "\x1b" not in lines[3].plain
    assert "words, until the tokenizer is built" in preview_lines(long, 80)[1].plain
