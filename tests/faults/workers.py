"""Real workers and commands that start fast: one process imports everything once, and each of them
is a fork of it."""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.processes import child_environment
from tests.faults.crash_points import install
from tests.faults.warm_python import (
    StartedWorker,
    be_command,
    import_commands,
    receive,
    write_program,
)
from tests.unit.engine.builders import built_model

START_SECONDS, END_SECONDS = 120.0, 300.0
POLL_SECONDS = 0.005


class Workers:
    """Start workers and return their exit codes."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        address = self._folder / "socket"
        self.python = self._folder / "python"
        """A program that runs `-m MODULE …` as a fork; see `warm_python`."""
        write_program(self.python, address)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.workers", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=child_environment(WORKER_SETTINGS),
                pass_fds=[listener.fileno()],
            )
        self._started = SimpleQueue[int]()
        self._ended: dict[int, int] = {}
        self._news = threading.Condition()
        self._newest = 0
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        """The pid of the process that the workers are forked from."""
        return self._process.pid

    def work(
        self, run: RunDirectory, crash: str = "", *, environment: Mapping[str, str] | None = None
    ) -> int:
        """Run one attempt to its end; the exit code, negative for a signal.

        Args:
            crash: where and how the worker crashes; see `crash_points.install`.
        """
        self.start(run, crash, environment=environment)
        return self.wait()

    def start(
        self, run: RunDirectory, crash: str = "", *, environment: Mapping[str, str] | None = None
    ) -> int:
        """Start one attempt; the worker's pid."""
        assert self._process.stdin is not None
        folders = ("RNNLM_TUI_HOME", "XDG_CACHE_HOME")
        own = {name: os.environ[name] for name in folders if name in os.environ}
        os.umask(umask := os.umask(0o077))
        wish = {
            "run": str(run.path),
            "crash": crash,
            "environment": {**own, **(environment or {})},
            "umask": umask,
        }
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        self._newest = self._started.get(timeout=START_SECONDS)
        return self._newest

    def wait(self) -> int:
        """Wait for the end of the newest worker; the exit code, negative for a signal."""
        code = self.exit_code(self._newest, END_SECONDS)
        assert code is not None, f"worker {self._newest} did not end"
        return code

    def exit_code(self, pid: int, seconds: float = 0.0) -> int | None:
        """The exit code of a worker; None if it doesn't end within `seconds`."""
        with self._news:
            self._news.wait_for(lambda: pid in self._ended, seconds)
            return self._ended.get(pid)

    def start_ranks(
        self, runs: Sequence[RunDirectory], crashes: Sequence[str] = ("", "")
    ) -> tuple[int, ...]:
        """Start the processes of one attempt as a launcher such as torchrun does; their pids.

        Args:
            runs: the folder that each process has, the run's or a copy of it.
            crashes: where and how each crashes.
        """
        together = zip(runs, crashes, launch_variables(len(runs)), strict=True)
        return tuple(
            self.start(run, crash, environment=variables) for run, crash, variables in together
        )

    def work_together(self, run: RunDirectory, *crashes: str) -> list[int | None]:
        """Run one attempt of several processes to its end; the exit code of each."""
        pids = self.start_ranks([run] * len(crashes), crashes)
        return [self.exit_code(pid, END_SECONDS) for pid in pids]

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str], **more: Any
    ) -> WarmProcess | StartedWorker:
        """Start a worker, or any other of our modules, in place of `subprocess.Popen`."""
        module, path = command[-2:]
        if module != "rnnlm_tui.worker.train":
            return StartedWorker([str(self.python), *command[1:]], env=env, **more)
        return WarmProcess(self, self.start(RunDirectory(Path(path)), environment=env))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, pid, code = line.split()
            if kind == "started":
                self._started.put(int(pid))
                continue
            with self._news:
                self._ended[int(pid)] = int(code)
                self._news.notify_all()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder)


