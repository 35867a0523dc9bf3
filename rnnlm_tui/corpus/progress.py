"""Progress of preparing a corpus, in bytes, also for other processes that wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rnnlm_tui.schema.metrics import Phase, Progress

ProgressCallback = Callable[[Progress], None]

INTERVAL_SECONDS = 0.1
SHARED_SECONDS = 0.5
"""How often the progress for waiting processes is written."""

_NAME = "progress.json"
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


class Meter:
    """Count the bytes of a phase and report them about every INTERVAL_SECONDS."""

    def __init__(
        self, phase: Phase, total: int, callback: ProgressCallback, start: int = 0
    ) -> None:
        """
        Args:
            start: bytes that are already done.
        """
        self._phase: Phase = phase
        self._total = total
        self._callback = callback
        self._count = start
        self._next = 0.0
        self.advance(0)

    def advance(self, count: int) -> None:
        """Add processed bytes."""
        self._count += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_SECONDS
            self._callback(
                Progress(
                    self._phase,
                    min(self._count, self._total) if self._total else self._count,
                    self._total,
                )
            )

    def restart(self) -> None:
        """Start another pass over the same bytes."""
        self._count = 0

    def done(self) -> None:
        total = self._total or self._count
        self._callback(Progress(self._phase, total, total))


def shared_progress(folder: Path, progress: ProgressCallback) -> ProgressCallback:
    """A callback that calls `progress` and stores it in a folder for waiting processes.

    It is stored at most every SHARED_SECONDS, and at each new phase.
    """
    next_time, phase = 0.0, ""

    def report(now: Progress) -> None:
        nonlocal next_time, phase
        if now.phase != phase or time.monotonic() >= next_time:
            next_time, phase = time.monotonic() + SHARED_SECONDS, now.phase
            temporary = folder / f"{_NAME}.new"
            temporary.write_bytes(_PROGRESS.dump_json(now))
            temporary.replace(folder / _NAME)
        progress(now)

    return report


def end_shared_progress(folder: Path) -> None:
    """Remove the stored progress."""
    (folder / _NAME).unlink(missing_ok=True)


def read_progress(folder: Path, default: Phase) -> Progress:
    """The progress that another process stored in a folder; the start of a phase if there is
    none yet."""
    try:
        return _PROGRESS.validate_json((folder / _NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress(default)
