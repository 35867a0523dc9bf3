"""Readings of the machine made ready to be shown: a steady newest one, the curve of the last minutes, and whether a disk has little left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow

STEADY_SECONDS = 5.0
"""Loads are shown as their mean over so long: the figures of single seconds jump about."""
HISTORY_SECONDS = 6.0
"""A sub-column of the curve; cut by the clock, so that the curve moves once in so long and not with each reading."""
LITTLE_DISK = 0.1
"""Under this share free, the disk is said even where there is little room."""
LITTLE_BYTES = 5 * 10**9
"""The same where the size of the disk is not known."""


def has_card(row: HardwareRow) -> bool:
    """Whether an accelerator was read, however little its driver tells."""
    return any(value is not None for value in (row.gpu_percent, row.gpu_memory_total, row.gpu_memory_own, row.gpu_name))


def steady_reading(rows: Sequence[HardwareRow]) -> HardwareRow | None:
    """The newest reading with the loads and watts of the last seconds in the mean; `rows` oldest first. None where there is none."""
    if not rows:
        return None
    newest = rows[-1]
    recent = [newest]
    for row in reversed(rows[:-1]):
        if row.time <= newest.time - STEADY_SECONDS:
            break
        recent.append(row)
    return replace(
        newest,
        cpu_percent=fmean(row.cpu_percent for row in recent),
        process_cpu_percent=fmean(row.process_cpu_percent for row in recent),
        gpu_percent=_mean(newest.gpu_percent, [row.gpu_percent for row in recent]),
        gpu_watts=_mean(newest.gpu_watts, [row.gpu_watts for row in recent]),
    )


def history(rows: Sequence[HardwareRow], columns: int) -> list[tuple[int, float]]:
    """How busy the GPU, or the CPU, was: (sub-column, percent) from the left, the newest in the last of `columns`."""
    if not rows:
        return []
    card = rows[-1].gpu_percent is not None
    newest = int(rows[-1].time // HISTORY_SECONDS)
    loads: dict[int, list[float]] = {}
    for row in reversed(rows):
        bucket = int(row.time // HISTORY_SECONDS)
        if newest - bucket >= columns:
            break
        value = row.gpu_percent if card else row.cpu_percent
        if value is not None:
            loads.setdefault(columns - 1 - (newest - bucket), []).append(value)
    return [(column, fmean(loads[column])) for column in sorted(loads)]


def little_disk(row: HardwareRow, total: int | None) -> bool:
    """Whether less is free than one should train on; `total` bytes of the disk, None where that is not known."""
    return row.disk_free < (LITTLE_BYTES if not total else LITTLE_DISK * total)


def _mean(newest: float | None, values: Sequence[float | None]) -> float | None:
    return None if newest is None else fmean(value for value in values if value is not None)
