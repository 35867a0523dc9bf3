"""Alerts, each reported once, and the terminal's notifications for them.

A run finished, failed, stalled, diverged or plateaued, or a disk is nearly full. A terminal without
focus gets the bell, and a desktop notification if it can show one: OSC 9 (iTerm2, kitty, WezTerm,
Ghostty) and OSC 777 (urxvt, foot, VTE) do the same, so only one of them is sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from rnnlm_tui.schema.formatting import count, counted, disk, figure, safe
from rnnlm_tui.schema.status import LIVING, RunStatus

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import EventRow
    from rnnlm_tui.schema.summary import RunSummary


AlertKind = RunStatus | Literal["non-finite", "plateau", "disk"]
"""`disk`: little is free. `non-finite`: updates were skipped, or a run failed by them."""
PLATEAU_EVALUATIONS = 10
"""This many evaluations in a row without progress are a plateau."""
PROGRESS = 0.003
"""The share by which perplexity has to fall to count as progress; less is shown as level."""
REPEAT_SECONDS = 600.0
"""Seconds before an alert of the same kind about the same run is repeated, however often its cause
comes and goes."""
LOW_SHARE, LOW_BYTES = 0.05, 20 * 10**9
"""A disk is low if less than this share and less than this many bytes are free."""
RECOVERED = 1.5
"""A disk is no longer low with this many times as much free."""

ALERTS_SETTING = "alerts"
"""Key of the setting for terminal notifications; false: off."""
ENDED = ("finished", "failed", "crashed")
STATUS_ALERTS: Mapping[AlertKind, str] = {
    "finished": "finished", "failed": "failed", "crashed": "crashed",
    "stalled": "makes no progress", "lost": "doesn't answer", "degraded": "can't save its metrics",
}  # fmt: skip
"""The statuses that are worth an alert, and their words."""
SHOWN_BY_TRAIN = STATUS_ALERTS.keys() - {"degraded"}
"""Alerts about the open run that its train pane shows at least as prominently."""


class Alert(NamedTuple):
    """Something that has just happened."""

    kind: AlertKind
    run: str
    """Empty for the machine."""
    text: str
    """One line with the run's name; text from outside is unchanged."""

    @property
    def trouble(self) -> bool:
        return self.kind != "finished"


@dataclass(slots=True)
class _Seen:
    """A run at the last check."""

    summary: RunSummary
    best: float | None
    """The perplexity that the next evaluation has to beat."""
    skipped: float
    """Time of the newest skipped update."""
    waited: int = 0
    """Evaluations without progress since."""
    reported: dict[AlertKind, tuple[float, int]] = field(default_factory=dict)
    """Time and step of the last alert of each kind."""


