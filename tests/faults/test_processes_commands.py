"""Commands never act in a later attempt than the one they were sent to."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnnlm_tui.client.control import resume
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.protocol import Command, encode_line
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import ENDLESS, kill, start, tiny_config, wait_for_step

pytestmark = [pytest.mark.usefixtures("warm"), pytest.mark.fault("two apps on one run")]


@pytest.fixture
def run(text: Path) -> RunDirectory:
    """A run that only trains."""
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 0, "evaluation.every": 0}
        )
    )
    wait_for_step(run, 5)
    return run


@contextmanager
def connected(run: RunDirectory) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(run.socket_path))
        yield connection


def journalled(run: RunDirectory) -> list[str]:
    with RunReader(run) as reader:
        return [row.id for row in reader.commands()]


def test_commands_that_a_killed_worker_had_not_read_never_act(run: RunDirectory) -> None:
    worker = read_lock(run.lock_path).pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    with connected(run) as connection:
        connection.sendall(
            b"".join(
                encode_line(Command(id=verb, verb=verb)) for verb in ("pause", "checkpoint", "stop")
            )
        )
        kill(run)
        resume(run)
        wait_for_step(run, 5)
        wait_for_step(run, summarize(run).step + 20)
    assert summarize(run).status == "running"
    assert journalled(run) == []
    assert not list((run.path / "checkpoints").glob("step-*"))
