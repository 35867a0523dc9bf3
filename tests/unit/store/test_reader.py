"""RunReader with a missing, empty, replaced, damaged or busy database."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.unit.store.rows import begin, evaluation_row, event_row, new_run, sample_row, step_row


def everything_is_empty(reader: RunReader) -> bool:
    lists = [
        reader.evaluations(),
        reader.samples(),
        reader.events(),
        reader.hardware(),
        reader.checkpoints(),
        reader.attempts(),
        reader.recent_steps(9),
    ]
    ones = [reader.last_state(), reader.progress()]
    return (
        not any(lists)
        and ones == [None, None]
        and not list(reader.steps_since())
        and len(reader.series()) == 0
    )


def test_a_new_run_reads_as_empty_with_its_facts() -> None:
    with RunReader(new_run()) as reader:
        assert everything_is_empty(reader)
        assert set(reader.meta()) == {"created"}
        assert reader.data_version() > 0


@pytest.mark.parametrize("prepare", ["no folder", "no file", "empty file"])
def test_a_missing_database_reads_as_empty_until_it_exists(tmp_path: Path, prepare: str) -> None:
    run = RunDirectory(tmp_path / "plain-otter")
    reader = RunReader(run)
    if prepare != "no folder":
        run.path.mkdir()
    if prepare == "empty file":
        run.database_path.touch()
    assert everything_is_empty(reader)
    assert reader.meta() == {}
    assert reader.data_version() == 0
    assert run.path.exists() == (prepare != "no folder")
    run.path.mkdir(exist_ok=True)
    with RunDatabase(run.database_path) as database:
        database.add_steps([step_row(1)])
    assert reader.data_version() > 0
    assert reader.recent_steps(1) == [step_row(1)]
    reader.close()


def test_the_version_changes_only_with_commits() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        versions = [reader.data_version()]
        for step in range(1, 5):
            database.add_steps([step_row(step)])
            versions.append(reader.data_version())
        assert len(set(versions)) == 5
        assert (reader.recent_steps(1), reader.series().step[-1], reader.data_version()) == (
            [step_row(4)],
            4,
            versions[-1],
        )


def test_a_replaced_database_is_opened_again(tmp_path: Path) -> None:
    run = new_run()
    with RunReader(run) as reader:
        with RunDatabase(run.database_path) as database:
            database.add_steps([step_row(step) for step in range(1, 6)])
        version = reader.data_version()
        assert len(reader.series()) == 5
        shutil.move(run.database_path, tmp_path / "aside.db")
        for name in ("run.db-wal", "run.db-shm"):
            run.path.joinpath(name).unlink(missing_ok=True)
        assert reader.data_version() == 0
        assert len(reader.series()) == 0
        with RunDatabase(run.database_path) as database:
            database.add_steps([step_row(1)])
        assert reader.data_version() not in (0, version)
        assert len(reader.series()) == 1


def test_a_reader_never_writes() -> None:
    run = new_run()
    with RunReader(run) as reader:
        reader.meta()
        connection = reader._connection
        assert connection is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM meta")


def test_a_reader_leaves_no_transaction_open_that_blocks_checkpoints_of_the_wal() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        database.add_steps([step_row(step) for step in range(1, 3_000)])
        rows = reader.steps_since(chunk=10)
        next(rows)
        reader.series(), reader.meta(), reader.recent_steps(1)
        busy, logged, folded = database._connection.execute(
            "PRAGMA wal_checkpoint(TRUNCATE)"
        ).fetchone()
        assert (busy, logged, folded) == (0, 0, 0)
        assert next(rows).step == 2


def test_recent_steps_are_in_order() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        database.add_steps([step_row(step) for step in range(1, 10)])
        assert [row.step for row in reader.recent_steps(3)] == [7, 8, 9]
        assert len(reader.recent_steps(100)) == 9


def test_events_and_samples_are_newest_first_up_to_the_limit() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        for step in range(5):
            database.add_event(event_row("note", step))
            database.add_sample(sample_row(step))
        assert [row.step for row in reader.events(2)] == [4, 3]
        assert [row.step for row in reader.samples(2)] == [4, 3]
        assert len(reader.samples()) == len(reader.events()) == 5


def test_evaluations_follow_new_and_replaced_ones_and_a_resume() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        begin(database)
        seen = []
        for row in (evaluation_row(5), evaluation_row(9), evaluation_row(9, loss=1.0)):
            database.add_evaluation(row)
            seen.append([(found.step, found.loss) for found in reader.evaluations()])
        reader.evaluations().clear()
        begin(database, 5)
        seen.append([(found.step, found.loss) for found in reader.evaluations()])
        assert seen == [[(5, 4.0)], [(5, 4.0), (9, 4.0)], [(5, 4.0), (9, 1.0)], [(5, 4.0)]]


def test_threads_can_share_a_reader_and_close_it() -> None:
    run = new_run()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(50):
                assert reader.series().step[-1] == 9
                reader.close()
        except BaseException as error:
            problems.append(error)

    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        database.add_steps([step_row(step) for step in range(1, 10)])
        threads = [Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_cached_rows_are_replaced_by_those_of_a_later_attempt() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        begin(database)
        database.add_steps([step_row(step) for step in range(1, 31)])
        for step in (10, 20, 30):
            database.add_evaluation(evaluation_row(step))
            database.add_sample(sample_row(step))
        assert (
            [row.step for row in reader.recent_steps(4)],
            [row.step for row in reader.samples(2)],
        ) == ([27, 28, 29, 30], [30, 20])
        assert [row.step for row in reader.evaluations()] == [10, 20, 30]
        database.add_evaluation(evaluation_row(20, loss=3.5))
        assert [(row.step, row.loss) for row in reader.evaluations()] == [
            (10, 4.0),
            (20, 3.5),
            (30, 4.0),
        ]
        attempt = begin(database, start_step=22)
        assert (
            [row.step for row in reader.recent_steps(4)],
            [row.step for row in reader.samples(2)],
        ) == ([19, 20, 21, 22], [20, 10])
        assert [row.step for row in reader.evaluations()] == [10, 20]
        database.add_steps([step_row(23, attempt)])
        database.move_start_back(attempt, 12)
        assert [row.step for row in reader.recent_steps(4)] == [9, 10, 11, 12]
        assert (
            [row.step for row in reader.evaluations()],
            [row.step for row in reader.samples(2)],
        ) == ([10], [10])


def test_a_read_transaction_sees_one_consistent_state() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        begin(database)
        database.add_steps([step_row(1)])
        with reader.read_transaction():
            assert [row.step for row in reader.recent_steps(9)] == [1]
            with reader.read_transaction():
                database.add_steps([step_row(2)])
                database.add_evaluation(evaluation_row(2))
                assert ([row.step for row in reader.steps_since()], reader.evaluations()) == (
                    [1],
                    [],
                )
            assert len(reader.series()) == 1
        assert (
            [row.step for row in reader.recent_steps(9)],
            [row.step for row in reader.evaluations()],
            len(reader.series()),
        ) == ([1, 2], [2], 2)


def test_a_read_transaction_without_a_database_does_not_hide_a_later_one() -> None:
    run = new_run()
    run.database_path.unlink()
    with RunReader(run) as reader:
        with reader.read_transaction():
            assert (reader.events(), reader.data_version()) == ([], 0)
        with RunDatabase(run.database_path) as database:
            database.add_event(event_row("started"))
        assert [row.kind for row in reader.events()] == ["started"]


def test_an_error_ends_a_read_transaction() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        with pytest.raises(ZeroDivisionError), reader.read_transaction():
            1 / len(reader.recent_steps(1))
        begin(database)
        database.add_steps([step_row(1)])
        assert [row.step for row in reader.recent_steps(1)] == [1]


def test_samples_are_found_by_step_without_superseded_ones() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database, RunReader(run) as reader:
        assert (reader.sample_steps(), reader.samples_at(10)) == ([], [])
        begin(database)
        for step in (10, 20, 30):
            for text in (" first", " second"):
                database.add_sample(sample_row(step, text=text))
        begin(database, start_step=25)
        assert reader.sample_steps() == [10, 20]
        assert [sample.text for sample in reader.samples_at(20)] == [" first", " second"]
        assert reader.samples_at(30) == []


def test_a_newer_schema_error_says_what_to_do() -> None:
    run = new_run()
    with sqlite3.connect(run.database_path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with (
        RunReader(run) as reader,
        pytest.raises(
            DatabaseError, match=r"plain-otter/run\.db was made by a newer version"
        ) as caught,
    ):
        reader.data_version()
    assert caught.value.hint.startswith("update rnnlm-tui")


@pytest.mark.parametrize("damage", ["random", "text", "truncated", "zeroed pages"])
def test_a_damaged_file_error_says_what_still_works(damage: str) -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database:
        begin(database)
        database.add_steps([step_row(step) for step in range(1, 3_000)])
    whole = run.database_path.read_bytes()
    half = len(whole) // 2
    content = {
        "random": random.Random(0).randbytes(9_000),
        "text": b"metrics, once\n" * 999,
        "truncated": whole[:half],
        "zeroed pages": whole[:4096] + bytes(len(whole) - 4096),
    }
    run.database_path.write_bytes(content[damage])
    with (
        RunReader(run) as reader,
        pytest.raises(DatabaseError, match=r"plain-otter/run\.db is damaged") as caught,
    ):
        reader.meta(), list(reader.steps_since()), reader.series()
    assert "plain-otter@last" in caught.value.hint


def test_a_folder_instead_of_the_database_is_a_storage_error() -> None:
    run = new_run()
    run.database_path.unlink()
    run.database_path.mkdir()
    with (
        RunReader(run) as reader,
        pytest.raises(StorageError, match=r"can't read or write .*run\.db"),
    ):
        reader.meta()


def test_a_run_in_a_folder_with_odd_characters_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "what? 100% #1 ü"))
    with RunReader(new_run()) as reader:
        assert "created" in reader.meta()


def test_a_repeated_evaluation_of_a_later_attempt_replaces_the_first() -> None:
    """After a kill between the last validation and the test, the next attempt validates the same
    weights again."""
    run = new_run()
    with RunDatabase(run.database_path) as database:
        begin(database)
        database.add_evaluation(evaluation_row(5))
        database.add_evaluation(evaluation_row(10))
        with RunReader(run) as reader:
            assert reader.evaluations() == [evaluation_row(5), evaluation_row(10)]
            begin(database, 10)
            database.add_evaluation(evaluation_row(10, attempt=2, loss=3.9))
            assert reader.evaluations() == [
                evaluation_row(5),
                evaluation_row(10, attempt=2, loss=3.9),
            ]
    with closing(sqlite3.connect(run.database_path)) as raw:
        assert raw.execute(
            "SELECT attempt, step FROM evaluations WHERE superseded = 0 ORDER BY step"
        ).fetchall() == [(1, 5), (2, 10)]


def test_duplicate_rows_of_an_earlier_version_are_read_as_the_later_one() -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database:
        begin(database)
        database.add_evaluation(evaluation_row(10))
        begin(database, 10)
        database.add_evaluation(evaluation_row(10, attempt=2, loss=3.9))
    with closing(sqlite3.connect(run.database_path)) as raw, raw:
        raw.execute("UPDATE evaluations SET superseded = 0")
    with RunReader(run) as reader:
        assert reader.evaluations() == [evaluation_row(10, attempt=2, loss=3.9)]


def test_a_reader_on_a_full_disk_creates_no_file_and_sees_later_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run()
    with RunDatabase(run.database_path) as database:
        begin(database)
        database.add_steps([step_row(1)])
    monkeypatch.setattr("rnnlm_tui.store.schema.free_bytes", lambda path: 0)
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps_since()] == [1]
        assert sorted(path.name for path in run.path.glob("run.db*")) == ["run.db"]
        with RunDatabase(run.database_path) as database:
            database.add_steps([step_row(2)])
            assert [row.step for row in reader.steps_since()] == [1, 2]
