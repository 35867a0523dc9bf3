"""A run's folder on a network filesystem: the database is on a local disk, and a log of its rows in
the run's folder lets another host continue."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rnnlm_tui.store.database import MetricsLog, RunDatabase, logged_rows
from rnnlm_tui.store.recovery import open_database, refill, refresh_copy, repair_database

from rnnlm_tui.cli.doctor import check_filesystem
from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store import paths
from rnnlm_tui.store.checkpoints import checkpoint_folders, write_checkpoint
from rnnlm_tui.store.paths import DATABASES_VARIABLE, POINTER_NAME, RunDirectory
from rnnlm_tui.store.reader import COPY_SECONDS, RunReader
from rnnlm_tui.store.trash import delete_run, purge
from rnnlm_tui.system import disk as disk_module
from tests.integration.runs import ENDLESS, kill, start, tiny_config, wait_for, wait_for_step
from tests.unit.store.rows import (
    begin,
    checkpoint_row,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
    write_model,
)

pytestmark = pytest.mark.faults


@pytest.fixture
def local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the first host's local disk; the home plays the network filesystem."""
    monkeypatch.setenv(DATABASES_VARIABLE, str(tmp_path / "disk-a"))
    return tmp_path / "disk-a"


def on_another_host(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The view of another host that mounts the same home: the note names the first host, whose disk
    isn't here."""
    pointer = run.path / POINTER_NAME
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "host": "box-a"}))
    monkeypatch.setenv(DATABASES_VARIABLE, str(tmp_path / "disk-b"))
    return tmp_path / "disk-b"


def rows(run: RunDirectory) -> dict[str, object]:
    """Everything that views show."""
    with RunReader(run) as reader:
        return {
            "steps": list(reader.steps_since()),
            "evaluations": reader.evaluations(),
            "samples": reader.samples(),
            "events": reader.events(),
            "attempts": reader.attempts(),
            "checkpoints": [
                replace(row, time=0.0) for row in reader.checkpoints()
            ],  # the manifests have separate ones
            "meta": {
                key: value
                for key, value in reader.meta().items()
                if key not in ("heartbeat", "created", "activity", "requests")
            },
        }


def test_only_a_network_filesystem_or_the_setting_moves_the_database_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = new_run("beside")
    assert beside.database_path == beside.path / "run.db"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(
        paths, "filesystem_here", lambda path: "nfs4" if path.is_relative_to(home) else "ext4"
    )
    run = new_run("elsewhere")
    assert sorted(path.name for path in run.path.iterdir()) == ["config.toml", "database.json"]
    assert run.database_path.parent.parent == tmp_path / "state" / "rnnlm-tui" / "databases"
    assert run.database_path.stat().st_mode & 0o777 == 0o600
    assert {
        run.database_path.parent.stat().st_mode & 0o777,
        run.database_path.parents[1].stat().st_mode & 0o777,
    } == {0o700}
    assert run.socket_path.parent != run.path, "a socket can't be made on every network filesystem"
    assert summarize(run).status == "draft"
    purge([delete_run(run)])
    assert not list((tmp_path / "state").rglob("run.db"))


def test_doctor_reports_where_databases_are_stored(
    home: Path, local_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check_filesystem(home)
    assert found.verdict == "note"
    assert str(local_disk) in found.fact
    monkeypatch.delenv(DATABASES_VARIABLE)
    monkeypatch.setattr(paths, "filesystem_here", lambda path: "nfs4")
    monkeypatch.setattr(disk_module, "filesystem_here", lambda path: "nfs4")
    found = check_filesystem(home)
    assert (found.verdict, found.hint) == (
        "bad",
        "set RNNLM_TUI_DATABASES to a folder on a local disk",
    )


def test_a_folder_that_others_may_enter_holds_no_database(local_disk: Path) -> None:
    run = new_run()
    run.database_path.parent.chmod(0o755)
    with pytest.raises(StorageError, match="must be a folder that only you can access"):
        open_database(run)


def test_a_run_resumes_on_another_host_with_every_row(
    text: Path,
    local_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 20, "evaluation.every": 20}
        ),
        "moving",
    )
    wait_for_step(run, 45)
    send(run, "set", changes={"evaluation.every": 25})
    step = send(run, "stop").step
    assert run.database_path.is_relative_to(local_disk)
    assert not (run.path / "run.db").exists()
    assert command(["show", "moving"]) == 0
    said = capsys.readouterr().out
    assert str(run.database_path) in said
    assert "as JSON lines" in said
    before = rows(run)
    assert any("its database is" in event.text for event in before["events"])  # type: ignore[attr-defined]
    disk = on_another_host(run, tmp_path, monkeypatch)
    local_disk.rename(tmp_path / "unreachable")
    assert rows(run) == before
    assert summarize(run).status == "stopped"
    assert run.database_path.is_relative_to(disk)
    resume(run)
    wait_for_step(run, step + 5)
    place = run.database_location
    assert place is not None
    assert place.here
    kill(run)
    assert {path.name for path in run.path.glob("metrics-*.jsonl")} == {
        "metrics-1.jsonl",
        "metrics-2.jsonl",
    }
    after = rows(run)
    assert after["steps"][:step] == before["steps"]  # type: ignore[index]
    assert summarize(run).attempt == 2
    assert summarize(run).status == "crashed"


