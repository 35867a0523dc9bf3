"""Every file in the home is private to its owner and stays inside the home, whatever the umask and
the links in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.control import launch, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.index import index_folder, index_path
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.state import append_history, save_state
from rnnlm_tui.store.trash import delete_run, purge_deleted
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.terminal import log_traceback
from tests.integration.runs import ENDLESS, start, tiny_config, wait_for_step
from tests.unit.store.rows import begin, new_run, write_model

pytestmark = pytest.mark.fault("other users, a permissive umask, links")


@pytest.fixture(params=[0o000, 0o777], ids=["umask 000", "umask 777"])
def umask(request: pytest.FixtureRequest, text: Path) -> Iterator[None]:
    """A umask that grants everything or nothing; the text exists before."""
    old = os.umask(request.param)
    yield
    os.umask(old)


def modes(home: Path) -> dict[str, str]:
    """Files that others may access, or that their owner can't."""
    wanted = {stat.S_IFDIR: 0o700, stat.S_IFREG: 0o600, stat.S_IFSOCK: 0o600}
    found = {path: path.lstat().st_mode for path in (home, *home.rglob("*"))}
    return {
        str(path): oct(mode)
        for path, mode in found.items()
        if wanted.get(stat.S_IFMT(mode)) != stat.S_IMODE(mode)
    }


@pytest.mark.usefixtures("warm", "umask")
def test_everything_that_a_run_writes_is_0700_and_0600_whatever_the_umask(
    text: Path, home: Path, tmp_path: Path
) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": ENDLESS,
                "checkpoint.every": 10,
                "evaluation.every": 10,
                "model.tie_weights": False,
            },
        ),
        "private",
    )
    wait_for_step(run, 12)
    send(run, "snapshot")
    save_state({"run": "private"})
    append_history("The cat")
    log_traceback(ValueError("told"))
    living = {path.name for path in home.rglob("*")}
    assert modes(home) == {}
    send(run, "stop")
    exported = ["export", "private", str(tmp_path / "exported"), "--format", "book"]
    assert command(exported) == 0
    assert modes(tmp_path / "exported") == {}
    assert modes(index_folder()) == {}
    delete_run(run)
    everything = {path.name for path in home.rglob("*")}
    assert modes(home) == {}
    assert living >= {
        "000001.jsonl",
        "config.toml",
        "worker.lock",
        "worker.log",
        "control.sock",
        "snapshots",
        "model.safetensors",
    }
    assert living >= {
        "app-state.json",
        "prompt-history.jsonl",
        "app.log",
        "corpora",
        "train.bin",
        "tokenizer.json",
    }
    assert {"trash", "runs"} < everything


@pytest.mark.parametrize("place", ["trash", "checkpoints"])
def test_no_checkpoint_is_moved_through_a_link_in_its_run(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run()
    for step in (100, 200, 300):
        write_checkpoint(run, step, write_model, None, {})
    target = tmp_path / "elsewhere"
    if place == "trash":
        (target / "step-000000050.0000000001.01234567").mkdir(parents=True)
    else:
        run.checkpoints_path.rename(target)
    (run.path / place).symlink_to(target)
    before = sorted(target.rglob("*"))
    verbs = [["delete", "plain-otter@100"], ["prune", "plain-otter", "--keep-last", "2", "--yes"]]
    if place == "checkpoints":
        verbs += [["average", "plain-otter", "--last", "2", "--keep"]]
    for verb in verbs:
        assert command(verb) == StorageError.exit_code, verb
        assert "is a symbolic link" in capsys.readouterr().err
    assert purge_deleted(run) == 0
    assert sorted(target.rglob("*")) == before
    assert command(["trash"]) == 0  # one such run doesn't hide the others


@pytest.mark.parametrize(
    "place", ["checkpoints", "snapshots", "worker.log", "worker.lock", "log", "config.toml"]
)
def test_nothing_is_written_or_removed_through_a_link_in_a_run(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run()
    target = tmp_path / "elsewhere"
    if place in ("checkpoints", "snapshots", "log"):
        target.mkdir()
        (target / ".tmp-precious").write_text("precious")
    else:
        target.write_bytes(
            (run.path / place).read_bytes() if (run.path / place).exists() else b"precious"
        )
    (run.path / place).unlink(missing_ok=True)
    (run.path / place).symlink_to(target)
    before = {
        path: path.read_bytes() for path in tmp_path.rglob("elsewhere*") if path.is_file()
    } | dict.fromkeys(target.glob("*"), b"")
    with pytest.raises(StorageError, match=f"{place} is a symbolic link"):
        launch(run)
    assert command(["resume", run.name]) == StorageError.exit_code
    assert "is a symbolic link" in capsys.readouterr().err
    assert {
        path: path.read_bytes() for path in tmp_path.rglob("elsewhere*") if path.is_file()
    } | dict.fromkeys(target.glob("*"), b"") == before


def test_a_lock_log_or_index_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    run = new_run()
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    run.lock_path.symlink_to(target)
    with pytest.raises(StorageError, match=r"worker\.lock") as caught:
        RunLock(run.lock_path).acquire()
    assert "link" in caught.value.hint
    begin(run).close()
    (run.logs_path / "000002.jsonl").symlink_to(target)
    with pytest.raises(StorageError, match=r"000002\.jsonl"):
        RunLog(run, 2)
    index_path(run).parent.mkdir(parents=True, mode=0o700)
    index_path(run).symlink_to(target)
    assert summarize(run).attempt == 1
    assert target.read_bytes() == b"precious"
