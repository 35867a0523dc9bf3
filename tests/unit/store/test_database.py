"""RunDatabase: what is stored, transactions, and refused files."""

from __future__ import annotations

import math
import random
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.schema.metrics import EventKind, HardwareRow, Progress
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.unit.store.rows import (
    STARTED,
    begin,
    checkpoint_row,
    evaluation_row,
    event_row,
    sample_row,
    step_row,
)


def test_every_kind_of_row_is_read_as_written(database: RunDatabase, reader: RunReader) -> None:
    attempt = begin(database)
    steps = [step_row(1, attempt), step_row(2, attempt)]
    machine = HardwareRow(STARTED, 50.0, 25.0, 1, 2**40, 3, 4)
    card = replace(
        machine,
        gpu_name="H100",
        gpu_percent=97.0,
        gpu_memory_used=5,
        gpu_memory_own=6,
        gpu_memory_total=7,
        gpu_watts=300.5,
        gpu_celsius=60.0,
    )
    odd = sample_row(2, text="\x1b[31m\0\u202e «ü» \n")
    database.add_steps(steps)
    database.add_evaluation(evaluation_row(2))
    database.add_sample(odd)
    database.add_event(event_row("running"))
    database.add_event(event_row("note", text="hello"))
    database.add_hardware(machine)
    database.add_hardware(card)
    database.set_progress(Progress("encoding", 5, 10))
    assert list(reader.steps_since()) == steps
    assert reader.recent_steps(1) == [steps[-1]]
    assert reader.evaluations() == [evaluation_row(2)]
    assert reader.samples() == [odd]
    assert [event.kind for event in reader.events()] == ["note", "running"]
    assert [event.text for event in reader.events(1)] == ["hello"]
    assert reader.hardware() == [machine, card]
    assert reader.hardware(1) == [card]
    assert reader.progress() == Progress("encoding", 5, 10)
    database.set_progress(None)
    assert reader.progress() is None


def test_nan_and_infinity_are_stored_with_a_flag(
    run: RunDirectory, database: RunDatabase, reader: RunReader
) -> None:
    database.add_steps(
        [step_row(1, loss=math.nan, grad_norm=math.inf), step_row(2, loss=-math.inf)]
    )
    database.add_evaluation(evaluation_row(2, loss=math.nan))
    database.put_checkpoint(checkpoint_row(2, validation_loss=math.inf, train_loss=math.nan))
    first, second = reader.steps_since()
    assert (math.isnan(first.loss), first.grad_norm, first.learning_rate) == (True, math.inf, 1e-3)
    assert (second.loss, second.grad_norm) == (-math.inf, 0.5)
    assert math.isnan(reader.evaluations()[0].loss)
    assert math.isnan(reader.evaluations()[0].perplexity)
    assert reader.checkpoints()[0].validation_loss == math.inf
    assert math.isnan(reader.checkpoints()[0].train_loss)
    with sqlite3.connect(run.database_path) as raw:
        flags = raw.execute("SELECT step, nonfinite FROM steps ORDER BY step").fetchall()
    raw.close()
    assert flags == [(1, '{"loss": "nan", "grad_norm": "inf"}'), (2, '{"loss": "-inf"}')]


def test_a_lone_surrogate_is_stored_escaped(database: RunDatabase, reader: RunReader) -> None:
    database.add_sample(sample_row(1, text="a\ud800b"))
    assert reader.samples()[0].text == "a\\ud800b"


def test_attempts_are_numbered_from_one_and_kept(database: RunDatabase, reader: RunReader) -> None:
    assert [begin(database), begin(database, 5)] == [1, 2]
    first, second = reader.attempts()
    assert (first.attempt, first.start_step, first.environment) == (1, 0, {"threads": 2})
    assert (second.pid, second.host, second.boot_id, second.device, second.start_step) == (
        4711,
        "host",
        "boot",
        "cpu",
        5,
    )
    meta = reader.meta()
    assert (meta["pid"], meta["host"], meta["boot_id"], meta["device"]) == (
        "4711",
        "host",
        "boot",
        "cpu",
    )
    assert float(meta["heartbeat"]) == pytest.approx(second.started)


