"""SeriesTable: a run's curves, or a range of their steps, in buckets; each update reads only new steps."""

from __future__ import annotations

import math
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rnnlm_tui.contract.metrics import METRIC_COLUMNS
from rnnlm_tui.store.schema import ROLLUP_STEPS, all_rows, one_row

RAW_LIMIT = 262_144
"""Up to this many steps are read one by one; beyond, from roll-ups of 1,024."""
DETAIL_LIMIT = 98_304
"""The same limit for a range, which is read while the user waits; whole curves are read in the background."""

_PLACE = ("tokens_seen", "epoch", "active_seconds", "time")


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One column: minimum, maximum and mean of each bucket's finite values; NaN if there are none."""

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
    """A band for each of METRIC_COLUMNS. In a bucket of several steps, `low` and `high` leave out an epoch's short last batch."""
    short_every: int = 0
    """Steps per epoch if an epoch's last batch has less than half of the usual tokens; 0 if it doesn't."""

    def __len__(self) -> int:
        return len(self.step)


def empty_table() -> SeriesTable:
    """The curves of a run without steps."""
    return _table(_columns(), 1)


def bucket_width(count: int, max_buckets: int, raw_limit: int, rollup: int = ROLLUP_STEPS) -> int:
    """Rows per bucket: the smallest power of two for at most `max_buckets`; beyond `raw_limit` at least `rollup`."""
    wanted = max(1, -(-count // max(1, max_buckets)))
    width = 1 << (wanted - 1).bit_length()
    return width if count <= raw_limit else max(rollup, width)


@dataclass(slots=True)
class Columns:
    """The growing arrays behind a table: each entry's bucket, positions (step, time and so on) and bands."""

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

    def add(self, rows: Sequence[Sequence[Any]], width: int) -> None:
        """Add buckets from rows of (last step, positions…, and low, high and mean of each column…)."""
        if not rows:
            return
        number, *columns = zip(*rows, strict=True)
        self.bucket += [(last - 1) // width for last in number]
        for values, column in zip(self._every(), columns, strict=True):
            values.extend([math.nan if value is None else value for value in column] if None in column else column)

    def last_entry(self) -> str:
        """The last bucket as text, to notice changes: only this bucket can change without a new one."""
        return repr([values[-1] for values in self._every() if values])

    def copied(self) -> tuple[list[array[float]], list[Band]]:
        """Copies of positions and bands."""
        return [values[:] for values in self.place], [Band(band.low[:], band.high[:], band.mean[:]) for band in self.bands]

    def _every(self) -> Iterator[array[float]]:
        yield from self.place
        for band in self.bands:
            yield band.low
            yield band.high
            yield band.mean


def empty_columns(places: int, bands: int) -> Columns:
    """No bucket yet."""
    return Columns([], [array("d") for _ in range(places)], [Band(array("d"), array("d"), array("d")) for _ in range(bands)])


def _columns() -> Columns:
    return empty_columns(2 + len(_PLACE), len(METRIC_COLUMNS))


def _table(columns: Columns, width: int, short_every: int = 0) -> SeriesTable:
    (step, nonfinite, tokens, epoch, active, time), bands = columns.copied()
    return SeriesTable(width, step, tokens, epoch, active, time, nonfinite, dict(zip(METRIC_COLUMNS, bands, strict=True)), short_every)


_NEWEST_PLACE = ", ".join(f"newest.{name}" for name in _PLACE)
_EACH_STEP = (
    f"SELECT step, step, nonfinite IS NOT NULL, {', '.join(_PLACE)}, {', '.join(f'{name}, {name}, {name}' for name in METRIC_COLUMNS)} "
    "FROM steps WHERE superseded = 0 AND step > ? AND step <= ? ORDER BY step"
)


def _of_steps(low: str, high: str) -> str:
    """SQL for one bucket of the steps after ?1 up to ?2, with expressions for a column's minimum and maximum."""
    bands = ", ".join(f"{low.format(name)} AS {name}_low, {high.format(name)} AS {name}_high, avg({name}) AS {name}_mean" for name in METRIC_COLUMNS)
    wanted = ", ".join(f"whole.{name}_{part}" for name in METRIC_COLUMNS for part in ("low", "high", "mean"))
    return (
        f"SELECT whole.step, whole.step, whole.bad, {_NEWEST_PLACE}, {wanted} FROM (SELECT max(step) AS step, count(nonfinite) AS bad, {bands} "
        "FROM steps WHERE superseded = 0 AND step > ?1 AND step <= ?2) AS whole JOIN steps AS newest ON newest.step = whole.step AND newest.superseded = 0"
    )


_OF_STEPS = _of_steps("min({0})", "max({0})")
_OF_LONG_STEPS = _of_steps("coalesce(min(CASE WHEN step % ?3 THEN {0} END), min({0}))", "coalesce(max(CASE WHEN step % ?3 THEN {0} END), max({0}))")
_EACH_ROLLUP = (
    f"SELECT last_step, last_step, nonfinite_rows, {', '.join(_PLACE)}, {', '.join(f'{name}_min, {name}_max, {name}_sum / {name}_n' for name in METRIC_COLUMNS)} "
    "FROM rollups WHERE bucket >= ? AND bucket < ? ORDER BY bucket"
)
_OF_ROLLUPS = (
    f"SELECT whole.step, whole.step, whole.bad, {_NEWEST_PLACE}, {', '.join(f'whole.{name}_{part}' for name in METRIC_COLUMNS for part in ('low', 'high', 'mean'))} "
    "FROM (SELECT max(bucket) AS bucket, max(last_step) AS step, sum(nonfinite_rows) AS bad, "
    + ", ".join(f"min({name}_min) AS {name}_low, max({name}_max) AS {name}_high, sum({name}_sum) / sum({name}_n) AS {name}_mean" for name in METRIC_COLUMNS)
    + " FROM rollups WHERE bucket >= ? AND bucket < ?) AS whole JOIN rollups AS newest ON newest.bucket = whole.bucket"
)


def short_every(connection: sqlite3.Connection) -> int | None:
    """The value of `SeriesTable.short_every`; None before the end of the first epoch."""
    newest = all_rows(connection, "SELECT step, epoch, tokens_seen FROM steps WHERE superseded = 0 AND epoch > 0 ORDER BY step DESC LIMIT 1")
    if not newest:
        return None
    step, epoch, tokens = newest[0]
    length = round(step / epoch)
    if step < length or length < 2:
        return None
    ends = [row[0] for row in all_rows(connection, "SELECT tokens_seen FROM steps WHERE superseded = 0 AND step IN (?, ?) ORDER BY step", (length - 1, length))]
    return length if len(ends) == 2 and 2 * (ends[1] - ends[0]) < tokens / step else 0


class SeriesBuilder:
    """Updates a run's curves, or a range of them: reads only the last bucket and newer steps.

    Everything is read again if the width or the attempt changes, or the range moves back.
    """

    def __init__(self, raw_limit: int = RAW_LIMIT) -> None:
        self._raw_limit = raw_limit
        self._key: tuple[object, ...] = ()
        self._columns = _columns()
        self._table = empty_table()
        self._shown: tuple[object, ...] = ()
        self._short_every: int | None = None
        """None before the end of the first epoch."""
        self._read_from = self._read_to = 0

    def update(self, connection: sqlite3.Connection, max_buckets: int, stretch: tuple[int, int] | None = None) -> SeriesTable:
        """The current curves, of all steps or of those in `stretch` (first, last); the same object if unchanged.

        Call inside a read transaction.
        """
        last = int(one_row(connection, "SELECT coalesce((SELECT last_step FROM rollups ORDER BY bucket DESC LIMIT 1), 0)")[0])
        first = 1
        if stretch is not None:
            first, last = max(1, stretch[0]), min(last, stretch[1])
        count = max(0, last - first + 1)
        width, raw = bucket_width(count, max_buckets, self._raw_limit), count <= self._raw_limit
        begin, end = (first - 1) // width, -(-last // width) if count else (first - 1) // width
        if self._short_every is None and last:
            self._short_every = short_every(connection)
        key = (width, raw, self._short_every or 0, *one_row(connection, "SELECT coalesce(max(attempt), 0), total(start_step) FROM attempts"))
        if key != self._key or not self._read_from <= begin <= self._read_to:
            self._key, self._columns, self._read_to = key, _columns(), begin
        fresh = max(begin, min(self._read_to - 1, end))  # the last bucket may have grown
        self._columns.drop_before(begin)
        self._columns.drop_from(fresh)
        self._read(connection, fresh, end, width, raw=raw)
        self._read_from, self._read_to = begin, end
        shown = (key, begin, len(self._columns.bucket), self._columns.last_entry())
        if shown != self._shown:
            self._shown, self._table = shown, _table(self._columns, width, self._short_every or 0)
        return self._table

    def _read(self, connection: sqlite3.Connection, begin: int, end: int, width: int, *, raw: bool) -> None:
        """Read the buckets from `begin` up to but not including `end`."""
        unit, each, whole = (width, _EACH_STEP, _OF_STEPS) if raw else (width // ROLLUP_STEPS, _EACH_ROLLUP, _OF_ROLLUPS)
        if unit == 1:
            rows = all_rows(connection, each, (begin, end))
        else:
            every = self._short_every if raw else 0
            rows = []
            for first in range(begin * unit, end * unit, unit):
                short = every and first // every < (first + unit) // every  # one of its steps is the last of an epoch
                rows += all_rows(connection, _OF_LONG_STEPS, (first, first + unit, every)) if short else all_rows(connection, whole, (first, first + unit))
        self._columns.add(rows, width)
