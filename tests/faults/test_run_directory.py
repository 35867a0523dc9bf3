"""A run's folder that is removed while its worker runs, or that can't be written: the reason is
reported and nothing is created again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlm_tui.client.control import resume
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.verify import newest_valid
from rnnlm_tui.system.locks import read_lock
from tests.faults.small_disk import unavailable
from tests.integration.runs import (
    ENDLESS,
    PATIENCE_SECONDS,
    kill,
    tiny_config,
    wait_for,
    wait_for_step,
)

pytestmark = pytest.mark.usefixtures("warm")

PYTHON = sys.executable
"""A process with permissions or disks of its own is no fork."""


def worker_of(run: RunDirectory) -> subprocess.Popen[str]:
    """A worker whose log is outside the removed folder."""
    return subprocess.Popen(
        [PYTHON, "-m", "rnnlm_tui.worker.train", str(run.path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def new_run(text: Path) -> RunDirectory:
    return create_run(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 20, "evaluation.every": 0}
        ),
        "plain-otter",
    )


def how_it_ended(worker: subprocess.Popen[str]) -> str:
    """The last lines of a worker that ended with a storage error."""
    _, said = worker.communicate(timeout=PATIENCE_SECONDS)
    assert worker.returncode == StorageError.exit_code
    return said


@pytest.mark.fault("a run's folder is removed or moved while it trains")
def test_a_run_directory_moved_away_and_back_resumes_from_its_last_checkpoint(text: Path) -> None:
    run = new_run(text)
    worker = worker_of(run)
    wait_for(lambda: list_checkpoints(run) or None, "a checkpoint")
    elsewhere = run.path.with_name("elsewhere")
    run.path.rename(elsewhere)
    said = how_it_ended(worker)
    assert (
        f"{run.path} was removed or replaced during training\nnothing was written in its place;"
        " `rnnlm-tui runs` shows what is left" in said
    )
    assert not run.path.exists()
    (elsewhere / run.log_path.name).write_text(said)  # where a launched worker's log is
    elsewhere.rename(run.path)
    summary = summarize(run)
    assert (summary.status, summary.message) == (
        "crashed",
        (
            f"its worker failed and could not store why: {run.path} was removed or replaced during"
            " training"
        ),
    )
    assert (
        f"`rnnlm-tui resume plain-otter` resumes from step {list_checkpoints(run)[-1].step}"
        in str(summary.hint)
    )
    newest, damaged = newest_valid(run)
    assert (newest is not None, damaged) == (True, [])
    resume(run)
    wait_for_step(run, list_checkpoints(run)[-1].step + 10)
    kill(run)


def on_a_read_only_disk(run: RunDirectory, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module with the run's folder mounted read-only."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(run.path), PYTHON, "-m", *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.fault("the disk is full, fails or becomes read-only")
def test_a_read_only_run_is_read_and_a_worker_refused_with_what_to_do(text: Path) -> None:
    if why := unavailable():
        pytest.skip(f"no mount of its own for this test: {why}")
    run = new_run(text)
    done = on_a_read_only_disk(run, "rnnlm_tui.worker.train", str(run.path))
    assert done.returncode == StorageError.exit_code
    assert done.stderr.startswith(
        f"can't lock {run.lock_path}: Read-only file system\nits disk is read-only: `show`,"
        " `sample` and `verify` work here; to write, copy"
    )
    assert sorted(path.name for path in run.path.iterdir()) == ["config.toml"]
    done = on_a_read_only_disk(run, "rnnlm_tui", "verify", run.name)
    assert (done.returncode, done.stderr) == (0, "")
    done = on_a_read_only_disk(run, "rnnlm_tui", "resume", run.name)
    assert done.returncode == StorageError.exit_code
    assert f"can't write {run.log_path}: Read-only file system" in done.stderr
    assert "copy plain-otter into the folder `runs` of a home on another disk" in done.stderr


def held_to_permissions(*command: str) -> list[str]:
    """A command run by a user whom file modes apply to, even if the tests run as root."""
    if os.getuid() != 0:
        return list(command)
    return [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
        *command,
    ]


@pytest.mark.parametrize(
    ("verb", "code"), [("runs", 0), ("show other", 0), ("show plain-otter", StorageError.exit_code)]
)
def test_a_run_directory_that_may_not_be_entered_is_reported_and_hides_no_other_run(
    text: Path, verb: str, code: int
) -> None:
    run = new_run(text)
    create_run(tiny_config(text), "other")
    run.path.chmod(0)
    done = subprocess.run(
        held_to_permissions(PYTHON, "-m", "rnnlm_tui", *verb.split()),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    run.path.chmod(0o700)
    assert (done.returncode, "internal error" in done.stderr) == (code, False)
    if verb == "runs":
        assert "other" in done.stdout
        assert "plain-otter" in done.stdout
        assert "can't be read" in done.stdout
    if code:
        assert f"{run.path}" in done.stderr
        assert "Permission denied" in done.stderr


@pytest.mark.fault("the disk is full, fails or becomes read-only")
def test_a_run_is_degraded_while_its_checkpoints_can_not_be_written(text: Path) -> None:
    run = new_run(text)
    run.checkpoints_path.mkdir()
    run.checkpoints_path.chmod(0o500)
    command = held_to_permissions(PYTHON, "-m", "rnnlm_tui.worker.train", str(run.path))
    with run.log_path.open("w") as log:
        worker = subprocess.Popen(command, stderr=log, start_new_session=True)
    told = wait_for(
        lambda: summarize(run).message if summarize(run).status == "degraded" else None,
        "a degraded run",
    )
    assert "not saved: can't write into checkpoints" in told
    assert "Permission denied" in told
    assert wait_for_step(run, summarize(run).step + 50)
    run.checkpoints_path.chmod(0o700)
    pid = read_lock(run.lock_path).pid
    assert pid == worker.pid
    os.kill(pid, signal.SIGUSR1)
    wait_for(lambda: summarize(run).status == "running" or None, "a checkpoint that may be written")
    assert list_checkpoints(run)
    kill(run)
    worker.wait()
