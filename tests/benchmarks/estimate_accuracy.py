"""How well `estimate` predicts a run: `python -m tests.benchmarks.estimate_accuracy [--preset demo
lstm book ptb-large] [--steps N] [--threads 1]`.

For each preset it prints the estimate, then what a real run of the same config takes on this
machine: the worker's peak memory, and its time per step, from which the time of the whole run
follows. The run is a short one, and the texts that can't be distributed (the news of `book`, the
Penn Treebank) are replaced by generated ones with the same vocabulary.

Memory is compared twice: as computed from the config alone, and as measured by the probe. Time is
that of `estimate --probe`. The processor time per step is compared too; with one thread, it is what
a step takes on an idle machine. A line ends in `ok` if its ratio is within the bar. The wall clock
isn't judged while other processes use the cores.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from rnnlm_tui.client.control import NICENESS_VARIABLE, launch, send
from rnnlm_tui.client.estimate import Estimate, estimate
from rnnlm_tui.client.start import run_probe
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import duration
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.protocol import Calibration
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import read_lock
from tests.benchmarks.command_line import options, say, temporary_home
from tests.fakes.llama_tokenizer import write_tokenizer

MEMORY_BAR, TIME_BAR = 0.15, 0.30
STEPS = {"demo": 400, "lstm": 250, "book": 60, "ptb-large": 14}
"""Steps of the short runs: a minute or two each on one core."""
WARM_STEPS = 5
"""Steps before the timed ones."""
NEWS_SENTENCES, NEWS_WORDS = 60_000, 40_000
PTB_LINES, PTB_WORDS = {"train": 42_068, "valid": 400, "test": 400}, 9_998
"""Sizes of the generated texts; a Penn Treebank's evaluations are shortened."""
BOOK_TYPES = 32_008
"""Learned types of the tokenizer that replaces the book's; three are added to them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a short run took."""

    memory_bytes: int
    """The worker's peak."""
    step_seconds: float
    processor_seconds: float
    """Of a step, over all threads."""
    wall_seconds: float
    """The whole short run, with its start, its evaluations and its last checkpoint."""


