"""Parts that measure: the machine, the speed of training by `bench`, and the book's epoch."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from rnnlm_tui.bench.baselines import memory_speed, multiplication_speeds
from rnnlm_tui.bench.report import BenchReport, TrainingFigures
from rnnlm_tui.bench.runner import LEFT_OUT, BenchOptions, run_bench
from rnnlm_tui.engine.device import cuda_versions, describe, use_device
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.gpu import driver_version
from rnnlm_tui.system.processes import last_lines
from tests.gpu.parts import Report, Result
from tests.gpu.shapes import SHAPES, Shape

EPOCH_SECONDS = 180.0
"""Goal for an epoch of the book on an H100."""
TIMES_NAIVE = 5.0
"""Goal for the engine over the naive loop on the same card."""
GOAL_CARD = "H100"
WAY_SECONDS, LEAST_WAY_SECONDS = 4.0, 1.0
"""Computing time of each way to train, in three turns: less if the time is short."""
WAYS = 8
START_SECONDS = 45.0
"""For the processes and their first steps, in which kernels are compiled."""
SHOWN_LINES = 60
SPEED_FACT = "figures"
DRY_RUN = {
    "corpus.source": "elman",
    "corpus.sentences": 400,
    "corpus.mask_digits": False,
    "tokenizer.kind": "word",
    "tokenizer.name": None,
    "tokenizer.vocab_size": 100,
    "model.embedding_dim": 8,
    "model.hidden_size": 8,
    "training.batch_size": 8,
    "training.bptt": 6,
    "training.threads": 1,
}


def survey_machine(report: Report) -> None:
    """Name the device and its software; measure how fast it moves and multiplies numbers."""
    device = use_device(report.setting.device)
    facts: dict[str, object] = {
        "device": describe(device),
        "torch": torch.__version__,
        "cuda": cuda_versions(),
        "triton": _version("triton"),
        "python": platform.python_version(),
        "textual": "textual" in sys.modules,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        facts["driver"] = driver_version()
        facts["capability"] = f"{properties.major}.{properties.minor}"
        facts["multiprocessors"] = properties.multi_processor_count
        facts["memory_free_gib"] = round(free / 2**30, 1)
        facts["memory_gib"] = round(total / 2**30, 1)
    for name, value in facts.items():
        report.fact(name, value)
    side = 128 if report.dry else 8_192
    seconds = 0.1 if report.dry else 4.0
    speeds = multiplication_speeds(device, ((side, side, side),), seconds)
    bandwidth = memory_speed(device, seconds / 4)
    for numbers, gflops in speeds.items():
        report.row(limit=f"{numbers} product of {side} x {side} x {side}", tflops=gflops / 1e3)
    report.row(limit="copy" if device.type == "cuda" else "read", gb_per_second=bandwidth / 1e9)
    report.did("the device's limits, by which shares of a peak are computed")


def measure_book(report: Report) -> None:
    """Measure the book's model."""
    _measure(report, SHAPES["book"])


def measure_lstm(report: Report) -> None:
    """Measure the large LSTM."""
    _measure(report, SHAPES["lstm 2x1024"])


def _measure(report: Report, shape: Shape) -> None:
    changes: dict[str, object] = {
        "training.device": report.setting.device,
        "training.deterministic": False,
    }
    if report.dry:
        changes |= DRY_RUN
    seconds = (report.seconds_left - START_SECONDS) / WAYS / 1.2  # others are measured meanwhile
    options = BenchOptions(
        parse_config(merge(shape.config, changes)),
        seconds=0.05 if report.dry else min(WAY_SECONDS, max(LEAST_WAY_SECONDS, seconds)),
        only="training",
        child_command=report.setting.bench_command or None,
        logs=report.folder,
    )
    try:
        found = run_bench(options, _say)
    finally:
        for log in sorted(report.folder.glob("*.log")):
            _say("\n".join((f"{log.stem}:", *last_lines(log, SHOWN_LINES))))
    for row in found.training:
        report.row(**_row(found, row))
    for note in found.notes:
        (report.failed if note.startswith(LEFT_OUT) else report.note)(note)
    names = [row.name for row in found.training]
    report.did(
        f"{found.data.title}, {found.data.used:.0%} of the positions used: {', '.join(names)}"
    )
    if report.dry:
        report.skipped("TF32, the bf16 head and the shape itself: they need a GPU")
    report.fact(SPEED_FACT, _best(found))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _row(found: BenchReport, row: TrainingFigures) -> dict[str, str | int | float | bool | None]:
    seconds = found.data.tokens_per_step / row.tokens_per_second.median
    return {
        "way": row.name,
        "ms": 1e3 * seconds,
        "tokens_per_second": row.tokens_per_second.median,
        "x_naive": row.ratio.median,
        "x_library": None if row.ratio_to_library is None else row.ratio_to_library.median,
        "of_matrix": row.gemm_share,
        "peak_gib": row.peak_bytes / 2**30,
        "epoch_minutes": None if row.epoch_seconds is None else row.epoch_seconds / 60,
        "turns": row.turns,
    }


def _best(found: BenchReport) -> dict[str, object]:
    """The fastest engine beside the naive loop."""
    engine = [row for row in found.training if row.name.startswith("engine")]
    best = max(engine, key=lambda row: row.tokens_per_second.median)
    naive = found.training[0]
    return {
        "way": best.name,
        "times_naive": best.ratio.median,
        "epoch_seconds": best.epoch_seconds,
        "naive_epoch_seconds": naive.epoch_seconds,
        "steps_per_epoch": SHAPES["book"].steps_per_epoch,
    }


def judge_epoch(report: Report, book: Result | None, device: str) -> None:
    """Work out the book's epoch from the speed measured before; compare with the goals."""
    figures = book.facts.get(SPEED_FACT) if book is not None else None
    if not isinstance(figures, dict) or figures["epoch_seconds"] is None:
        report.skipped("the book's speed was not measured")
        return
    epoch, times = float(figures["epoch_seconds"]), float(figures["times_naive"])
    report.row(
        way=str(figures["way"]),
        steps=int(figures["steps_per_epoch"]),
        epoch_minutes=epoch / 60,
        naive_minutes=float(figures["naive_epoch_seconds"]) / 60,
        x_naive=times,
    )
    report.did("the book's epoch, from the measured speed and the number of its sentences")
    if report.dry:
        report.skipped("the goals: they are for a GPU")
        return
    if times < TIMES_NAIVE:
        report.missed(f"{times:.1f} times as fast as the naive loop, the goal is {TIMES_NAIVE:g}")
    if GOAL_CARD not in device:
        report.skipped(f"the goal for the epoch: it is for an {GOAL_CARD}, this is {device}")
    elif epoch >= EPOCH_SECONDS:
        report.missed(f"an epoch takes {epoch:.0f} s, the goal is {EPOCH_SECONDS:.0f} s")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
