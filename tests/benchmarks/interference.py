"""How fast a worker trains while its terminal, app or socket is disturbed: `python -m
tests.benchmarks.interference [--seconds 60] [--rounds 5]`.

`rnnlm-tui train` starts the run in a shell that soon gets SIGHUP. Each round opens the app on the
run in its own terminal, disturbs it, and
compares the speed with that of the undisturbed interval right after it. It needs cores that nothing
else uses; the ratio of processor time per
step is valid on a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from rnnlm_tui.client.control import send
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import ENDLESS, kill, tiny_config, wait_for_step, write_text
from tests.terminal import Terminal

RNNLM_TUI = f"{sys.executable} -m rnnlm_tui"
SHELL = ["bash", "-c", f"{RNNLM_TUI} open otter; exit"]
FLOOD = """
import socket, sys
line = b'{"id": "a", "verb": "status"}\\n'
while True:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(sys.argv[1])
            connection.sendall(line)
            connection.recv(1_000)
        except OSError:
            pass
"""
"""Request the status as fast as it is answered, on a new connection each time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The worker's speed over an interval."""

    steps: float
    """Steps per second."""
    work: float
    """Processor seconds per step, over all threads."""


def speed_for(run: RunDirectory, worker: psutil.Process, seconds: float) -> Speed:
    """Measure the speed over `seconds`; the step comes from the worker's socket, since rows are
    written a moment later."""

    def look() -> tuple[int, float, float]:
        step, used = send(run, "status").step, worker.cpu_times()
        return step, time.monotonic(), used.user + used.system

    before = look()
    time.sleep(seconds)
    steps, wall, work = (now - then for now, then in zip(look(), before, strict=True))
    return Speed(steps / wall, work / steps)


def started(config: RunConfig) -> RunDirectory:
    """A run whose shell has ended."""
    shell = Terminal(
        [
            "bash",
            "-c",
            (
                f"{RNNLM_TUI} train --config {create_run(config, 'its-config').config_path} --name"
                " otter; exit"
            ),
        ]
    )
    shell.wait_for("otter ●", 60)
    hang_up(shell)
    os.waitpid(shell.pid, 0)
    return find_run("otter")


def hang_up(shell: Terminal) -> None:
    """Send SIGHUP to the shell and its app, and close their terminal."""
    os.killpg(shell.pid, signal.SIGHUP)
    os.close(shell.descriptor)
    shell.descriptor = -1


def app_in(shell: Terminal) -> psutil.Process:
    """The app in the shell, once it is painted and its sampler has loaded."""
    shell.wait_for("otter ●", 60)
    apps = [
        child
        for child in psutil.Process(shell.pid).children(recursive=True)
        if child.cmdline()[-2:] == ["open", "otter"]
    ]
    family, used = apps, -1.0
    while len(family) < 2 or used != (
        used := sum(sum(one.cpu_times()[:2]) for one in family[1:])
    ):  # until its sampler has loaded everything
        shell.read(0.5)
        family = [apps[0], *apps[0].children()]
    return apps[0]


@contextmanager
def hung_up_shell(_run: RunDirectory) -> Iterator[None]:
    shell = Terminal(SHELL)
    app_in(shell)
    hang_up(shell)
    yield
    os.waitpid(shell.pid, 0)


@contextmanager
def killed_app(_run: RunDirectory) -> Iterator[None]:
    with Terminal(SHELL) as shell:
        app_in(shell).kill()
        yield


@contextmanager
def stopped_app(_run: RunDirectory) -> Iterator[None]:
    with Terminal(SHELL) as shell:
        app = app_in(shell)
        app.suspend()
        yield
        app.kill()


@contextmanager
def flooded_socket(run: RunDirectory) -> Iterator[None]:
    flood = subprocess.Popen([sys.executable, "-I", "-S", "-c", FLOOD, str(run.socket_path)])
    yield
    flood.kill()
    flood.wait()