def test_a_resume_supersedes_later_rows_and_keeps_them(
    run: RunDirectory, database: RunDatabase, reader: RunReader
) -> None:
    first = begin(database)
    database.add_steps([step_row(step, first) for step in range(1, 11)])
    for step in (4, 8):
        database.add_evaluation(evaluation_row(step, first))
        database.add_sample(sample_row(step, first))
        database.put_checkpoint(checkpoint_row(step, validation_loss=9.0 - step))
    second = begin(database, 4)
    assert reader.recent_steps(1) == [step_row(4, first)]
    assert [row.step for row in reader.evaluations()] == [4]
    assert [row.step for row in reader.samples()] == [4]
    assert [(row.step, row.best, row.last) for row in reader.checkpoints()] == [(4, True, True)]
    database.add_steps([step_row(step, second) for step in range(5, 8)])
    assert [(row.step, row.attempt) for row in reader.steps_since(2)] == [
        (3, 1),
        (4, 1),
        (5, 2),
        (6, 2),
        (7, 2),
    ]
    with sqlite3.connect(run.database_path) as raw:
        assert raw.execute("SELECT count(*) FROM steps WHERE superseded").fetchone() == (6,)
    raw.close()


def test_a_repeated_batch_is_stored_once(database: RunDatabase, reader: RunReader) -> None:
    rows = [step_row(step) for step in range(1, 6)]
    database.add_steps(rows[:3])
    database.add_steps(rows)
    database.add_steps([])
    assert list(reader.steps_since()) == rows
    for loss in (3.0, 2.0):
        database.add_evaluation(evaluation_row(5, loss=loss))
    assert [row.loss for row in reader.evaluations()] == [2.0]


def test_best_and_last_are_updated_with_every_change_of_checkpoints(
    database: RunDatabase, reader: RunReader
) -> None:
    def marks() -> list[tuple[int, bool, bool]]:
        return [(row.step, row.best, row.last) for row in reader.checkpoints()]

    database.put_checkpoint(checkpoint_row(500))
    assert marks() == [(500, False, True)]
    database.put_checkpoint(checkpoint_row(1000, validation_loss=4.0))
    database.put_checkpoint(checkpoint_row(1500, validation_loss=math.nan))
    database.put_checkpoint(checkpoint_row(2000, validation_loss=4.5))
    assert marks() == [
        (500, False, False),
        (1000, True, False),
        (1500, False, False),
        (2000, False, True),
    ]
    database.remove_checkpoint(1000)
    database.remove_checkpoint(1234)
    assert marks() == [(500, False, False), (1500, False, False), (2000, True, True)]
    database.put_checkpoint(checkpoint_row(500, validation_loss=4.4))
    assert marks() == [(500, True, False), (1500, False, False), (2000, False, True)]


def test_a_command_is_stored_once_and_answered_from_the_journal(database: RunDatabase) -> None:
    assert database.journalled("a") is None
    database.journal_command("a", "pause", "{}", '{"ok":true}')
    database.journal_command("a", "pause", "{}", '{"ok":false}')
    assert database.journalled("a") == '{"ok":true}'
    assert database.journalled("b") is None


@pytest.mark.parametrize(
    "kind",
    ["started", "preparing", "running", "paused", "resumed", "stopped", "finished", "failed"],
)
def test_the_last_state_is_found_among_later_events(
    database: RunDatabase, reader: RunReader, kind: EventKind
) -> None:
    assert reader.last_state() is None
    database.add_event(event_row("started"))
    database.add_event(event_row(kind, 3))
    for fact in ("checkpoint", "best", "evaluation", "sample", "setting", "note"):
        database.add_event(event_row(fact, 4))
    state = reader.last_state()
    assert state is not None
    assert (state.kind, state.step) == (kind, 3)


def test_meta_and_heartbeat_have_the_newest_value(database: RunDatabase, reader: RunReader) -> None:
    database.set_meta("max_steps", "10")
    database.set_meta("max_steps", "20")
    database.heartbeat(STARTED + 0.123456789)
    assert reader.meta()["max_steps"] == "20"
    assert float(reader.meta()["heartbeat"]) == STARTED + 0.123456789


def test_threads_of_the_worker_can_write_at_the_same_time(
    database: RunDatabase, reader: RunReader
) -> None:
    def write(first: int) -> None:
        for step in range(first, first + 40):
            database.add_steps([step_row(step)])
            database.heartbeat(step)

    threads = [Thread(target=write, args=(first,)) for first in (1, 41, 81)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.step for row in reader.steps_since()] == list(range(1, 121))


def test_a_closed_database_is_one_file_with_all_rows(run: RunDirectory) -> None:
    with RunDatabase(run.database_path) as database:
        database.add_steps([step_row(1)])
        database.close()
    assert not run.database_path.with_name("run.db-wal").exists()
    with RunDatabase(run.database_path) as database:
        database.add_steps([step_row(2)])
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps_since()] == [1, 2]


