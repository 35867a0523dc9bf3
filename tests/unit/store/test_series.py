"""Curves: compared with a direct computation, at a cost independent of the run's length."""

from __future__ import annotations

import math
import random
import sqlite3
from dataclasses import replace

import pytest

from rnnlm_tui.schema.metrics import METRIC_COLUMNS, StepRow
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.series import SeriesTable, bucket_width
from tests.unit.store.rows import begin, step_row


def by_hand(rows: dict[int, StepRow], width: int) -> list[tuple[float, ...]]:
    """For each bucket, computed from the rows: positions, count of non-finite rows, and bands."""
    buckets: dict[int, list[StepRow]] = {}
    for step in sorted(rows):
        buckets.setdefault((step - 1) // width, []).append(rows[step])
    return [_bucket_by_hand(buckets[bucket]) for bucket in sorted(buckets)]


def _bucket_by_hand(rows: list[StepRow]) -> tuple[float, ...]:
    last = rows[-1]
    entry: list[float] = [last.step, last.tokens_seen, last.epoch, last.active_seconds, last.time]
    entry.append(
        sum(any(not math.isfinite(getattr(row, name)) for name in METRIC_COLUMNS) for row in rows)
    )
    for name in METRIC_COLUMNS:
        values = [value for value in (getattr(row, name) for row in rows) if math.isfinite(value)]
        entry += (
            [min(values), max(values), math.fsum(values) / len(values)]
            if values
            else [math.nan] * 3
        )
    return tuple(entry)


def entries(table: SeriesTable) -> list[tuple[float, ...]]:
    bands = [
        values
        for name in METRIC_COLUMNS
        for values in (table.columns[name].low, table.columns[name].high, table.columns[name].mean)
    ]
    return list(
        zip(
            table.step,
            table.tokens,
            table.epoch,
            table.active,
            table.time,
            table.nonfinite,
            *bands,
            strict=True,
        )
    )


def assert_same(table: SeriesTable, rows: dict[int, StepRow]) -> None:
    wanted = by_hand(rows, table.width)
    found = entries(table)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-12, abs=0, nan_ok=True)


def _random_row(draw: random.Random, step: int, attempt: int) -> StepRow:
    def value(scale: float) -> float:
        return (
            draw.choice([math.nan, math.inf, -math.inf])
            if draw.random() < 0.03
            else draw.uniform(0, scale)
        )

    return step_row(
        step,
        attempt,
        loss=value(9),
        grad_norm=value(2),
        learning_rate=value(1e-3),
        speed=value(3e4),
    )


@pytest.mark.parametrize("seed", range(4))
def test_series_followed_live_through_resumes_equal_a_direct_computation(
    run: RunDirectory, database: RunDatabase, seed: int
) -> None:
    draw = random.Random(seed)
    buckets, raw_limit = draw.choice([(7, 1_500), (64, 2_500), (500, 10_000), (500, 0)])
    live: dict[int, StepRow] = {}
    widths = set()
    with RunReader(run, raw_limit=raw_limit) as reader:
        step = 0
        for attempt_end in (draw.randint(1, 3_000) for _ in range(4)):
            step = draw.randint(max(0, step - 1_500), step)
            attempt = begin(database, step)
            live = {number: row for number, row in live.items() if number <= step}
            assert_same(reader.series(buckets), live)
            end = step + attempt_end
            while step < end:
                batch = [
                    _random_row(draw, number, attempt)
                    for number in range(step + 1, step + draw.randint(2, 400))
                    if draw.random() < 0.9
                ]
                database.add_steps(batch)
                live |= {row.step: row for row in batch}
                step = max(live, default=0) if batch else step
                table = reader.series(buckets)
                widths.add(table.width)
                assert len(table) <= buckets
                assert_same(table, live)
    with RunReader(run, raw_limit=raw_limit) as fresh:
        assert_same(fresh.series(buckets), live)
    assert all(width & (width - 1) == 0 for width in widths)


