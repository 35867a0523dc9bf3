"""A database of an earlier version: read unchanged, upgraded by the next worker, salvaged if
damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from rnnlm_tui.errors import DatabaseError
from rnnlm_tui.schema.metrics import EvaluationRow, GpuRow, HardwareRow
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.recovery import check_database, open_database
from rnnlm_tui.store.schema import SCHEMA_VERSION, tables_since
from tests.unit.store.rows import STARTED, new_run, step_row

READINGS = 70
EVALUATED = EvaluationRow(1, 1, "validation", "validation", 4.0, 1_000, 1.5, 0.5, STARTED)
"""As an earlier version kept it: unknown tokens were not counted."""


def reading(second: int) -> HardwareRow:
    """A machine reading, as stored by the first version."""
    return HardwareRow(
        STARTED + second, 50.0, 25.0, second + 1, 2**40, 3, 4, "H100", 97.0, 5, 6, 7, 300.5, 60.0
    )


@pytest.fixture
def run() -> RunDirectory:
    """A run with a database of the first schema version."""
    run = new_run()
    run.database_path.unlink()
    row = step_row(1)
    with closing(sqlite3.connect(run.database_path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {tables_since(0, 1)}")
        step = (
            row.attempt,
            row.step,
            row.tokens_seen,
            row.epoch,
            row.loss,
            row.grad_norm,
            row.learning_rate,
            row.tokens_per_second,
            row.active_seconds,
            row.time,
        )
        connection.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)", step)
        evaluation = (1, 1, "validation", "validation", 4.0, 1_000, 1.5, 0.5, STARTED)
        connection.execute(
            "INSERT INTO evaluations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)", evaluation
        )
        for second in range(READINGS):
            old = reading(second)
            figures = (
                old.cpu_percent,
                old.process_cpu_percent,
                old.memory_used,
                old.memory_total,
                old.process_memory,
                old.disk_free,
            )
            card = (
                old.gpu_name,
                old.gpu_percent,
                old.gpu_memory_used,
                old.gpu_memory_own,
                old.gpu_memory_total,
                old.gpu_watts,
                old.gpu_celsius,
            )
            connection.execute(
                f"INSERT INTO hardware VALUES (NULL{', ?' * 14})", (old.time, *figures, *card)
            )
        connection.commit()
    return run


def version_of(run: RunDirectory) -> int:
    with closing(sqlite3.connect(run.database_path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_an_earlier_database_is_valid_and_read_unchanged(run: RunDirectory) -> None:
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps_since()] == [1]
        assert reader.evaluations() == [EVALUATED]
        assert reader.hardware() == [reading(second) for second in range(READINGS)]
        assert list(reader.machine().columns["memory_used"].mean) == list(range(1, READINGS + 1))
    assert check_database(run) is None
    assert version_of(run) == 1


def test_the_next_worker_upgrades_it_while_a_reader_has_it_open(
    run: RunDirectory,
) -> None:
    new = HardwareRow(
        STARTED + READINGS,
        1.0,
        1.0,
        1,
        2,
        3,
        4,
        other_gpus=(GpuRow(1, "H100", 12.0),),
        gpu_clock_mhz=1_725.0,
        gpu_throttle="power cap",
    )
    counted = EvaluationRow(
        1, 2, "validation", "validation", 3.0, 1_000, None, 0.5, STARTED, 40, 5_000, 9_000
    )
    with RunReader(run) as reader:
        assert len(reader.machine()) == READINGS
        assert reader.evaluations() == [EVALUATED]
        with open_database(run) as database:
            database.add_steps([step_row(2)])
            database.add_hardware(new)
            database.add_evaluation(counted)
        assert [row.step for row in reader.steps_since()] == [1, 2]
        assert reader.evaluations() == [EVALUATED, counted]
        assert reader.hardware() == [*(reading(second) for second in range(READINGS)), new]
        assert len(reader.machine()) == READINGS + 1
    with closing(sqlite3.connect(run.database_path)) as connection:
        rolled_up = connection.execute(
            "SELECT bucket, last_id, n2, l2, h2 FROM hardware_rollups"
        ).fetchall()
    assert rolled_up == [(0, 32, 32, 1, 32), (1, 64, 32, 33, 64), (2, 71, 7, 1, 70)]
    assert (version_of(run), check_database(run)) == (SCHEMA_VERSION, None)


def test_an_interrupted_upgrade_changes_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rnnlm_tui.store.database.ROLL_UP_READINGS", "INSERT INTO nowhere VALUES (:bucket)"
    )
    with pytest.raises(DatabaseError):
        RunDatabase(run.database_path)
    assert (version_of(run), check_database(run)) == (1, None)
    with RunReader(run) as reader:
        assert len(reader.hardware()) == READINGS


@pytest.mark.parametrize("lost", ["its first page", "a page of a table"])
def test_a_damaged_earlier_database_keeps_its_rows(run: RunDirectory, lost: str) -> None:
    content = bytearray(run.database_path.read_bytes())
    first = 0 if lost == "its first page" else 4_096
    content[first : first + 4_096] = bytes(4_096)
    run.database_path.write_bytes(content)
    assert check_database(run) is not None
    with open_database(run):
        pass
    with RunReader(run) as reader:
        assert reader.hardware() == [reading(second) for second in range(READINGS)]
        assert [row.step for row in reader.steps_since()] == [1]
        assert len(reader.machine()) == READINGS
        assert reader.evaluations() == [EVALUATED]