@contextmanager
def busy_neighbour(_run: RunDirectory) -> Iterator[None]:
    """A process that takes a core and sends nothing, to compare the flood with."""
    busy = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])
    yield
    busy.kill()
    busy.wait()


WAYS: dict[str, Callable[[RunDirectory], AbstractContextManager[None]]] = {
    "the shell and the app get SIGHUP": hung_up_shell,
    "kill -9 of the app": killed_app,
    "SIGSTOP of the app": stopped_app,
    "a flood of requests": flooded_socket,
    "a process that only computes": busy_neighbour,
}


def measure(
    run: RunDirectory, worker: psutil.Process, way: str, seconds: float
) -> tuple[Speed, Speed]:
    """The speed while disturbed, and in the undisturbed interval after it."""
    with WAYS[way](run):
        during = speed_for(run, worker, seconds)
    time.sleep(1.0)  # let the remaining processes end
    return during, speed_for(run, worker, seconds)


def opened_and_closed(run: RunDirectory) -> tuple[float, float]:
    """Seconds from the app's start until it shows the newest step, and from SIGHUP until its last
    process has ended."""
    newest, began = send(run, "status").step, time.monotonic()
    with Terminal([sys.executable, "-m", "rnnlm_tui", "open", "otter"]) as app:
        app.wait_for(
            lambda: any(
                int(step) >= newest for step in re.findall(r"step (\d+)", app.text.replace(",", ""))
            ),
            60,
        )
        opened = time.monotonic() - began
        app.read(3.0)  # its sampler is starting
        family = [psutil.Process(app.pid), *psutil.Process(app.pid).children(recursive=True)]
        began = time.monotonic()
        os.kill(app.pid, signal.SIGHUP)
        app.wait(60)
        psutil.wait_procs(family, 60)
        return opened, time.monotonic() - began


def spread(ratios: list[float]) -> str:
    """The median and the quartiles."""
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    )
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each interval")
    parser.add_argument("--rounds", type=int, default=5, help="rounds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interference-") as folder:
        os.environ.update(RNNLM_TUI_HOME=f"{folder}/home", OMP_NUM_THREADS="1")
        config = tiny_config(
            write_text(Path(folder) / "text.txt"),
            {"training.max_steps": ENDLESS, "evaluation.every": 0, "checkpoint.every": 2_000},
        )
        run = started(config)
        try:
            wait_for_step(run, 2_000)
            worker = psutil.Process(read_lock(run.lock_path).pid)
            found: dict[str, list[tuple[Speed, Speed]]] = {way: [] for way in WAYS}
            for turn in range(1, given.rounds + 1):
                for way, pairs in found.items():
                    pairs.append(measure(run, worker, way, given.seconds))
                    during, quiet = pairs[-1]
                    say(
                        f"round {turn}, {way}: {during.steps:.1f} steps/s, then quiet"
                        f" {quiet.steps:.1f}"
                    )
            visits = [opened_and_closed(run) for _ in range(given.rounds)]
            assert read_lock(run.lock_path).pid == worker.pid, "the worker has changed"
        finally:
            kill(run)
    say(f"\n{given.rounds} rounds of {given.seconds:g} s; medians and quartiles")
    say(f"{'':34}{'steps/s':>9}{'quiet':>8}   {'ratio':22}{'work a step, ratio':22}")
    for way, pairs in found.items():
        middles = [statistics.median(pair[which].steps for pair in pairs) for which in (0, 1)]
        steps = spread([during.steps / quiet.steps for during, quiet in pairs])
        work = spread([during.work / quiet.work for during, quiet in pairs])
        say(f"{way:34}{middles[0]:9.1f}{middles[1]:8.1f}   {steps:22}{work:22}")
    opened, left = (statistics.median(visit[which] for visit in visits) for which in (0, 1))
    say(
        f"the app shows every point {opened:.2f} s after its start, and ends {left:.2f} s after"
        " SIGHUP"
    )


def say(text: str) -> None:
    """Print and flush."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
