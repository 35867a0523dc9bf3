"""Readings of a machine: averaged so that they can be read, and as a curve of the load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, takewhile
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnlm_tui.schema.metrics import GpuRow

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import HardwareRow


class Readings(NamedTuple):
    """The app's own readings of this machine."""

    rows: tuple[HardwareRow, ...] = ()
    """Oldest first."""
    live: bool = False
    """Whether more readings are coming, as long as someone uses the app."""


STEADY_SECONDS = 5.0
"""Loads are averaged over this time, since those of single seconds fluctuate."""
HISTORY_SECONDS = 6.0
"""Seconds per dot column, aligned to the clock so that the curve doesn't move with each reading."""


def has_card(row: HardwareRow) -> bool:
    """Whether a GPU was measured, however little its driver reports."""
    return row.gpu._replace(index=None) != GpuRow()


def steady_reading(rows: Sequence[HardwareRow]) -> HardwareRow | None:
    """Return the newest reading with loads, watts and clock averaged, and only the throttling that
    lasts; `rows` oldest first."""
    if not rows:
        return None
    newest = rows[-1]
    first = newest.time - STEADY_SECONDS
    recent = [newest, *takewhile(lambda row: row.time > first, reversed(rows[:-1]))]
    others = list(chain.from_iterable(row.other_gpus for row in recent))
    return newest._replace(
        cpu_percent=fmean(row.cpu_percent for row in recent),
        process_cpu_percent=fmean(row.process_cpu_percent for row in recent),
        gpu=_steady([row.gpu for row in recent]),
        other_gpus=tuple(
            _steady([old for old in others if old.index == card.index])
            for card in newest.other_gpus
        ),
    )


def _steady(recent: Sequence[GpuRow]) -> GpuRow:
    """A GPU's readings, newest first, as `steady_reading`."""
    means: dict[str, Any] = {
        name: fmean(value for card in recent if (value := getattr(card, name)) is not None)
        for name in ("percent", "watts", "clock_mhz")
        if getattr(recent[0], name) is not None
    }
    return recent[0]._replace(**means, throttle=_lasting([card.throttle for card in recent]))


def _lasting(throttles: Sequence[str | None]) -> str | None:
    """The reasons in at least half of the readings, newest first: a GPU at its limit is slowed down
    for a moment every second."""
    if throttles[0] is None:
        return None
    known = [text.split(", ") for text in throttles if text is not None]
    reasons = filter(None, dict.fromkeys(chain.from_iterable(known)))
    return ", ".join(
        reason for reason in reasons if 2 * sum(reason in texts for texts in known) >= len(known)
    )


def history(rows: Sequence[HardwareRow], columns: int) -> list[tuple[int, float]]:
    """Return the load of the GPU or CPU as (dot column, percent), newest at the right.

    Nothing if there is a GPU whose load isn't reported.
    """
    if not rows or (has_card(rows[-1]) and rows[-1].gpu.percent is None):
        return []
    card, newest = has_card(rows[-1]), int(rows[-1].time // HISTORY_SECONDS)
    places = ((columns - 1 - newest + int(row.time // HISTORY_SECONDS), row) for row in rows[::-1])
    return averaged(
        (column, row.gpu.percent if card else row.cpu_percent)
        for column, row in takewhile(lambda place: place[0] >= 0, places)
    )


def averaged(points: Iterable[tuple[int, float | None]]) -> list[tuple[int, float]]:
    """Return the mean of the known values of each column."""
    columns: dict[int, list[float]] = {}
    for column, value in points:
        if value is not None and not isnan(value):
            columns.setdefault(column, []).append(value)
    return [(column, fmean(values)) for column, values in sorted(columns.items())]
