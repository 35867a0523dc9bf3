"""A recorder of a test's own run."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import write_whole
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.worker.recorder import MAX_KEPT_ROWS, Recorder


def evaluation(step: int, loss: float) -> EvaluationRow:
    return EvaluationRow(1, step, "validation", "validation", loss, 10, 1.0, 0.1, 0.0)


@contextmanager
def recorder_of(run: RunDirectory, *, max_kept: int = MAX_KEPT_ROWS) -> Iterator[Recorder]:
    """The recorder that a worker would use, in its attempt."""
    run.path.mkdir(parents=True, exist_ok=True)
    with RunLock(run.lock_path) as lock:
        recorder = Recorder(run, lock, max_kept=max_kept)
        recorder.begin_attempt(0, {})
        try:
            yield recorder
        finally:
            recorder.close()


class Disk:
    """The disk of the logs, which refuses what is behind `limit` bytes of a log."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.limit = math.inf
        patch.setattr("rnnlm_tui.store.log.write_whole", self._write)

    def _write(self, descriptor: int, data: bytes) -> None:
        fits = self.limit - os.lseek(descriptor, 0, os.SEEK_CUR)
        if fits < len(data):
            write_whole(descriptor, data[: int(max(0, fits))])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(descriptor, data)

    def fill(self) -> None:
        """Accept nothing any more."""
        self.limit = 0

    def free(self) -> None:
        """Accept everything again."""
        self.limit = math.inf


def until(question: Callable[[], object]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.001)
