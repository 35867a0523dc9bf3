"""A preview of a draft's text as tokens, with visible white space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import safe_text

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.preview import Preview

INDENT = 3
MOST_LINES = 5


class TextPreview(Static):
    """The layout and its reason, then the first lines; neighbouring tokens differ in colour."""

    DEFAULT_CSS = f"""
    TextPreview {{ height: auto; margin: 1 0 0 0; color: {palette.TEXT}; display: none; }}
    TextPreview.-shown {{ display: block; }}
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._preview: Preview | None = None

    def show(self, preview: Preview | None) -> None:
        """Show a preview, or nothing."""
        if preview != self._preview:
            self._preview = preview
            self.set_class(preview is not None, "-shown")
            self._write()

    def on_resize(self) -> None:
        """Cut the lines to the new width."""
        self._write()

    def _write(self) -> None:
        if self._preview is not None and self.size.width:
            apart = bool(getattr(self.app, "no_color", False))
            self.update(Content("\n").join(preview_lines(self._preview, self.size.width, apart=apart)))


def preview_lines(preview: Preview, width: int, *, apart: bool = False) -> list[Content]:
    """Return two lines about the text, then its first lines, cut to `width`.

    Args:
        apart: put a bar between tokens, for terminals without colours.
    """
    head = Content.assemble((" " * INDENT, ""), ("layout ", palette.DIM), (preview.layout, f"bold {palette.BRIGHT}"))
    if preview.reason:
        head = Content.assemble(head, (f": {safe_text(preview.reason, newlines='space')}", palette.DIM))
    unit = "tokens" if preview.exact else "words, until the tokenizer is built"
    lines = [head, Content.styled(f"{' ' * INDENT}first lines as {unit}", palette.DIM)]
    lines += [Content.assemble(" " * INDENT, _line(pieces, width - INDENT, apart=apart)) for pieces in preview.lines[:MOST_LINES]]
    return [line.truncate(width, ellipsis=True) for line in lines]


def _line(pieces: tuple[str, ...], width: int, *, apart: bool) -> Content:
    from rnnlm_tui.supervisor.preview import visible

    colours = (palette.TEXT, palette.TRAIN)
    parts: list[Content] = []
    used = 0
    for index, piece in enumerate(pieces):
        if used > width:
            break
        shown = safe_text(visible(piece))
        parts.append(Content.styled(f"|{shown}" if apart and index else shown, colours[index % 2]))
        used += cell_len(shown) + apart
    return Content("").join(parts)
