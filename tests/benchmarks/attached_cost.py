"""How fast a run trains with and without the app: `python -m tests.benchmarks.attached_cost
[--seconds 15] [--rounds 10]`.

The run uses all cores; the app shows its train pane at 120×40 and 2 frames a second. The app is
opened and closed in turns, and each
interval with it is compared with the ones right before and after, so that a machine that gets
slower or faster doesn't count. The app's
processor time and the worker's processor time per step are valid on a busy machine too.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from rnnlm_tui.client.control import send
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import read_lock
from tests.benchmarks.command_line import options, say, temporary_home
from tests.benchmarks.terminal_cost import LIVE, live_config, opened_app, settle, wait_for_charts
from tests.integration.runs import end, start, wait_for_step
from tests.terminal import Terminal

ENDLESS = 200_000
"""Steps; about an hour."""
WARM_STEPS = 200


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


@dataclass(frozen=True, slots=True)
class Attached:
    """An interval with the app between two without."""

    alone: Speed
    """The mean of both."""
    watched: Speed
    processor: float
    """The app's share of one core, in percent."""


@contextmanager
def reading(terminal: Terminal) -> Iterator[None]:
    """Read the app's output in a thread and discard it."""
    closing = threading.Event()

    def read() -> None:
        while not closing.is_set():
            if terminal.ready(0.2):
                os.read(terminal.descriptor, 65_536)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()


def watched_for(run: RunDirectory, worker: psutil.Process, seconds: float) -> tuple[Speed, float]:
    """Open the app on the run and, once it has loaded everything, measure both."""
    with opened_app(run.name) as terminal:
        wait_for_charts(terminal)
        settle(terminal)
        app, began = psutil.Process(terminal.pid), time.monotonic()
        before = sum(app.cpu_times()[:2])
        with reading(terminal):
            speed = speed_for(run, worker, seconds)
        return speed, 100 * (sum(app.cpu_times()[:2]) - before) / (time.monotonic() - began)


def middle(first: Speed, second: Speed) -> Speed:
    """The mean of two speeds."""
    return Speed((first.steps + second.steps) / 2, (first.work + second.work) / 2)


def measure(seconds: float, rounds: int) -> Iterator[Attached]:
    """Measure this many rounds, in the home at RNNLM_TUI_HOME."""
    run = start(live_config(ENDLESS), LIVE)
    try:
        wait_for_step(run, WARM_STEPS)
        worker = psutil.Process(read_lock(run.lock_path).pid)
        before = speed_for(run, worker, seconds)
        for _ in range(rounds):
            watched, processor = watched_for(run, worker, seconds)
            after = speed_for(run, worker, seconds)
            yield Attached(middle(before, after), watched, processor)
            before = after
    finally:
        end(run)


def spread(ratios: list[float]) -> str:
    """The median and the quartiles."""
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    )
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    """Measure and print."""
    given = options(__doc__, seconds=15.0, rounds=10)
    found: list[Attached] = []
    training = live_config(ENDLESS).training
    tokens = training.batch_size * training.bptt
    with temporary_home():
        for one in measure(given.seconds, given.rounds):
            found.append(one)
            say(
                f"round {len(found)}: {one.alone.steps * tokens:,.0f} tokens/s alone,"
                f" {one.watched.steps * tokens:,.0f} watched; the app {one.processor:.2f} % of a"
                " core"
            )
    say(f"\n{given.rounds} rounds of {given.seconds:g} s, medians and quartiles")
    for name, speeds in (
        ("alone", [one.alone for one in found]),
        ("watched", [one.watched for one in found]),
    ):
        say(f"tokens/s {name:8} {statistics.median(one.steps for one in speeds) * tokens:10,.0f}")
    say(
        f"watched / alone    {spread([one.watched.steps / one.alone.steps for one in found])} "
        " (budget 0.98)"
    )
    say(f"work a step, ratio {spread([one.watched.work / one.alone.work for one in found])}")
    say(f"the app, % of core {spread([one.processor for one in found])}  (budget 3)")


if __name__ == "__main__":
    main()
