"""How much of the cores others hold while a run trains on them: one busy process costs a run far more than its share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rnnlm_tui.contract.metrics import HardwareRow

READINGS = 10
"""Readings that are looked at: ten seconds."""
LEAST = 5
"""So many of them have to be there: one may lie in the moment in which the machine was busy starting the run."""
NOTICED = 0.3
"""Cores that others have to take from the run's threads before it is worth a word."""


def others_cores(rows: Sequence[HardwareRow], *, cores: int, threads: int) -> float | None:
    """Cores that others held in the last readings (`rows`, the oldest first), to a tenth; None where the run's threads hardly miss them.

    A run that computes with fewer threads than there are cores leaves the rest to others.
    """
    recent = rows[-READINGS:]
    if len(recent) < LEAST or cores < 1:
        return None
    held = fmean(max(0.0, row.cpu_percent - row.process_cpu_percent) for row in recent) / 100 * cores
    missed = held - max(0, cores - threads)
    return round(held, 1) if missed > NOTICED else None
