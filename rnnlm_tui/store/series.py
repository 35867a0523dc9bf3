"""Curves and machine readings of a run in at most so many buckets.

`SeriesTable` has the curves of all steps, or of a range of them; `MachineTable` has the machine
readings. `Cached` and `Tail` compute a value, or read the newest rows, only when they are new.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, METRIC_COLUMNS
from rnnlm_tui.store.index import MACHINE, PLACES, STEPS, merged

RAW_LIMIT = 32_768
"""Up to this many steps are read one by one; beyond, from the index's buckets."""
RAW_READINGS = 4_096
"""The same for readings of the machine."""
DETAIL_LIMIT = 98_304
"""The most steps of a range that is read while the user waits."""

Figures = tuple[int, "array[float]"]
"""The number of a bucket of the wanted width, and a part of its figures, in order."""
Position = tuple[int, int]
"""Attempt and offset of a row."""
RowT = TypeVar("RowT")
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


def empty_table() -> SeriesTable:
    """The curves of a run without steps."""
    return _table(_columns(), 1)


def bucket_width(count: int, max_buckets: int, raw_limit: int, unit: int) -> int:
    """Rows per bucket: the smallest power of two for at most `max_buckets`; beyond `raw_limit` at
    least `unit`."""
    wanted = max(1, -(-count // max(1, max_buckets)))
    width = 1 << (wanted - 1).bit_length()
    return width if count <= raw_limit else max(unit, width)


@dataclass(slots=True)
class Columns:
    """The growing arrays behind a table: each entry's bucket, positions (step, time and so on) and
    bands."""

    bucket: list[int]
    place: list[array[float]]
    bands: list[Band]

    def drop_from(self, bucket: int) -> None:
        """Drop the buckets from `bucket` on."""
        self._keep(0, bisect_left(self.bucket, bucket))

    def drop_before(self, bucket: int) -> None:
        """Drop the buckets before `bucket`."""
        self._keep(bisect_left(self.bucket, bucket), len(self.bucket))

    def _keep(self, first: int, end: int) -> None:
        if first > 0 or end < len(self.bucket):
            for values in self._every():
                del values[end:], values[:first]
            del self.bucket[end:], self.bucket[:first]

    def add(self, found: Iterable[Figures], places: int) -> None:
        """Add buckets, several parts of one after the other."""
        parts: dict[int, list[array[float]]] = {}
        for number, figures in found:
            parts.setdefault(number, []).append(figures)
        self.bucket += parts
        for figures in (merged(of_bucket, places) for of_bucket in parts.values()):
            for values, value in zip(self.place, figures[:places], strict=True):
                values.append(value)
            for at, band in zip(range(places, len(figures), 4), self.bands, strict=True):
                n, low, high, total = figures[at : at + 4]
                mean = total / n if n else math.nan
                band.mean.append(mean)
                band.low.append(mean if math.isnan(low) else low)
                band.high.append(mean if math.isnan(high) else high)

    def last_entry(self) -> str:
        """The last bucket as text, to notice changes: only this bucket can change without a new
        one."""
        return repr([values[-1] for values in self._every() if values])

    def copied(self) -> tuple[list[array[float]], list[Band]]:
        """Copies of positions and bands."""
        return [values[:] for values in self.place], [
            Band(band.low[:], band.high[:], band.mean[:]) for band in self.bands
        ]

    def _every(self) -> Iterator[array[float]]:
        yield from self.place
        for band in self.bands:
            yield band.low
            yield band.high
            yield band.mean


def empty_columns(places: int, bands: int) -> Columns:
    """No bucket yet."""
    return Columns(
        [],
        [array("d") for _ in range(places)],
        [Band(array("d"), array("d"), array("d")) for _ in range(bands)],
    )


def _columns() -> Columns:
    return empty_columns(PLACES[STEPS], len(METRIC_COLUMNS))


def _machine_columns() -> Columns:
    return empty_columns(PLACES[MACHINE], len(MACHINE_COLUMNS))


def _table(columns: Columns, width: int, short_every: int = 0) -> SeriesTable:
    (step, nonfinite, tokens, epoch, active, time), bands = columns.copied()
    return SeriesTable(
        width,
        step,
        tokens,
        epoch,
        active,
        time,
        nonfinite,
        dict(zip(METRIC_COLUMNS, bands, strict=True)),
        short_every,
    )


class SeriesBuilder:
    """Updates a run's curves, or a range of them: reads only the last bucket and newer steps.

    Everything is read again if `key` or the width changes, or the range moves back.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._columns = _columns()
        self._table = empty_table()
        self._shown: object = None
        self._read_from = self._read_to = 0

    def update(
        self,
        key: object,
        width: int,
        steps: tuple[int, int],
        read: Callable[[int, int], Iterable[Figures]],
        short_every: int = 0,
    ) -> SeriesTable:
        """The curves of `steps` (first, last); the same object if unchanged.

        Args:
            read: the figures of the buckets from the first number up to but not including the
                second one.
        """
        first, last = steps
        begin = (first - 1) // width
        end = -(-last // width) if last >= first else begin
        key = (key, width, short_every)
        if key != self._key or not self._read_from <= begin <= self._read_to:
            self._key, self._columns, self._read_to = key, _columns(), begin
        fresh = max(begin, min(self._read_to - 1, end))  # the last bucket may have grown
        self._columns.drop_before(begin)
        self._columns.drop_from(fresh)
        self._columns.add(read(fresh, end), PLACES[STEPS])
        self._read_from, self._read_to = begin, end
        shown = (key, begin, len(self._columns.bucket), self._columns.last_entry())
        if shown != self._shown:
            self._shown, self._table = shown, _table(self._columns, width, short_every)
        return self._table


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


def empty_machine() -> MachineTable:
    """A history without readings."""
    return _machine_table(_machine_columns())


def _machine_table(columns: Columns) -> MachineTable:
    (_, _, time), bands = columns.copied()
    return MachineTable(time, dict(zip(MACHINE_COLUMNS, bands, strict=True)))


class MachineBuilder:
    """Updates a history: reads only the last bucket and newer readings, or all if `key` or the
    width changes."""

    def __init__(self) -> None:
        self._key: object = None
        self._columns = _machine_columns()
        self._read_to = self._newest = 0
        self._table = empty_machine()

    def update(
        self,
        key: object,
        width: int,
        newest: int,
        units: int,
        read: Callable[[int, int], Iterable[Figures]],
    ) -> MachineTable:
        """The history of `newest` readings, the same object if nothing is new.

        Args:
            width: units per bucket; a unit is a reading, or a bucket of the index.
            units: number of all units.
        """
        key = (key, width)
        if (key, newest) == (self._key, self._newest):
            return self._table
        if key != self._key:
            self._key, self._columns, self._read_to = key, _machine_columns(), 0
        begin, end = max(0, self._read_to - 1), -(-units // width)
        self._columns.drop_from(begin)
        self._columns.add(read(begin, end), PLACES[MACHINE])
        self._read_to, self._newest, self._table = end, newest, _machine_table(self._columns)
        return self._table


class Cached(Generic[ValueT]):
    """A value that is computed again only if its key changes."""

    def __init__(self) -> None:
        self._held: tuple[object, ValueT] | None = None

    def of(self, state: object, work_out: Callable[[], ValueT]) -> ValueT:
        """The value for this key; the same object while the key is equal."""
        if self._held is None or self._held[0] != state:
            self._held = (state, work_out())
        return self._held[1]


class Tail(Generic[RowT]):
    """The newest rows of a kind; only new ones are read.

    Args:
        limit: number of rows to keep; None: all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._key: object = None
        self._newest: Position = (0, -1)
        self._rows: list[RowT] = []

    def rows(
        self, key: object, read: Callable[[Position, int | None], list[tuple[Position, RowT]]]
    ) -> list[RowT]:
        """The rows, newest last; the same list if none is new. All are read again when `key`
        changes.

        Args:
            read: the newest rows after a position, at most so many, in order.
        """
        if key != self._key:
            self._key, self._newest, self._rows = key, (0, -1), []
        found = read(self._newest, self._limit)
        if found:
            self._newest = found[-1][0]
            rows = [*self._rows, *(row for _, row in found)]
            self._rows = rows if self._limit is None else rows[max(0, len(rows) - self._limit) :]
        return self._rows
