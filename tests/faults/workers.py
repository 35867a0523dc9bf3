"""Real workers that start fast: one process imports everything once, and each worker is a fork of
it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.processes import child_environment
from tests.faults.crash_points import install


class Workers:
    """Start workers one after the other and return their exit codes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(WORKER_SETTINGS),
        )

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
        """Start one attempt; the worker's pid. Call `wait` before the next."""
        assert self._process.stdin is not None
        home = {name: os.environ[name] for name in ("RNNLM_TUI_HOME",) if name in os.environ}
        variables = {**home, **(environment or {})}
        self._process.stdin.write(
            json.dumps({"run": str(run.path), "crash": crash, "environment": variables}) + "\n"
        )
        self._process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Wait for the worker's end; the exit code, negative for a signal."""
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def _warm_up() -> None:
    """Train one step: torch imports half of itself then, and the forks share it."""
    import numpy as np

    from rnnlm_tui.engine.batches import StreamBatches
    from rnnlm_tui.engine.device import set_exactness, set_threads
    from rnnlm_tui.engine.model import RecurrentLanguageModel
    from rnnlm_tui.engine.trainer import Trainer
    from rnnlm_tui.schema.schedule import Schedule

    set_threads(1)
    set_exactness(True)
    model = RecurrentLanguageModel(vocab_size=4, embedding_dim=4, hidden_size=4, num_layers=1)
    Trainer(
        model,
        StreamBatches(np.arange(64, dtype=np.uint16) % 4, 2, 8),
        max_steps=1,
        schedule=Schedule(0.1),
    ).train_step()


def serve() -> None:
    """Fork a worker for each line on stdin; print its pid and then its exit code."""
    import torch._dynamo

    import rnnlm_tui.worker.setup
    import rnnlm_tui.worker.train as train

    assert torch._dynamo, (
        rnnlm_tui.worker.setup
    )  # for the forks: torch and what its optimizers import at their first use
    _warm_up()
    answers = os.dup(1)
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.setsid()
                os.environ.update(wish["environment"])
                log = os.open(
                    f"{wish['run']}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
                )
                for stream in (1, 2):
                    os.dup2(log, stream)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                if wish["crash"]:
                    install(wish["crash"])
                code = train.main([wish["run"]])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.write(answers, f"{child}\n".encode())
        os.write(answers, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())


if __name__ == "__main__":
    serve()
