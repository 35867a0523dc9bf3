"""What is said of commands to a worker: while they go, what came of them, and why some can't be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.tui.messages import Notice

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import CommandResult, Verb
    from rnnlm_tui.contract.status import RunStatus

BEGINNINGS: dict[str, str] = {
    "pause": "pausing after this step…", "resume": "going on…", "stop": "saving a checkpoint, then stopping…", "checkpoint": "saving a checkpoint…",
    "evaluate": "evaluating…", "sample": "sampling…", "set": "changing…", "snapshot": "taking a snapshot…",
}  # fmt: skip
"""Said at once, for some answers take seconds."""

GOING_ON: frozenset[RunStatus] = frozenset({"paused", "stopped", "failed", "crashed", "draft"})
"""Statuses from which space goes on."""

WHY_NOT: dict[RunStatus, str] = {
    "finished": "the run is finished: start a new one with n, on the runs",
    "preparing": "the corpus is still being prepared: S stops it",
    "lost": "the run is on another machine that does not answer",
}
"""Why space does nothing."""

NOT_NOW: dict[RunStatus, str] = {
    **WHY_NOT,
    "stopped": "the run is stopped: space goes on with it",
    "failed": "the run has failed: space tries again",
    "crashed": "the run has crashed: space goes on with it",
    "draft": "the run is a draft: space starts it",
}
"""Why a run that no worker holds samples, saves, evaluates and stops nothing."""

NOT_AGAIN = "it would fail again: n makes a new run from its config"
"""Why space does nothing where losses or gradients were not finite to the end."""

PAUSE_VERBS: dict[RunStatus, str] = {
    "running": "Pause",
    "degraded": "Pause",
    "paused": "Go on",
    "stopped": "Resume",
    "failed": "Retry",
    "crashed": "Resume",
    "draft": "Start",
}
"""What space does in each status, for the footer; a status that is not here leaves space out."""


def outcome(verb: Verb, result: CommandResult) -> Notice:
    """One line about what came of a command."""
    if not result.ok:
        return Notice(result.error or f"{verb} was refused", "trouble", result.hint)
    at = f"step {result.step:,}"
    said = {
        "pause": f"paused at {at}",
        "resume": f"going on from {at}",
        "stop": f"stopped at {at}, the checkpoint is on disk" if result.checkpoint else "stopped before its first step",
        "checkpoint": f"checkpoint saved at {at}",
        "evaluate": f"{at}: {result.text}" if result.text else f"evaluated at {at}",
        "sample": f"sampled at {at}",
        "set": f"changed at {at}",
    }.get(verb, f"{verb}: done at {at}")
    return Notice(said, "done")
