"""QuitScreen: the question on leaving while runs have workers; by default they keep running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import time_left
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.overlay import Answers, Question
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.status import status_content

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary

UPDATE_SECONDS = 0.5
"""Seconds between updates of the runs."""
SHOWN = 3
"""Runs that are named; the others are counted."""
TRAINS: frozenset[RunStatus] = frozenset({"running", "degraded"})
"""Statuses of runs that keep training."""
FACTS: dict[RunStatus, str] = {
    "running": "Training continues without this terminal.",
    "preparing": "Preparation continues, then training starts.",
    "paused": "It stays paused, in memory, until you resume it.",
    "stalled": "It is stalled; its worker keeps running.",
    "degraded": "Training continues, unsaved until its disk has room.",
}
"""What happens to a run that is left."""
FACTS_OF_SEVERAL: dict[RunStatus, str] = {
    **FACTS,
    "paused": "They stay paused, in memory, until you resume them.",
    "stalled": "They are stalled; their workers keep running.",
    "degraded": "Training continues, unsaved until their disk has room.",
}
"""What happens to several runs, if all have this status."""
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

    def __init__(
        self,
        living: Sequence[RunSummary],
        open_run: str | None,
        newest: Callable[[], Sequence[RunSummary]],
    ) -> None:
        """`newest` returns the runs' current state."""
        self._living, self._open_run, self._newest = tuple(living), open_run, newest
        super().__init__("Leave rnnlm-tui?", *self._question(), classes="-indented")

    def on_mount(self) -> None:
        self.set_interval(UPDATE_SECONDS, self._update)

    def _update(self) -> None:
        """Show the same runs in their current state."""
        newest = {summary.run: summary for summary in self._newest()}
        self._living = tuple(newest.get(summary.run, summary) for summary in self._living)
        self.ask_again(*self._question())

    def _question(self) -> tuple[list[Content], Answers[str]]:
        living = [summary.status for summary in self._living if summary.status in LIVING]
        kinds, several = set(living), len(living) > 1
        fact = "Each run is left as it is."
        if len(kinds) == 1:
            fact = (FACTS_OF_SEVERAL if several else FACTS)[living[0]]
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
        leave = "leave"
        if kinds & TRAINS:
            leave = "leave, keep training"
        elif "preparing" in kinds:
            leave = "leave, keep preparing"
        elif kinds == {"paused"}:
            leave = f"leave, keep {'them' if several else 'it'} paused"
        answers = [("enter,q", leave, "leave")]
        for summary in self._living:
            if summary.run == self._open_run and summary.status in LIVING:
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
