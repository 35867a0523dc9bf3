"""What a person wants to be told who looks elsewhere: a run finished, failed, stalled, lost its footing, learns no more; a disk is nearly full. Each once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rnnlm_tui.contract.figures import count, counted, disk, figure
from rnnlm_tui.contract.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EventRow
    from rnnlm_tui.contract.summary import RunSummary

AlertKind = Literal["finished", "failed", "crashed", "stalled", "lost", "non-finite", "plateau", "disk"]
"""`disk`: little is free, or a run can't store its rows; `non-finite`: updates were left out, or a run failed by them."""
PLATEAU_EVALUATIONS = 10
"""So many evaluations in a row that brought nothing are a plateau."""
PROGRESS = 0.003
"""The share by which a perplexity has to fall to count as better: what the figures call level brings nothing."""
AGAIN_SECONDS = 600.0
"""The same of the same run is told again after so long at the earliest, however often it comes and goes."""
LOW_SHARE, LOW_BYTES = 0.05, 20 * 10**9
"""A disk is low with less than this share free, and less than so many bytes where that is much."""
ENOUGH = 1.5
"""It is no longer low with so many times that."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that has just come about."""

    kind: AlertKind
    run: str
    """Empty: it is about the machine."""
    text: str
    """One line, with the run's name; text from outside in it is as it came."""

    @property
    def trouble(self) -> bool:
        return self.kind != "finished"


@dataclass(slots=True)
class _Seen:
    """One run at the last look."""

    summary: RunSummary
    best: float | None
    """The perplexity that the next one has to be better than."""
    waited: int = 0
    """Evaluations since that brought nothing."""
    plateau_told: bool = False
    skipped: tuple[int, int] | None = None
    """Attempt and step of the newest update that was left out."""
    told: dict[AlertKind, tuple[float, int]] = field(default_factory=dict)
    """When what was told last, and at which step."""


