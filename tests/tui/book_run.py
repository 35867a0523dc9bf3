"""An invented run of the book's protocol: trained on a CPU, slightly above the reference."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.schema.metrics import METRIC_COLUMNS, EvaluationRow, HardwareRow
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import BaselineFigures, EvaluationFigures, ModelFigures, TrainFigures
from rnnlm_tui.store.series import Band, SeriesTable
from rnnlm_tui.store.summary import reference_figures
from tests.tui.fakes import START, make_hardware, make_snapshot

STEPS, EVERY = 172_148, 1_563
SLICE = "first 1,024 test sentences"
TOKENS_A_STEP, SECONDS_A_STEP = 2_920.0, 0.24


def slice_loss(step: float) -> float:
    """Near the reference: 270 at its first evaluation, 72.8 at the end."""
    return (
        4.262
        + 1.45 * math.pow(step / EVERY, -0.75) * (1 - 0.12 * step / STEPS)
        + 0.06 * (1 - step / STEPS)
    )


def make_book_series(step: int, width: int = 128) -> SeriesTable:
    """The curves of this many steps."""
    noise, steps = random.Random(5), range(width, step + 1, width)

    def row(of: Callable[[int], float]) -> array[float]:
        return array("d", map(of, steps))

    def band(middle: array[float], by: float) -> Band:
        low, high = (array("d", (value + side for value in middle)) for side in (-by, by))
        return Band(low, high, middle)

    def loss(at: int) -> float:
        return min(10.4, slice_loss(at) + 3.4 * math.exp(-at / 300)) + noise.gauss(0, 0.02)

    mean, speed = row(loss), row(lambda _: 12_100 + noise.gauss(0, 120))
    norm = row(lambda at: 0.5 + 0.8 * math.exp(-at / 900) + abs(noise.gauss(0, 0.03)))
    rate = row(lambda _: 1e-3)
    bands = (band(mean, 0.15), band(norm, 0.05), band(rate, 0.0), band(speed, 300.0))
    return SeriesTable(
        width,
        row(float),
        row(lambda at: TOKENS_A_STEP * at),
        row(lambda at: at / STEPS),
        row(lambda at: SECONDS_A_STEP * at),
        row(lambda at: START + SECONDS_A_STEP * at),
        row(lambda _: 0.0),
        dict(zip(METRIC_COLUMNS, bands, strict=True)),
    )


def book_run(
    status: RunStatus = "running",
    step: int = 60_000,
    *,
    others: float | None = None,
    **changes: object,
) -> RunSnapshot:
    """A run of the preset `book` at that step; other processes use `others` of the two cores."""
    steps = range(EVERY, step + 1, EVERY)
    sets: tuple[tuple[Literal["test", "validation"], str, float], ...] = (
        ("test", SLICE, 0.0),
        ("validation", "first 1,024 validation sentences", 0.01),
    )
    rows = tuple(
        EvaluationRow(1, at, split, name, slice_loss(at) + more, 30_000, 1.6, 1.2, START + at)
        for split, name, more in sets
        for at in steps
    )
    last = slice_loss(steps[-1]) if len(steps) else None

    def figures(name: str, more: float = 0.0) -> EvaluationFigures:
        if last is None:
            return EvaluationFigures()
        found, best = math.exp(last + more), steps[-1]
        return EvaluationFigures(
            name=name, step=best, loss=last + more, perplexity=found, bits_per_byte=1.62,
            best_step=best, best_perplexity=found,
        )  # fmt: skip

    loss = (last or 6.0) + 0.03
    facts: dict[str, object] = {
        "config": BOOK,
        "max_steps": STEPS,
        "epoch": step / STEPS,
        "epochs": 1.0,
        "tokens_seen": int(TOKENS_A_STEP * step),
        "active_seconds": SECONDS_A_STEP * step,
        "preset": "book",
        "corpus": "news sentences",
        "device": "cpu, 2 threads",
        "precision": "float32",
        "matmul": "medium",
        "cores": 2,
        "others_cores": others,
        "model": ModelFigures(
            cell_type="elman", num_layers=2, hidden_size=128, tie_weights=False,
            parameters=8_292_619,
        ),
        "train": TrainFigures(
            loss=loss, perplexity=math.exp(loss), grad_norm=0.52, learning_rate=1e-3
        ),
        "validation": figures("first 1,024 validation sentences", 0.01),
        "test": figures(SLICE),
        "evaluation": figures(SLICE),
        "baseline": BaselineFigures(perplexity=171.0, validation_perplexity=170.0),
        "reference": reference_figures(BOOK, steps[-1] if len(steps) else None),
        "tokens_per_second": 12_100.0 if status == "running" else None,
        "eta_seconds": (STEPS - step) * SECONDS_A_STEP if status == "running" else None,
    }  # fmt: skip
    snapshot = make_snapshot(status, step, gpu=False, **{**facts, **changes})  # type: ignore[arg-type]
    return replace(
        snapshot,
        series=make_book_series(step),
        evaluations=rows,
        samples=(),
        hardware=book_hardware(others),
    )


def book_hardware(others: float | None) -> tuple[HardwareRow, ...]:
    """Both cores are busy: the run has what other processes leave."""
    own = 97.0 - 50.0 * (others or 0.0)
    return tuple(
        replace(row, cpu_percent=97.0, process_cpu_percent=own) for row in make_hardware(gpu=False)
    )
