"""A run's status, which is derived and never stored.

Doesn't import pydantic, so that the app starts faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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


def failure_prefix(attempt: int) -> str:
    """The prefix of the failure reason in the worker's log.

    It has the reason even if no row can be stored.
    """
    return f"attempt {attempt} failed: "


class StatusFacts(NamedTuple):
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
    """Derive the status from lock and heartbeat. An unknown state is never shown as success.

    A run without an event is a draft, whoever holds its lock: a change of its config does too.
    """
    if facts.last_state is None:
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
    if facts.last_state in ("started", "resumed", "preparing"):
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
