"""A run's database that is truncated, overwritten, lost, or made by a newer version."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.recovery import check_database, open_database, repair_database

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.control import resume
from rnnlm_tui.client.monitor import RunMonitor, summarize
from rnnlm_tui.errors import DatabaseError, NewerDatabaseError, RunStateError
from rnnlm_tui.schema.protocol import CHANGED_FACT, SETTINGS_KEY
from rnnlm_tui.store.checkpoints import list_checkpoints, write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.verify import resolve_checkpoint
from rnnlm_tui.system.locks import RunLock, read_lock
from tests.faults.crash_points import crash_environment
from tests.faults.small_disk import unavailable
from tests.integration.runs import (
    kill,
    start,
    tiny_config,
    wait_for,
    wait_for_step,
    wait_until_ended,
    write_text,
)
from tests.unit.store.rows import (
    begin,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
    write_model,
)

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("warm")]

STEPS = 4_000
PAGE = 4_096
STEP_AT_STOP = 40
CHANGED = {"optimizer.learning_rate": 0.5}
"""Settings changed by `set` before the first checkpoint."""


def zeroed(content: bytes, first: int, last: int) -> bytes:
    """The file with the pages from `first` to before `last` zeroed, counted from 0."""
    return content[: first * PAGE] + bytes((last - first) * PAGE) + content[last * PAGE :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "truncated in a page": lambda content: content[: len(content) * 2 // 3 + 77],
    "its first page zeroed": lambda content: zeroed(content, 0, 1),
    "pages zeroed": lambda content: zeroed(content, 30, 40),
    "a page random": lambda content: (
        content[: 30 * PAGE] + random.Random(0).randbytes(PAGE) + content[31 * PAGE :]
    ),
    "all of it random": lambda content: random.Random(0).randbytes(len(content)),
    "all of it zeroed": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "another file": lambda content: b"metrics, once\n" * 999,
}
LOST_WHOLE = ("all of it random", "all of it zeroed", "empty", "another file")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A stopped run with steps, evaluations, samples, events, and checkpoints of steps 1,000 to
    4,000 of which 2,000 is the best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(tmp_path_factory.mktemp("filled") / "home"))
        run = new_run()
    with RunDatabase(run.database_path) as database:
        attempt = begin(database)
        for first in range(0, STEPS, 1_000):
            database.add_steps([step_row(step) for step in range(first + 1, first + 1_001)])
            database.add_evaluation(evaluation_row(first + 1_000))
            database.add_sample(sample_row(first + 1_000))
            facts = {
                "attempt": attempt,
                "validation_loss": 3.0 if first == 1_000 else 4.0,
                "train_loss": 4.5,
                "epoch": 1.0,
                "tokens_seen": 7,
                CHANGED_FACT: CHANGED,
            }
            write_checkpoint(run, first + 1_000, write_model, None, facts)
        database.add_event(event_row("running"))
        database.add_event(event_row("stopped", STEPS))
    return run


@pytest.fixture
def run(filled: RunDirectory, home: Path) -> RunDirectory:
    """A copy of it."""
    shutil.copytree(filled.path, home / "runs" / filled.name)
    return RunDirectory(home / "runs" / filled.name)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_moved_aside_and_rebuilt_from_manifests_and_readable_rows(
    run: RunDirectory, damage: str
) -> None:
    content = DAMAGES[damage](run.database_path.read_bytes())
    run.database_path.write_bytes(content)
    rebuilt = repair_database(run)
    assert rebuilt is not None
    assert rebuilt.kept is not None
    assert rebuilt.kept.name.startswith("run.db.damaged-")
    assert rebuilt.kept.read_bytes() == content
    assert check_database(run) is None
    assert repair_database(run) is None
    with RunReader(run) as reader:
        marks = [(row.step, row.best, row.last) for row in reader.checkpoints()]
        steps = list(reader.steps_since())
        series, state = reader.series(), reader.last_state()
        note = next(event for event in reader.events() if event.kind == "note")
    assert marks == [
        (1_000, False, False),
        (2_000, True, False),
        (3_000, False, False),
        (4_000, False, True),
    ]
    assert steps == [step_row(row.step) for row in steps]
    assert str(run.database_path) in note.text
    assert rebuilt.kept.name in note.text
    assert state is not None
    assert state.kind in ("stopped", "failed")
    if damage in LOST_WHOLE:
        assert steps == []
    else:
        assert len(steps) > STEPS * (0.38 if "truncated" in damage else 0.8)
        assert series.step[-1] == steps[-1].step
    if damage == "its first page zeroed":
        assert [row.step for row in steps] == list(range(1, STEPS + 1))
    summary = summarize(run)
    assert summary.status in ("stopped", "failed")
    assert (summary.checkpoints.best, summary.checkpoints.last, summary.checkpoints.count) == (
        2_000,
        4_000,
        4,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"active_seconds REAL", b"active_secondz REAL"),
        (b"gpu_watts REAL", b"\xefpu_watts REAL"),
        (b'{"threads": 2}', b'{"threads"; 2}'),
        (b"The state of", b"The \xf3tate of"),
    ],
    ids=["a column's name", "a column's name in no letters", "a text of JSON", "a letter"],
)
def test_damage_that_sqlite_does_not_see_is_reported_and_repaired_too(
    run: RunDirectory, before: bytes, after: bytes
) -> None:
    content = run.database_path.read_bytes()
    assert before in content
    run.database_path.write_bytes(content.replace(before, after))
    with pytest.raises(DatabaseError, match=r"run\.db is damaged"):
        RunMonitor(run).snapshot()
    assert repair_database(run) is not None
    snapshot = RunMonitor(run).snapshot()
    assert (snapshot.summary.status, snapshot.summary.step, snapshot.summary.checkpoints.count) == (
        "stopped",
        STEPS,
        4,
    )


WITHOUT_ROOM = """
import os, sys
from pathlib import Path
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store import recovery
from rnnlm_tui.store.paths import RunDirectory
from tests.faults.small_disk import fill