def test_rows_that_were_committed_before_a_kill_are_in_the_log(
    text: Path, local_disk: Path
) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 20, "evaluation.every": 0}
        ),
        "killed",
    )
    wait_for_step(run, 45)
    kill(run)
    before = rows(run)
    shutil.rmtree(local_disk)
    after = rows(run)
    del (
        before["checkpoints"],
        after["checkpoints"],
        # a kill between saving a checkpoint and adding its row leaves the folder, which the log
        # finds
    )
    assert after == before
    with RunReader(run) as reader:
        assert [row.step for row in reader.checkpoints()] == sorted(
            step for step, _ in checkpoint_folders(run)
        )
    assert summarize(run).status == "crashed"
    resume(run)
    wait_for(lambda: summarize(run).attempt == 2, "the second attempt")
    kill(run)


@pytest.fixture
def filled(local_disk: Path) -> RunDirectory:
    """A run of two attempts; the second resumes after step 40."""
    run = new_run()
    with RunDatabase(run.database_path, logs=run.path) as database:
        begin(database)
        database.add_steps([step_row(step) for step in range(1, 61)])
        database.add_evaluation(evaluation_row(20))
        database.add_evaluation(evaluation_row(20, loss=float("nan")))
        database.add_sample(sample_row(20, text="ü\x1b[31m\ud800"))
        database.add_event(event_row("running"))
        database.journal_command("a", "pause", "{}", '{"ok": true}')
        second = begin(database, 40)
        database.add_steps([step_row(step, second) for step in range(41, 51)])
        database.add_event(event_row("stopped", 50))
        database.set_meta("device", "cpu")
    return run


