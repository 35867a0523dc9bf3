"""The learning rate of each step: a linear rise, then constant or a cosine down to the final rate."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, kind: str, warmup_steps: int, total_steps: int, final_fraction: float) -> float:
    """The rate of update `step` (1-based).

    1. While step <= warmup_steps: peak x step / warmup_steps, so the peak is reached at the last step of the rise.
    2. `constant`: the peak.
    3. `cosine`: half a cosine from the peak (at the last step of the rise, or at step 1) to peak x final_fraction,
       which it reaches exactly at step `total_steps` and keeps beyond.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    start = max(warmup_steps, 1)
    if step >= total_steps:
        return peak * final_fraction if total_steps > 1 else peak
    way = (step - start) / (total_steps - start)
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * way)) / 2)
