"""A recorder and a session of a test's own run."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import write_whole
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.worker.commands import CommandHandler, Inbox
from rnnlm_tui.worker.guards import LossGuard
from rnnlm_tui.worker.memory import MemoryBudget
from rnnlm_tui.worker.recorder import MAX_KEPT_ROWS, Attempt, Recorder
from rnnlm_tui.worker.session import Session
from rnnlm_tui.worker.step_metrics import StepMetrics
from rnnlm_tui.worker.train import PreparingRun


def evaluation(step: int, loss: float) -> EvaluationRow:
    return EvaluationRow(1, step, "validation", "validation", loss, 10, 1.0, 0.1, 0.0)


@contextmanager
def recorder_of(
    run: RunDirectory, *, max_kept: int = MAX_KEPT_ROWS, seconds: float = HEARTBEAT_SECONDS
) -> Iterator[Recorder]:
    """The recorder that a worker would use, in its attempt."""
    run.path.mkdir(parents=True, exist_ok=True)
    with RunLock(run.lock_path) as lock:
        recorder = Recorder(run, lock, max_kept=max_kept, seconds=seconds)
        recorder.begin_attempt(0, {})
        try:
            yield recorder
        finally:
            recorder.close()


def session_of(
    run: RunDirectory,
    config: RunConfig,
    recorder: Recorder,
    trainer: Trainer,
    corpus: object,
    evaluations: list[EvaluationRow],
    *,
    late: bool = False,
) -> Session:
    """A session as a worker's first attempt has it.

    Args:
        late: after the first step, losses are only read when something else needs them.
    """
    commands = CommandHandler(PreparingRun(0), recorder.journal_command)
    attempt = Attempt(run, config, recorder, 1, None, Inbox(), commands)
    guard = LossGuard(config.training.max_bad_steps, attempt.event)
    metrics = StepMetrics(
        recorder.add,
        1,
        observe=guard.add,
        asynchronous=late,
        clock=(lambda: 0.0) if late else time.monotonic,
    )
    budget = MemoryBudget(
        run.name, config, trainer.device, vocab_size=trainer.model.vocab_size, sentences=10
    )
    text = cast(PreparedCorpus, corpus)
    return Session(attempt, trainer, text, budget, guard, metrics, evaluations)


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
