"""QuitScreen: the question on leaving while runs have workers; by default they keep running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content

from rnnlm_tui.schema.formatting import time_left
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.status import status_content
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary

UPDATE_SECONDS = 0.5
"""Seconds between updates of the runs."""
SHOWN = 3
"""Runs that are named; the others are counted."""
TRAINS: frozenset[RunStatus] = frozenset({"running", "degraded"})
"""Statuses of runs that keep training."""
FACTS: dict[RunStatus, tuple[str, str]] = {
    "running": (
        "Training continues without this terminal.",
        "Training continues without this terminal.",
    ),
    "preparing": (
        "Preparation continues, then training starts.",
        "Preparation continues, then training starts.",
    ),
    "paused": (
        "It stays paused, in memory, until you resume it.",
        "They stay paused, in memory, until you resume them.",
    ),
    "stalled": (
        "It is stalled; its worker keeps running.",
        "They are stalled; their workers keep running.",
    ),
    "degraded": (
        "Training continues, unsaved until its disk has room.",
        "Training continues, unsaved until their disk has room.",
    ),
}
"""What happens to one run, and to several, if all have this status."""
AFTER: dict[RunStatus, str] = {
    "preparing": "then trains",
    "paused": "stays paused",
    "stalled": "left as it is",
    "degraded": "keeps training, unsaved",
}
"""What happens to a run if others have another status."""
STOPS: dict[RunStatus, str] = {
    "preparing": "stop {run} before its first step",
    "stalled": "ask {run} to stop at a checkpoint",
    "degraded": "stop {run} once a checkpoint has room",
}
"""What S does to the open run; in every other status it stops at a checkpoint."""


class QuitScreen(Overlay[str]):
    """Returns `leave`, `stop` (the open run), or an empty text to stay."""

    BINDINGS = [  # noqa: RUF012
        Binding("enter,q", "answer('leave')", show=False),
        Binding("S", "answer('stop')", show=False),
        Binding("escape", "answer('')", show=False),
    ]

    def __init__(
        self,
        living: Sequence[RunSummary],
        open_run: str | None,
        newest: Callable[[], Sequence[RunSummary]],
    ) -> None:
        """`newest` returns the runs' current state."""
        super().__init__()
        self._living = tuple(living)
        self._newest = newest
        self._shown: Content | None = None
        self._open = next((summary for summary in living if summary.run == open_run), None)

    def compose(self) -> ComposeResult:
        with TitledContainer(title="Leave rnnlm-tui?", id="quit-box", classes="-highlighted"):
            self._shown = self._content()
            yield OverlayText(self._shown, id="quit-text")

    def on_mount(self) -> None:
        self.set_interval(UPDATE_SECONDS, self._update)

    def _update(self) -> None:
        """Show the same runs in their current state."""
        newest = {summary.run: summary for summary in self._newest()}
        self._living = tuple(newest.get(summary.run, summary) for summary in self._living)
        self._open = newest.get(self._open.run, self._open) if self._open is not None else None
        if self._open is not None and self._open.status not in LIVING:
            self._open = None
        text = self._content()
        if text != self._shown:
            self._shown = text
            self.query_one("#quit-text", OverlayText).update(text)

    def action_answer(self, answer: str) -> None:
        """Close with this answer; stopping needs an open run with a worker."""
        if answer != "stop" or self._open is not None:
            self.dismiss(answer)

    def _content(self) -> Content:
        living = [summary.status for summary in self._living if summary.status in LIVING]
        kinds, several = set(living), len(living) > 1
        lines = [Content("")]
        for summary in self._living[:SHOWN]:
            left = (
                time_left(summary.eta_seconds)[0]
                if summary.status == "running" and summary.eta_seconds is not None
                else ""
            )
            after = (
                f", {words}"
                if (words := left or (AFTER.get(summary.status, "") if len(kinds) > 1 else ""))
                else ""
            )
            name = safe_content(summary.run, newlines="show", limit=24).stylize(
                f"bold {palette.BRIGHT}"
            )
            lines.append(
                Content.assemble(
                    "  ",
                    name,
                    " ",
                    status_content(summary.status, bold=True),
                    (after, palette.TEXT),
                )
            )
        if len(self._living) > SHOWN:
            lines.append(Content.styled(f"  and {len(self._living) - SHOWN} more", palette.DIM))
        fact = (
            "No run is training any more."
            if not kinds
            else FACTS[living[0]][several]
            if len(kinds) == 1
            else "Each run is left as it is."
        )
        lines.append(Content.styled(f"  {fact}", palette.TEXT))
        lines.append(Content.styled("  Start rnnlm-tui again to come back.", palette.DIM))
        lines.append(Content(""))
        if kinds & TRAINS:
            leave = "leave, keep training"
        elif "preparing" in kinds:
            leave = "leave, keep preparing"
        else:
            leave = (
                f"leave, keep {'them' if several else 'it'} paused"
                if kinds == {"paused"}
                else "leave"
            )
        lines.append(
            Content.assemble(
                ("› ", palette.FOCUS),
                ("enter  ", f"bold {palette.FOCUS}"),
                (leave, f"bold {palette.BRIGHT}"),
            )
        )
        if self._open is not None:
            which = (
                self._open.run
                if several
                else "training"
                if self._open.status == "running"
                else "it"
            )
            stop = STOPS.get(self._open.status, "stop {run} at a checkpoint").replace(
                "{run}", which
            )
            lines.append(
                Content.assemble(
                    ("  S      ", f"bold {palette.TEXT}"),
                    safe_content(f"{stop}, then leave").stylize(palette.TEXT),
                )
            )
        lines.append(
            Content.assemble(("  esc    ", f"bold {palette.TEXT}"), ("stay", palette.TEXT))
        )
        return Content("\n").join(lines)
