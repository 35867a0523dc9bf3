"""Prepare machine readings for display: an averaged reading, a load curve and a low-disk check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow

STEADY_SECONDS = 5.0
"""Loads are averaged over this time, since those of single seconds fluctuate."""
HISTORY_SECONDS = 6.0
"""Seconds per dot column, aligned to the clock so that the curve doesn't move with each reading."""
LITTLE_DISK = 0.1
"""Below this free share, the disk is shown even where there is little room."""
LITTLE_BYTES = 5 * 10**9
"""Low-disk limit if the disk's size is unknown."""


def has_card(row: HardwareRow) -> bool:
    """Whether a GPU was measured, however little its driver reports."""
    return any(value is not None for value in (row.gpu_percent, row.gpu_memory_total, row.gpu_memory_own, row.gpu_name))


def steady_reading(rows: Sequence[HardwareRow]) -> HardwareRow | None:
    """Return the newest reading with loads and watts averaged over recent seconds; rows oldest
    first.
    """
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
    """Return the load of the GPU, or CPU without one, as (dot column, percent), newest at the
    right.
    """
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
    """Whether less disk is free than training should have; `total` is the disk's size, if known."""
    return row.disk_free < (LITTLE_BYTES if not total else LITTLE_DISK * total)


def _mean(newest: float | None, values: Sequence[float | None]) -> float | None:
    return None if newest is None else fmean(value for value in values if value is not None)