def everything(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table except rows about a single moment."""
    with sqlite3.connect(path) as connection:
        tables = ("attempts", "steps", "rollups", "evaluations", "samples", "events", "commands")
        found = {
            table: [repr(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in tables
        }
    connection.close()
    return found  # type: ignore[return-value]


def test_a_copy_holds_every_row_of_the_database_including_superseded_ones(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(filled.database_path)
    on_another_host(filled, tmp_path, monkeypatch)
    refresh_copy(filled)
    copy = everything(filled.database_path)
    assert copy["steps"] == before["steps"]
    assert {**copy, "evaluations": [], "events": [], "samples": []} == {
        **before,
        "evaluations": [],
        "events": [],
        "samples": [],
    }
    assert [len(copy[table]) for table in ("evaluations", "events", "samples")] == [
        len(before[table]) for table in ("evaluations", "events", "samples")
    ]


def test_a_renamed_host_reads_a_copy_and_does_not_touch_the_database_of_a_living_worker(
    filled: RunDirectory,
) -> None:
    path = filled.database_path
    with RunDatabase(path, logs=filled.path) as database:
        begin(database, 50)
        before = path.stat().st_ino
        pointer = filled.path / POINTER_NAME
        pointer.write_text(
            json.dumps({**json.loads(pointer.read_text()), "host": "as-it-was-called"})
        )
        assert summarize(filled).attempt == 3
        assert path.stat().st_ino == before


def test_the_previous_copy_stays_until_the_new_one_is_complete(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_host(filled, tmp_path, monkeypatch)
    refresh_copy(filled)
    seen = []

    def refilled(run: RunDirectory, database: RunDatabase) -> object:
        seen.append(len(everything(filled.database_path)["steps"]))
        return refill(run, database)

    monkeypatch.setattr("rnnlm_tui.store.recovery.refill", refilled)
    (filled.path / "metrics-3.jsonl").write_text("{}\n")
    refresh_copy(filled)
    assert seen == [70]


def test_rows_logged_during_a_sync_are_synced_with_the_next_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path, 1)
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 1:
            log.append([("meta", [["c", "d"]])])  # like the training thread

    log.append([("meta", [["a", "b"]])])
    monkeypatch.setattr("os.fsync", fsync)
    for _ in range(3):
        log.sync()
    log.close()
    assert len(synced) == 2


def test_rows_lost_by_a_full_server_are_written_again_once_it_has_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path, 1)
    log.append([("meta", [["a", "b"]])])
    log.sync()
    stored = log.path.stat().st_size

    def forgets(descriptor: int) -> None:
        os.truncate(log.path, stored)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log.append([("meta", [["c", "d"]])])
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", forgets)
        for _ in range(2):
            with pytest.raises(StorageError, match="No space left"):
                log.sync()
    log.append([("meta", [["e", "f"]])])
    log.undo()
    log.append([("meta", [["g", "h"]])])
    log.close()
    assert list(logged_rows(tmp_path)) == [
        ("meta", ("a", "b")),
        ("meta", ("c", "d")),
        ("meta", ("g", "h")),
    ]


def test_a_copy_follows_a_living_run_on_another_host(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = RunDatabase(filled.database_path, logs=filled.path)
    attempt = begin(database, 50)
    on_another_host(filled, tmp_path, monkeypatch)
    monkeypatch.setattr("rnnlm_tui.store.reader.COPY_SECONDS", COPY_SECONDS / 100)
    with database, RunReader(filled) as reader:
        version = reader.data_version()
        for step in range(51, 54):
            database.add_steps([step_row(step, attempt)])
            wait_for(
                lambda step=step: reader.recent_steps(1)[0].step == step,  # type: ignore[misc]
                f"step {step} on the other host",
            )
        assert reader.data_version() != version


def test_a_damaged_or_forged_log_gives_its_valid_rows_and_nothing_else(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = everything(filled.database_path)
    forged: list[dict[str, object]] = [
        {"table": "meta VALUES ('x', 'y'); DROP TABLE steps; --", "rows": [["a", "b"]]},
        {"table": "rollups", "rows": [[0] * 23]},
        {
            "table": "events",
            "rows": [
                [None, 1, 5, "celebrated", "", 1.0, 0],
                [None, 1, True, "note", "", 1.0, 0],
                [None, 1],
            ],
        },
        {"table": "after", "rows": [["1; DROP TABLE steps"]]},
        {"rows": []},
    ]
    with (filled.path / "metrics-2.jsonl").open("ab") as log:
        log.write(
            "".join(json.dumps(line) + "\n" for line in forged).encode()
            + b"[1]\n\x00\xff\n"
            + b'{"table":"steps","rows":[[2,51'
        )
    on_another_host(filled, tmp_path, monkeypatch)
    refresh_copy(filled)
    assert everything(filled.database_path)["steps"] == whole["steps"]
    assert len(everything(filled.database_path)["events"]) == len(whole["events"])


@pytest.fixture
def small_files() -> Iterator[int]:
    """Limit the size of files: a longer write is cut, then refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield 10_000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_log_that_can_not_grow_keeps_its_rows_and_no_part_of_the_failed_write(
    tmp_path: Path, small_files: int
) -> None:
    log = MetricsLog(tmp_path, 1)
    log.append([("meta", [["a", "b"]])])
    content = log.path.read_bytes()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (small_files, hard))
    for _ in range(2):
        with pytest.raises(StorageError, match=r"can't write .*metrics-1\.jsonl"):
            log.append([("meta", [["key", "long" * small_files]])])
        assert log.path.read_bytes() == content
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    log.append([("meta", [["c", "d"]])])
    log.undo()
    log.append([("meta", [["e", "f"]])])
    log.close()
    log.close()
    assert list(logged_rows(tmp_path)) == [("meta", ("a", "b")), ("meta", ("e", "f"))]


def test_a_database_lost_with_a_local_disk_is_rebuilt_before_it_is_read(
    filled: RunDirectory, local_disk: Path
) -> None:
    whole = everything(filled.database_path)
    shutil.rmtree(local_disk)
    rebuilt = repair_database(filled)
    assert rebuilt is not None
    assert (rebuilt.kept, rebuilt.steps) == (None, 50)
    assert everything(filled.database_path)["steps"] == whole["steps"]


def test_losses_after_a_checkpoint_are_known_on_another_host(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDatabase(filled.database_path, logs=filled.path) as database:
        begin(database, 50)
        write_checkpoint(filled, 50, write_model, None, {"attempt": 3})
        database.put_checkpoint(checkpoint_row(50))
        database.put_checkpoint(checkpoint_row(50, validation_loss=9.5))
        database.put_checkpoint(checkpoint_row(50, validation_loss=2.5))
    on_another_host(filled, tmp_path, monkeypatch)
    with RunReader(filled) as reader:
        assert [(row.step, row.validation_loss, row.best) for row in reader.checkpoints()] == [
            (50, 2.5, True)
        ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"id": "../../../etc", "host": "a", "folder": "/x", "why": ""}',
        '{"id": "0123456789abcdef", "host": "a"}',
    ],
)
def test_a_damaged_note_of_the_databases_place_is_reported(
    filled: RunDirectory, content: str
) -> None:
    (filled.path / POINTER_NAME).write_text(content)
    with pytest.raises(StorageError, match=r"database\.json is damaged"):
        summarize(filled)


def test_a_run_elsewhere_is_shown_with_its_status_and_step(
    filled: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_host(filled, tmp_path, monkeypatch)
    assert (summarize(filled).status, summarize(filled).step, summarize(filled).attempt) == (
        "stopped",
        50,
        2,
    )