def test_a_newer_schema_is_refused_and_unchanged(run: RunDirectory) -> None:
    with sqlite3.connect(run.database_path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = run.database_path.read_bytes()
    with pytest.raises(
        DatabaseError, match=r"run\.db was made by a newer version of rnnlm-tui: its schema is 99"
    ) as caught:
        RunDatabase(run.database_path)
    assert "update" in caught.value.hint
    assert run.database_path.read_bytes() == before


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE other (a)")
    raw.close()
    with pytest.raises(DatabaseError, match=r"run\.db has the schema 0"):
        RunDatabase(path)


@pytest.mark.parametrize(
    "content",
    [b"not a database at all" * 100, random.Random(0).randbytes(20_000)],
    ids=["text", "random"],
)
def test_a_damaged_file_is_reported_and_not_overwritten(run: RunDirectory, content: bytes) -> None:
    run.database_path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"plain-otter/run\.db is damaged"):
        RunDatabase(run.database_path)
    assert run.database_path.read_bytes() == content


def test_a_full_disk_changes_nothing_and_the_call_can_be_repeated(
    run: RunDirectory, reader: RunReader
) -> None:
    rows = [step_row(step) for step in range(1, 2_001)]
    with RunDatabase(run.database_path) as database:
        database.add_steps(rows[:10])
        pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
        database._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match=r"can't write .*run\.db.*full") as caught:
            database.add_steps(rows)
        assert not isinstance(caught.value, DatabaseError)
        assert reader.recent_steps(1) == [rows[9]]
        database._connection.execute("PRAGMA max_page_count = 1000000")
        database.add_steps(rows)
    assert list(reader.steps_since()) == rows


WRITER = """
import sys
from pathlib import Path
from rnnlm_tui.store.database import RunDatabase
from tests.unit.store.rows import begin, step_row
database = RunDatabase(Path(sys.argv[1]))
begin(database)
for first in range(1, int(sys.argv[2]), 10):
    database.add_steps([step_row(step) for step in range(first, first + 10)])
    print(first + 9, flush=True)
sys.stdin.read()
"""


def _writer(run: RunDirectory, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(run.database_path), str(steps)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def test_a_reader_in_another_process_misses_no_step_of_a_writer(
    run: RunDirectory, reader: RunReader
) -> None:
    seen, version, followed = [], 0, 0
    with _writer(run, 3_000) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for line in writer.stdout:
            if (newer := reader.data_version()) != version:
                version = newer
                seen.append(reader.series().step[-1])
                followed = max(
                    followed, len(list(reader.steps_since(followed, chunk=100))) + followed
                )
                assert followed >= int(line)
            if line == "3000\n":
                break
        writer.stdin.close()
        assert writer.wait() == 0
    assert seen == sorted(seen)
    assert [row.step for row in reader.steps_since()] == list(range(1, 3_001))
    assert reader.series().step[-1] == 3_000


def test_every_committed_step_survives_a_kill_of_the_writer(
    run: RunDirectory, reader: RunReader
) -> None:
    with _writer(run, 100_000) as writer:
        assert writer.stdout is not None
        committed = [int(writer.stdout.readline()) for _ in range(30)][-1]
        writer.send_signal(signal.SIGKILL)
        committed = max([committed, *(int(line) for line in writer.stdout.read().split()[:-1])])
        writer.wait()
    steps = [row.step for row in reader.steps_since()]
    assert len(steps) >= committed
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) % 10 == 0
    with RunDatabase(run.database_path) as database:
        assert begin(database, len(steps)) == 2


def test_an_attempt_can_move_its_start_to_an_earlier_step(
    database: RunDatabase, reader: RunReader
) -> None:
    first = begin(database)
    database.add_steps([step_row(step, first) for step in range(1, 11)])
    for step in (4, 8):
        database.put_checkpoint(checkpoint_row(step))
    second = begin(database, 8)
    database.move_start_back(second, 4)
    assert reader.recent_steps(1) == [step_row(4, first)]
    assert [(row.step, row.last) for row in reader.checkpoints()] == [(4, True)]
    assert [row.start_step for row in reader.attempts()] == [0, 4]


def test_an_attempt_starts_without_the_previous_ones_activity(
    database: RunDatabase, reader: RunReader
) -> None:
    database.set_meta("activity", "evaluating")
    begin(database)
    assert reader.meta()["activity"] == ""
