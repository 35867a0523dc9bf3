"""The queue with all terminals closed: its process killed at every stage, and a run that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.client.queue import entries
from rnnlm_tui.store.paths import RunDirectory, queue_lock, queue_log, runs_dir
from rnnlm_tui.store.queue import change_queue, read_queue
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from tests.faults.crash_points import crash_environment
from tests.integration.runs import wait_for
from tests.terminal import Terminal

pytestmark = pytest.mark.fault(
    "a worker is killed before its first step, or the queue's process at any moment"
)

NAMES = ("first", "second", "third")
SETTINGS = (
    *("tokenizer.kind=character", "tokenizer.vocab_size=64", "model.hidden_size=16"),
    *("model.embedding_dim=16", "training.batch_size=4", "training.bptt=16", "training.device=cpu"),
    *("training.max_steps=30", "evaluation.every=0", "checkpoint.every=0", "training.threads=1"),
)


@pytest.fixture(autouse=True)
def no_queue_stays(home: Path) -> Iterator[None]:
    """Kill a queue's process that a failed test left running."""
    yield
    state = read_lock(queue_lock())
    if state.held and state.pid is not None:
        os.kill(state.pid, signal.SIGKILL)


def in_a_terminal(*arguments: str) -> str:
    """Run a verb in a terminal that closes as soon as the verb ends; what it printed."""
    with Terminal([sys.executable, "-m", "rnnlm_tui", *arguments], columns=200) as terminal:
        assert terminal.wait(90) == 0, terminal.text
        return terminal.raw.decode()


def killed_at(point: str) -> int:
    """Run the queue's process until it is killed at this point; its exit code."""
    process = subprocess.run(
        [sys.executable, "-m", "rnnlm_tui.client.queue_process"],
        env={**os.environ, **crash_environment(f"{point}:kill:1")},
        capture_output=True,
        timeout=90,
        check=False,
        start_new_session=True,
    )
    return process.returncode


def queued() -> list[str]:
    return [entry.run for entry in read_queue().entries]


def attempts(name: str) -> list[float]:
    with RunReader(RunDirectory(runs_dir() / name)) as reader:
        return [attempt.started for attempt in reader.attempts()]


def test_three_runs_end_one_after_the_other_with_all_terminals_closed(
    tmp_path: Path, text: Path
) -> None:
    """The second one's text is gone. The queue's process is killed when it has just started a
    worker, before and after it has recorded an end, and while a run trains."""
    gone = tmp_path / "gone.txt"
    gone.write_bytes(text.read_bytes())
    in_a_terminal("queue", "pause")
    for name in NAMES:
        source = f"corpus.source={gone if name == 'second' else text}"
        options = [part for one in (source, *SETTINGS) for part in ("--set", one)]
        in_a_terminal("queue", "add", "--name", name, *options)
    gone.unlink()
    change_queue(lambda queue: queue.model_copy(update={"paused": False}))

    assert killed_at("worker.spawned") == -signal.SIGKILL
    assert queued() == [*NAMES]
    assert killed_at("queue.unwritten") == -signal.SIGKILL
    assert queued() == [*NAMES]
    assert killed_at("queue.written") == -signal.SIGKILL
    assert queued() == ["second", "third"]

    first = json.loads(in_a_terminal("queue", "list", "--json"))["process"]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not read_lock(queue_lock()).held, "the end of the killed process")
    in_a_terminal("queue")
    wait_for(lambda: not read_queue().entries, "the end of the queue")

    ended = {run.run: run for run in reversed(entries().ended)}
    assert list(ended) == list(NAMES)
    assert [run.outcome for run in ended.values()] == ["finished", "failed", "finished"]
    assert f"{gone} not found" in ended["second"].message
    assert [len(attempts(name)) for name in NAMES] == [1, 1, 1]
    starts = [attempts(name)[0] for name in NAMES]
    ends = [ended[name].ended or 0.0 for name in NAMES]
    assert starts[0] < ends[0] <= starts[1] < ends[1] <= starts[2] < ends[2]
    wait_for(lambda: not read_lock(queue_lock()).held, "the end of the queue's process")
    assert "nothing left to start" in queue_log().read_text()