run, fills = RunDirectory(Path(sys.argv[1])), recovery._fill
def and_then_the_disk_is_full(*arguments):
    rebuilt = fills(*arguments)
    fill(run.path / "other")
    return rebuilt
recovery._fill = and_then_the_disk_is_full
try:
    recovery.repair_database(run)
except StorageError as error:
    print(error)
(run.path / "other").unlink()
recovery._fill = fills
print(recovery.repair_database(run))
"""


def test_a_rebuild_that_the_disk_has_no_space_for_changes_nothing(
    run: RunDirectory, tmp_path: Path
) -> None:
    if why := unavailable():
        pytest.skip(f"no disk of its own for this test: {why}")
    run.database_path.write_bytes(zeroed(run.database_path.read_bytes(), 0, 1))
    script = (
        'mount -t tmpfs -o size=8m none "$1" && cp -r "$2" "$1" && exec "$3" -c "$4"'
        ' "$1/plain-otter"'
    )
    (tmp_path / "disk").mkdir()
    told = subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            script,
            "sh",
            str(tmp_path / "disk"),
            str(run.path),
            sys.executable,
            WITHOUT_ROOM,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    refused, *_, rebuilt = told.stdout.splitlines() or [told.stderr]
    assert "database or disk is full" in refused
    assert "rebuilt with 4,000 steps and 4 checkpoints" in rebuilt


def test_a_missing_database_is_rebuilt_from_the_manifests(run: RunDirectory) -> None:
    run.database_path.unlink()
    rebuilt = repair_database(run)
    assert rebuilt is not None
    assert (rebuilt.kept, rebuilt.checkpoints, rebuilt.last_step) == (None, 4, 4_000)
    summary = summarize(run)
    assert (summary.status, summary.attempt) == ("failed", 1)
    assert summary.message is not None
    assert "missing" in summary.message
    with RunReader(run) as reader:
        assert json.loads(reader.meta()[SETTINGS_KEY]) == CHANGED, "a resumed run goes on with it"


def test_rows_that_are_only_in_the_write_ahead_log_of_a_damaged_database_are_kept(
    run: RunDirectory,
) -> None:
    writer = (
        "import os, sys; from pathlib import Path; from rnnlm_tui.store.database import"
        " RunDatabase; from tests.unit.store.rows import step_row\ndatabase ="
        " RunDatabase(Path(sys.argv[1])); database.add_steps([step_row(step) for step in"
        " range(4001, 4051)]); os._exit(9)"
    )
    subprocess.run(
        [sys.executable, "-c", writer, str(run.database_path)],
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.database_path.with_name("run.db-wal").stat().st_size > 0
    run.database_path.write_bytes(zeroed(run.database_path.read_bytes(), 0, 1))
    repair_database(run)
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps_since()] == list(range(1, 4_051))


REPAIR = """
import sys
from pathlib import Path
from rnnlm_tui.store.recovery import repair_database
from rnnlm_tui.store.paths import RunDirectory
repair_database(RunDirectory(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    "point",
    [
        "rebuild.inside:kill",
        "rebuild.written:kill",
        "rebuild.aside:kill",
        "rebuild.aside:kill:2",
        "rebuild.inside:ENOSPC",
    ],
)
def test_a_rebuild_that_is_interrupted_anywhere_is_completed(run: RunDirectory, point: str) -> None:
    content = zeroed(run.database_path.read_bytes(), 0, 1)
    run.database_path.write_bytes(content)
    run.database_path.with_name("run.db-wal").write_bytes(b"an old log")
    environment = {**os.environ, **crash_environment(point)}
    broken = subprocess.run(
        [sys.executable, "-c", REPAIR, str(run.path)],
        check=False,
        capture_output=True,
        env=environment,
    )
    assert broken.returncode != 0
    assert check_database(run) is not None
    open_database(run).close()
    assert check_database(run) is None
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps_since()] == list(range(1, STEPS + 1))
    kept = [
        path.read_bytes()
        for path in sorted(run.path.glob("run.db.damaged-*"))
        if not path.name.endswith(("-wal", "-shm"))
    ]
    assert kept == [content]


