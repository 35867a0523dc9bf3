"""What a run is judged by while it trains: its evaluations, the patience that they use up, the loss of the weights as they are now."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from rnnlm_tui.contract.metrics import EvaluationRow, EventKind, evaluations_during_run
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError, RnnlmError, StorageError
from rnnlm_tui.store.retention import best_step
from rnnlm_tui.worker.evaluating import Evaluator, in_words
from rnnlm_tui.worker.guards import Patience
from rnnlm_tui.worker.inbox import StopRequested
from rnnlm_tui.worker.keeping import Keeping, doing
from rnnlm_tui.worker.records import Records
from rnnlm_tui.worker.reporter import Reporter
from rnnlm_tui.worker.room import Room


class Judging:
    """Evaluates a trainer's model and keeps what follows from it.

    Args:
        patience: so many evaluations in a row without a better validation loss are enough; 0: never.
        before: evaluations of earlier attempts, up to the start step.
        tell: adds an event to the run's log.

    Raises (every method that evaluates):
        StopRequested: a stop came in its midst.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        keeping: Keeping,
        records: Records,
        reporter: Reporter,
        trainer: Trainer,
        room: Room,
        *,
        patience: int,
        before: Sequence[EvaluationRow],
        tell: Callable[[EventKind, str], None],
    ) -> None:
        self._evaluator = evaluator
        self._keeping = keeping
        self._records = records
        self._reporter = reporter
        self._trainer = trainer
        self._room = room
        self._tell = tell
        self._patience = Patience(patience, before)
        self._evaluations = list(before)
        self._best = self._best_step()
        here = [row.loss for row in before if row.step == trainer.step > 0 and row.split == "validation"]
        self._loss = here[-1] if here else None
        self._step = trainer.step if here else -1

    @property
    def exhausted(self) -> bool:
        """Patience is at its end, and the run should be."""
        return self._patience.exhausted

    @property
    def is_current(self) -> bool:
        """The weights as they are now have been evaluated."""
        return self._step == self._trainer.step

    @property
    def loss_here(self) -> float | None:
        """The validation loss at this very step; None where none was measured."""
        return self._loss if self.is_current else None

    @property
    def is_best(self) -> bool:
        """The weights as they are now have a lower validation loss than at every evaluation before; the earliest of equals is the best."""
        return self.is_current and self._best == self._step

    def evaluate(self) -> str:
        """Evaluate, and continue the configured prompts; the figures in words.

        Raises:
            DeviceError: out of memory.
        """
        with doing(self._records, "evaluating"):
            self._reporter.flush()
            rows = self._evaluator.during_run(self._trainer.step)
            for row in rows:
                self._tell("evaluation", in_words(row))
            self._patience.take(rows)
            self._evaluations += rows
            self._best = self._best_step()
            self._loss = next(row.loss for row in rows if row.split == "validation")
            self._step = self._trainer.step
            self._keeping.label(self._loss)
            self._evaluator.continue_prompts(self._step)
            return "; ".join(in_words(row) for row in rows)

    def evaluate_if_possible(self) -> None:
        """An evaluation that fails is reported as an event, and training continues."""
        try:
            self.evaluate()
        except (StopRequested, StorageError):  # StorageError from `Records`: the run's folder or database is gone
            raise
        except Exception as error:
            self._report_failure("evaluation", error)

    def evaluate_unless_stopped(self) -> None:
        """As `evaluate_if_possible`; one in whose midst a stop comes is told as well."""
        try:
            self.evaluate_if_possible()
        except StopRequested:
            self._tell("note", "the evaluation was left: a stop came")

    def evaluate_at_end(self) -> None:
        """On the test set. Everything is saved by now, so a failure is only reported."""
        try:
            with doing(self._records, "evaluating"):
                for row in self._evaluator.at_end(self._trainer.step):
                    self._tell("evaluation", in_words(row))
        except (StopRequested, StorageError):
            raise
        except Exception as error:
            self._report_failure("test", error)

    def _best_step(self) -> int | None:
        return best_step((row.step, row.loss) for row in evaluations_during_run(self._evaluations, "validation"))

    def _report_failure(self, what: str, error: Exception) -> None:
        if isinstance(error, DeviceError):
            words = self._room.explained(error, 0).message
        elif isinstance(error, RnnlmError):
            words = error.message
        else:
            traceback.print_exc()  # to the run's log
            words = f"{type(error).__name__}: {error}; the traceback is in the run's log"
        self._tell("note", f"no {what}: {words}")
