"""The preview of a draft's text shows every character, and tokens with and without colours."""

from __future__ import annotations

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.widgets.form import preview_lines


def test_every_character_is_shown_in_lines_that_fit_and_tokens_differ_in_colour_or_by_a_bar() -> (
    None
):
    code = ("def", " f", "():", "\n"), ("\t", "return", " 1", "\n"), ("\x1b[31m", "[@click=x]")
    preview = Preview("raw", "x" * 200, (*code, ("word ",) * 80), exact=False)
    lines = preview_lines(preview, 40)
    assert all(line.cell_length <= 40 for line in lines)
    assert [line.plain for line in lines[2:4]] == ["   def·f():↵", "   →return·1↵"]
    assert [str(span.style) for span in lines[2].spans] == [palette.TEXT, palette.TRAIN] * 2
    assert "\x1b" not in lines[4].plain
    assert preview_lines(preview, 40, apart=True)[2].plain == "   def|·f|():|↵"
    assert "words, until the tokenizer is built" in preview_lines(preview, 80)[1].plain