def launch_variables(size: int) -> list[dict[str, str]]:
    """The variables that torchrun would set for each process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [{**common, "RANK": str(rank)} for rank in range(size)]


class WarmProcess:
    """A worker in place of a `subprocess.Popen`."""

    def __init__(self, workers: Workers, pid: int) -> None:
        self._workers, self.pid = workers, pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._workers.exit_code(self.pid)

    def wait(self, timeout: float = END_SECONDS) -> int | None:
        return self._workers.exit_code(self.pid, timeout)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def warm_starts(workers: Workers) -> Iterator[None]:
    """Let `launch` and other starts of `python -m` in this process start forks: each saves two and
    a half seconds of CPU time where torch is needed."""
    with pytest.MonkeyPatch.context() as patch:
        warm = SimpleNamespace(Popen=workers.popen, DEVNULL=subprocess.DEVNULL)
        patch.setattr("rnnlm_tui.system.processes.subprocess", warm)
        patch.setattr(sys, "executable", str(workers.python))
        yield


def _warm_up() -> None:
    """Train one step: torch imports half of itself then, and the forks share it."""
    import numpy as np

    from rnnlm_tui.engine.batches import StreamBatches
    from rnnlm_tui.engine.device import set_exactness, set_threads
    from rnnlm_tui.engine.trainer import Trainer
    from rnnlm_tui.schema.estimates import Schedule

    set_threads(1)
    set_exactness(True)
    model = built_model(vocab_size=4, embedding_dim=4, hidden_size=4, num_layers=1)
    Trainer(
        model,
        StreamBatches(np.arange(64, dtype=np.uint16) % 4, 2, 8),
        max_steps=1,
        schedule=Schedule(0.1),
    ).train_step()
    set_exactness(False)


def leave_to_the_forks() -> None:
    """Leave all that is imported by now out of garbage collections: one in a fork would copy it."""
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> None:
    """Fork a worker for each line on stdin; print its pid, and its exit code when it ends.

    Fork a command for each client that connects, and send it the same.
    """
    import torch._dynamo

    import rnnlm_tui.worker.setup
    import rnnlm_tui.worker.train

    # imported for the forks: torch, and what its optimizers import at their first use
    assert torch._dynamo, rnnlm_tui.worker.train
    _warm_up()
    leave_to_the_forks()
    answers = os.dup(1)
    living: dict[int, socket.socket | None] = {}
    have_commands = False
    unread = b""
    while True:
        ready, _, _ = select.select(
            [0, listener.fileno()], [], [], POLL_SECONDS if living else None
        )
        if 0 in ready:
            data = os.read(0, 65_536)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                child = os.fork()
                if child == 0:
                    _be_worker(json.loads(line))
                living[child] = None
                os.write(answers, f"started {child} 0\n".encode())
        if listener.fileno() in ready:
            if not have_commands:
                import_commands()
                leave_to_the_forks()
                have_commands = True
            client = listener.accept()[0]
            try:
                wish, descriptors = receive(client)
            except ConnectionError:
                client.close()
                continue
            child = os.fork()
            if child == 0:
                be_command(wish, descriptors, client)
            for descriptor in descriptors:
                os.close(descriptor)
            living[child] = client
            _tell(client, child)
        for child in tuple(living):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                asking = living.pop(child)
                if asking is None:
                    os.write(answers, f"ended {child} {code}\n".encode())
                else:
                    _tell(asking, code)
                    asking.close()


def _tell(client: socket.socket, number: int) -> None:
    with suppress(OSError):  # it has been killed
        client.sendall(f"{number}\n".encode())


def _be_worker(wish: Mapping[str, Any]) -> NoReturn:
    from rnnlm_tui.worker.train import log_without_disk_errors, main

    code = 70
    try:
        os.setsid()
        os.umask(wish["umask"])
        os.environ.update(wish["environment"])
        log = os.open(f"{wish['run']}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log_without_disk_errors()
        if wish["crash"]:
            install(wish["crash"])
        code = main([wish["run"]])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
