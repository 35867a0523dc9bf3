"""`show --watch`: a run's figures in plain lines, on the same place of a terminal or one below the other, until the run ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rnnlm_tui.cli.follow import LINE_SECONDS, Failure, follow
from rnnlm_tui.cli.frame import FULL_WIDTH, clipped, frame_lines, one_line
from rnnlm_tui.cli.output import cells, encodable, line, note
from rnnlm_tui.supervisor.remaining import Eta, SteadyEta

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunSnapshot

_REST = "\x1b[K"
"""Erases what is left of a line."""
BUCKETS = 256
"""Of the curves: what the frame draws of them is less."""


def watch_run(run: RunDirectory, *, fps: float, ascii_only: bool) -> int:
    """Show a run until it ends and return the exit code of `follow`; Ctrl-C leaves it to itself and returns 130."""
    placed = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    teller = PlacedTeller(sys.stdout, ascii_only=ascii_only) if placed else AppendedTeller()
    return follow(run, teller, poll_seconds=1 / fps, buckets=BUCKETS)


def print_frame(run: RunDirectory, *, ascii_only: bool) -> None:
    """One frame of a run on stdout."""
    from rnnlm_tui.supervisor.monitor import RunMonitor

    monitor = RunMonitor(run, max_buckets=BUCKETS)
    try:
        snapshot = monitor.snapshot()
    finally:
        monitor.close()
    for text in frame_lines(snapshot, TimeLeft().of(snapshot), _size(sys.stdout)[0], ascii_only=ascii_only):
        line(text)


class TimeLeft:
    """The time left as the app shows it: counted down between two estimates."""

    def __init__(self) -> None:
        self._steady = SteadyEta()
        self._snapshot: RunSnapshot | None = None
        self._taken = 0.0
        self._eta: Eta | None = None

    def of(self, snapshot: RunSnapshot) -> Eta | None:
        """Of a run now; None where it has none."""
        seconds, now = snapshot.summary.eta_seconds, time.monotonic()
        if seconds is None or snapshot.summary.status != "running":
            self._steady.forget()
            self._eta = None
        elif snapshot is not self._snapshot:
            self._eta, self._taken = self._steady.take(Eta(seconds, snapshot.eta_margin or 0.0), now), now
        self._snapshot = snapshot
        return None if self._eta is None else Eta(max(0.0, self._eta.seconds - (now - self._taken)), self._eta.margin)


class PlacedTeller:
    """Frames on the same place: only the lines that changed are written again."""

    def __init__(self, stream: TextIO, *, ascii_only: bool) -> None:
        self._stream = stream
        self._ascii = ascii_only
        self._lines: list[str] = []
        self._size = (0, 0)
        self._left = TimeLeft()

    def tell(self, snapshot: RunSnapshot) -> None:
        """The run as it is now."""
        size = _size(self._stream)
        columns, rows = size
        lines = [encodable(text) for text in frame_lines(snapshot, self._left.of(snapshot), columns, ascii_only=self._ascii)[: max(1, rows - 1)]]
        lines = [clipped(text, columns) for text in lines]
        if size != self._size:  # the lines of before lie otherwise now: they go, and the frame begins where they began
            text = moved_to([], lines)
            text = f"{cleared(self._lines, size)}{text}" if self._lines else text
            self._size = size
        else:
            text = moved_to(self._lines, lines)
        self._lines = lines
        if text:
            self._stream.write(text)
            self._stream.flush()

    def end(self, snapshot: RunSnapshot, failure: Failure | None) -> None:
        """The last frame stays; why a run failed is said below it."""
        self.tell(snapshot)
        _tell_failure(failure)


class AppendedTeller:
    """A line with the time of day whenever status or evaluation are new, and every few seconds while it trains."""

    def __init__(self) -> None:
        self._told: tuple[object, ...] = ()
        self._said = ""
        self._next_line = 0.0
        self._left = TimeLeft()

    def tell(self, snapshot: RunSnapshot) -> None:
        """A line where there is something new to say."""
        summary, now = snapshot.summary, time.monotonic()
        news = (summary.status, summary.evaluation.step, summary.test.step)
        said = one_line(snapshot, self._left.of(snapshot))
        if said != self._said and (news != self._told or now >= self._next_line):
            self._told, self._said, self._next_line = news, said, now + LINE_SECONDS
            line(f"{time.strftime('%H:%M:%S')}  {said}")

    def end(self, snapshot: RunSnapshot, failure: Failure | None) -> None:
        """The last line; why a run failed goes to stderr."""
        self._next_line = 0.0
        self.tell(snapshot)
        _tell_failure(failure)


def moved_to(before: Sequence[str], lines: Sequence[str]) -> str:
    """What a terminal has to be sent so that `lines` stand where `before` stood, the cursor below them; empty where they are the same."""
    if list(before) == list(lines):
        return ""
    parts = [f"\x1b[{len(before)}A\r" if before else ""]
    skipped = 0
    for index, text in enumerate(lines):
        if index < len(before) and before[index] == text:
            skipped += 1
            continue
        parts.append(f"{_down(skipped)}{text}{_REST if index < len(before) else ''}\n")
        skipped = 0
    parts.append(_down(skipped))
    if len(lines) < len(before):
        parts.append("\x1b[J")
    return "".join(parts)


def cleared(lines: Sequence[str], size: tuple[int, int]) -> str:
    """What a terminal has to be sent so that `lines` go, which stand above the cursor and which it has broken anew for its new size."""
    columns, rows = size
    taken = sum(max(1, -(-cells(text) // (columns + 1))) for text in lines)
    return f"\x1b[{min(taken, rows - 1)}A\r\x1b[J" if min(taken, rows - 1) > 0 else "\r\x1b[J"


def _down(lines: int) -> str:
    return f"\x1b[{lines}B" if lines else ""


def _size(stream: TextIO) -> tuple[int, int]:
    """Cells a line, the last one left free, and lines; without a terminal as many as are wanted."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return FULL_WIDTH, 1_000
    return (size.columns - 1, size.lines) if size.columns > 1 else (FULL_WIDTH, 1_000)


def _tell_failure(failure: Failure | None) -> None:
    if failure is not None:
        note("\n".join(part for part in (failure.message, failure.hint) if part))