def test_a_damaged_database_is_left_alone_while_a_worker_holds_the_run(run: RunDirectory) -> None:
    run.database_path.write_bytes(b"damaged" * 999)
    with (
        RunLock(run.lock_path),
        pytest.raises(RunStateError, match=r"run\.db is damaged.*running as pid") as caught,
    ):
        repair_database(run)
    assert "verify" in caught.value.hint
    assert run.database_path.read_bytes() == b"damaged" * 999


def test_a_database_of_a_newer_version_is_reported_and_not_changed(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(run.database_path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    for ask in (check_database, repair_database, open_database, summarize, resume):
        with pytest.raises(NewerDatabaseError, match="made by a newer version"):
            ask(run)
    for verb in ("show", "resume", "metrics"):
        assert command([verb, run.name]) == DatabaseError.exit_code
        said = capsys.readouterr()
        assert "made by a newer version of rnnlm-tui: its schema is 99" in said.err
        assert "update rnnlm-tui" in said.err
        assert "Traceback" not in said.out + said.err
    worker = subprocess.run(
        [sys.executable, "-m", "rnnlm_tui.worker.train", str(run.path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert worker.returncode == DatabaseError.exit_code
    assert "made by a newer version" in worker.stderr
    assert {
        name: (run.path / name).read_bytes() for name in before if name != "worker.lock"
    } == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A home with a run killed after its checkpoint of step 20, and the final weights of an
    undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        config = tiny_config(write_text(folder / "text.txt"), {"evaluation.prompts": []})
        whole = start(config, "whole")
        long = start(
            tiny_config(folder / "text.txt", {"evaluation.prompts": [], "training.max_steps": 60}),
            "broken",
        )
        wait_for(lambda: list_checkpoints(long) or None, "the checkpoint of step 20")
        if read_lock(long.lock_path).held:
            kill(long)
        assert wait_until_ended(whole).status == "finished"
        return folder / "home", (resolve_checkpoint(whole, "60") / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["all of it random", "truncated"])
def test_a_run_with_a_damaged_database_resumes_to_the_same_weights(
    undisturbed: tuple[Path, bytes],
    damage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, weights = undisturbed
    shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "copy"))
    run = RunDirectory(tmp_path / "copy" / "runs" / "broken")
    saved = list_checkpoints(run)[-1].step
    RunDatabase(
        run.database_path
    ).close()  # checkpoint the write-ahead log first: it would heal the truncated file
    run.database_path.write_bytes(DAMAGES[damage](run.database_path.read_bytes()))
    assert command(["show", "broken"]) == DatabaseError.exit_code
    said = capsys.readouterr().err
    assert "run.db is damaged" in said
    assert "rnnlm-tui resume broken" in said
    assert command(["resume", "broken", "--detach"]) == 0
    assert wait_until_ended(run).status == "finished"
    assert (resolve_checkpoint(run, "60") / "model.safetensors").read_bytes() == weights
    with RunReader(run) as reader:
        assert reader.attempts()[-1].start_step == saved
        assert any(
            "damaged" in event.text and "run.db.damaged-" in event.text for event in reader.events()
        )
        assert {row.step for row in reader.steps_since()} >= set(range(saved + 1, 61))


def test_verify_rebuilds_a_damaged_database_and_says_so(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.database_path.write_bytes(DAMAGES["its first page zeroed"](run.database_path.read_bytes()))
    assert command(["verify", run.name]) == DatabaseError.exit_code
    said = capsys.readouterr()
    assert "run.db is damaged" in said.out
    assert "run.db.damaged-" in said.out
    assert "rebuilt with 4,000 steps and 4 checkpoints" in said.out
    assert "Traceback" not in said.out + said.err
    assert command(["verify", run.name]) == 0
    assert "database: ok" in capsys.readouterr().out


def test_a_database_damaged_while_its_worker_runs_is_rebuilt_by_the_next_resume(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": 150, "checkpoint.every": 20, "evaluation.every": 0}
        ),
        "living",
    )
    wait_for_step(run, 25)
    with run.database_path.open("r+b") as file:
        file.write(b"\xa5" * run.database_path.stat().st_size)
    wait_for(lambda: not read_lock(run.lock_path).held, "the worker's end")
    assert check_database(run) is not None
    assert command(["show", "living"]) == DatabaseError.exit_code
    said = capsys.readouterr().err
    assert "run.db is damaged" in said
    assert "`rnnlm-tui resume living`" in said
    assert command(["resume", "living", "--detach"]) == 0
    assert wait_until_ended(run).status == "finished"
    with RunReader(run) as reader:
        begun = reader.attempts()[-1].start_step
        assert begun >= 20, "from its newest checkpoint"
        assert [row.step for row in reader.steps_since(begun)] == list(range(begun + 1, 151))
        assert any("run.db.damaged-" in event.text for event in reader.events())


def test_a_run_with_a_damaged_database_is_listed_as_damaged_with_what_to_do(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.database_path.write_bytes(DAMAGES["all of it random"](run.database_path.read_bytes()))
    assert command(["runs"]) == 0
    said = capsys.readouterr()
    assert re.search("plain-otter +damaged database +– +– +–", said.out)
    assert "lost contact" not in said.out
    assert (
        f"{run.database_path} is damaged: it is no longer a database; `rnnlm-tui verify"
        " plain-otter`" in said.err
    )
    assert command(["runs", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["status"], found["unreadable"]) == ("lost", "damaged database")
    assert "`rnnlm-tui verify plain-otter`" in found["hint"]


def test_a_rebuilt_run_is_at_its_newest_checkpoint_and_reports_each_event_once(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.database_path.write_bytes(DAMAGES["all of it zeroed"](run.database_path.read_bytes()))
    assert command(["verify", run.name]) == DatabaseError.exit_code
    said = capsys.readouterr()
    told = said.out + said.err
    assert told.count("run.db is damaged") == 1
    assert "malformed" not in told
    assert "the database of plain-otter was damaged" in said.err
    assert "it was rebuilt: `rnnlm-tui show plain-otter`" in said.err
    summary = summarize(run)
    assert (summary.status, summary.step, summary.epoch, summary.tokens_seen) == (
        "failed",
        4_000,
        1.0,
        7,
    )
    assert (
        summary.message
        == "the run's last events were lost: its database was damaged and has been rebuilt"
    )
    assert summary.hint == "`rnnlm-tui resume plain-otter` resumes from step 4,000"
    assert command(["show", run.name]) == 0
    shown = capsys.readouterr().out
    assert "4,000" in shown
    assert "run.db is damaged" not in shown
    assert re.search(r"trained for +7 tokens, epoch 1\.0", shown)
