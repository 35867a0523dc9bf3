"""CPU cores used by other processes: one busy process slows a run by far more than its share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rnnlm_tui.contract.metrics import HardwareRow

READINGS = 10
"""Number of machine readings in the mean: ten seconds."""
LEAST = 5
"""Fewest readings needed: one may be from the moment when the run's own start kept the machine busy."""
NOTICED = 0.3
"""Cores that must be missing for the run's threads before it is reported."""


def others_cores(rows: Sequence[HardwareRow], *, cores: int, threads: int) -> float | None:
    """Cores used by other processes in the last readings; None if the run's threads have enough cores.

    A run with fewer threads than cores leaves the rest to other processes.

    Args:
        rows: machine readings, oldest first.
    """
    recent = rows[-READINGS:]
    if len(recent) < LEAST or cores < 1:
        return None
    held = fmean(max(0.0, row.cpu_percent - row.process_cpu_percent) for row in recent) / 100 * cores
    missed = held - max(0, cores - threads)
    return round(held, 1) if missed > NOTICED else None
