"""Session: what the parts of a training run share, from its first step to its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import EvaluationRow, EventKind
from rnnlm_tui.worker.guards import LossGuard
from rnnlm_tui.worker.memory import MemoryBudget
from rnnlm_tui.worker.recorder import Attempt
from rnnlm_tui.worker.step_metrics import StepMetrics


@dataclass(frozen=True, slots=True)
class Session:
    """An attempt with its model, text and figures."""

    attempt: Attempt
    trainer: Trainer
    corpus: PreparedCorpus
    budget: MemoryBudget
    guard: LossGuard
    metrics: StepMetrics
    evaluations: list[EvaluationRow]
    """Those so far, of earlier attempts, too."""
    health: Sequence[HealthRow] = ()
    """Those of earlier attempts."""

    def event(self, kind: EventKind, text: str) -> None:
        """Add an event at the current step to the run's log."""
        self.attempt.event(kind, self.trainer.step, text)

    def note(self, text: str) -> None:
        """Add a note at the current step to the run's log."""
        self.event("note", text)
