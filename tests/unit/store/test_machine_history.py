"""Machine history: compared with a direct computation, followed live."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, GpuRow, HardwareRow
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.recovery import refill, repair_database
from rnnlm_tui.store.schema import all_rows
from rnnlm_tui.store.series import MachineBuilder, MachineTable
from tests.unit.store.rows import STARTED, begin


def reading(second: int, draw: random.Random, *, gpu: bool = True) -> HardwareRow:
    """A machine reading."""
    row = HardwareRow(
        STARTED + second,
        draw.uniform(0, 100),
        draw.uniform(0, 50),
        draw.randint(1, 9),
        10,
        draw.randint(1, 9),
        draw.randint(1, 9),
    )
    card = draw.random() < 0.8
    return (
        replace(
            row,
            gpu_name="H100",
            gpu_percent=draw.uniform(0, 100) if card else None,
            gpu_watts=draw.uniform(30, 700),
        )
        if gpu
        else row
    )


def by_hand(rows: list[HardwareRow], width: int) -> list[tuple[float, ...]]:
    """For each bucket: time, then low, high and mean of each column."""
    return [_bucket_by_hand(rows[first : first + width]) for first in range(0, len(rows), width)]


def _bucket_by_hand(rows: list[HardwareRow]) -> tuple[float, ...]:
    entry = [rows[-1].time]
    for name in MACHINE_COLUMNS:
        values = [value for value in (getattr(row, name) for row in rows) if value is not None]
        entry += (
            [min(values), max(values), math.fsum(values) / len(values)]
            if values
            else [math.nan] * 3
        )
    return tuple(entry)


def entries(table: MachineTable) -> list[tuple[float, ...]]:
    bands = [
        values
        for name in MACHINE_COLUMNS
        for values in (table.columns[name].low, table.columns[name].high, table.columns[name].mean)
    ]
    return list(zip(table.time, *bands, strict=True))


def assert_same(table: MachineTable, rows: list[HardwareRow], width: int) -> None:
    for found, wanted in zip(entries(table), by_hand(rows, width), strict=True):
        assert found == pytest.approx(wanted, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("buckets", "raw_limit"), [(1_024, 8_192), (40, 8_192), (64, 100), (5, 100)]
)
def test_a_history_followed_live_equals_a_direct_computation(
    run: RunDirectory, database: RunDatabase, buckets: int, raw_limit: int
) -> None:
    draw = random.Random(buckets)
    rows: list[HardwareRow] = []
    with RunReader(run) as reader:
        reader.data_version()
        assert reader._connection is not None
        builder = MachineBuilder(raw_limit)
        for count in (1, 1, 30, 1, 90, 200, 3):
            more = [reading(len(rows) + index, draw) for index in range(count)]
            for row in more:
                database.add_hardware(row)
            rows += more
            table = builder.update(reader._connection, buckets)
            assert len(table) <= buckets
            width = next(
                width
                for width in (1 << power for power in range(20))
                if -(-len(rows) // width) == len(table)
            )
            assert_same(table, rows, width)
            assert builder.update(reader._connection, buckets) is table


def test_a_long_history_is_read_only_from_roll_ups(
    run: RunDirectory, database: RunDatabase
) -> None:
    draw = random.Random(1)
    rows = [reading(second, draw) for second in range(200)]
    for row in rows:
        database.add_hardware(row)
    with RunReader(run) as reader:
        reader.data_version()
        assert reader._connection is not None
        queries: list[str] = []
        reader._connection.set_trace_callback(queries.append)
        table = MachineBuilder(raw_limit=199).update(reader._connection, 1_024)
        assert_same(table, rows, 32)
    assert not [query for query in queries if "FROM hardware WHERE" in query]
    assert len(queries) < 5


def test_a_machine_without_a_gpu_has_gaps(run: RunDirectory, database: RunDatabase) -> None:
    with RunReader(run) as reader:
        assert len(reader.machine()) == 0
        database.add_hardware(reading(1, random.Random(2), gpu=False))
        table = reader.machine()
    assert set(table.columns) == set(MACHINE_COLUMNS)
    assert [math.isnan(table.columns[name].mean[0]) for name in MACHINE_COLUMNS] == [False] * 5 + [
        True
    ] * 5


def test_a_row_keeps_the_other_gpus(run: RunDirectory, database: RunDatabase) -> None:
    cards = (
        GpuRow(0, "NVIDIA L4", 12.5, 5, None, 7, 48.0, 61.0, 72.0, 1_800.0, 2_040.0, "", None),
        GpuRow(3),
        GpuRow(4, throttle="power cap", fault="card lost"),
    )
    row = replace(
        reading(1, random.Random(3)),
        other_gpus=cards,
        gpu_watts_limit=700.0,
        gpu_clock_mhz=1_725.0,
        gpu_clock_max_mhz=1_980.0,
        gpu_throttle="thermal slowdown",
        gpu_fault="Xid 79: off the bus",
    )
    alone = replace(row, other_gpus=(), gpu_throttle="", gpu_fault=None)
    database.add_hardware(row)
    database.add_hardware(alone)
    with RunReader(run) as reader:
        assert reader.hardware() == [row, alone]
    stored = database._connection.execute("SELECT other_gpus FROM hardware").fetchone()[0]
    assert "null" not in stored, "what isn't known takes no room"


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("{", ()),
        ("[1]", ()),
        ('{"one": {}, "2": 3, "4": {}}', (GpuRow(4),)),
        (
            (
                '{"1": {"name": "H100", "percent": "much", "watts": true, "celsius": 61,'
                ' "memory_own": NaN, "fan": 3}, "99999": {}}'
            ),
            (GpuRow(1, "H100", celsius=61),),
        ),
    ],
)
def test_invalid_gpu_values_are_skipped(
    run: RunDirectory, database: RunDatabase, text: str, cards: tuple[GpuRow, ...]
) -> None:
    database.add_hardware(reading(1, random.Random(7)))
    database._connection.execute("UPDATE hardware SET other_gpus = ?", (text,))
    with RunReader(run) as reader:
        assert reader.hardware()[0].other_gpus == cards


def test_a_database_without_roll_ups_is_read_row_by_row(
    run: RunDirectory, database: RunDatabase
) -> None:
    draw = random.Random(4)
    rows = [reading(second, draw) for second in range(90)]
    for row in rows:
        database.add_hardware(row)
    database._connection.execute("DROP TABLE hardware_rollups")
    with RunReader(run) as reader:
        reader.data_version()
        assert reader._connection is not None
        assert_same(MachineBuilder(raw_limit=10).update(reader._connection, 1_024), rows, 1)
        assert all_rows(reader._connection, "SELECT count(*) FROM hardware") == [(90,)]


def test_the_metrics_log_has_one_reading_per_roll_up(run: RunDirectory, tmp_path: Path) -> None:
    draw = random.Random(5)
    rows = [
        replace(reading(second, draw), other_gpus=(GpuRow(1, "H100", 5.0),)) for second in range(70)
    ]
    with RunDatabase(tmp_path / "elsewhere.db", logs=run.path) as database:
        begin(database)
        for row in rows:
            database.add_hardware(row)
    with RunDatabase(tmp_path / "copy.db") as copy:
        refill(run, copy)
    copied = tmp_path / "copy.db"
    copied.rename(run.database_path)
    with RunReader(run) as reader:
        assert reader.hardware() == [rows[0], rows[32], rows[64]]
        assert list(reader.machine().time) == [rows[0].time, rows[32].time, rows[64].time]


@pytest.mark.parametrize("columns", [15, 16])  # without other GPUs; without clocks and faults
def test_an_earlier_versions_log_keeps_its_readings(
    run: RunDirectory, tmp_path: Path, columns: int
) -> None:
    row = reading(0, random.Random(5))
    with RunDatabase(tmp_path / "elsewhere.db", logs=run.path) as database:
        begin(database)
        database.add_hardware(row)
    log = run.path / "metrics-1.jsonl"
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for entry in entries:
        if entry["table"] == "hardware":
            entry["rows"] = [values[:columns] for values in entry["rows"]]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    with RunDatabase(tmp_path / "copy.db") as copy:
        refill(run, copy)
    (tmp_path / "copy.db").rename(run.database_path)
    with RunReader(run) as reader:
        assert reader.hardware() == [row]


def test_a_damaged_database_keeps_readable_readings_and_other_gpus(
    run: RunDirectory, database: RunDatabase
) -> None:
    draw = random.Random(6)
    rows = [
        replace(reading(second, draw), other_gpus=(GpuRow(1, "H100", 5.0),))
        for second in range(300)
    ]
    for row in rows:
        database.add_hardware(row)
    database.close()
    content = bytearray(run.database_path.read_bytes())
    content[:4_096] = bytes(4_096)
    run.database_path.write_bytes(content)
    assert repair_database(run) is not None
    with RunReader(run) as reader:
        assert reader.hardware() == rows
    with closing(sqlite3.connect(run.database_path)) as raw:
        assert raw.execute("SELECT count(*), sum(n0) FROM hardware_rollups").fetchone() == (10, 300)
