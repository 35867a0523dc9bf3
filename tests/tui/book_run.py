"""A run of the book's protocol: trained on a CPU, slightly above the reference."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EvaluationRow, GpuRow
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from tests.tui.demo_run import NOW, Bucket, Recorded, bucketed, readings, record, recorded

STEPS, EVERY = 172_148, 1_563
SLICE = "first 1,024 test sentences"
TOKENS_A_STEP, SECONDS_A_STEP = 2_920, 0.24
FACTS = Facts(
    device="cpu, 2 threads",
    matmul="medium",
    threads=2,
    cores=2,
    max_steps=STEPS,
    epochs=1.0,
    parameters=8_292_619,
    corpus_title="news sentences",
    baseline_loss=math.log(171.0),
    baseline_validation_loss=math.log(170.0),
)


def slice_loss(step: float) -> float:
    """Near the reference: 270 at its first evaluation, 72.8 at the end."""
    return (
        4.262
        + 1.45 * math.pow(step / EVERY, -0.75) * (1 - 0.12 * step / STEPS)
        + 0.06 * (1 - step / STEPS)
    )


def buckets(last: int) -> Iterator[Bucket]:
    """Of 128 steps."""
    noise = random.Random(5)
    for end in range(128, last + 1, 128):
        loss = min(10.4, slice_loss(end) + 3.4 * math.exp(-end / 300)) + noise.gauss(0, 0.02)
        norm = 0.5 + 0.8 * math.exp(-end / 900) + abs(noise.gauss(0, 0.03))
        yield end, (loss, norm, 1e-3, 12_100 + noise.gauss(0, 120)), (0.15, 0.05, 0.0, 300.0)


def evaluations(last: int) -> list[EvaluationRow]:
    """Of a slice of each set, as often as the reference's."""
    sets: tuple[tuple[Literal["test", "validation"], str, float], ...] = (
        ("test", SLICE, 0.0),
        ("validation", "first 1,024 validation sentences", 0.01),
    )
    return [
        EvaluationRow(1, at, split, name, slice_loss(at) + higher, 30_000, 1.62, 1.2, NOW)
        for at in range(EVERY, last + 1, EVERY)
        for split, name, higher in sets
    ]


@contextmanager
def book_run(
    status: RunStatus = "running",
    step: int = 60_000,
    *,
    name: str = "plain-otter",
    others: float = 0.0,
    facts: Facts = FACTS,
    whole: float | None = None,
) -> Iterator[RunDirectory]:
    """A run of the preset `book` at that step; other processes use `others` of the two cores, and
    the whole test set was evaluated at the end with this perplexity."""
    began = NOW - SECONDS_A_STEP * step

    def write(run: RunDirectory) -> None:
        pace = TOKENS_A_STEP, 1 / STEPS, SECONDS_A_STEP, began
        rows: list[Recorded] = [*bucketed(buckets(step), step, *pace), *evaluations(step)]
        if whole is not None:
            rows.append(
                EvaluationRow(1, step, "test", "test", math.log(whole), 9 * 10**6, 1.6, 60, NOW)
            )
        own = 97.0 - 50.0 * others
        rows += [
            row._replace(cpu_percent=97.0, process_cpu_percent=own)
            for row in readings(card=GpuRow())
        ]
        record(run, status, step, rows, facts, began=began, seconds=SECONDS_A_STEP)

    run = RunDirectory(runs_dir() / name)
    with recorded(run, BOOK, status, NOW, write, step, others, facts, whole):
        yield run
