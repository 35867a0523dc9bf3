"""Curves and machine histories: their buckets, and what following them costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import pytest

from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, METRIC_COLUMNS, GpuRow, HardwareRow, StepRow
from rnnlm_tui.store import reader as reader_module
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.series import bucket_width
from tests.unit.store.rows import STARTED, event_row, step_row
from tests.unit.store.test_index import entries


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of logs that readers read again for their steps."""
    read: list[int] = []
    lines = RunReader._step_lines

    def counted(self: RunReader, attempt: int, begin: int, end: int) -> list[bytes]:
        read.append(end - begin)
        return lines(self, attempt, begin, end)

    monkeypatch.setattr(reader_module.RunReader, "_step_lines", counted)
    return read


def test_the_table_is_the_same_object_until_it_changes_and_is_never_mutated(
    log: RunLog, reader: RunReader
) -> None:
    empty = reader.series()
    assert (len(empty), empty.width, set(empty.columns)) == (0, 1, set(METRIC_COLUMNS))
    log.append(*map(step_row, range(1, 10)))
    reader.refresh()
    table = reader.series(4)
    log.append(event_row("note"))
    reader.refresh()
    assert reader.series(4) is table
    before = entries(table)
    log.append(step_row(10))
    reader.refresh()
    assert reader.series(4) is not table
    assert entries(table) == before


def test_following_a_run_or_a_range_reads_only_new_steps(
    log: RunLog, reader: RunReader, read: list[int]
) -> None:
    log.append(*map(step_row, range(1, 4_001)))
    assert len(reader.series(4_096)) == 4_000
    reader.stretch(1_001, 2_000)
    read.clear()
    log.append(step_row(4_001))
    reader.refresh()
    assert reader.series(4_096).step[-1] == 4_001
    table = reader.stretch(1_011, 2_010)
    assert (table.step[0], table.step[-1], table.width) == (1_011, 2_010, 1)
    assert 0 < sum(read) < 200 * 200, "about two buckets of 64 lines"


def test_beyond_the_limit_only_the_index_is_read(
    run: RunDirectory, log: RunLog, read: list[int]
) -> None:
    log.append(*(step_row(step, loss=step) for step in range(1, 9_001)))
    with RunReader(run, raw_limit=8_999) as reader, RunReader(run, raw_limit=9_000) as raw:
        table = reader.series()
        assert read == []
        assert table.width == 64
        whole = raw.series(9_000)
    assert (whole.width, list(whole.columns["loss"].mean)) == (1, list(map(float, range(1, 9_001))))
    loss = table.columns["loss"]
    assert (loss.low[1], loss.high[1], loss.mean[1]) == (65.0, 128.0, 96.5)


@pytest.mark.parametrize(
    ("last", "buckets", "width"),
    [
        (0, 2_048, 1),
        (2_048, 2_048, 1),
        (2_049, 2_048, 2),
        (262_144, 2_048, 128),
        (262_145, 2_048, 1_024),
        (10**9, 2_048, 2**19),
        (9, 1, 16),
    ],
)
def test_the_width_is_the_smallest_power_of_two_that_fits(
    last: int, buckets: int, width: int
) -> None:
    assert bucket_width(last, buckets, 262_144, 1_024) == width


def _epochs(steps: int, length: int, *, short: bool) -> Iterator[StepRow]:
    """Epochs of `length` steps; each last step has 40 instead of 700 tokens, a large gradient and a
    low speed."""
    tokens = 0
    for step in range(1, steps + 1):
        last = short and step % length == 0
        tokens += 40 if last else 700
        row = step_row(step, grad_norm=9.0 if last else 0.5, speed=3e3 if last else 2e4)
        yield row._replace(tokens_seen=tokens, epoch=step / length)


@pytest.mark.parametrize(("buckets", "width"), [(2_048, 1), (64, 8)])
def test_an_epochs_short_last_batch_is_left_out_of_a_buckets_band(
    log: RunLog, reader: RunReader, buckets: int, width: int
) -> None:
    rows = _epochs(500, 100, short=True)
    log.append(Facts(steps_per_epoch=100), *islice(rows, 90))
    assert reader.series(buckets).short_every == 0, "no epoch has ended yet"
    log.append(*rows)
    reader.refresh()
    table = reader.series(buckets)
    assert (table.width, table.short_every) == (width, 100)
    band = table.columns["grad_norm"]
    if width == 1:
        found = [at for at, high in zip(table.step, band.high, strict=True) if high == 9.0]
        assert found == [100, 200, 300, 400, 500]
    else:
        assert set(band.high) == {0.5}
        assert set(table.columns["tokens_per_second"].low) == {20_000.0}
        assert max(band.mean) > 0.5, "the mean is that of all steps"


def test_epochs_of_equal_steps_have_no_short_batch(log: RunLog, reader: RunReader) -> None:
    log.append(Facts(steps_per_epoch=100), *_epochs(500, 100, short=False))
    assert reader.series(64).short_every == 0


def test_a_machine_without_a_gpu_has_gaps_and_its_history_is_the_same_object_until_it_grows(
    log: RunLog, reader: RunReader
) -> None:
    assert len(reader.machine()) == 0
    log.append(HardwareRow(STARTED, 1.5, 1.0, 2, 3, 4, 5))
    reader.refresh()
    table = reader.machine()
    known = [not math.isnan(table.columns[name].mean[0]) for name in MACHINE_COLUMNS]
    assert known == [True] * 5 + [False] * 5
    log.append(step_row(1))
    reader.refresh()
    assert reader.machine() is table
    log.append(HardwareRow(STARTED + 1, 1.5, 1.0, 2, 3, 4, 5, gpu=GpuRow(watts=300.5)))
    reader.refresh()
    assert list(reader.machine().columns["gpu_watts"].mean)[1:] == [300.5]
