"""A worker and other processes: signals, a second worker, its parent, and children that end with
their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.client.control import WORKER_SETTINGS, resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.system.processes import child_environment, python_command
from rnnlm_tui.worker.commands import EXIT_KILLED
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import (
    ENDLESS,
    PATIENCE_SECONDS,
    start,
    tiny_config,
    wait_for,
    wait_for_step,
)

QUIET: dict[str, object] = {
    "training.max_steps": ENDLESS,
    "checkpoint.every": 0,
    "evaluation.every": 0,
}
"""A run that only trains, until it is stopped."""
SLOW: dict[str, object] = {
    **QUIET,
    "training.batch_size": 64,
    "training.bptt": 128,
    "model.hidden_size": 192,
    "model.embedding_dim": 192,
}
"""A step takes about a tenth of a second: long compared with a signal's delivery."""


@contextmanager
def worker_of(run: RunDirectory) -> Iterator[subprocess.Popen[bytes]]:
    """The run's worker as a child process, for its exit code; killed if a failed test leaves it."""
    command = python_command("rnnlm_tui.worker.train", str(run.path))
    with subprocess.Popen(
        command, env=child_environment(WORKER_SETTINGS), stderr=subprocess.DEVNULL
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def wait_until_running(run: RunDirectory, step: int) -> None:
    """Wait until the worker trains and has done this many steps."""

    def there() -> bool:
        if not read_lock(run.lock_path).held:
            return False
        answer = send(run, "status")
        return answer.status == "running" and answer.step >= step

    wait_for(there, f"step {step}")


@pytest.mark.fault("SIGTERM or SIGUSR1 to the worker")
def test_sigterm_checkpoints_within_a_step_and_exits_with_0(text: Path) -> None:
    run = create_run(tiny_config(text, SLOW))
    with worker_of(run) as worker:
        wait_until_running(run, 2)
        worker.send_signal(signal.SIGTERM)
        sent = time.time()
        assert worker.wait(PATIENCE_SECONDS) == 0
    summary = summarize(run)
    assert summary.status == "stopped"
    assert checkpoint_path(run, "last").name == f"step-{summary.step:09d}"
    with RunReader(run) as reader:
        later = [row for row in reader.recent_steps(100) if row.time > sent]
    assert len(later) <= 5, (
        "the step in which it came, one that ended while it came, and those of a busy machine until"
        " the signal was heard"
    )


@pytest.mark.fault("SIGTERM or SIGUSR1 to the worker")
def test_a_second_sigterm_exits_at_once_and_the_run_resumes(text: Path, workers: Workers) -> None:
    run = create_run(
        tiny_config(text, {**SLOW, "training.batch_size": 512})
    )  # a step takes a second: both signals arrive within one
    with worker_of(run) as worker:
        wait_until_running(run, 0)
        worker.send_signal(signal.SIGTERM)
        wait_for(
            lambda: worker.poll() is not None or not is_pending(worker.pid, signal.SIGTERM),
            "the first signal to arrive",
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == EXIT_KILLED
    assert not read_lock(run.lock_path).held
    assert summarize(run).status == "crashed"
    with warm_starts(workers):
        resume(run)
    assert send(run, "stop").ok
    assert summarize(run).status == "stopped"


HEAVY: dict[str, object] = {
    "training.data_mode": "sentences",
    "training.context_length": 257,
    "training.batch_size": 500,
    "model.cell_type": "lstm",
    "model.embedding_dim": 512,
    "model.hidden_size": 512,
    "model.num_layers": 2,
    "evaluation.every": 0,
}
"""A step takes a minute: 128,000 tokens forward and backward, whole layers at a time in torch."""


@pytest.mark.usefixtures("warm")
@pytest.mark.fault("SIGTERM or SIGUSR1 to the worker")
def test_a_stop_while_the_largest_step_is_tried_interrupts_it(text: Path) -> None:
    run = create_run(tiny_config(text, HEAVY), "heavy")
    with worker_of(run) as worker:
        wait_for(
            lambda: (shown := summarize(run).preparing) is not None and shown.phase == "rehearsing",
            "the rehearsal",
        )
        with pytest.raises(RunStateError, match="still preparing"):
            send(run, "pause")
        answer = send(run, "stop")
        assert (answer.ok, answer.checkpoint) == (True, "")
        assert worker.wait(PATIENCE_SECONDS) == 0
    with RunReader(run) as reader:
        facts, kinds = reader.facts(), [event.kind for event in reader.events()]
    assert facts.rehearsed_seconds is None, "the step had not ended"
    assert (kinds[0], kinds.count("stopped"), "failed" in kinds) == ("stopped", 1, False)
    assert not read_lock(run.lock_path).held
    assert not Path(facts.socket).exists()
    assert summarize(run).status == "stopped"


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a pending signal."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return any(
        int(line.split()[1], 16) >> (number - 1) & 1
        for line in lines
        if line.startswith(("SigPnd", "ShdPnd"))
    )


@pytest.mark.usefixtures("warm")
@pytest.mark.fault("SIGTERM or SIGUSR1 to the worker")
def test_sigusr1_saves_a_checkpoint_and_the_run_survives_sighup(text: Path) -> None:
    run = start(tiny_config(text, QUIET))
    wait_for_step(run, 5)
    pid = read_lock(run.lock_path).pid
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    os.kill(pid, signal.SIGUSR1)
    saved = wait_for(
        lambda: [entry.step for entry in list_checkpoints(run)] or None, "the checkpoint of SIGUSR1"
    )
    wait_for_step(run, saved[0] + 20)
    assert summarize(run).status == "running"


PARENTS = {
    "the sampler": (
        """
import asyncio, psutil, time
from rnnlm_tui.client.sampler import SamplerClient
async def main():
    client = SamplerClient()
    await client.start()
    print(psutil.Process().children()[0].pid, flush=True)
    time.sleep(600)
asyncio.run(main())
"""
    ),
    "the comparison of an export": (
        """
import psutil, sys, threading, time
from pathlib import Path
from rnnlm_tui.worker.export_comparison import examine_in_child
asked = [{"folder": "nowhere", "out": "nowhere"}]
threading.Thread(target=examine_in_child, args=(asked, Path(sys.argv[1]))).start()
children = psutil.Process().children
def has_begun(child):  # until it runs its own program, it has this one's torch
    return "-I" in child.cmdline() and any("torch" in one.path for one in child.memory_maps())
while not children() or not has_begun(children()[0]):
    time.sleep(0.01)
print(children()[0].pid, flush=True)
"""
    ),
}
"""Each starts one child and prints its pid after the child's first message, or its slow imports
have begun."""


@pytest.mark.fault("the terminal closes, the app is killed or stopped")
@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
@pytest.mark.parametrize("child", PARENTS)
def test_a_child_ends_with_its_killed_parent_even_if_it_reads_nothing(
    child: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENTS[child], str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        try:
            process.suspend()  # like a long import: it doesn't notice the end of its stdin
            parent.kill()
            parent.wait()
            wait_for(
                lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
                "the child's end",
            )
        finally:
            parent.kill()
            with suppress(psutil.NoSuchProcess):
                process.kill()
