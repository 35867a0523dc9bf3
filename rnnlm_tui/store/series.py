"""Curves and machine readings of a run in at most so many buckets.

`SeriesTable` has the curves of all steps, or of a range of them; `MachineTable` has the machine
readings. `Cached` computes a value only when its key is new.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from rnnlm_tui.store.index import COLUMNS, MACHINE, PLACES, STEPS, merged

RAW_LIMIT = 16_384
"""Up to this many steps are read one by one; beyond, from the index's buckets."""
RAW_READINGS = 640
"""The same for readings of the machine; more of them have a bucket for every column of a chart."""
DETAIL_LIMIT = 98_304
"""The most steps of a range that is read while the user waits."""

Figures = tuple[int, "array[float]"]
"""The number of a bucket of the wanted width, and a part of its figures, in order."""
Position = tuple[int, int]
"""Attempt and offset of a row."""
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One column: minimum, maximum and mean of each bucket's finite values; NaN if there are
    none."""

    low: array[float]
    high: array[float]
    mean: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTable:
    """Curves by step, one entry per bucket that has steps. All arrays are as long as `step`.

    Bucket b holds the steps from b·width + 1 to (b + 1)·width.
    """

    width: int
    """Steps per bucket, a power of two."""
    step: array[float]
    """The bucket's last step."""
    tokens: array[float]
    """Tokens seen at that step."""
    epoch: array[float]
    active: array[float]
    """Seconds of training at that step."""
    time: array[float]
    """Unix seconds at that step."""
    nonfinite: array[float]
    """Number of steps with a NaN or infinite metric."""
    columns: dict[str, Band]
    """A band for each of METRIC_COLUMNS. In a bucket of several steps, `low` and `high` leave out
    an epoch's short last batch."""
    short_every: int = 0
    """Steps per epoch if an epoch's last batch has less than half of the usual tokens; 0 if it
    doesn't."""

    def __len__(self) -> int:
        return len(self.step)


def bucket_width(count: int, max_buckets: int, raw_limit: int, unit: int) -> int:
    """Rows per bucket: the smallest power of two for at most `max_buckets`; beyond `raw_limit` at
    least `unit`."""
    wanted = max(1, -(-count // max(1, max_buckets)))
    width = 1 << (wanted - 1).bit_length()
    return width if count <= raw_limit else max(unit, width)


@dataclass(frozen=True, slots=True, eq=False)
class MachineTable:
    """Machine readings of all attempts, one entry per bucket, oldest first. All arrays are as long
    as `time`."""

    time: array[float]
    """Unix seconds of the bucket's newest reading."""
    columns: dict[str, Band]
    """A band for each of MACHINE_COLUMNS, in the units of `HardwareRow`; NaN if a bucket has no
    value."""

    def __len__(self) -> int:
        return len(self.time)


def empty_table() -> SeriesTable:
    """The curves of a run without steps."""
    return Buckets(STEPS).curves(1)


def empty_machine() -> MachineTable:
    """A history without readings."""
    return Buckets(MACHINE).history()


class Buckets:
    """The growing arrays behind a table of a series: the positions (step, time and so on) and the
    bands of each bucket."""

    def __init__(self, series: str) -> None:
        self._series = series
        self._key: object = None
        self._shown: object = None
        self._clear()

    def _clear(self) -> None:
        self._number: list[int] = []
        self._place = [array("d") for _ in range(PLACES[self._series])]
        self._bands = {
            name: Band(array("d"), array("d"), array("d")) for name in COLUMNS[self._series]
        }
        self._read_from = self._read_to = 0

    def update(
        self, key: object, begin: int, end: int, read: Callable[[int, int], Iterable[Figures]]
    ) -> bool:
        """Have the buckets from number `begin` up to but not including `end`; returns whether any
        has changed.

        Only the last one and newer ones are read, or all if `key` changes or the range moves back.

        Args:
            read: the figures of the buckets from one number up to but not including another.
        """
        if key != self._key or not self._read_from <= begin <= self._read_to:
            self._clear()
            self._key, self._read_to = key, begin
        fresh = max(begin, min(self._read_to - 1, end))  # the last bucket may have grown
        first, last = bisect_left(self._number, begin), bisect_left(self._number, fresh)
        del self._number[last:], self._number[:first]
        for values in self._every():
            del values[last:], values[:first]
        self._add(read(fresh, end))
        self._read_from, self._read_to = begin, end
        newest = repr([values[-1] for values in self._every() if values])
        before, self._shown = self._shown, (key, begin, len(self._number), newest)
        return before != self._shown

    def _add(self, found: Iterable[Figures]) -> None:
        parts: dict[int, list[array[float]]] = {}
        for number, figures in found:
            parts.setdefault(number, []).append(figures)
        self._number += parts
        places = len(self._place)
        columns = list(zip(*(merged(some, places) for some in parts.values()), strict=True))
        for values, column in zip(self._place, columns, strict=False):
            values.extend(column)
        for at, band in zip(range(places, len(columns), 4), self._bands.values(), strict=False):
            known, low, high, total = columns[at : at + 4]
            mean = [value / n if n else math.nan for n, value in zip(known, total, strict=True)]
            band.mean.extend(mean)
            for values, extreme in ((band.low, low), (band.high, high)):
                both = zip(extreme, mean, strict=True)
                values.extend([other if math.isnan(value) else value for value, other in both])

    def _every(self) -> Iterator[array[float]]:
        yield from self._place
        for band in self._bands.values():
            yield from (band.low, band.high, band.mean)

    def _columns(self) -> dict[str, Band]:
        return {
            name: Band(band.low[:], band.high[:], band.mean[:])
            for name, band in self._bands.items()
        }

    def curves(self, width: int, short_every: int = 0) -> SeriesTable:
        """A table of steps."""
        step, nonfinite, tokens, epoch, active, time = (values[:] for values in self._place)
        return SeriesTable(
            width, step, tokens, epoch, active, time, nonfinite, self._columns(), short_every
        )

    def history(self) -> MachineTable:
        """A table of readings of the machine."""
        return MachineTable(self._place[2][:], self._columns())


class Cached(Generic[ValueT]):
    """A value that is computed again only if its key changes."""

    def __init__(self) -> None:
        self._held: tuple[object, ValueT] | None = None

    def of(self, state: object, work_out: Callable[[], ValueT]) -> ValueT:
        """The value for this key; the same object while the key is equal."""
        if self._held is None or self._held[0] != state:
            self._held = (state, work_out())
        return self._held[1]
