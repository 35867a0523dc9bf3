"""The words for a run's status, which is derived and never stored.

Doesn't import pydantic, so that the app starts faster.
"""

from __future__ import annotations

from typing import Literal

RunStatus = Literal[
    "draft",
    "preparing",
    "running",
    "paused",
    "stopped",
    "finished",
    "failed",
    "crashed",
    "stalled",
    "degraded",
    "lost",
]

StopMark = Literal["epoch", "evaluation"]
"""What a run may still complete before it stops."""

LIVING: frozenset[RunStatus] = frozenset({"preparing", "running", "paused", "stalled", "degraded"})
"""Statuses in which a worker runs."""

RESUMABLE: frozenset[str] = frozenset({"stopped", "failed", "crashed"})
"""Statuses from which a run can be resumed."""

HEARTBEAT_SECONDS = 1.0
"""How often a worker writes its heartbeat, also when paused."""

STALE_SECONDS = 60.0
"""An older heartbeat is stale; a running run with an older last step is stalled."""

SLOW_STEPS = 20
"""For slow steps, the limit is this many times the usual step."""

Activity = Literal["evaluating", "sampling", "saving"]
"""What a worker does besides training for a while."""


EXIT_REQUEUE = 75
"""Exit code of a worker whose Slurm job is about to end: the job's script requeues it."""
REQUEUED = "RNNLM_TUI_REQUEUED"
"""Environment variable: a script runs the worker, and requeues its job after that exit code."""

PRUNED = "pruned at step"
"""How the message of a stopped run begins that was worse than the others of its sweep."""


def failure_prefix(attempt: int) -> str:
    """The prefix of the failure reason in the worker's log.

    It has the reason even if no row can be stored.
    """
    return f"attempt {attempt} failed: "
