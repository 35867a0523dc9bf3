"""QuitScreen: the question on leaving while runs have workers; by default they keep running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.overlay import Answers, Question
from rnnlm_tui.tui.text import safe_content, time_left
from rnnlm_tui.tui.views.status import status_content

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary

UPDATE_SECONDS = 0.5
"""Seconds between updates of the runs."""
SHOWN = 3
"""Runs that are named; the others are counted."""
LEAVE: dict[RunStatus, str] = {
    "running": "leave, keep training",
    "degraded": "leave, keep training",
    "preparing": "leave, keep preparing",
    "paused": "leave, keep {it} paused",
}
"""What enter does, by the first of these statuses that a run has."""
FACTS: dict[RunStatus, str] = {
    "running": "Training continues without this terminal.",
    "preparing": "Preparation continues, then training starts.",
    "paused": "Paused runs stay in memory until you resume them.",
    "stalled": "A stalled run's worker keeps running.",
    "degraded": "Training continues, unsaved until the disk has room.",
}
"""What happens to the runs that are left, if all have this status."""
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


class QuitScreen(Question[str]):
    """Returns `leave`, `stop` (the open run), or an empty text to stay."""

    def __init__(self, living: Sequence[RunSummary]) -> None:
        self._living = living
        super().__init__("Leave rnnlm-tui?", *self._question(), classes="-indented")

    def on_mount(self) -> None:
        self.set_interval(UPDATE_SECONDS, self._update)

    def _update(self) -> None:
        """Show the same runs in their current state."""
        newest = {summary.run: summary for summary in self.context.current_summaries()}
        self._living = [newest.get(summary.run, summary) for summary in self._living]
        self.ask_again(*self._question())

    def _question(self) -> tuple[list[Content], Answers[str]]:
        living = [summary.status for summary in self._living if summary.status in LIVING]
        kinds, several = set(living), len(living) > 1
        fact = "Each run is left as it is."
        if len(kinds) == 1:
            fact = FACTS[living[0]]
        elif not kinds:
            fact = "No run is training any more."
        lines = [
            Content(""),
            *(_run_line(summary, alone=len(kinds) == 1) for summary in self._living[:SHOWN]),
        ]
        if len(self._living) > SHOWN:
            lines.append(Content.styled(f"  and {len(self._living) - SHOWN} more", DIM))
        lines += [
            Content.styled(f"  {fact}", TEXT),
            Content.styled("  Start rnnlm-tui again to come back.", DIM),
            Content(""),
        ]
        leave = next((LEAVE[status] for status in LEAVE if status in kinds), "leave")
        leave = leave.replace("{it}", "them" if len(living) > 1 else "it")
        answers = [("enter,q", leave, "leave")]
        run = self.context.run_directory
        for summary in self._living:
            if run is not None and summary.run == run.name and summary.status in LIVING:
                alone = "training" if summary.status == "running" else "it"
                stop = STOPS.get(summary.status, "stop {run} at a checkpoint")
                stop = stop.replace("{run}", summary.run if several else alone)
                answers.append(("S", f"{stop}, then leave", "stop"))
        return lines, [*answers, ("escape", "stay", "")]


def _run_line(summary: RunSummary, *, alone: bool) -> Content:
    """Return `plain-otter ● running, 24 s left`.

    Args:
        alone: no run has another status, so that what happens to all is told below.
    """
    after = "" if alone else AFTER.get(summary.status, "")
    if summary.status == "running" and summary.eta_seconds is not None:
        after = time_left(summary.eta_seconds)[0] or after
    name = safe_content(summary.run, newlines="show", limit=24).stylize(f"bold {BRIGHT}")
    status = status_content(summary.status, bold=True)
    return Content.assemble("  ", name, " ", status, (f", {after}" if after else "", TEXT))
