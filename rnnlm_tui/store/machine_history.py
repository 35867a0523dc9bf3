"""MachineTable: machine readings of a whole run in buckets, and how readings are stored."""

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
"""Up to this many readings (some two hours) are read one by one; beyond, from roll-ups."""

HARDWARE_FIELDS = tuple(field.name for field in fields(HardwareRow))
"""The hardware table's columns in order; the last one has the other GPUs as JSON."""
_GPU_FIELDS = tuple(field.name for field in fields(GpuRow) if field.name != "index")


@dataclass(frozen=True, slots=True, eq=False)
class MachineTable:
    """Machine readings of all attempts, one entry per bucket, oldest first. All arrays are as long as `time`."""

    time: array[float]
    """Unix seconds of the bucket's newest reading."""
    columns: dict[str, Band]
    """A band for each of MACHINE_COLUMNS, in the units of `HardwareRow`; NaN if a bucket has no value."""

    def __len__(self) -> int:
        return len(self.time)


def empty_machine() -> MachineTable:
    """A history without readings."""
    return _table(_columns())


def hardware_values(row: HardwareRow) -> list[object]:
    """A reading as a row of the hardware table, without its id."""
    *figures, _ = (getattr(row, name) for name in HARDWARE_FIELDS)
    others = {str(gpu.index): {name: getattr(gpu, name) for name in _GPU_FIELDS} for gpu in row.other_gpus}
    return [*figures, json.dumps(others) if others else None]


def hardware_row(values: Sequence[Any]) -> HardwareRow:
    """The inverse of `hardware_values`; earlier versions have no column for other GPUs."""
    row, others = HardwareRow(*values[: len(HARDWARE_FIELDS) - 1]), values[len(HARDWARE_FIELDS) - 1 :]
    return replace(row, other_gpus=_cards(others[0])) if others and others[0] is not None else row


def _cards(text: str) -> tuple[GpuRow, ...]:
    """Decode the GPUs in a JSON text; unknown or invalid entries are skipped."""
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
    """Update a history: reads only the last bucket and newer readings, or all if the width changes."""

    def __init__(self, raw_limit: int = RAW_READINGS) -> None:
        self._raw_limit = raw_limit
        self._width = 0
        self._columns = _columns()
        self._read_to = 0
        self._newest = 0
        self._table = empty_machine()

    def update(self, connection: sqlite3.Connection, max_buckets: int) -> MachineTable:
        """The current history, the same object if nothing is new. Call inside a read transaction."""
        newest = int(one_row(connection, "SELECT coalesce(max(id), 0) FROM hardware")[0])
        if newest == self._newest:
            return self._table
        # Version 1 had no roll-ups of readings: they are read one by one.
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
