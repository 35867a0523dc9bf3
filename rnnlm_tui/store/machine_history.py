"""MachineTable: the machine's figures over a whole run in at most so many buckets, and the form in which readings lie in the database."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from rnnlm_tui.contract.metrics import MACHINE_COLUMNS, GpuRow, HardwareRow
from rnnlm_tui.store.schema import ROLLUP_READINGS, all_rows, one_row
from rnnlm_tui.store.series import Band, Columns, bucket_width, empty_columns

RAW_READINGS = 8_192
"""Up to so many readings the history is read from the readings themselves, some two hours of them, beyond from roll-ups."""

HARDWARE_FIELDS = tuple(field.name for field in fields(HardwareRow))
"""In the order of the hardware table's columns; the last one holds the other cards as JSON."""
_GPU_FIELDS = tuple(field.name for field in fields(GpuRow) if field.name != "index")


@dataclass(frozen=True, slots=True, eq=False)
class MachineTable:
    """The machine from the run's first reading to its newest, of all attempts: one entry a bucket, the oldest first. All arrays are as long as `time`.

    The same object comes back while nothing is new.
    """

    time: array[float]
    """Unix seconds of the bucket's newest reading."""
    columns: dict[str, Band]
    """A band for each of MACHINE_COLUMNS, in the units of `HardwareRow`; NaN where a bucket has no such figure."""

    def __len__(self) -> int:
        return len(self.time)


def empty_machine() -> MachineTable:
    """The history of a machine of which nothing was read."""
    return _table(_columns())


def hardware_values(row: HardwareRow) -> list[object]:
    """The row as the hardware table keeps it, without its number."""
    *figures, _ = (getattr(row, name) for name in HARDWARE_FIELDS)
    others = {str(gpu.index): {name: getattr(gpu, name) for name in _GPU_FIELDS} for gpu in row.other_gpus}
    return [*figures, json.dumps(others) if others else None]


def hardware_row(values: Sequence[Any]) -> HardwareRow:
    """The inverse; of a row that an earlier version wrote as well, which has no column for other cards."""
    row, others = HardwareRow(*values[: len(HARDWARE_FIELDS) - 1]), values[len(HARDWARE_FIELDS) - 1 :]
    return replace(row, other_gpus=_cards(others[0])) if others and others[0] is not None else row


def _cards(text: str) -> tuple[GpuRow, ...]:
    """The cards of a JSON text; what is none, or no figure of one, is passed over: a later version may tell more."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return ()
    cards = (
        [(index, card) for index, card in found.items() if index.isdecimal() and len(index) < 5 and isinstance(card, dict)] if isinstance(found, dict) else []
    )
    return tuple(GpuRow(int(index), **{name: card[name] for name in _GPU_FIELDS if _is_figure(name, card.get(name))}) for index, card in cards)


def _is_figure(name: str, value: object) -> bool:
    return isinstance(value, str) if name == "name" else isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _columns() -> Columns:
    return empty_columns(1, len(MACHINE_COLUMNS))


def _table(columns: Columns) -> MachineTable:
    (time,), bands = columns.copied()
    return MachineTable(time, dict(zip(MACHINE_COLUMNS, bands, strict=True)))


_FIGURES = ", ".join(f"whole.{name}_{part}" for name in MACHINE_COLUMNS for part in ("low", "high", "mean"))
_EACH_READING = f"SELECT id, time, {', '.join(f'{name}, {name}, {name}' for name in MACHINE_COLUMNS)} FROM hardware WHERE id > ? AND id <= ? ORDER BY id"
_OF_READINGS = (
    f"SELECT whole.id, newest.time, {_FIGURES} FROM (SELECT max(id) AS id, "
    + ", ".join(f"min({name}) AS {name}_low, max({name}) AS {name}_high, avg({name}) AS {name}_mean" for name in MACHINE_COLUMNS)
    + " FROM hardware WHERE id > ? AND id <= ?) AS whole JOIN hardware AS newest ON newest.id = whole.id"
)
_EACH_ROLLUP = (
    f"SELECT last_id, time, {', '.join(f'l{i}, h{i}, s{i} * 1.0 / n{i}' for i in range(len(MACHINE_COLUMNS)))} "
    "FROM hardware_rollups WHERE bucket >= ? AND bucket < ? ORDER BY bucket"
)
_OF_ROLLUPS = (
    f"SELECT whole.id, newest.time, {_FIGURES} FROM (SELECT max(bucket) AS bucket, max(last_id) AS id, "
    + ", ".join(f"min(l{i}) AS {name}_low, max(h{i}) AS {name}_high, total(s{i}) / sum(n{i}) AS {name}_mean" for i, name in enumerate(MACHINE_COLUMNS))
    + " FROM hardware_rollups WHERE bucket >= ? AND bucket < ?) AS whole JOIN hardware_rollups AS newest ON newest.bucket = whole.bucket"
)


class MachineBuilder:
    """Keeps the history up to date: a call re-reads the last bucket and what came after it, all of it when the width changes."""

    def __init__(self, raw_limit: int = RAW_READINGS) -> None:
        self._raw_limit = raw_limit
        self._width = 0
        self._columns = _columns()
        self._read_to = 0
        self._newest = 0
        self._table = empty_machine()

    def update(self, connection: sqlite3.Connection, max_buckets: int) -> MachineTable:
        """The history as the database has it now; the connection should be inside one read transaction."""
        newest = int(one_row(connection, "SELECT coalesce(max(id), 0) FROM hardware")[0])
        if newest == self._newest:
            return self._table
        # The database of a version that kept no roll-ups is read row by row, whatever its length.
        rolled_up = newest > self._raw_limit and bool(all_rows(connection, "SELECT 1 FROM sqlite_master WHERE name = 'hardware_rollups'"))
        width = bucket_width(newest, max_buckets, self._raw_limit if rolled_up else newest, ROLLUP_READINGS)
        if width != self._width:
            self._width, self._columns, self._read_to = width, _columns(), 0
        begin, end = max(0, self._read_to - 1), -(-newest // width)
        self._columns.drop_from(begin)
        unit, each, whole = (width // ROLLUP_READINGS, _EACH_ROLLUP, _OF_ROLLUPS) if rolled_up else (width, _EACH_READING, _OF_READINGS)
        if unit == 1:
            rows = all_rows(connection, each, (begin, end))
        else:
            rows = [row for bucket in range(begin, end) for row in all_rows(connection, whole, (bucket * unit, (bucket + 1) * unit))]
        self._columns.add(rows, width)
        self._read_to, self._newest, self._table = end, newest, _table(self._columns)
        return self._table
