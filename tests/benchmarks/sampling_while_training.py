"""What samples of a running run's weights cost its training: `python -m
tests.benchmarks.sampling_while_training [--samples 20] [--tokens 100]`.

A run trains on one thread, or on all cores. Each `rnnlm-tui sample RUN@now` is paired with a quiet
interval of the same length right after it; then the same through one warm sampler, as the app does
it, for a person who samples once a second; then for a program that samples without a pause, which
takes a snapshot of the weights dozens of times a second. It needs cores that nothing else uses, one
more than the training if that has one thread; the ratio of processor time per step is valid on a
busy machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from rnnlm_tui.client.control import send, take_snapshot
from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
from rnnlm_tui.store.manifest import check_sizes
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import read_lock
from tests.benchmarks.interference import Speed, say, spread
from tests.integration.runs import (
    ENDLESS,
    kill,
    start,
    tiny_config,
    wait_for_step,
    write_text,
)

SETTLE_SECONDS = 0.5
LEAST_SECONDS = 1.0
"""An interval is at least this long: a shorter one has too few steps to count."""


def speed_while(run: RunDirectory, worker: psutil.Process, work: Callable[[], None]) -> Speed:
    """The worker's speed while something is done."""

    def look() -> tuple[int, float, float]:
        step, used = send(run, "status").step, worker.cpu_times()
        return step, time.monotonic(), used.user + used.system

    before = look()
    work()
    steps, wall, used = (now - then for now, then in zip(look(), before, strict=True))
    return Speed(steps / wall, used / steps)


def measure(
    run: RunDirectory,
    worker: psutil.Process,
    samples: int,
    sample: Callable[[], None],
    *,
    pause: bool = True,
) -> list[tuple[Speed, Speed]]:
    """The speeds while each sample is made, and in a quiet interval of the same length after it.

    The rest of a short interval is waited for or, without a pause, filled with more samples.
    """
    pairs = []

    def repeat() -> None:
        until = time.monotonic() + LEAST_SECONDS
        sample()
        if pause:
            time.sleep(max(0.0, until - time.monotonic()))
        while time.monotonic() < until:
            sample()

    for _ in range(samples):
        began = time.monotonic()
        during = speed_while(run, worker, repeat)
        took = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        pairs.append((during, speed_while(run, worker, lambda took=took: time.sleep(took))))  # type: ignore[misc]
    return pairs


def snapshot_lag(run: RunDirectory) -> tuple[int, int]:
    """How many steps a snapshot's weights are away from the step that the worker answers, and from
    the nearest of the worker's steps just before and after it."""
    before = send(run, "status").step
    live = take_snapshot(run)
    after = send(run, "status").step
    step = check_sizes(live.path).step
    return abs(step - live.step), max(0, before - step, step - after)


def report(title: str, pairs: list[tuple[Speed, Speed]]) -> None:
    steps = spread([during.steps / quiet.steps for during, quiet in pairs])
    work = spread([during.work / quiet.work for during, quiet in pairs])
    total = sum(during.steps for during, _ in pairs) / sum(quiet.steps for _, quiet in pairs)
    middles = [statistics.median(pair[which].steps for pair in pairs) for which in (0, 1)]
    say(f"{title:28}{middles[0]:9.1f}{middles[1]:9.1f}   {total:6.3f}   {steps:22}{work:22}")


async def warm_samples(
    run: RunDirectory,
    worker: psutil.Process,
    samples: int,
    settings: SamplingConfig,
    *,
    pause: bool,
) -> list[tuple[Speed, Speed]]:
    """As `measure`, with one sampler for all samples."""
    client = SamplerClient(yields="computing")

    async def sample() -> None:
        path = str(take_snapshot(run).path)
        request = SampleRequest(id="1", checkpoint=path, prompt="The cat", settings=settings)
        ends = [part async for part in client.generate(request) if isinstance(part, SampleDone)]
        assert ends[0].tokens == settings.max_new_tokens

    try:
        await sample()
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(
            measure,
            run,
            worker,
            samples,
            lambda: asyncio.run_coroutine_threadsafe(sample(), loop).result(),
            pause=pause,
        )
    finally:
        await client.close()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20, help="samples of each kind")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a sample")
    parser.add_argument("--hidden", type=int, default=192, help="hidden size of the model")
    parser.add_argument("--threads", type=int, default=1, help="of the training; 0: all cores")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sampling-") as folder:
        os.environ.update(RNNLM_TUI_HOME=f"{folder}/home")
        config = tiny_config(
            write_text(Path(folder) / "text.txt", 4_000),
            {
                "training.max_steps": ENDLESS,
                "training.threads": given.threads,
                "training.batch_size": 16,
                "training.bptt": 32,
                "model.embedding_dim": given.hidden,
                "model.hidden_size": given.hidden,
                "evaluation.every": 0,
                "checkpoint.every": 0,
                "sampling.stop": [],
            },
        )
        run = start(config, "otter")
        try:
            wait_for_step(run, 50)
            worker = psutil.Process(read_lock(run.lock_path).pid)
            command = [sys.executable, "-m", "rnnlm_tui", "sample", "otter@now", "The cat"]
            command += ["--max-new-tokens", str(given.tokens)]

            def verb() -> None:
                subprocess.run(command, check=True, capture_output=True)

            lags = [snapshot_lag(run) for _ in range(given.samples)]
            cold = measure(run, worker, given.samples, verb)
            settings = SamplingConfig(max_new_tokens=given.tokens)
            warm, endless = (
                asyncio.run(warm_samples(run, worker, given.samples, settings, pause=pause))
                for pause in (True, False)
            )
        finally:
            kill(run)
    say(f"{given.samples} samples of {given.tokens} tokens; medians and quartiles of the ratios")
    say(f"{'':28}{'steps/s':>9}{'quiet':>9}   {'total':6}   {'ratio':22}{'work a step, ratio':22}")
    report("rnnlm-tui sample RUN@now", cold)
    report("warm sampler, once a second", warm)
    report("warm sampler, no pause", endless)
    say(
        "steps between a snapshot's weights and the worker's answer: at most"
        f" {max(lag for lag, _ in lags)}, and its steps around it: at most"
        f" {max(lag for _, lag in lags)}"
    )


if __name__ == "__main__":
    main()
