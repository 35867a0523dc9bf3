"""Curves and machine readings of a run in at most so many buckets.

`SeriesTable` has the curves of all steps, or of a range of them; `MachineTable` has the machine
readings. Each update reads only new rows. `Cached` and `Tail` do the same for a value and for the
newest rows of a table.
"""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, METRIC_COLUMNS, GpuRow, HardwareRow
from rnnlm_tui.store.schema import ROLLUP_READINGS, ROLLUP_STEPS, all_rows, one_row

RAW_LIMIT = 262_144
"""Up to this many steps are read one by one; beyond, from roll-ups of 1,024."""
DETAIL_LIMIT = 98_304
"""The same limit for a range, which is read while the user waits; whole curves are read in the
background."""

_PLACE = ("tokens_seen", "epoch", "active_seconds", "time")

_NEWEST_PLACE = ", ".join(f"newest.{name}" for name in _PLACE)
_WANTED = ", ".join(
    f"whole.{name}_{part}" for name in METRIC_COLUMNS for part in ("low", "high", "mean")
)
_EACH_STEP = (
    f"SELECT step, step, nonfinite IS NOT NULL, {', '.join(_PLACE)},"
    f" {', '.join(f'{name}, {name}, {name}' for name in METRIC_COLUMNS)} FROM steps WHERE"
    " superseded = 0 AND step > ? AND step <= ? ORDER BY step"
)
_EACH_ROLLUP = (
    f"SELECT last_step, last_step, nonfinite_rows, {', '.join(_PLACE)},"
    f" {', '.join(f'{name}_min, {name}_max, {name}_sum / {name}_n' for name in METRIC_COLUMNS)}"
    " FROM rollups WHERE bucket >= ? AND bucket < ? ORDER BY bucket"
)
_OF_ROLLUPS = (
    f"SELECT whole.step, whole.step, whole.bad, {_NEWEST_PLACE},"
    f" {_WANTED} FROM (SELECT max(bucket) AS bucket, max(last_step) AS step,"
    " sum(nonfinite_rows) AS bad, "
    + ", ".join(
        f"min({name}_min) AS {name}_low, max({name}_max) AS {name}_high, sum({name}_sum) /"
        f" sum({name}_n) AS {name}_mean"
        for name in METRIC_COLUMNS
    )
    + " FROM rollups WHERE bucket >= ? AND bucket < ?) AS whole JOIN rollups AS newest ON"
    " newest.bucket = whole.bucket"
)
RAW_READINGS = 8_192
"""Up to this many readings (some two hours) are read one by one; beyond, from roll-ups."""
HARDWARE_FIELDS = tuple(field.name for field in fields(HardwareRow))
"""The hardware table's columns in order; `other_gpus` has the other GPUs as JSON."""
_OTHERS = HARDWARE_FIELDS.index("other_gpus")
_GPU_FIELDS = tuple(field.name for field in fields(GpuRow) if field.name != "index")
_GPU_TEXTS = ("name", "throttle", "fault")
_FIGURES = ", ".join(
    f"whole.{name}_{part}" for name in MACHINE_COLUMNS for part in ("low", "high", "mean")
)
_EACH_READING = (
    f"SELECT id, time, {', '.join(f'{name}, {name}, {name}' for name in MACHINE_COLUMNS)} FROM"
    " hardware WHERE id > ? AND id <= ? ORDER BY id"
)
_OF_READINGS = (
    f"SELECT whole.id, newest.time, {_FIGURES} FROM (SELECT max(id) AS id, "
    + ", ".join(
        f"min({name}) AS {name}_low, max({name}) AS {name}_high, avg({name}) AS {name}_mean"
        for name in MACHINE_COLUMNS
    )
    + " FROM hardware WHERE id > ? AND id <= ?) AS whole JOIN hardware AS newest ON newest.id ="
    " whole.id"
)
_EACH_MACHINE_ROLLUP = (
    "SELECT last_id, time,"
    f" {', '.join(f'l{i}, h{i}, s{i} * 1.0 / n{i}' for i in range(len(MACHINE_COLUMNS)))} FROM"
    " hardware_rollups WHERE bucket >= ? AND bucket < ? ORDER BY bucket"
)
_OF_MACHINE_ROLLUPS = (
    f"SELECT whole.id, newest.time, {_FIGURES} FROM (SELECT max(bucket) AS bucket, max(last_id) AS"
    " id, "
    + ", ".join(
        f"min(l{i}) AS {name}_low, max(h{i}) AS {name}_high, total(s{i}) / sum(n{i}) AS {name}_mean"
        for i, name in enumerate(MACHINE_COLUMNS)
    )
    + " FROM hardware_rollups WHERE bucket >= ? AND bucket < ?) AS whole JOIN hardware_rollups AS"
    " newest ON newest.bucket = whole.bucket"
)
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


