"""ConfirmScreen: a question before a destructive action; the harmless answer is the default."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content

from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import safe_content
from rnnlm_tui.tui.widgets.panel import TitledContainer


class ConfirmScreen(Overlay[bool]):
    """Returns True only for a capital D."""

    BINDINGS = [Binding("enter,escape,q", "answer(False)", show=False), Binding("D", "answer(True)", show=False)]  # noqa: RUF012 (declared so by Textual)

    def __init__(self, title: str, fact: str, more: str, keep: str, proceed: str) -> None:
        super().__init__()
        self._title, self._fact, self._more, self._keep, self._proceed = title, fact, more, keep, proceed

    def compose(self) -> ComposeResult:
        with TitledContainer(title=self._title, id="confirm-box", classes="-highlighted"):
            yield OverlayText(self._text(), id="confirm-text")

    def action_answer(self, answer: bool) -> None:
        """Close with this answer."""
        self.dismiss(answer)

    def _text(self) -> Content:
        lines = [
            Content(""),
            Content.assemble("  ", safe_content(self._fact, newlines="space", limit=54).stylize(palette.TEXT)),
            Content.assemble("  ", safe_content(self._more, newlines="space", limit=54).stylize(palette.DIM)),
            Content(""),
            Content.assemble(("› ", palette.FOCUS), ("enter  ", f"bold {palette.FOCUS}"), (self._keep, f"bold {palette.BRIGHT}")),
            Content.assemble(("  D      ", f"bold {palette.TEXT}"), safe_content(self._proceed, newlines="space").stylize(palette.TEXT)),
        ]
        return Content("\n").join(lines)
