"""Where an export may be written, and what is left when its process fails; the process is faked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest

from rnnlm_tui.client.export import Exported, check_target, export_checkpoint, import_book
from rnnlm_tui.errors import (
    InputError,
    RnnlmError,
    RunNameError,
    StorageError,
    WorkerError,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.exports import MARKER_NAME
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system import disk
from tests.unit.store.rows import write_model

FAKE = """
import json, os, pathlib, signal, sys, time
asked = json.loads(sys.stdin.read())
folder = pathlib.Path(asked["target"])
print("a library says hello", flush=True)
print(json.dumps({"kind": "TaskProgress", "phase": "writing"}), flush=True)
(folder / "model.bin").write_bytes(b"12345")
ACTION
marker = {"rnnlm_export": 1, "format": asked["format"], "run": "r", "step": 5, "created": 1.0,
          "rnnlm_version": "1", "files": {"model.bin": {"size": 5, "sha256": "0" * 64}}}
(folder / "rnnlm_export.json").write_text(json.dumps(marker))
print(json.dumps({"kind": "ExportDone", "step": 5, "logits_compared": 1, "largest_difference": 0.0,
                  "greedy_tokens": 50}), flush=True)
"""


def fake(action: str = "") -> list[str]:
    """A process with the export's protocol."""
    return [sys.executable, "-c", FAKE.replace("ACTION", action)]


def failing(message: str, exit_code: int) -> list[str]:
    answer = json.dumps(
        {"kind": "TaskFailed", "message": message, "hint": "h", "exit_code": exit_code}
    )
    return fake(f"print({answer!r}, flush=True); sys.exit({exit_code})")


@pytest.fixture
def run() -> RunDirectory:
    found = create_run(RunConfig(), "plain-otter")
    write_checkpoint(found, 5, write_model, None, {})
    return found


def running(command: list[str]) -> AbstractContextManager[object]:
    """Inside the block, exports and imports start this process."""
    return patch("rnnlm_tui.client.child.python_command", lambda *_: command)


def export(run: RunDirectory, target: Path, command: list[str], **options: object) -> Exported:
    checkpoint = run.checkpoints_path / "step-000000005"
    with running(command):
        return export_checkpoint(run, checkpoint, target, "hf", **options)  # type: ignore[arg-type]


def test_a_complete_folder_gets_its_name_and_the_checkpoint_its_mark(
    run: RunDirectory, tmp_path: Path
) -> None:
    phases: list[str] = []
    target = tmp_path / "out"
    exported = export(run, target, fake(), report=lambda progress: phases.append(progress.phase))
    assert phases == ["writing"]
    assert sorted(path.name for path in target.iterdir()) == ["model.bin", MARKER_NAME]
    assert exported.files == ("model.bin", MARKER_NAME)
    assert [(one.step, one.folder) for one in read_labels(run).exports] == [(5, str(target))]


class Stop(Exception):  # noqa: N818
    """Raised by a caller that doesn't want the export any more."""


def stop(_: TaskProgress) -> None:
    raise Stop