class Alerts:
    """Decides what is worth an alert from one look at the runs to the next; what was so before it was made is not.

    Args:
        since: Unix seconds of its making; a run that is seen for the first time and ended after that ended under its eyes.
    """

    def __init__(self, *, since: float) -> None:
        self._since = since
        self._runs: dict[str, _Seen] = {}
        self._disk_low: bool | None = None

    def look(self, summaries: Iterable[RunSummary], now: float) -> list[Alert]:
        """What is new in these runs; `now` in Unix seconds."""
        return [alert for summary in summaries if summary.unreadable is None for alert in self._look_at(summary, now)]

    def hear(self, run: str, events: Sequence[EventRow], now: float) -> list[Alert]:
        """What is new in a run's log (newest first) and not in its figures: updates that were left out. After `look`."""
        seen = self._runs.get(run)
        newest = next((event for event in events if event.kind == "skipped"), None)
        if seen is None or newest is None:
            return []
        before, seen.skipped = seen.skipped, (newest.attempt, newest.step)
        if newest.time <= self._since or (before is not None and before >= seen.skipped):
            return []
        return self._once(seen, "non-finite", f"{run}, step {count(newest.step)}: {newest.text}", now)

    def look_at_disk(self, free: int, total: int | None) -> list[Alert]:
        """Whether the disk of the runs has just become low; bytes, `total` None where it is not known."""
        least = LOW_BYTES if total is None else min(LOW_BYTES, LOW_SHARE * total)
        before = self._disk_low
        self._disk_low = free < (least * ENOUGH if before else least)
        return [Alert("disk", "", f"the disk of the runs has {disk(free)} left")] if self._disk_low and before is False else []

    def _look_at(self, summary: RunSummary, now: float) -> list[Alert]:
        seen = self._runs.get(summary.run) or self._renamed(summary)
        if seen is None:
            self._runs[summary.run] = seen = _Seen(summary, summary.evaluation.best_perplexity)
            return self._ended(seen, now) if (summary.updated or 0.0) > self._since else []
        before, after = seen.summary, summary
        if (after.attempt, after.updated or 0.0) < (before.attempt, before.updated or 0.0):
            return []  # a look from before the last one
        seen.summary = after
        if after.attempt > before.attempt:
            seen.waited, seen.plateau_told = 0, False
        alerts: list[Alert] = []
        if after.status != before.status or after.attempt > before.attempt:
            alerts += self._ended(seen, now) if before.status in LIVING or after.updated != before.updated else []
            alerts += self._halted(seen, now)
        return alerts + self._learning(seen, before, now)

    def _renamed(self, summary: RunSummary) -> _Seen | None:
        """A run that ended and has another name since is no news; None: it was not seen before."""
        if summary.started is None or summary.status in LIVING:
            return None
        former = next((name for name, seen in self._runs.items() if _past(seen.summary) == _past(summary)), None)
        if former is not None:
            self._runs[summary.run] = self._runs.pop(former)
        return self._runs.get(summary.run)

    def _ended(self, seen: _Seen, now: float) -> list[Alert]:
        summary = seen.summary
        why = f": {summary.message}" if summary.message else ""
        if summary.status == "finished":
            judged = summary.evaluation
            reached = f": {'val' if judged.name == 'validation' else 'test'} perplexity {figure(judged.perplexity)}" if judged.perplexity is not None else ""
            return self._once(seen, "finished", f"{summary.run} finished{reached} after {counted(summary.step, 'step')}", now)
        if summary.status == "failed":
            return self._once(seen, "non-finite" if summary.diverged else "failed", f"{summary.run} failed{why}", now)
        if summary.status == "crashed":
            return self._once(seen, "crashed", f"{summary.run} crashed{why}", now)
        return []

    def _halted(self, seen: _Seen, now: float) -> list[Alert]:
        """It has not ended, and something is wrong."""
        summary = seen.summary
        why = f": {summary.message}" if summary.message else ""
        if summary.status == "stalled":
            return self._once(seen, "stalled", f"{summary.run} makes no step{why}", now)
        if summary.status == "lost":
            return self._once(seen, "lost", f"{summary.run} does not answer{why}", now)
        if summary.status == "degraded":
            return self._once(seen, "disk", f"{summary.run} can't store its figures{why}", now)
        return []

    def _learning(self, seen: _Seen, before: RunSummary, now: float) -> list[Alert]:
        """Losses that are no numbers, and evaluations that bring nothing more."""
        after = seen.summary
        norm = after.train.grad_norm
        alerts: list[Alert] = []
        if after.status == "running" and norm is not None and not math.isfinite(norm):
            alerts += self._once(seen, "non-finite", f"{after.run}, step {count(after.step)}: loss or gradient is not finite", now)
        best, judged = after.evaluation.best_perplexity, after.evaluation
        if judged.step is None or judged.step == before.evaluation.step or best is None:
            return alerts
        if seen.best is None or best < seen.best * (1 - PROGRESS):
            seen.best, seen.waited, seen.plateau_told = best, 0, False
            return alerts
        seen.waited += 1
        if seen.waited >= PLATEAU_EVALUATIONS and not seen.plateau_told and after.status == "running":
            seen.plateau_told = True
            text = f"{after.run} learns no more: {counted(seen.waited, 'evaluation')} no better than perplexity {figure(seen.best)}"
            alerts += self._once(seen, "plateau", text, now)
        return alerts

    def _once(self, seen: _Seen, kind: AlertKind, text: str, now: float) -> list[Alert]:
        """The alert, if the like was not told shortly before, or if the run has made no step since."""
        told = seen.told.get(kind)
        again = told is not None and (now - told[0] < AGAIN_SECONDS or told[1] == seen.summary.step)
        if again and kind not in ("finished", "failed", "crashed"):  # an end is one, however soon after the last
            return []
        seen.told[kind] = (now, seen.summary.step)
        return [Alert(kind, seen.summary.run, text)]


def _past(summary: RunSummary) -> tuple[object, ...]:
    """What a run keeps under another name and no other run has: when it began, how far it came, and how long that took."""
    return (summary.started, summary.host, summary.attempt, summary.step, summary.active_seconds)
