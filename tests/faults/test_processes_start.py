"""A worker that ends before its first step: reported with the cause and an exit code, never as
started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnnlm_tui.errors import WorkerError
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import wait_for, wait_until_ended


def killed_while_it_waits(run: RunDirectory, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a verb whose worker is killed as soon as it holds the run's lock."""
    before = read_lock(run.lock_path).pid
    verb = subprocess.Popen(
        [sys.executable, "-m", "rnnlm_tui", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = wait_for(
        lambda: (state := read_lock(run.lock_path)).held and state.pid != before and state.pid,
        "the worker's lock",
    )
    with RunReader(run) as reader:
        wait_for(
            lambda: (
                reader.refresh()
                and (attempts := reader.attempts())
                and attempts[-1].pid == pid
                and (state := reader.last_state())
                and state.attempt == attempts[-1].attempt
            ),
            "its attempt",
        )
    time.sleep(0.5)  # the process that started it has seen that too
    os.kill(pid, signal.SIGKILL)
    out, err = verb.communicate(timeout=90)
    return verb.returncode, out, err


@pytest.mark.fault("a worker is killed before its first step, or the queue's process at any moment")
def test_a_worker_killed_while_train_detach_waits_is_not_reported_as_started(text: Path) -> None:
    run = RunDirectory(runs_dir() / "otter")
    settings = (f"corpus.source={text}", "tokenizer.kind=character", "tokenizer.vocab_size=64")
    code, out, err = killed_while_it_waits(
        run,
        "train",
        "--name",
        "otter",
        "--detach",
        *(part for one in settings for part in ("--set", one)),
    )
    assert (code, out) == (WorkerError.exit_code, "")
    assert "otter: its worker was killed, or the machine went down" in err
    assert "`rnnlm-tui resume otter`" in err
    assert wait_until_ended(run).status == "crashed"

    code, out, err = killed_while_it_waits(run, "resume", "otter", "--detach")
    assert (code, out) == (WorkerError.exit_code, "")
    assert "otter: its worker was killed" in err
