"""An invented run of the book's protocol: trained on a CPU, slightly above the reference."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import replace

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
    noise = random.Random(5)
    steps = array("d", range(width, step + 1, width))
    active = array("d", (SECONDS_A_STEP * at for at in steps))
    mean = array(
        "d",
        (
            min(10.4, slice_loss(at) + 3.4 * math.exp(-at / 300)) + noise.gauss(0, 0.02)
            for at in steps
        ),
    )
    speed = array("d", (12_100 + noise.gauss(0, 120) for _ in steps))
    norm = array("d", (0.5 + 0.8 * math.exp(-at / 900) + abs(noise.gauss(0, 0.03)) for at in steps))
    rate = array("d", [1e-3] * len(steps))

    def band(middle: array[float], by: float) -> Band:
        return Band(
            array("d", (value - by for value in middle)),
            array("d", (value + by for value in middle)),
            middle,
        )

    columns = dict(
        zip(
            METRIC_COLUMNS,
            (band(mean, 0.15), band(norm, 0.05), band(rate, 0.0), band(speed, 300.0)),
            strict=True,
        )
    )
    tokens, epoch = (
        array("d", (TOKENS_A_STEP * at for at in steps)),
        array("d", (at / STEPS for at in steps)),
    )
    return SeriesTable(
        width,
        steps,
        tokens,
        epoch,
        active,
        array("d", (START + at for at in active)),
        array("d", [0.0] * len(steps)),
        columns,
    )


def book_run(
    status: RunStatus = "running",
    step: int = 60_000,
    *,
    others: float | None = None,
    **changes: object,
) -> RunSnapshot:
    """A run of the preset `book` at that step; other processes use `others` of the two cores."""
    config = BOOK
    steps = range(EVERY, step + 1, EVERY)
    rows = [
        EvaluationRow(1, at, "test", SLICE, slice_loss(at), 30_000, 1.6, 1.2, START + at)
        for at in steps
    ]
    rows += [
        EvaluationRow(
            1,
            at,
            "validation",
            "first 1,024 validation sentences",
            slice_loss(at) + 0.01,
            30_000,
            1.6,
            1.2,
            START + at,
        )
        for at in steps
    ]
    last = slice_loss(steps[-1]) if len(steps) else None

    def figures(name: str, more: float = 0.0) -> EvaluationFigures:
        if last is None:
            return EvaluationFigures()
        found = math.exp(last + more)
        return EvaluationFigures(
            name=name,
            step=steps[-1],
            loss=last + more,
            perplexity=found,
            bits_per_byte=1.62,
            best_step=steps[-1],
            best_perplexity=found,
        )

    facts: dict[str, object] = {
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
            cell_type="elman",
            num_layers=2,
            hidden_size=128,
            tie_weights=False,
            parameters=8_292_619,
        ),
        "train": TrainFigures(
            loss=(last or 6.0) + 0.03,
            perplexity=math.exp((last or 6.0) + 0.03),
            grad_norm=0.52,
            learning_rate=1e-3,
        ),
        "validation": figures("first 1,024 validation sentences", 0.01),
        "test": figures(SLICE),
        "evaluation": figures(SLICE),
        "baseline": BaselineFigures(perplexity=171.0, validation_perplexity=170.0),
        "reference": reference_figures(config, steps[-1] if len(steps) else None),
        "tokens_per_second": 12_100.0 if status == "running" else None,
        "eta_seconds": (STEPS - step) * SECONDS_A_STEP if status == "running" else None,
    }
    facts = {"config": config, **facts, **changes}
    snapshot = make_snapshot(status, step, gpu=False, **facts)  # type: ignore[arg-type]
    return replace(
        snapshot,
        series=make_book_series(step),
        evaluations=tuple(rows),
        samples=(),
        hardware=book_hardware(others),
    )


def book_hardware(others: float | None) -> tuple[HardwareRow, ...]:
    """Both cores are busy: the run has what other processes leave."""
    own = 97.0 - 50.0 * (others or 0.0)
    return tuple(
        replace(row, cpu_percent=97.0, process_cpu_percent=own) for row in make_hardware(gpu=False)
    )
