"""A run's status, which is derived and never stored.

Doesn't import pydantic, so that the app starts faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import EventKind

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

LIVING: frozenset[str] = frozenset({"preparing", "running", "paused", "stalled", "degraded"})
"""Statuses in which a worker runs."""

RESUMABLE: frozenset[str] = frozenset({"stopped", "failed", "crashed"})
"""Statuses from which a run can be resumed."""

HEARTBEAT_SECONDS = 1.0
"""How often a worker writes its heartbeat, also when paused."""

STALE_SECONDS = 60.0
"""An older heartbeat is stale; a running run with an older last step is stalled."""

SLOW_STEPS = 20
"""For slow steps, the limit is this many times the usual step."""

ACTIVITY_KEY = "activity"
"""Meta key of a long activity between two steps."""
Activity = Literal["evaluating", "sampling", "saving"]
"""Values of ACTIVITY_KEY, which is empty during training."""

REQUESTS_KEY = "requests"
"""Meta key of the commands that the worker has received and not yet carried out, as a JSON list."""
STOP_AFTER_KEY = "stop_after"
"""Meta key of what the run may still complete before it stops; empty: no stop is planned."""

CORPUS_HASH_KEY, CORPUS_NOTES_KEY, CORPUS_LAYOUT_KEY = (
    "corpus_hash",
    "corpus_notes",
    "corpus_layout",
)
"""Meta keys of the prepared corpus: its hash, its notes as a JSON list, and its layout."""
DATABASE_KEY = "database"
"""Meta key of a text that says where the database is if it isn't in the run's folder."""
REHEARSED_KEY = "rehearsed_seconds"
"""Meta key of the duration of the test step before the first step."""
MEMORY_KEY = "memory_warning"
"""Meta key of a warning that memory may not suffice; empty if it does, and after the first step."""
DEVICE_KEY = "device_warning"
"""Meta key of why the run doesn't train on the machine's GPU; empty: it does, or should not."""
LOST_DEVICE_KEY = "lost_device"
"""Meta key of how the device failed, if that ended the newest attempt; else empty."""
GPU_KEY = "gpu_uuid"
"""Meta key of the UUID of the GPU that the run trains on, without `GPU-`; empty: not on one."""
MEMORY_BATCH_KEY = "memory_batch"
"""Meta key of the training.batch_size that should fit if there is a MEMORY_KEY; empty if none does.
"""


def failure_prefix(attempt: int) -> str:
    """The prefix of the failure reason in the worker's log.

    The log has the reason even if the database can't store it.
    """
    return f"attempt {attempt} failed: "


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """The facts that determine a status."""

    lock_held: bool
    same_host: bool
    """Whether the last worker ran on this host.

    Then a free lock means that the worker is dead, also after a reboot.
    """
    last_state: EventKind | None
    """The newest event that changes the state; None if the run was never started."""
    heartbeat_age: float | None
    """Seconds since the worker's last heartbeat; None if there was none."""
    step_age: float | None = None
    """Seconds since the newest step, evaluation or checkpoint ended; None if unknown."""
    median_step_seconds: float | None = None
    """Median duration of a step in seconds; None if unknown."""
    activity: str = ""
    """The worker's activity besides training. During it a run with a fresh heartbeat isn't stalled.
    """
    degraded: bool = False
    """Whether the worker keeps rows in memory because it can't store them (full disk)."""


def derive_status(facts: StatusFacts) -> RunStatus:
    """Derive the status from lock and heartbeat. An unknown state is never shown as success."""
    if facts.last_state is None and not facts.lock_held:
        return "draft"
    if facts.last_state in ("stopped", "finished", "failed"):
        return facts.last_state
    fresh = _is_fresh(facts)
    if not facts.lock_held:
        if facts.same_host:
            return "crashed"
        return _living_status(facts) if fresh else "lost"
    if not fresh and facts.heartbeat_age is not None:
        return "stalled"
    return _living_status(facts)


def _living_status(facts: StatusFacts) -> RunStatus:
    if facts.last_state == "paused":
        return "paused"
    if facts.last_state in (None, "started", "resumed", "preparing"):
        return "preparing"
    busy = facts.activity != "" and _is_fresh(facts)
    if facts.degraded:
        return "degraded"
    return (
        "stalled"
        if facts.step_age is not None
        and facts.step_age > stall_seconds(facts.median_step_seconds)
        and not busy
        else "running"
    )


def stall_seconds(median_step_seconds: float | None) -> float:
    """Seconds without a finished step after which a run counts as stalled."""
    return max(STALE_SECONDS, SLOW_STEPS * (median_step_seconds or 0.0))


def _is_fresh(facts: StatusFacts) -> bool:
    return facts.heartbeat_age is not None and facts.heartbeat_age <= STALE_SECONDS
