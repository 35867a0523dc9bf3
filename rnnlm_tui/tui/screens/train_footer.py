"""The footer of the train screen, by the run's status and whether there is a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import count
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui import steering
from rnnlm_tui.tui.actions import Action, action
from rnnlm_tui.tui.widgets.samples import TROUBLE_STATUSES

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary

FROM_TRAINING = ("sample", "checkpoint", "evaluate")
"""Actions that need training."""
FROM_WORKER = (*FROM_TRAINING, "stop")
"""Actions that need a worker."""
FROM_POINTS = ("cursor_right", "zoom_in", "pan_left", "reset_view", "follow", "sample_history", "log_scale", "next_axis", "smoother", "next_chart")
"""Actions that need a first step."""
USUAL = (
    "pause", "sample", "checkpoint", "evaluate", "cursor_right", "zoom_in", "sample_history", "log_scale", "stop", "next_run", "next_axis", "smoother", "next_chart", "leave",
)  # fmt: skip
"""Most important first; the last one is always shown."""
ZOOMED = (
    "pause", "zoom_in", "pan_left", "reset_view", "cursor_right", "follow", "sample", "checkpoint", "log_scale", "next_run", "next_axis", "smoother", "leave",
)  # fmt: skip
"""The same, while only a part of the run is shown."""
IN_TROUBLE = ("pause", "stop", "show_log", "next_run", "cursor_right", "zoom_in", "log_scale", "next_axis", "leave")
"""The same, for a run in trouble."""
DISCARDED = ("failed", "crashed", "draft")
"""Statuses of runs that can be discarded here."""
AFTER_FAILURE = ("pause", "new_from_run", "show_log", "discard_run", "next_run", "cursor_right", "zoom_in", "log_scale", "next_axis", "leave")
"""The same, for a run that failed or crashed: retry it, start a new run from it, or discard it."""
BEFORE_STEPS = ("pause", "stop", "show_log", "next_run", "leave")
"""The same, for a run that prepares."""
AT_CURSOR = ("cursor_right", "cursor_far_right", "next_evaluation", "open_nearest", "zoom_in", "cursor_end", "next_axis", "leave_field")
"""The same, while there is a cursor."""

Footer = Sequence[tuple[Action, str]]
"""Actions with a verb each; empty: the table's."""


def train_footer(run: RunSummary | None, *, points: bool, zoomed: bool = False, following: bool = True, alone: str = "", others: bool = True) -> Footer:
    """Return the keys that help now, most important first.

    Args:
        points: the run has a first step.
        zoomed: only a part of the run is shown.
        following: the newest step stays in sight.
        alone: which chart is shown alone, as `5 of 8`.
        others: there are other runs to open.

    """
    if run is None:
        return [(action("leave"), "")]
    verb = "" if run.diverged else steering.PAUSE_VERBS.get(run.status, "")
    omitted: set[str] = set() if verb else {"pause"}
    if run.status not in LIVING:
        omitted.update(FROM_WORKER)
    elif run.status in ("preparing", "stalled"):
        omitted.update(FROM_TRAINING)
    if not points:
        omitted.update(FROM_POINTS)
    if not others:
        omitted.add("next_run")
    if following:
        omitted.add("follow")
    usual = ZOOMED if zoomed else USUAL
    failed = run.status in ("failed", "crashed")
    order = AFTER_FAILURE if failed else IN_TROUBLE if run.status in TROUBLE_STATUSES else BEFORE_STEPS if run.status == "preparing" and not points else usual
    if alone:
        omitted.add("next_chart")
    first = [(action("next_chart"), alone), (action("leave_field"), "Back")] if alone else []
    verbs = {"pause": verb, "new_from_run": "New from it", "discard_run": "Discard"}
    return [*first, *((action(name), verbs.get(name, "")) for name in order if name not in omitted)]


def cursor_footer(checkpoint: int | None) -> Footer:
    """Return the keys for the cursor, and the step of the checkpoint that enter samples from."""
    verbs = {"cursor_right": "Move", "leave_field": "Close cursor", "open_nearest": "" if checkpoint is None else f"Sample @{count(checkpoint)}"}
    return [(action(name), verbs.get(name, "")) for name in AT_CURSOR if name != "open_nearest" or checkpoint is not None]
