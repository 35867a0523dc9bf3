"""What watches a run's figures: updates that were left out, losses that jump, a validation loss that falls no more."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.figures import counted, figure
from rnnlm_tui.contract.metrics import EvaluationRow, EventKind, StepRow, evaluations_without_improvement
from rnnlm_tui.contract.presets import PRESETS
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.locations import runs_dir
from rnnlm_tui.store.run_directory import RunDirectory

USUAL_STEPS = 50
"""The usual loss is a mean that forgets over so many steps."""
KNOWN_STEPS = 400
"""So many steps before an attempt tell all of the usual loss that is not forgotten."""
FIRST_STEPS = 100
"""Before so many steps no loss is usual."""
JUMP_DEVIATIONS, JUMP_SHARE = 6.0, 0.1
"""A loss has jumped when it is so many standard deviations above the usual one, and by this share of it."""

USUAL_RATES = {"adamw": 1e-2, "sgd": 1.0}
"""By algorithm: above this, and above its preset's own, a learning rate is more than any model here is trained with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that the figures of a step call for."""

    step: int
    kind: EventKind
    text: str


class LossGuard:
    """Looks at every step's row in order; what it finds is an event each, and `failed_at` says when it is enough.

    The update itself was left out on the device, in the step: what is counted here is only told.

    Args:
        max_bad_steps: so many steps in a row without a finite loss and gradient are too many; each attempt counts anew.
        before: the newest steps of earlier attempts, which say what a usual loss is.
    """

    def __init__(self, max_bad_steps: int, before: Sequence[StepRow] = ()) -> None:
        self._max_bad_steps = max_bad_steps
        self._bad_steps = 0
        self._findings: list[Finding] = []
        self._spikes = SpikeWatch()
        for row in before:
            if is_finite(row):
                self._spikes.take(row.loss)
        self.failed_at: StepRow | None = None
        """The step that was one too many; what comes later doesn't change it."""

    @property
    def bad_steps(self) -> int:
        """Newest steps in a row whose update was left out."""
        return self._bad_steps

    def take(self, row: StepRow) -> None:
        """Look at the next step."""
        if is_finite(row):
            self._end_series(row.step - 1)
            jumped = self._spikes.take(row.loss)
            if jumped is not None:
                self._findings.append(Finding(row.step, "spike", f"loss {figure(row.loss, 3)}, usual is {figure(jumped, 3)}"))
            return
        self._bad_steps += 1
        if self._bad_steps == 1:
            self._findings.append(Finding(row.step, "skipped", f"update left out: {not_finite(row)}"))
        if self._bad_steps == self._max_bad_steps and self.failed_at is None:
            self.failed_at = row

    def findings(self) -> Sequence[Finding]:
        """What was found since the last call."""
        found, self._findings = self._findings, []
        return found

    def _end_series(self, last: int) -> None:
        if self._bad_steps > 1:
            self._findings.append(Finding(last, "skipped", f"{counted(self._bad_steps, 'update')} in a row were left out, up to this one"))
        self._bad_steps = 0


class SpikeWatch:
    """The usual loss and how much it varies, both as means that forget; a jump counts once, until the loss is usual again."""

    def __init__(self) -> None:
        self._steps = 0
        self._mean = self._variance = 0.0
        self._up = False

    def take(self, loss: float) -> float | None:
        """The usual loss where this one has just jumped above it, else None."""
        self._steps += 1
        limit = self._mean + max(JUMP_DEVIATIONS * math.sqrt(self._variance), JUMP_SHARE * abs(self._mean))
        jumps = self._steps > FIRST_STEPS and loss > limit
        usual = self._mean if jumps and not self._up else None
        self._up = jumps
        seen = min(loss, limit) if jumps else loss  # or one jump would make the next ones usual
        weight = 1 / min(self._steps, USUAL_STEPS)
        off = seen - self._mean
        self._mean += weight * off
        self._variance = (1 - weight) * (self._variance + weight * off * off)
        return usual


class Patience:
    """Early stopping: counts the evaluations in a row, stored ones of earlier attempts among them, that brought no better validation loss.

    Args:
        limit: so many end the run; 0: none do.
        evaluations: of earlier attempts, up to the step that this one goes on from.
    """

    def __init__(self, limit: int, evaluations: Sequence[EvaluationRow]) -> None:
        self._limit = limit
        self._rows = list(evaluations)
        self._waited = evaluations_without_improvement(self._rows)

    def take(self, rows: Sequence[EvaluationRow]) -> None:
        """Count an evaluation."""
        self._rows += rows
        self._waited = evaluations_without_improvement(self._rows)  # here and not where it is asked for, at every step

    @property
    def exhausted(self) -> bool:
        """The run should end."""
        return 0 < self._limit <= self._waited


def is_finite(row: StepRow) -> bool:
    """Whether the step's update was done."""
    return math.isfinite(row.loss) and math.isfinite(row.grad_norm)


def not_finite(row: StepRow) -> str:
    """`loss nan, gradient inf`: those of the two that are not finite."""
    return ", ".join(f"{name} {value}" for name, value in (("loss", row.loss), ("gradient", row.grad_norm)) if not math.isfinite(value))


def too_many_bad_steps(last: StepRow, config: RunConfig, run: str, *, kept: str, best: int | None) -> RnnlmError:
    """Why a run ends whose losses or gradients are not finite any more, and what to do.

    Args:
        last: the step that was one too many.
        kept: which weights are on the disk, in words.
        best: step of the best checkpoint; None: there is none.
    """
    changes = calmer_settings(config)
    start = f"--from {run}@best" if best is not None else f"--config {shlex.quote(str(RunDirectory(runs_dir() / run).config_path))}"
    settings = " ".join(f"--set {path}={value:g}" for path, value in changes.items())
    words = {"optimizer.max_grad_norm": "gradients clipped", "optimizer.learning_rate": f"a smaller learning rate than {config.optimizer.learning_rate:g}"}
    return RnnlmError(
        f"loss or gradient was not finite for {counted(config.training.max_bad_steps, 'step')} in a row up to step {last.step:,} ({not_finite(last)}): {kept}",
        hint=f"a resume would fail again; a new run may do better with {' and '.join(words[path] for path in changes)}: `rnnlm-tui train {start} {settings}`",
    )


def calmer_settings(config: RunConfig) -> dict[str, float]:
    """What a new run should change where this one's losses are not finite any more: the clip where there is none, the rate where it is high or there is one."""
    optimizer, preset = config.optimizer, PRESETS.get(config.preset)
    usual = USUAL_RATES[optimizer.algorithm]
    if preset is not None and preset.optimizer.algorithm == optimizer.algorithm:
        usual = max(usual, preset.optimizer.learning_rate)
    changes = {} if optimizer.max_grad_norm else {"optimizer.max_grad_norm": 1.0}
    if optimizer.max_grad_norm or optimizer.learning_rate > usual:
        changes["optimizer.learning_rate"] = min(optimizer.learning_rate / 2, usual)
    return changes
