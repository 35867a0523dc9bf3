"""Which state of a run is on the disk as a checkpoint, and what is done when it can't get there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rnnlm_tui.contract.metrics import CheckpointRow
from rnnlm_tui.contract.status import ACTIVITY_KEY, Activity
from rnnlm_tui.engine.failures import is_out_of_memory
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.worker.records import Records
from rnnlm_tui.worker.reporter import Reporter
from rnnlm_tui.worker.saving import Saver

SAVE_AGAIN_SECONDS = 60.0
"""A periodic checkpoint that could not be written is tried again after this time, or when the next one is due."""
END_AGAIN_SECONDS = 2.0
"""What could not be stored at the end is tried again after this time: nothing else is left to do."""


@contextmanager
def doing(records: Records, activity: Activity) -> Iterator[None]:
    """Let readers know why no step ends for a while."""
    records.set_meta(ACTIVITY_KEY, activity)
    try:
        yield
    finally:
        records.set_meta(ACTIVITY_KEY, "")


class Keeping:
    """Saves a trainer's state, each step's at most once.

    Args:
        path: the checkpoint that this attempt went on from, relative to the run directory; empty when it starts at step 0.
        note: adds a fact to the run's log.
    """

    def __init__(self, saver: Saver, records: Records, reporter: Reporter, trainer: Trainer, *, path: str, note: Callable[[str], None]) -> None:
        self._saver = saver
        self._records = records
        self._reporter = reporter
        self._trainer = trainer
        self._note = note
        self._saved_step = trainer.step if path else -1
        self._again_at = math.inf
        self._wait_until = -math.inf
        self.path = path
        """The newest checkpoint relative to the run directory; empty when there is none."""
        self.step = trainer.step if path else 0
        """Its step, from which a resume goes on; 0 when there is none."""

    @property
    def is_current(self) -> bool:
        """The disk has the state of this very step."""
        return self._saved_step == self._trainer.step

    @property
    def is_due_again(self) -> bool:
        """A checkpoint that could not be written should be tried again."""
        return time.monotonic() >= self._again_at

    @property
    def waits(self) -> bool:
        """What could not be stored at the end is not to be tried again yet."""
        return time.monotonic() < self._wait_until

    def outdate(self) -> None:
        """A setting was changed: the state on the disk is no longer all of it."""
        self._saved_step = -1

    def save(self, validation_loss: float | None, *, last: bool = False) -> str:
        """The newest checkpoint relative to the run directory, written now where the disk has not this very state; empty before the first step.

        Args:
            validation_loss: of these weights, which makes them a candidate for the best; None: not measured.
            last: the run ends with this checkpoint, so it needs free disk space for one and not for two.

        Raises:
            StorageError: it can't be written; those before are kept.
            RunStateError: a weight is not finite.
        """
        self._reporter.flush()
        if not self._trainer.step:
            return ""
        if not self.is_current:
            with suppress(StorageError):  # a resume from this checkpoint should find the rows before it
                self._records.store_all()
            if not self._trainer.weights_are_finite():
                raise RunStateError("the weights are not finite: they are not saved", hint="the checkpoints before are kept")
            self._trainer.active_seconds = self._reporter.active_seconds
            with doing(self._records, "saving"):
                row = self._write(validation_loss, last=last)
            self._saved_step = self.step = self._trainer.step
            self.path = row.path
            self._again_at = math.inf
            self._records.saved(self.step)
        return self.path

    def label(self, validation_loss: float) -> None:
        """Give the checkpoint of this very step, where the disk has it, the loss that was measured after it was written."""
        if self.is_current:
            self._saver.label(self._trainer.step, validation_loss)

    def save_if_possible(self, validation_loss: float | None) -> None:
        """A periodic checkpoint that can't be written makes the run degraded and is tried again in a minute; training goes on."""
        try:
            self.save(validation_loss)
        except RunStateError as error:
            self._note(f"no checkpoint: {error.message}")
        except StorageError as error:
            self._again_at = time.monotonic() + SAVE_AGAIN_SECONDS
            self._records.saving_failed(error, self._trainer.step)

    def store_at_end(self, validation_loss: float | None) -> bool:
        """Save, and store what waits for a full disk; False where that can't be done now. Hours of training are worth a wait for space."""
        try:
            self.save(validation_loss, last=True)
            self._records.store_all()
        except StorageError as error:
            if not self.is_current:
                self._records.saving_failed(error, self._trainer.step)
            self._records.check()
            self._wait_until = time.monotonic() + END_AGAIN_SECONDS
            return False
        return True

    def save_last_good(self, good: int) -> str:
        """After too many bad steps: save the weights as step `good`, the last good one, left them, never as the best; what is kept, in words."""
        if good > 0:
            try:
                path = self.save(None, last=True)
                return f"no update was done after step {good:,}, and the checkpoint of step {self.step:,} has the weights of then ({path})"
            except (RunStateError, StorageError) as error:
                self._note(f"no checkpoint: {error.message}")
        return f"the newest checkpoint is {self.path}" if self.path else "there is no checkpoint"

    def _write(self, validation_loss: float | None, *, last: bool) -> CheckpointRow:
        try:
            return self._saver.save(self._trainer, train_loss=self._reporter.train_loss, validation_loss=validation_loss, last=last)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise StorageError("out of memory while a checkpoint was written", hint="the checkpoints before are kept") from error
