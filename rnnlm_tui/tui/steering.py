"""Texts about commands to a worker: while they run, their outcome, and why some are impossible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.tui.messages import Notice

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import CommandResult, Verb
    from rnnlm_tui.contract.status import RunStatus

PROGRESS: dict[str, str] = {
    "pause": "pausing after this step…", "resume": "resuming…", "stop": "saving a checkpoint, then stopping…", "checkpoint": "saving a checkpoint…",
    "evaluate": "evaluating…", "sample": "sampling…", "set": "changing…", "snapshot": "taking a snapshot…",
}  # fmt: skip
"""Shown at once, because some answers take seconds."""

RESUMED_BY_SPACE: frozenset[RunStatus] = frozenset({"paused", "stopped", "failed", "crashed", "draft"})
"""Statuses in which space resumes or starts the run."""

NOT_RESUMABLE: dict[RunStatus, str] = {
    "finished": "the run is finished: press n on Runs to start a new one",
    "preparing": "the corpus is still being prepared: S stops it",
    "lost": "the run is on another machine that doesn't answer",
}
"""Why space does nothing."""

NO_WORKER: dict[RunStatus, str] = {
    **NOT_RESUMABLE,
    "stopped": "the run is stopped: space resumes it",
    "failed": "the run has failed: space retries it",
    "crashed": "the run has crashed: space resumes it",
    "draft": "the run is a draft: space starts it",
}
"""Why a run without a worker can't sample, save, evaluate or stop."""

WOULD_DIVERGE = "it would fail again: n makes a new run from its config"
"""Why space does nothing for a run whose losses or gradients were non-finite until the end."""

PAUSE_VERBS: dict[RunStatus, str] = {
    "running": "Pause",
    "degraded": "Pause",
    "paused": "Resume",
    "stopped": "Resume",
    "failed": "Retry",
    "crashed": "Resume",
    "draft": "Start",
}
"""What space does in each status, for the footer; in any other status the footer doesn't offer it."""


def outcome(verb: Verb, result: CommandResult) -> Notice:
    """Return one line about the outcome of a command."""
    if not result.ok:
        return Notice(result.error or f"{verb} was rejected", "trouble", result.hint)
    at = f"step {result.step:,}"
    text = {
        "pause": f"paused at {at}",
        "resume": f"resumed at {at}",
        "stop": f"stopped at {at}, checkpoint saved" if result.checkpoint else "stopped before its first step",
        "checkpoint": f"checkpoint saved at {at}",
        "evaluate": f"{at}: {result.text}" if result.text else f"evaluated at {at}",
        "sample": f"sampled at {at}",
        "set": f"changed at {at}",
    }.get(verb, f"{verb}: done at {at}")
    return Notice(text, "done")
