"""Guards on a run's losses: skipped updates and loss spikes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted, figure
from rnnlm_tui.schema.metrics import EventKind, StepRow
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.store.paths import RunDirectory, runs_dir

USUAL_STEPS = 50
"""Time constant, in steps, of the exponential mean that is the usual loss."""
KNOWN_STEPS = 400
"""Steps of earlier attempts that are read to restore the usual loss; older ones no longer count."""
FIRST_STEPS = 100
"""No spikes are reported before this many steps."""
JUMP_DEVIATIONS, JUMP_SHARE = 6.0, 0.1
"""A spike is this many standard deviations above the usual loss, and at least this share of it."""

USUAL_RATES = {"adamw": 1e-2, "sgd": 1.0}
"""By algorithm: a rate above this, and above its preset's, is higher than any model here trains
with."""


class LossGuard:
    """Checks every step's row, in order, for non-finite values and spikes.

    The step itself skips a non-finite update on the device; this only counts and reports them.

    Args:
        max_bad_steps: consecutive non-finite steps that end the run; each attempt counts from zero.
        log: called with each event: its kind, step and text.
        before: the newest steps of earlier attempts, to know the usual loss.
    """

    def __init__(
        self,
        max_bad_steps: int,
        log: Callable[[EventKind, int, str], None],
        before: Sequence[StepRow] = (),
    ) -> None:
        self._max_bad_steps, self._log = max_bad_steps, log
        self._bad_steps = 0
        self._spikes = SpikeDetector()
        for row in before:
            if is_finite(row):
                self._spikes.add(row.loss)
        self.failed_at: StepRow | None = None
        """The step that reached the limit; later steps don't change it."""

    @property
    def bad_steps(self) -> int:
        """Consecutive skipped updates up to the newest step."""
        return self._bad_steps

    def add(self, row: StepRow) -> None:
        """Check the next step."""
        if is_finite(row):
            self._end_series(row.step - 1)
            usual = self._spikes.add(row.loss)
            if usual is not None:
                words = f"loss {figure(row.loss, 3)}, usual is {figure(usual, 3)}"
                self._log("spike", row.step, words)
            return
        self._bad_steps += 1
        if self._bad_steps == 1:
            self._log("skipped", row.step, f"update skipped: {not_finite(row)}")
        if self._bad_steps == self._max_bad_steps and self.failed_at is None:
            self.failed_at = row

    def _end_series(self, last: int) -> None:
        if self._bad_steps > 1:
            updates = counted(self._bad_steps, "update")
            self._log("skipped", last, f"{updates} in a row skipped, up to this one")
        self._bad_steps = 0


class SpikeDetector:
    """Tracks the usual loss and its variance as exponential means. A spike is reported once, until
    the loss is usual again."""

    def __init__(self) -> None:
        self._steps = 0
        self._mean = self._variance = 0.0
        self._is_up = False

    def add(self, loss: float) -> float | None:
        """The usual loss if this one has just jumped above it, else None."""
        self._steps += 1
        limit = self._mean + max(
            JUMP_DEVIATIONS * math.sqrt(self._variance), JUMP_SHARE * abs(self._mean)
        )
        jumps = self._steps > FIRST_STEPS and loss > limit
        usual = self._mean if jumps and not self._is_up else None
        self._is_up = jumps
        # Otherwise one spike would make the next ones usual.
        seen = min(loss, limit) if jumps else loss
        weight = 1 / min(self._steps, USUAL_STEPS)
        off = seen - self._mean
        self._mean += weight * off
        self._variance = (1 - weight) * (self._variance + weight * off * off)
        return usual


def is_finite(row: StepRow) -> bool:
    """Whether the step's update was done."""
    return math.isfinite(row.loss) and math.isfinite(row.grad_norm)


def not_finite(row: StepRow) -> str:
    """`loss nan, gradient inf`: whichever of the two is not finite."""
    return ", ".join(
        f"{name} {value}"
        for name, value in (("loss", row.loss), ("gradient", row.grad_norm))
        if not math.isfinite(value)
    )


def too_many_bad_steps(
    last: StepRow, config: RunConfig, run: str, *, kept: str, best: int | None
) -> RnnlmError:
    """The error that ends a run after too many non-finite steps.

    Args:
        last: the step that reached the limit.
        kept: which weights are saved, in words.
        best: step of the best checkpoint; None: there is none.
    """
    changes = calmer_settings(config)
    start = (
        f"--from {run}@best"
        if best is not None
        else f"--config {shlex.quote(str(RunDirectory(runs_dir() / run).config_path))}"
    )
    settings = " ".join(f"--set {path}={value:g}" for path, value in changes.items())
    words = {
        "optimizer.max_grad_norm": "gradient clipping",
        "optimizer.learning_rate": (
            f"a smaller learning rate than {config.optimizer.learning_rate:g}"
        ),
    }
    return RnnlmError(
        f"loss or gradient was not finite for {counted(config.training.max_bad_steps, 'step')} in a"
        f" row up to step {last.step:,} ({not_finite(last)}): {kept}",
        hint=(
            "a resume would fail again; a new run may do better with"
            f" {' and '.join(words[path] for path in changes)}: `rnnlm-tui train {start}"
            f" {settings}`"
        ),
    )


def calmer_settings(config: RunConfig) -> dict[str, float]:
    """Settings for a new run after this one diverged: gradient clipping if it is off, a lower
    learning rate if the rate is high or clipping is on."""
    optimizer, preset = config.optimizer, PRESETS.get(config.preset)
    usual = USUAL_RATES[optimizer.algorithm]
    if preset is not None and preset.optimizer.algorithm == optimizer.algorithm:
        usual = max(usual, preset.optimizer.learning_rate)
    changes = {} if optimizer.max_grad_norm else {"optimizer.max_grad_norm": 1.0}
    if optimizer.max_grad_norm or optimizer.learning_rate > usual:
        changes["optimizer.learning_rate"] = min(optimizer.learning_rate / 2, usual)
    return changes
