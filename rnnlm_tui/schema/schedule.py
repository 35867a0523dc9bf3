"""Schedule: the learning rate of each step.

Linear warm-up, then constant, cosine decay or decay by epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnnlm_tui.schema.config import RunConfig


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate over a run."""

    peak: float
    kind: str = "constant"
    """`constant`, `cosine` or `decay`."""
    warmup_steps: int = 0
    final_fraction: float = 0.0
    """`cosine`: the final rate as a share of the peak."""
    decay_after: int = 0
    """`decay`: epochs at the peak."""
    decay_factor: float = 1.0
    """`decay`: factor at the start of each later epoch."""

    def rate(self, step: int, *, total_steps: int, steps_per_epoch: int = 1) -> float:
        """The rate of update `step` (1-based)."""
        # 1. Warm-up: linear, so the last warm-up step has the peak.
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        # 2. Constant.
        if self.kind == "constant":
            return self.peak
        # 3. Decay: epoch e (1-based) has peak x decay_factor ** max(0, e - decay_after), as in Zaremba,
        # Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014), section 4.1.
        if self.kind == "decay":
            epoch = (step - 1) // steps_per_epoch + 1
            return float(self.peak * self.decay_factor ** max(0, epoch - self.decay_after))
        # 4. Cosine: from the peak (at the last warm-up step, or at step 1) down to peak x final_fraction,
        # reached exactly at the last step and kept afterwards.
        if step >= total_steps:
            return self.peak * self.final_fraction if total_steps > 1 else self.peak
        start = max(self.warmup_steps, 1)
        progress = (step - start) / (total_steps - start)
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * share)


def schedule_of(config: RunConfig, *, warmup_steps: int, peak: float | None = None) -> Schedule:
    """The schedule of a config; `peak` None: the config's learning rate."""
    return Schedule(
        peak=config.optimizer.learning_rate if peak is None else peak,
        kind=config.schedule.kind,
        warmup_steps=warmup_steps,
        final_fraction=config.schedule.final_fraction,
        decay_after=config.schedule.decay_after,
        decay_factor=config.schedule.decay_factor,
    )
