"""Leaving while something trains: it goes on, and the harmless answer is the default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content

from rnnlm_tui.contract.figures import time_left
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import from_outside
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.status_line import status_content

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary

LOOK_SECONDS = 0.5
"""Between two looks at what is said of the runs."""
SHOWN = 3
"""Running runs that are named; the others are counted."""


class QuitScreen(Overlay[str]):
    """Answers `leave`, `stop` (the open run), or nothing to stay."""

    BINDINGS = [Binding("enter,q", "answer('leave')", show=False), Binding("S", "answer('stop')", show=False), Binding("escape", "answer('')", show=False)]  # noqa: RUF012 (Textual declares it so)

    def __init__(self, living: Sequence[RunSummary], open_run: str | None, newest: Callable[[], Sequence[RunSummary]]) -> None:
        """`newest` tells the runs as they are while this stands."""
        super().__init__()
        self._living = tuple(living)
        self._newest = newest
        self._shown: Content | None = None
        self._open = next((summary for summary in living if summary.run == open_run), None)

    def compose(self) -> ComposeResult:
        with TitledContainer(title="Leave rnnlm-tui?", id="quit-box", classes="-highlighted"):
            self._shown = self._text()
            yield OverlayText(self._shown, id="quit-text")

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """The same runs as they are now."""
        newest = {summary.run: summary for summary in self._newest()}
        self._living = tuple(newest.get(summary.run, summary) for summary in self._living)
        self._open = newest.get(self._open.run, self._open) if self._open is not None else None
        if self._open is not None and self._open.status not in LIVING:
            self._open = None
        text = self._text()
        if text != self._shown:
            self._shown = text
            self.query_one("#quit-text", OverlayText).update(text)

    def action_answer(self, answer: str) -> None:
        """Close with this answer; stopping needs an open run that lives."""
        if answer != "stop" or self._open is not None:
            self.dismiss(answer)

    def _text(self) -> Content:
        ascii_only = bool(getattr(self.app, "ascii_only", False))
        lines = [Content("")]
        for summary in self._living[:SHOWN]:
            left = f", {time_left(summary.eta_seconds)[0]}" if summary.status == "running" and summary.eta_seconds is not None else ""
            name = from_outside(summary.run, newlines="show", limit=24).stylize(f"bold {palette.BRIGHT}")
            lines.append(Content.assemble("  ", name, " ", status_content(summary.status, ascii_only=ascii_only, bold=True), (left, palette.TEXT)))
        if len(self._living) > SHOWN:
            lines.append(Content.styled(f"  and {len(self._living) - SHOWN} more", palette.DIM))
        trains = any(summary.status in LIVING for summary in self._living)
        lines.append(Content.styled(f"  {'Training goes on without this terminal.' if trains else 'Nothing trains any more.'}", palette.TEXT))
        lines.append(Content.styled("  Start rnnlm-tui again to come back.", palette.DIM))
        lines.append(Content(""))
        lines.append(
            Content.assemble(
                ("› ", palette.FOCUS), ("enter  ", f"bold {palette.FOCUS}"), ("leave, keep training" if trains else "leave", f"bold {palette.BRIGHT}")
            )
        )
        if self._open is not None:
            which = "training" if len(self._living) == 1 else self._open.run
            lines.append(
                Content.assemble(("  S      ", f"bold {palette.TEXT}"), from_outside(f"stop {which} at a checkpoint, then leave").stylize(palette.TEXT))
            )
        lines.append(Content.assemble(("  esc    ", f"bold {palette.TEXT}"), ("stay", palette.TEXT)))
        return Content("\n").join(lines)
