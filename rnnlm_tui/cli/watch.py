"""`show --watch`: a run's figures as plain lines, updated in place or appended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rnnlm_tui.cli.follow import LINE_SECONDS, RunFailure, follow, print_failure
from rnnlm_tui.cli.frame import FULL_WIDTH, clipped, frame_lines, one_line
from rnnlm_tui.cli.output import cells, encodable, line
from rnnlm_tui.supervisor.remaining import Eta, SteadyEta

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunSnapshot

_REST = "\x1b[K"
"""Erases the rest of a line."""
BUCKETS = 256
"""Resolution of the curves; the frame draws fewer cells."""


def watch_run(run: RunDirectory, *, fps: float, ascii_only: bool) -> int:
    """Show a run until it ends and return its exit code; Ctrl-C detaches and returns 130."""
    in_place = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    printer = FramePrinter(sys.stdout, ascii_only=ascii_only) if in_place else LogPrinter()
    return follow(run, printer, poll_seconds=1 / fps, buckets=BUCKETS)


def print_frame(run: RunDirectory, *, ascii_only: bool) -> None:
    """Print one frame of a run on stdout."""
    from rnnlm_tui.supervisor.monitor import RunMonitor

    monitor = RunMonitor(run, max_buckets=BUCKETS)
    try:
        snapshot = monitor.snapshot()
    finally:
        monitor.close()
    for text in frame_lines(snapshot, TimeLeft().of(snapshot), _size(sys.stdout)[0], ascii_only=ascii_only):
        line(text)


class TimeLeft:
    """The time left as in the app, counted down between two estimates."""

    def __init__(self) -> None:
        self._steady = SteadyEta()
        self._snapshot: RunSnapshot | None = None
        self._taken = 0.0
        self._eta: Eta | None = None

    def of(self, snapshot: RunSnapshot) -> Eta | None:
        """Return the current time left; None if unknown."""
        seconds, now = snapshot.summary.eta_seconds, time.monotonic()
        if seconds is None or snapshot.summary.status != "running":
            self._steady.forget()
            self._eta = None
        elif snapshot is not self._snapshot:
            self._eta, self._taken = self._steady.take(Eta(seconds, snapshot.eta_margin or 0.0), now), now
        self._snapshot = snapshot
        return None if self._eta is None else Eta(max(0.0, self._eta.seconds - (now - self._taken)), self._eta.margin)


class FramePrinter:
    """Prints frames in place; only lines that changed are rewritten."""

    def __init__(self, stream: TextIO, *, ascii_only: bool) -> None:
        self._stream = stream
        self._ascii = ascii_only
        self._lines: list[str] = []
        self._size = (0, 0)
        self._left = TimeLeft()

    def update(self, snapshot: RunSnapshot) -> None:
        """Print the current frame."""
        size = _size(self._stream)
        columns, rows = size
        lines = [encodable(text) for text in frame_lines(snapshot, self._left.of(snapshot), columns, ascii_only=self._ascii)[: max(1, rows - 1)]]
        lines = [clipped(text, columns) for text in lines]
        if size != self._size:  # the terminal has rewrapped the old lines: erase them and redraw in their place
            text = replacing([], lines)
            text = f"{erasing(self._lines, size)}{text}" if self._lines else text
            self._size = size
        else:
            text = replacing(self._lines, lines)
        self._lines = lines
        if text:
            self._stream.write(text)
            self._stream.flush()

    def finish(self, snapshot: RunSnapshot, failure: RunFailure | None) -> None:
        """Leave the last frame, with the failure below it."""
        self.update(snapshot)
        print_failure(failure)


class LogPrinter:
    """Prints a line with the time on each new status or evaluation, and every few seconds."""

    def __init__(self) -> None:
        self._printed: tuple[object, ...] = ()
        self._last_line = ""
        self._next_line = 0.0
        self._left = TimeLeft()

    def update(self, snapshot: RunSnapshot) -> None:
        """Print a line if something is new."""
        summary, now = snapshot.summary, time.monotonic()
        news = (summary.status, summary.evaluation.step, summary.test.step)
        text = one_line(snapshot, self._left.of(snapshot))
        if text != self._last_line and (news != self._printed or now >= self._next_line):
            self._printed, self._last_line, self._next_line = news, text, now + LINE_SECONDS
            line(f"{time.strftime('%H:%M:%S')}  {text}")

    def finish(self, snapshot: RunSnapshot, failure: RunFailure | None) -> None:
        """Print the last line, and the failure on stderr."""
        self._next_line = 0.0
        self.update(snapshot)
        print_failure(failure)


def replacing(before: Sequence[str], lines: Sequence[str]) -> str:
    """Return codes that replace `before` by `lines`, with the cursor below; empty if equal."""
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


def erasing(lines: Sequence[str], size: tuple[int, int]) -> str:
    """Return codes that erase `lines` above the cursor, rewrapped by the terminal at its new size."""
    columns, rows = size
    taken = sum(max(1, -(-cells(text) // (columns + 1))) for text in lines)
    return f"\x1b[{min(taken, rows - 1)}A\r\x1b[J" if min(taken, rows - 1) > 0 else "\r\x1b[J"


def _down(lines: int) -> str:
    return f"\x1b[{lines}B" if lines else ""


def _size(stream: TextIO) -> tuple[int, int]:
    """Return the terminal's columns, less one, and rows; large defaults without a terminal."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return FULL_WIDTH, 1_000
    return (size.columns - 1, size.lines) if size.columns > 1 else (FULL_WIDTH, 1_000)
