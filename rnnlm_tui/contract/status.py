"""A run's status, derived and never stored. Imports no pydantic, so that the app's first screen appears sooner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EventKind

RunStatus = Literal["draft", "preparing", "running", "paused", "stopped", "finished", "failed", "crashed", "stalled", "degraded", "lost"]

LIVING: frozenset[str] = frozenset({"preparing", "running", "paused", "stalled", "degraded"})
"""Statuses in which a worker holds the run."""

RESUMABLE: frozenset[str] = frozenset({"stopped", "failed", "crashed"})
"""Statuses from which `resume` starts a new attempt."""

HEARTBEAT_SECONDS = 1.0
"""A living worker writes its heartbeat this often, at a pause as well."""

STALE_SECONDS = 60.0
"""A heartbeat, or a last step while running, older than this is stale."""

SLOW_STEPS = 20
"""A run whose steps take long has so many times its usual step."""

ACTIVITY_KEY = "activity"
"""Meta key of what a worker does between two steps that may take long."""
Activity = Literal["evaluating", "sampling", "saving"]
"""Its values; empty while it trains."""

CORPUS_HASH_KEY, CORPUS_NOTES_KEY, CORPUS_LAYOUT_KEY = "corpus_hash", "corpus_notes", "corpus_layout"
"""Meta keys of the prepared corpus: its hash, its notes as a JSON list, and its layout."""
DATABASE_KEY = "database"
"""Meta key of where the database lies when not in the run's folder, in words."""
REHEARSED_KEY = "rehearsed_seconds"
"""Meta key of the seconds that a step took before the first one."""
MEMORY_KEY = "memory_warning"
"""Meta key of what an attempt would need of memory and is not free, in one line; empty where it fits, and once a step has worked."""
MEMORY_BATCH_KEY = "memory_batch"
"""Meta key of the training.batch_size that should fit where MEMORY_KEY says something; empty where none does."""


def failure_prefix(attempt: int) -> str:
    """What stands in a run's log before the reason for which an attempt failed: the log has it even where the database took nothing any more."""
    return f"attempt {attempt} failed: "


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """All that a status is derived from."""

    lock_held: bool
    same_host: bool
    """The last worker ran on this host, so that its lock can be seen from here: a free one is that of a dead worker, after a restart as well."""
    last_state: EventKind | None
    """The newest of the events that tell a state: started, preparing, running, paused, resumed, stopped, finished, failed. None: never started."""
    heartbeat_age: float | None
    """Seconds since the worker's heartbeat; None: there was none."""
    step_age: float | None = None
    """Seconds since the newest step, evaluation or checkpoint ended; None: not known."""
    median_step_seconds: float | None = None
    """Median seconds of a step; None: not known."""
    activity: str = ""
    """What the worker says it does beside training; while it does and its heart beats, no step has to end."""
    degraded: bool = False
    """The worker can't store what it measures and keeps it in memory, as on a full disk; it trains on."""


def derive_status(facts: StatusFacts) -> RunStatus:
    """DESIGN.md section 3: lock and heartbeat decide; what can't be known is never shown as success."""
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
    return "stalled" if facts.step_age is not None and facts.step_age > stall_seconds(facts.median_step_seconds) and not busy else "running"


def stall_seconds(median_step_seconds: float | None) -> float:
    """Seconds without the end of a step after which a run counts as stalled."""
    return max(STALE_SECONDS, SLOW_STEPS * (median_step_seconds or 0.0))


def _is_fresh(facts: StatusFacts) -> bool:
    return facts.heartbeat_age is not None and facts.heartbeat_age <= STALE_SECONDS
