"""SeriesTable: a run's curves in at most so many buckets, read step by step or from roll-ups, and only the new part each time."""

from __future__ import annotations

import math
import sqlite3
from array import array
from dataclasses import dataclass, field

from rnnlm_tui.contract.metrics import METRIC_COLUMNS
from rnnlm_tui.store.schema import ROLLUP_STEPS, one_row

RAW_LIMIT = 262_144
"""Up to this step curves are read from the steps themselves, beyond from the roll-ups of 1,024."""

_PLACE = ("tokens_seen", "epoch", "active_seconds", "time")


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One column: the least, greatest and mean finite value of each bucket; NaN where a bucket has none."""

    low: array[float]
    high: array[float]
    mean: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTable:
    """A run's curves: one entry a bucket that has steps, in the order of steps. All arrays are as long as `step`.

    Bucket b holds the steps from b·width + 1 to (b + 1)·width. The same object comes back while nothing is new.
    """

    width: int
    """Steps a bucket, a power of two."""
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
    """Steps of the bucket whose loss, gradient norm, rate or speed is NaN or infinite."""
    columns: dict[str, Band]
    """A band for each of METRIC_COLUMNS."""

    def __len__(self) -> int:
        return len(self.step)


def empty_table() -> SeriesTable:
    """The curves of a run without steps."""
    return _Columns().table(1)


def bucket_width(last_step: int, max_buckets: int, raw_limit: int) -> int:
    """Steps a bucket: the least power of two that gives at most `max_buckets`, and at least a roll-up's beyond `raw_limit`."""
    wanted = max(1, -(-last_step // max(1, max_buckets)))
    width = 1 << (wanted - 1).bit_length()
    return width if last_step <= raw_limit else max(ROLLUP_STEPS, width)


@dataclass(slots=True)
class _Columns:
    """The growing arrays behind a table."""

    bucket: list[int] = field(default_factory=list)
    place: list[array[float]] = field(default_factory=lambda: [array("d") for _ in range(2 + len(_PLACE))])
    bands: list[tuple[array[float], array[float], array[float]]] = field(default_factory=lambda: [(array("d"), array("d"), array("d")) for _ in METRIC_COLUMNS])

    def cut(self, bucket: int) -> None:
        """Forget the buckets from `bucket` on."""
        while self.bucket and self.bucket[-1] >= bucket:
            self.bucket.pop()
            for values in (*self.place, *(part for band in self.bands for part in band)):
                values.pop()

    def add(self, bucket: int, place: tuple[float, ...], measured: tuple[float | None, ...]) -> None:
        self.bucket.append(bucket)
        for values, value in zip(self.place, place, strict=True):
            values.append(value)
        numbers = iter([math.nan if value is None else value for value in measured])
        for low, high, mean in self.bands:
            low.append(next(numbers))
            high.append(next(numbers))
            mean.append(next(numbers))

    def last_entry(self) -> str:
        """The last bucket's figures as text: it alone can change without a new bucket."""
        every = (*self.place, *(part for band in self.bands for part in band))
        return repr([values[-1] for values in every if values])

    def table(self, width: int) -> SeriesTable:
        step, nonfinite, tokens, epoch, active, time = (values[:] for values in self.place)
        columns = {name: Band(low[:], high[:], mean[:]) for name, (low, high, mean) in zip(METRIC_COLUMNS, self.bands, strict=True)}
        return SeriesTable(width, step, tokens, epoch, active, time, nonfinite, columns)


_FROM_STEPS = (
    f"SELECT max(step), count(nonfinite), {', '.join(f'min({name}), max({name}), avg({name})' for name in METRIC_COLUMNS)} "
    "FROM steps WHERE superseded = 0 AND step > ? AND step <= ?"
)
_PLACE_IN_STEPS = f"SELECT {', '.join(_PLACE)} FROM steps WHERE superseded = 0 AND step = ?"
_FROM_ROLLUPS = (
    "SELECT max(last_step), sum(nonfinite_rows), "
    + ", ".join(f"min({name}_min), max({name}_max), sum({name}_sum) / sum({name}_n)" for name in METRIC_COLUMNS)
    + " FROM rollups WHERE bucket >= ? AND bucket < ?"
)
_PLACE_IN_ROLLUPS = f"SELECT {', '.join(_PLACE)} FROM rollups WHERE bucket = (? - 1) / {ROLLUP_STEPS}"


class SeriesBuilder:
    """Keeps a run's curves up to date: a call re-reads the last bucket and what came after it, all of it when the width or the attempt changes."""

    def __init__(self, raw_limit: int = RAW_LIMIT) -> None:
        self._raw_limit = raw_limit
        self._key: tuple[int, int, bool] | None = None
        self._columns = _Columns()
        self._table = empty_table()
        self._shown: tuple[object, ...] = ()

    def update(self, connection: sqlite3.Connection, max_buckets: int) -> SeriesTable:
        """The curves as the database has them now; the connection should be inside one read transaction."""
        last = int(one_row(connection, "SELECT coalesce((SELECT last_step FROM rollups ORDER BY bucket DESC LIMIT 1), 0)")[0])
        attempt = int(one_row(connection, "SELECT coalesce(max(attempt), 0) FROM attempts")[0])
        width = bucket_width(last, max_buckets, self._raw_limit)
        key = (width, attempt, last <= self._raw_limit)
        if key != self._key:
            self._key, self._columns = key, _Columns()
        first = self._columns.bucket[-1] if self._columns.bucket else 0
        self._columns.cut(first)
        self._read(connection, first, last, width)
        shown = (key, len(self._columns.bucket), self._columns.last_entry())
        if shown != self._shown:
            self._shown, self._table = shown, self._columns.table(width)
        return self._table

    def _read(self, connection: sqlite3.Connection, first: int, last: int, width: int) -> None:
        raw = last <= self._raw_limit
        whole, place = (_FROM_STEPS, _PLACE_IN_STEPS) if raw else (_FROM_ROLLUPS, _PLACE_IN_ROLLUPS)
        unit = width if raw else width // ROLLUP_STEPS
        for bucket in range(first, -(-last // width)):
            found = one_row(connection, whole, (bucket * unit, (bucket + 1) * unit))
            if found[0] is not None:
                self._columns.add(bucket, (found[0], found[1], *one_row(connection, place, (found[0],))), found[2:])