def bucket_width(count: int, max_buckets: int, raw_limit: int, rollup: int = ROLLUP_STEPS) -> int:
    """Rows per bucket: the smallest power of two for at most `max_buckets`; beyond `raw_limit` at
    least `rollup`."""
    wanted = max(1, -(-count // max(1, max_buckets)))
    width = 1 << (wanted - 1).bit_length()
    return width if count <= raw_limit else max(rollup, width)


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

    def add(self, rows: Sequence[Sequence[Any]], width: int) -> None:
        """Add buckets from rows of (last step, positions…, and low, high and mean of each
        column…)."""
        if not rows:
            return
        number, *columns = zip(*rows, strict=True)
        self.bucket += [(last - 1) // width for last in number]
        for values, column in zip(self._every(), columns, strict=True):
            values.extend(
                [math.nan if value is None else value for value in column]
                if None in column
                else column
            )

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
    return empty_columns(2 + len(_PLACE), len(METRIC_COLUMNS))


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


def _of_steps(low: str, high: str) -> str:
    """SQL for one bucket of the steps after ?1 up to ?2, with expressions for a column's minimum
    and maximum."""
    bands = ", ".join(
        f"{low.format(name)} AS {name}_low, {high.format(name)} AS {name}_high, avg({name}) AS"
        f" {name}_mean"
        for name in METRIC_COLUMNS
    )
    return (
        f"SELECT whole.step, whole.step, whole.bad, {_NEWEST_PLACE}, {_WANTED} FROM (SELECT"
        f" max(step) AS step, count(nonfinite) AS bad, {bands} FROM steps WHERE superseded = 0 AND"
        " step > ?1 AND step <= ?2) AS whole JOIN steps AS newest ON newest.step = whole.step AND"
        " newest.superseded = 0"
    )


_OF_STEPS = _of_steps("min({0})", "max({0})")
_OF_LONG_STEPS = _of_steps(
    "coalesce(min(CASE WHEN step % ?3 THEN {0} END), min({0}))",
    "coalesce(max(CASE WHEN step % ?3 THEN {0} END), max({0}))",
)


def short_every(connection: sqlite3.Connection) -> int | None:
    """The value of `SeriesTable.short_every`; None before the end of the first epoch."""
    newest = all_rows(
        connection,
        "SELECT step, epoch, tokens_seen FROM steps WHERE superseded = 0 AND epoch > 0 ORDER BY"
        " step DESC LIMIT 1",
    )
    if not newest:
        return None
    step, epoch, tokens = newest[0]
    length = round(step / epoch)
    if step < length or length < 2:
        return None
    ends = [
        row[0]
        for row in all_rows(
            connection,
            "SELECT tokens_seen FROM steps WHERE superseded = 0 AND step IN (?, ?) ORDER BY step",
            (length - 1, length),
        )
    ]
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

    def update(
        self,
        connection: sqlite3.Connection,
        max_buckets: int,
        stretch: tuple[int, int] | None = None,
    ) -> SeriesTable:
        """The current curves, of all steps or of those in `stretch` (first, last); the same object
        if unchanged.

        Call inside a read transaction.
        """
        last = int(
            one_row(
                connection,
                "SELECT coalesce((SELECT last_step FROM rollups ORDER BY bucket DESC LIMIT 1), 0)",
            )[0]
        )
        first = 1
        if stretch is not None:
            first, last = max(1, stretch[0]), min(last, stretch[1])
        count = max(0, last - first + 1)
        width, raw = bucket_width(count, max_buckets, self._raw_limit), count <= self._raw_limit
        begin, end = (first - 1) // width, -(-last // width) if count else (first - 1) // width
        if self._short_every is None and last:
            self._short_every = short_every(connection)
        key = (
            width,
            raw,
            self._short_every or 0,
            *one_row(
                connection, "SELECT coalesce(max(attempt), 0), total(start_step) FROM attempts"
            ),
        )
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

    def _read(
        self, connection: sqlite3.Connection, begin: int, end: int, width: int, *, raw: bool
    ) -> None:
        """Read the buckets from `begin` up to but not including `end`."""
        unit, each, whole = (
            (width, _EACH_STEP, _OF_STEPS)
            if raw
            else (width // ROLLUP_STEPS, _EACH_ROLLUP, _OF_ROLLUPS)
        )
        if unit == 1:
            rows = all_rows(connection, each, (begin, end))
        else:
            every = self._short_every if raw else 0
            rows = []
            for first in range(begin * unit, end * unit, unit):
                # one of its steps is the last of an epoch
                short = every and first // every < (first + unit) // every
                rows += (
                    all_rows(connection, _OF_LONG_STEPS, (first, first + unit, every))
                    if short
                    else all_rows(connection, whole, (first, first + unit))
                )
        self._columns.add(rows, width)


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


def hardware_values(row: HardwareRow) -> list[object]:
    """A reading as a row of the hardware table, without its id."""
    values = [getattr(row, name) for name in HARDWARE_FIELDS]
    others = {str(gpu.index): _card_values(gpu) for gpu in row.other_gpus}
    values[_OTHERS] = json.dumps(others, separators=(",", ":")) if others else None
    return values


def _card_values(gpu: GpuRow) -> dict[str, object]:
    """What is known of a GPU: a reading a second of eight GPUs should stay short."""
    values = ((name, getattr(gpu, name)) for name in _GPU_FIELDS)
    return {name: value for name, value in values if value is not None}


def hardware_row(values: Sequence[Any]) -> HardwareRow:
    """The inverse of `hardware_values`; rows of earlier versions lack the last columns."""
    found = list(values)
    if len(found) > _OTHERS:
        found[_OTHERS] = () if found[_OTHERS] is None else _cards(found[_OTHERS])
    return HardwareRow(*found)


def _cards(text: str) -> tuple[GpuRow, ...]:
    """Decode the GPUs in a JSON text; unknown or invalid entries are skipped."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return ()
    cards = (
        [
            (index, card)
            for index, card in found.items()
            if index.isdecimal() and len(index) < 5 and isinstance(card, dict)
        ]
        if isinstance(found, dict)
        else []
    )
    return tuple(
        GpuRow(
            int(index),
            **{name: card[name] for name in _GPU_FIELDS if _is_figure(name, card.get(name))},
        )
        for index, card in cards
    )


def _is_figure(name: str, value: object) -> bool:
    return (
        isinstance(value, str)
        if name in _GPU_TEXTS
        else isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _machine_columns() -> Columns:
    return empty_columns(1, len(MACHINE_COLUMNS))


def _machine_table(columns: Columns) -> MachineTable:
    (time,), bands = columns.copied()
    return MachineTable(time, dict(zip(MACHINE_COLUMNS, bands, strict=True)))


class MachineBuilder:
    """Update a history: reads only the last bucket and newer readings, or all if the width
    changes."""

    def __init__(self, raw_limit: int = RAW_READINGS) -> None:
        self._raw_limit = raw_limit
        self._width = 0
        self._columns = _machine_columns()
        self._read_to = 0
        self._newest = 0
        self._table = empty_machine()

    def update(self, connection: sqlite3.Connection, max_buckets: int) -> MachineTable:
        """The current history, the same object if nothing is new. Call inside a read
        transaction."""
        newest = int(one_row(connection, "SELECT coalesce(max(id), 0) FROM hardware")[0])
        if newest == self._newest:
            return self._table
        # Version 1 had no roll-ups of readings: they are read one by one.
        rolled_up = newest > self._raw_limit and bool(
            all_rows(connection, "SELECT 1 FROM sqlite_master WHERE name = 'hardware_rollups'")
        )
        width = bucket_width(
            newest, max_buckets, self._raw_limit if rolled_up else newest, ROLLUP_READINGS
        )
        if width != self._width:
            self._width, self._columns, self._read_to = width, _machine_columns(), 0
        begin, end = max(0, self._read_to - 1), -(-newest // width)
        self._columns.drop_from(begin)
        unit, each, whole = (
            (width // ROLLUP_READINGS, _EACH_MACHINE_ROLLUP, _OF_MACHINE_ROLLUPS)
            if rolled_up
            else (width, _EACH_READING, _OF_READINGS)
        )
        if unit == 1:
            rows = all_rows(connection, each, (begin, end))
        else:
            rows = [
                row
                for bucket in range(begin, end)
                for row in all_rows(connection, whole, (bucket * unit, (bucket + 1) * unit))
            ]
        self._columns.add(rows, width)
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
    """The newest rows of a table, ordered by an increasing number; only new rows are read.

    Args:
        query: selects that number and the arguments of `make`, newest first; its parameters are the
            last known number and the most rows to return.
        limit: number of rows to keep; None: all.
    """

    def __init__(
        self, query: str, make: Callable[[tuple[Any, ...]], RowT], limit: int | None
    ) -> None:
        self._query = query
        self._make = make
        self._limit = limit
        self._key: object = None
        self._newest = 0
        self._rows: list[RowT] = []

    def rows(self, connection: sqlite3.Connection, key: object) -> list[RowT]:
        """The rows, newest last; the same list if none is new. All are read again when `key`
        changes."""
        if key != self._key:
            self._key, self._newest, self._rows = key, 0, []
        found = all_rows(
            connection, self._query, (self._newest, -1 if self._limit is None else self._limit)
        )
        if found:
            self._newest = int(found[0][0])
            rows = [*self._rows, *(self._make(row[1:]) for row in reversed(found))]
            self._rows = rows if self._limit is None else rows[max(0, len(rows) - self._limit) :]
        return self._rows