@pytest.mark.parametrize("seed", range(4))
def test_a_moving_range_equals_a_direct_computation(
    run: RunDirectory, database: RunDatabase, seed: int
) -> None:
    draw = random.Random(seed)
    buckets, raw_limit = draw.choice([(7, 1_500), (64, 900), (2_048, 131_072), (500, 0)])
    rows = {step: _random_row(draw, step, 1) for step in range(1, 5_000) if draw.random() < 0.9}
    database.add_steps(list(rows.values()))
    with RunReader(run, raw_limit=raw_limit) as reader:
        first, length = 2_000, 800
        for _ in range(40):
            first, length = (
                max(1, first + draw.choice([-700, -40, 0, 1, 40, 700, 3_000, -3_000])),
                draw.choice([length, length, length, 50, 800, 2_500]),
            )
            if draw.random() < 0.3:
                more = {
                    step: _random_row(draw, step, 1)
                    for step in range(max(rows) + 1, max(rows) + draw.randint(2, 60))
                }
                database.add_steps(list(more.values()))
                rows |= more
            table = reader.stretch(first, first + length - 1, buckets)
            last = min(first + length - 1, max(rows))
            begin, end = (
                (first - 1) // table.width * table.width,
                -(-last // table.width) * table.width,
            )
            assert_same(
                table,
                {
                    step: row
                    for step, row in rows.items()
                    if begin < step <= end and first <= max(rows)
                },
            )
            assert len(table) <= buckets + 1
            assert reader.stretch(first, first + length - 1, buckets) is table


def test_a_range_that_moves_forward_reads_only_new_steps(
    run: RunDirectory, database: RunDatabase
) -> None:
    database.add_steps([step_row(step) for step in range(1, 4_001)])
    with RunReader(run) as reader:
        reader.stretch(1_001, 2_000)
        fetched: list[str] = []
        assert reader._connection is not None
        reader._connection.set_trace_callback(fetched.append)
        table = reader.stretch(1_011, 2_010)
    assert (table.step[0], table.step[-1], table.width) == (1_011.0, 2_010.0, 1)
    (query,) = [text for text in fetched if "FROM steps" in text]
    assert "step > 1999 AND step <= 2010" in query


def test_a_bucket_without_a_finite_value_is_a_gap(run: RunDirectory, database: RunDatabase) -> None:
    database.add_steps([step_row(1), step_row(2, loss=math.nan), step_row(3)])
    with RunReader(run) as reader:
        table = reader.series()
    assert table.width == 1
    assert [math.isnan(value) for value in table.columns["loss"].mean] == [False, True, False]
    assert list(table.nonfinite) == [0, 1, 0]


def test_the_table_is_the_same_object_until_it_changes_and_is_never_mutated(
    run: RunDirectory, database: RunDatabase
) -> None:
    with RunReader(run) as reader:
        empty = reader.series()
        assert (len(empty), empty.width, set(empty.columns)) == (0, 1, set(METRIC_COLUMNS))
        database.add_steps([step_row(step) for step in range(1, 10)])
        table = reader.series(4)
        database.heartbeat(1.0)
        assert reader.series(4) is table
        before = entries(table)
        database.add_steps([step_row(10)])
        assert reader.series(4) is not table
        assert entries(table) == before


def test_following_a_run_reads_only_new_steps(run: RunDirectory, database: RunDatabase) -> None:
    database.add_steps([step_row(step) for step in range(1, 2_001)])
    with RunReader(run) as reader:
        reader.series()
        queries: list[str] = []
        assert reader._connection is not None
        reader._connection.set_trace_callback(queries.append)
        database.add_steps([step_row(step) for step in range(2_001, 2_004)])
        assert reader.series().step[-1] == 2_003
    assert len(queries) < 20


def test_beyond_the_limit_only_roll_ups_are_read(run: RunDirectory, database: RunDatabase) -> None:
    rows = {step: step_row(step, loss=float(step)) for step in range(1, 9_001)}
    database.add_steps(list(rows.values()))
    with sqlite3.connect(run.database_path) as other:
        other.execute("UPDATE steps SET loss = 0")
    other.close()
    with RunReader(run, raw_limit=8_999) as reader, RunReader(run, raw_limit=9_000) as raw:
        table = reader.series()
        assert table.width == 1_024
        assert_same(table, rows)
        assert (raw.series().width, max(raw.series().columns["loss"].high)) == (8, 0.0)


def test_a_run_of_five_million_steps_has_few_buckets(
    run: RunDirectory, database: RunDatabase
) -> None:
    last = 5_000_000
    buckets = range((last - 1) // 1_024 + 1)
    rollups = (
        (
            bucket,
            min(last, (bucket + 1) * 1_024),
            bucket,
            0.5,
            1.0,
            2.0,
            0,
            *(1_024, 1.0, 9.0, 1_024 * 4.0) * 4,
        )
        for bucket in buckets
    )
    with sqlite3.connect(run.database_path) as other:
        other.executemany(f"INSERT INTO rollups VALUES ({', '.join('?' * 23)})", rollups)
    other.close()
    database.add_steps([step_row(last)])
    with RunReader(run) as reader:
        table = reader.series()
    assert table.width == 4_096
    assert len(table) == 1_221
    assert table.step[0] == 4_096
    assert (
        table.columns["loss"].low[0],
        table.columns["loss"].high[0],
        table.columns["loss"].mean[0],
    ) == (1.0, 9.0, 4.0)


@pytest.mark.parametrize(
    ("last", "buckets", "width"),
    [
        (0, 2_048, 1),
        (1, 2_048, 1),
        (2_048, 2_048, 1),
        (2_049, 2_048, 2),
        (4_096, 2_048, 2),
        (262_144, 2_048, 128),
        (262_145, 2_048, 1_024),
        (10**9, 2_048, 2**19),
        (9, 1, 16),
    ],
)
def test_the_width_is_the_smallest_power_of_two_that_fits(
    last: int, buckets: int, width: int
) -> None:
    assert bucket_width(last, buckets, 262_144) == width


def _epochs(steps: int, length: int, *, short: bool) -> list[StepRow]:
    """Epochs of `length` steps; each last step has 40 instead of 700 tokens, a large gradient and a
    low speed."""
    rows, tokens = [], 0
    for step in range(1, steps + 1):
        last = short and step % length == 0
        tokens += 40 if last else 700
        rows.append(
            replace(
                step_row(step, grad_norm=9.0 if last else 0.5, speed=3_000.0 if last else 20_000.0),
                tokens_seen=tokens,
                epoch=step / length,
            )
        )
    return rows


@pytest.mark.parametrize(("buckets", "width"), [(2_048, 1), (64, 8)])
def test_an_epochs_short_last_batch_is_left_out_of_a_buckets_band(
    run: RunDirectory, database: RunDatabase, buckets: int, width: int
) -> None:
    rows = _epochs(500, 100, short=True)
    database.add_steps(rows[:90])
    with RunReader(run) as reader:
        assert reader.series(buckets).short_every == 0, "no epoch has ended yet"
        database.add_steps(rows[90:])
        table = reader.series(buckets)
    assert (table.width, table.short_every) == (width, 100)
    band = table.columns["grad_norm"]
    if width == 1:
        assert [at for at, high in zip(table.step, band.high, strict=True) if high == 9.0] == [
            100.0,
            200.0,
            300.0,
            400.0,
            500.0,
        ]
    else:
        assert set(band.high) == {0.5}
        assert set(table.columns["tokens_per_second"].low) == {20_000.0}
        assert max(band.mean) > 0.5, "the mean is that of all steps"


def test_epochs_of_equal_steps_have_no_short_batch(
    run: RunDirectory, database: RunDatabase
) -> None:
    database.add_steps(_epochs(500, 100, short=False))
    with RunReader(run) as reader:
        assert reader.series(64).short_every == 0
