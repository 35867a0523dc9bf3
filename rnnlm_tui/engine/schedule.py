"""The learning rate of each step: linear warm-up, then constant, cosine decay or decay by epochs."""

from __future__ import annotations

import math


def learning_rate(
    step: int,
    *,
    peak: float,
    kind: str,
    warmup_steps: int,
    total_steps: int,
    final_fraction: float,
    steps_per_epoch: int = 1,
    decay_after: int = 0,
    decay_factor: float = 1.0,
) -> float:
    """The rate of update `step` (1-based).

    1. While step <= warmup_steps: peak x step / warmup_steps, so the last warm-up step has the peak.
    2. `constant`: the peak.
    3. `decay`: epoch e (1-based) has peak x decay_factor ** max(0, e - decay_after), as in Zaremba,
       Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014), section 4.1.
    4. `cosine`: half a cosine from the peak (at the last warm-up step, or at step 1) to
       peak x final_fraction, reached exactly at step `total_steps` and kept afterwards.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    if kind == "decay":
        epoch = (step - 1) // steps_per_epoch + 1
        return float(peak * decay_factor ** max(0, epoch - decay_after))
    start = max(warmup_steps, 1)
    if step >= total_steps:
        return peak * final_fraction if total_steps > 1 else peak
    progress = (step - start) / (total_steps - start)
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2)