@pytest.mark.faults
@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (failing("no space left on the disk", 5), StorageError, "no space left on the disk"),
        (failing("differs", 4), WorkerError, "differs"),
        (fake("os.kill(os.getpid(), signal.SIGKILL)"), WorkerError, "memory ran out"),
        (fake("sys.exit('something odd')"), WorkerError, r"exit code 1\): something odd"),
        (fake("os._exit(0)"), WorkerError, "exit code 0"),
    ],
    ids=["refused", "differs", "killed", "died", "silent"],
)
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_of_an_export_that_fails(
    command: list[str],
    error: type[RnnlmError],
    message: str,
    force: bool,
    run: RunDirectory,
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if force:
        export(run, place / "out", fake())
        (place / "out" / "model.bin").write_bytes(b"older")
    before = sorted(path.name for path in place.rglob("*"))
    known = read_labels(run).exports
    with pytest.raises(error, match=message):
        export(run, place / "out", command, force=force)
    assert sorted(path.name for path in place.rglob("*")) == before
    assert read_labels(run).exports == known
    assert not force or (place / "out" / "model.bin").read_bytes() == b"older"


@pytest.mark.faults
def test_a_caller_that_stops_ends_the_process_and_leaves_nothing(
    run: RunDirectory, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    action = f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    place = tmp_path / "place"
    place.mkdir()

    def stop_when_started(_: TaskProgress) -> None:
        while not (pid.exists() and pid.read_text()):
            pass
        raise Stop

    with pytest.raises(Stop):
        export(run, place / "out", fake(action), report=stop_when_started)
    assert list(place.iterdir()) == []
    assert not Path(f"/proc/{pid.read_text()}").exists()


KILLED = {
    "export": """
from rnnlm_tui.store.runs import find_run
run = find_run("plain-otter")
checkpoint = run.checkpoints_path / "step-000000005"
export_checkpoint(run, checkpoint, place / "out", "hf")
""",
    "import": """
import_book(place / "model.pth", tokenizer="x")
""",
}


@pytest.mark.fault("an export, import, archive or average is killed")
@pytest.mark.faults
@pytest.mark.parametrize("verb", KILLED)
def test_the_files_of_a_killed_export_or_import_are_removed_by_the_next(
    verb: str, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place := tmp_path / "place").mkdir()
    (temporary := tmp_path / "temporary").mkdir()
    (place / "model.pth").write_bytes(b"PK")
    monkeypatch.setenv("TMPDIR", str(temporary))
    waiting = (
        "from rnnlm_tui.system.processes import end_with_parent; end_with_parent();"
        f" pathlib.Path({str(tmp_path / 'waits')!r}).touch(); time.sleep(600)"
    )
    start = (
        "from pathlib import Path; from rnnlm_tui.client import child, export;"
        f" child.python_command = lambda *_: {fake(waiting)!r}; place = Path({str(place)!r});"
        " export_checkpoint, import_book = export.export_checkpoint, export.import_book"
    )
    with subprocess.Popen([sys.executable, "-c", start + KILLED[verb]]) as process:
        while not (tmp_path / "waits").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    if verb == "export":
        export(run, place / "after", fake())
    else:
        with pytest.raises(StorageError, match="refused"), running(failing("refused", 5)):
            import_book(place / "model.pth", tokenizer="x")
    places = (place, temporary, runs_dir())
    left = {path.name for folder in places for path in folder.iterdir()}
    assert left - {"after"} == {"model.pth", run.name}


@pytest.mark.faults
def test_a_full_disk_is_refused_with_need_and_have(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 100)
    with pytest.raises(StorageError, match=r"an export of this size needs .* only 100 B are"):
        export(run, tmp_path / "out", fake())
    assert not (tmp_path / "out").exists()


def make_export(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"12345")
    files = {"model.bin": {"size": 5, "sha256": "0" * 64}}
    marker = {"format": "hf", "run": "old-otter", "step": 1, "created": 1, "rnnlm_version": "1"}
    (folder / MARKER_NAME).write_text(json.dumps({"rnnlm_export": 1, **marker, "files": files}))


def test_only_an_empty_folder_or_with_force_an_export_is_a_target(tmp_path: Path) -> None:
    check_target(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    make_export(tmp_path / "export")
    for name, message in (("file", "is a file"), ("link", "is a link")):
        for force in (False, True):
            with pytest.raises(InputError, match=message):
                check_target(tmp_path / name, force=force)
    with pytest.raises(InputError, match="is not empty") as refusal:
        check_target(tmp_path / "full")
    assert "--force" not in refusal.value.hint
    with pytest.raises(InputError, match=r"is not an export .* so --force doesn't replace it"):
        check_target(tmp_path / "full", force=True)
    with pytest.raises(InputError, match="is not empty") as refusal:
        check_target(tmp_path / "export")
    assert "replace this export of old-otter with --force" in refusal.value.hint
    check_target(tmp_path / "export", force=True)
    (tmp_path / "export" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"1 file that was added later: notes\.txt"):
        check_target(tmp_path / "export", force=True)
    with pytest.raises(StorageError, match="folder not found"):
        check_target(tmp_path / "no" / "folder")


@pytest.mark.faults
@pytest.mark.parametrize("content", ["", "{}", '{"rnnlm_export": 2}', "[" * 10_000])
def test_a_foreign_file_named_like_our_list_makes_no_export(content: str, tmp_path: Path) -> None:
    (tmp_path / MARKER_NAME).write_text(content)
    with pytest.raises(InputError, match="is not an export"):
        check_target(tmp_path, force=True)


def test_an_import_is_refused_before_its_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.export.run_child", None)
    file = tmp_path / "model.pth"
    with pytest.raises(StorageError, match="is missing, not a state dict"):
        import_book(file)
    file.write_bytes(b"PK")
    with pytest.raises(InputError, match="a state dict holds weights alone") as refusal:
        import_book(file)
    assert "--tokenizer" in refusal.value.hint
    with pytest.raises(StorageError, match="is a folder"):
        import_book(tmp_path)
    with pytest.raises(RunNameError, match="invalid run name"):
        import_book(file, "../x")
    create_run(RunConfig(), "plain-otter")
    with pytest.raises(RunNameError, match="already exists"):
        import_book(file, "plain-otter", tokenizer="x")


@pytest.mark.faults
def test_a_refused_import_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"PK")
    refusing = failing("model.pth is damaged", StorageError.exit_code)
    with pytest.raises(StorageError, match="is damaged"), running(refusing):
        import_book(tmp_path / "model.pth", tokenizer=str(tmp_path))
    assert list_runs() == []