def words(count: int, seed: int) -> list[str]:
    """Pronounceable words, all different."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        parts = draw.randint(1, 4)
        found[
            "".join(draw.choice("bcdfghklmnprst") + draw.choice("aeiou") for _ in range(parts))
        ] = None
    return list(found)


def sentences(known: list[str], count: int, seed: int, length: tuple[int, int]) -> list[str]:
    """Sentences whose words are distributed like those of a language (Zipf)."""
    draw = random.Random(seed)
    weights = [1 / (rank + 3) for rank in range(len(known))]
    lengths = [draw.randint(*length) for _ in range(count)]
    drawn = iter(draw.choices(known, weights, k=sum(lengths)))
    return [" ".join(next(drawn) for _ in range(each)) for each in lengths]


def changes_for(preset: str, folder: Path) -> dict[str, object]:
    """What has to be replaced in a preset to run it here: its text, and the book's tokenizer."""
    if preset == "book":
        known = words(NEWS_WORDS, 1)
        lines = sentences(known, NEWS_SENTENCES, 2, (6, 30))
        text, tokenizer = folder / "news.txt", folder / "tokenizer"
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        types = write_tokenizer(tokenizer, [*known, *lines[:20_000]], BOOK_TYPES)
        return {
            "corpus.source": str(text),
            "corpus.layout": "sentences",
            "corpus.validation_fraction": 0.01,
            "corpus.test_fraction": 0.01,
            "tokenizer.name": str(tokenizer),
            "tokenizer.vocab_size": types,
        }
    if preset.startswith("ptb-"):
        known = words(PTB_WORDS, 3)
        source = folder / "ptb"
        source.mkdir()
        for number, (split, count) in enumerate(PTB_LINES.items()):
            lines = sentences(known, count, 4 + number, (12, 30))
            if split == "train":
                lines[:500] = [" ".join(known[start::500]) for start in range(500)]
            (source / f"ptb.{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"corpus.source": str(source)}
    return {}


def measure_run(config: RunConfig, name: str) -> Measured:
    """Train a short run to its end and measure its worker."""
    steps = config.training.max_steps
    assert steps is not None
    run = create_run(config, name)
    began = time.monotonic()
    worker = psutil.Process(launch(run))
    peak, first, last = 0, None, None
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        peak = max(peak, high_water_mark(worker.pid))
        now = place_of(run, worker)
        if now is not None and WARM_STEPS <= now[0] < steps:
            first, last = first or now, now
        time.sleep(0.1)
    wall = time.monotonic() - began
    with RunReader(run) as reader:
        rows = sorted(reader.recent_steps(steps), key=lambda row: row.step)
        state = reader.last_state()
    assert state is not None
    assert state.kind == "finished", f"{name} ended as {state.kind}: {state.text}"
    assert not read_lock(run.lock_path).held
    timed = rows[WARM_STEPS:]
    seconds = (timed[-1].active_seconds - timed[0].active_seconds) / (len(timed) - 1)
    assert first is not None
    assert last is not None
    assert last[0] > first[0], "too few steps to measure: use more --steps"
    return Measured(peak, seconds, (last[1] - first[1]) / (last[0] - first[0]), wall)


def place_of(run: RunDirectory, worker: psutil.Process) -> tuple[int, float] | None:
    """The worker's step and its processor time so far, read between two steps."""
    try:
        step, used = send(run, "status").step, worker.cpu_times()
    except (RnnlmError, psutil.Error):
        return None
    return step, used.user + used.system


def high_water_mark(pid: int) -> int:
    """The peak resident memory of a process in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines.splitlines() if line.startswith("VmHWM:")]
    return int(sizes[0]) * 1024 if sizes else 0


def report(preset: str, whole: Estimate, probe: Calibration, run: Measured) -> None:
    """Print estimates beside measurements, and whether each ratio is within its bar."""
    mib = 2**20
    say(f"{preset}: {whole.parameters.total:,} parameters, {probe.threads} threads")
    say(f"  {'':24}{'estimate':>12}{'run':>12}{'ratio':>8}")
    steps = whole.steps or 0
    busy = psutil.getloadavg()[0] > probe.threads + 0.5
    lines = (
        ("memory, computed, MiB", whole.memory.total / mib, run.memory_bytes / mib, MEMORY_BAR),
        ("memory, probed, MiB", whole.memory_bytes / mib, run.memory_bytes / mib, MEMORY_BAR),
        ("step, wall, ms", 1e3 * probe.step_seconds, 1e3 * run.step_seconds, TIME_BAR),
        (
            "step, processor, ms",
            1e3 * probe.processor_seconds,
            1e3 * run.processor_seconds,
            TIME_BAR,
        ),
        (
            "whole run, processor, s",
            steps * probe.processor_seconds,
            steps * run.processor_seconds,
            TIME_BAR,
        ),
        ("whole run, wall, s", whole.seconds or 0.0, steps * run.step_seconds, TIME_BAR),
    )
    for name, estimated, measured, bar in lines:
        ratio = estimated / measured
        mark = "ok" if 1 - bar <= ratio <= 1 + bar else f"not within {bar:.0%}"
        if busy and "wall" in name:
            mark = "not judged: the machine is busy"
        say(f"  {name:24}{estimated:>12,.1f}{measured:>12,.1f}{ratio:>8.2f}  {mark}")
    say(
        f"  the whole run: {steps:,} steps, estimated {duration(whole.seconds or 0.0)},"
        f" extrapolated {duration(steps * run.step_seconds)}; the short one took"
        f" {run.wall_seconds:.0f} s"
    )


def compare(preset: str, folder: Path, steps: int, threads: int) -> None:
    """Estimate and train one preset."""
    replaced: Mapping[str, object] = changes_for(preset, folder)
    whole = parse_config(merge(PRESETS[preset], {**replaced, "training.threads": threads}))
    short = parse_config(
        merge(
            whole,
            {
                "training.max_steps": steps,
                "schedule.warmup_steps": 0,
                "evaluation.every": 0,
                "checkpoint.every": max(1, steps // 2),  # whose copy belongs to the peak
            },
        )
    )
    probe = run_probe(whole, lambda _: None)
    report(preset, estimate(whole), probe, measure_run(short, f"{preset}-short"))


def main() -> None:
    given = options(__doc__, preset=list(STEPS), steps=0, threads=1)
    os.environ.setdefault(NICENESS_VARIABLE, "0")
    for preset in given.preset:
        with temporary_home() as folder:
            compare(preset, folder, given.steps or STEPS[preset], given.threads)


if __name__ == "__main__":
    main()