class Alerts:
    """Decides what is worth an alert from one check of the runs to the next.

    Nothing that was so before the first check is reported.

    Args:
        since: Unix seconds of its creation. A run that is seen for the first time and ended later
            than this ended while the app was open.
    """

    def __init__(self, *, since: float) -> None:
        self._since = since
        self._runs: dict[str, _Seen] = {}
        self._disk_low: bool | None = None

    def check_runs(self, summaries: Iterable[RunSummary], now: float) -> list[Alert]:
        """Return what is new in these runs; `now` in Unix seconds."""
        known = (summary for summary in summaries if summary.unreadable is None)
        return [alert for summary in known for alert in self._check_run(summary, now)]

    def check_events(self, run: str, events: Sequence[EventRow], now: float) -> list[Alert]:
        """Return skipped updates that are new in a run's events, newest first.

        Call it after `check_runs`.
        """
        seen = self._runs.get(run)
        newest = next((event for event in events if event.kind == "skipped"), None)
        if seen is None or newest is None or newest.time <= seen.skipped:
            return []
        seen.skipped = newest.time
        text = f"{run}, step {count(newest.step)}: {newest.text}"
        return list(self._once(seen, "non-finite", text, now))

    def check_disk(self, free: int, total: int | None) -> list[Alert]:
        """Report a disk of the runs that has just become low; bytes, `total` None if unknown."""
        least = LOW_BYTES if total is None else min(LOW_BYTES, LOW_SHARE * total)
        before = self._disk_low
        self._disk_low = free < (least * RECOVERED if before else least)
        if not self._disk_low or before is not False:
            return []
        return [Alert("disk", "", f"the disk of the runs has {disk(free)} free")]

    def _check_run(self, after: RunSummary, now: float) -> Iterator[Alert]:
        self._follow_rename(after)
        seen = self._runs.get(after.run)
        if seen is None:
            best = after.evaluation.best_perplexity
            self._runs[after.run] = seen = _Seen(after, best, self._since)
            if after.status in ENDED and (after.updated or 0.0) > self._since:
                yield from self._status(seen, now)
            return
        before = seen.summary
        if (after.attempt, after.updated or 0.0) < (before.attempt, before.updated or 0.0):
            return  # older than the last check
        seen.summary = after
        if after.attempt > before.attempt:
            seen.waited = 0
        changed = after.status != before.status or after.attempt > before.attempt
        known = before.status not in LIVING and after.updated == before.updated
        if changed and not (after.status in ENDED and known):
            yield from self._status(seen, now)
        yield from self._learning(seen, before, now)

    def _follow_rename(self, summary: RunSummary) -> None:
        """Take what is known of an ended run under its former name."""
        if summary.run in self._runs or summary.started is None or summary.status in LIVING:
            return
        for name, seen in self._runs.items():
            if _past(seen.summary) == _past(summary):
                self._runs[summary.run] = self._runs.pop(name)
                return

    def _status(self, seen: _Seen, now: float) -> Iterator[Alert]:
        """Report the run's status, if it is worth an alert."""
        summary, judged = seen.summary, seen.summary.evaluation
        if summary.status not in STATUS_ALERTS:
            return
        kind: AlertKind = summary.status
        words = STATUS_ALERTS[kind]
        if kind == "finished":
            if judged.perplexity is not None:
                name = "val" if judged.name == "validation" else "test"
                words += f": {name} perplexity {figure(judged.perplexity)}"
            words += f" after {counted(summary.step, 'step')}"
        elif summary.message:
            words += f": {summary.message}"
        if kind == "failed" and summary.diverged:
            kind = "non-finite"
        yield from self._once(seen, kind, f"{summary.run} {words}", now)

    def _learning(self, seen: _Seen, before: RunSummary, now: float) -> Iterator[Alert]:
        """Report non-finite losses and a plateau."""
        after, judged, norm = seen.summary, seen.summary.evaluation, seen.summary.train.grad_norm
        if after.status == "running" and norm is not None and not math.isfinite(norm):
            text = f"{after.run}, step {count(after.step)}: loss or gradient is not finite"
            yield from self._once(seen, "non-finite", text, now)
        best = judged.best_perplexity
        if judged.step is None or judged.step == before.evaluation.step or best is None:
            return
        if seen.best is None or best < seen.best * (1 - PROGRESS):
            seen.best, seen.waited = best, 0
            return
        seen.waited += 1
        if seen.waited == PLATEAU_EVALUATIONS and after.status == "running":
            waited = counted(seen.waited, "evaluation")
            text = f"{after.run} plateaus: {waited} no better than perplexity {figure(seen.best)}"
            yield from self._once(seen, "plateau", text, now)

    def _once(self, seen: _Seen, kind: AlertKind, text: str, now: float) -> Iterator[Alert]:
        """Report this, unless it was reported shortly before or without a step since."""
        time, step = seen.reported.get(kind, (-math.inf, None))
        # every end is reported, however soon after the last
        if kind in ENDED or (now - time >= REPEAT_SECONDS and step != seen.summary.step):
            seen.reported[kind] = (now, seen.summary.step)
            yield Alert(kind, seen.summary.run, text)


def _past(summary: RunSummary) -> tuple[object, ...]:
    """Identify a run across a rename: when it began, its last step, and its training time."""
    return (summary.started, summary.host, summary.attempt, summary.step, summary.active_seconds)


BELL = "\x07"
TITLE = "rnnlm-tui"
LONGEST = 160
"""Characters of a notification: GNU screen passes on about 250 at most."""
BELL_ALONE = ("linux", "dumb", "vt")
"""Terminals, by the beginning of TERM, that print unknown sequences or can show nothing."""


def notification(text: str, environment: Mapping[str, str], *, ascii_only: bool = False) -> str:
    """Return the bell and a notification, wrapped for tmux or GNU screen.

    Nothing in `text` can act on the terminal.
    """
    # a semicolon separates the parts of a notification
    shown = safe(text, keep="").replace(";", ",")
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    if ascii_only:
        shown = shown.replace("…", "~").encode("ascii", "replace").decode("ascii")
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    # never both sequences: a terminal that knows both would notify twice. To some, a text of the
    # first that begins with a digit is another command
    sequence = f"\x1b]9;{TITLE}: {shown}{BELL}"
    if "TMUX" in environment:  # it allows this only with `allow-passthrough`
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"{BELL}\x1bPtmux;{doubled}\x1b\\"
    if "STY" in environment:
        return f"{BELL}\x1bP{sequence}\x1b\\"
    if not term or term.startswith(BELL_ALONE) or program == "Apple_Terminal":
        return BELL
    # kitty, WezTerm and others inherit VTE's variable from the terminal that they were started in
    vte = "VTE_VERSION" in environment and not program and not term.endswith(("kitty", "ghostty"))
    if vte or term.startswith(("rxvt", "foot")):
        sequence = f"\x1b]777;notify;{TITLE};{shown}{BELL}"
    return BELL + sequence
