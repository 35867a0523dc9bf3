"""Parts that train in their own process: launches without waiting, losses against the CPU's, peak
memory against the estimate, and the slowest kernels of a step."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.device import (
    release_cache,
    seed_everything,
    set_threads,
    use_device,
    wait,
)
from rnnlm_tui.engine.memory import peak_bytes, rehearse_evaluation
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import CorpusManifest
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.machine import usable_cores
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from tests.fakes.random_corpus import random_corpus
from tests.gpu.parts import Report
from tests.gpu.shapes import SHAPES, Shape

MODES = ("sentences", "stream")
WARM_UPS = 12
"""Steps before the checked ones: libraries choose their kernels."""
CHECKED_STEPS = 50
COMPARED_STEPS = 200
TOLERANCE = 1e-4
"""Largest mean difference of the losses of 200 steps in nats; of one step, ten times as much.
float32 differs from float64 by 3e-7 there, at most 1e-6 in one step, for every cell (on a CPU);
TF32 by mistake would differ by more than this."""
KERNELS = 15
MOST_OF_ESTIMATE, LEAST_OF_ESTIMATE = 1.15, 0.5
"""Measured memory over its estimate that is good enough: a run must not need much more than it was
told, and shouldn't be refused for want of memory that it doesn't need."""

SMALL: Mapping[str, object] = {
    "model.embedding_dim": 64,
    "model.hidden_size": 64,
    "model.num_layers": 2,
    "model.num_heads": 4,
    "model.dropout": 0.0,
    "model.tie_weights": False,
    "training.batch_size": 16,
    "training.bptt": 20,
    "training.context_length": 21,
    "training.deterministic": False,
    "schedule.warmup_steps": 0,
    "schedule.kind": "constant",
    "optimizer.learning_rate": 1e-3,
}
SMALL_VOCABULARY = 1_000
SENTENCES, MANY_SENTENCES = 640, 6_000
"""Of a random corpus, for a small vocabulary and a large one: with small batches a pass ends within
the checked steps."""
TINY: Mapping[str, object] = {
    "model.embedding_dim": 8,
    "model.hidden_size": 8,
    "training.batch_size": 4,
    "training.bptt": 6,
    "training.context_length": 7,
}
"""For a dry run."""
TINY_VOCABULARY = 50


def small_config(report: Report, changes: Mapping[str, object]) -> tuple[RunConfig, int]:
    """A config that trains a small model, and its vocabulary."""
    sizes = {**SMALL, **(TINY if report.dry else {})}
    config = parse_config(merge(RunConfig(), {**sizes, **changes}))
    return config, TINY_VOCABULARY if report.dry else SMALL_VOCABULARY


def trainer_of(
    report: Report,
    config: RunConfig,
    vocab_size: int,
    device: str | None = None,
) -> Trainer:
    """A trainer on random tokens, with the weights of the config's seed.

    Args:
        device: None: the one that is proven.
    """
    folder = _corpus_folder(report, vocab_size)
    if folder.exists():
        corpus = PreparedCorpus(folder, _known(folder))
    else:
        folder.mkdir()
        count = SENTENCES if vocab_size <= SMALL_VOCABULARY else MANY_SENTENCES
        corpus = random_corpus(folder, config, vocab_size, count, as_in_text=True)
        (folder / "manifest.json").write_text(corpus.manifest.model_dump_json(), encoding="utf-8")
    where = use_device(device or report.setting.device)
    seed_everything(config.training.seed)
    model = build_model(config, corpus).to(where)
    return build_trainer(config, model, build_batches(config, corpus))


def _corpus_folder(report: Report, vocab_size: int) -> Path:
    return report.folder / f"corpus-{vocab_size}"


def _known(folder: Path) -> CorpusManifest:
    return CorpusManifest.model_validate_json((folder / "manifest.json").read_text("utf-8"))


@contextlib.contextmanager
def refused_waits(device: torch.device) -> Iterator[None]:
    """Raise an error for each operation that waits for the GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def prove_no_waiting(report: Report) -> None:
    """Train each cell in both data modes, with waiting refused."""
    steps = 5 if report.dry else CHECKED_STEPS
    report.did(f"{steps} steps of each of {len(CELLS)} cells in both data modes")
    if report.dry:
        report.skipped("the check itself: it needs a GPU")
    for cell in report.cases:
        for mode in MODES:
            way = f"{cell}, {mode}"
            with continued(report, way):
                _no_waiting(report, cell, mode, steps, way)


@contextlib.contextmanager
def continued(report: Report, way: str) -> Iterator[None]:
    """Report an error and continue, unless CUDA is of no use any more."""
    try:
        yield
    except RuntimeError as error:
        report.broke(error, way)
        try:
            release_cache(torch.device(report.setting.device))
        except RuntimeError:
            report.failed("the rest was left out: CUDA doesn't work any more")
            sys.exit(1)


def _no_waiting(report: Report, cell: str, mode: str, steps: int, way: str) -> None:
    changes: dict[str, object] = {
        "model.cell_type": cell,
        "training.data_mode": mode,
        "training.matmul": "float32",
    }
    trainer = trainer_of(report, *small_config(report, changes))
    for _ in range(2 if report.dry else WARM_UPS):
        trainer.train_step()
    wait(trainer.device)
    with refused_waits(trainer.device):
        for _ in range(steps):
            result = trainer.train_step()
    loss, norm = result.loss.item(), result.grad_norm.item()
    report.row(way=way, steps=steps, loss=loss, grad_norm=norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        report.failed(f"{way}: the loss is {loss}, the norm of the gradient {norm}")


def prove_losses(report: Report) -> None:
    """Train on the device and on the CPU in float32; compare the losses of all steps."""
    steps = 20 if report.dry else COMPARED_STEPS
    report.did(
        f"{steps} steps in float32 on {report.setting.device} and on the CPU; at most"
        f" {TOLERANCE:g} nats of difference on average, {10 * TOLERANCE:g} in one step"
    )
    if report.dry:
        report.skipped("the comparison itself: the device is the CPU, so every difference is 0")
    for case in report.cases:
        if case in SHAPES:
            book, sizes = SHAPES[case], TINY if report.dry else {}
            config = parse_config(merge(book.config, {"training.batch_size": 16, **sizes}))
            vocab_size = TINY_VOCABULARY if report.dry else book.vocab_size
        else:
            mode = "sentences" if case in ("elman", "gru", "slstm") else "stream"
            changes = {"model.cell_type": case, "training.data_mode": mode}
            config, vocab_size = small_config(report, changes)
        with continued(report, case):
            _losses(report, case, config, vocab_size, steps)


def _losses(report: Report, name: str, config: RunConfig, vocab_size: int, steps: int) -> None:
    config = parse_config(
        merge(config, {"training.matmul": "float32", "training.precision": "float32"})
    )
    ways = [("CPU", "cpu"), ("device", report.setting.device)]
    found: dict[str, Tensor] = {}
    # A small model gains nothing from more threads, and loses much beside other processes.
    set_threads(1 if report.dry or vocab_size <= SMALL_VOCABULARY else min(8, usable_cores()))
    for way, device in ways:
        trainer = trainer_of(report, config, vocab_size, device)
        found[way] = torch.stack([trainer.train_step().loss for _ in range(steps)]).cpu().double()
    for way, _ in ways[1:]:
        difference = (found[way] - found["CPU"]).abs()
        mean, largest = float(difference.mean()), float(difference.max())
        holds = mean <= TOLERANCE and largest <= 10 * TOLERANCE
        report.row(
            model=f"{name}, {config.training.data_mode}",
            way=way,
            first=float(found[way][0]),
            last=float(found[way][-1]),
            mean_difference=mean,
            largest=largest,
            holds=holds,
        )
        if not holds:  # also if it is NaN
            report.failed(f"{name}, {way}: losses differ by {mean:.2g}, at most {largest:.2g}")


def prove_memory(report: Report) -> None:
    """Compare the peak of the memory that torch reserves with the estimate."""
    report.did("peak memory of a few steps and an evaluation of each shape")
    if report.dry:
        report.skipped("the comparison itself: a CPU's memory is the process's, libraries included")
    for case in report.cases:
        shape, way = case.split(", ")
        if not report.dry or way == "float32":
            with continued(report, case):
                _memory(report, SHAPES[shape], way)


def _memory(report: Report, shape: Shape, way: str) -> None:
    changes: dict[str, object] = {
        # Not `auto`: trying the products takes memory, too.
        "training.matmul": "float32" if way == "float32" else "medium",
        "training.precision": "float32" if way == "float32" else "bf16",
    }
    vocab_size = shape.vocab_size
    if report.dry:
        changes, vocab_size = {**changes, **TINY}, TINY_VOCABULARY
    on_gpu = not report.dry
    config = parse_config(merge(shape.config, changes))
    trainer = trainer_of(report, config, vocab_size)
    device = trainer.device
    for _ in range(2 if report.dry else WARM_UPS):
        trainer.train_step()
    rehearse_evaluation(trainer)
    wait(device)
    reserved = peak_bytes(device)
    known = _known(_corpus_folder(report, vocab_size)).splits["train"]
    parts = memory_parts(config, vocab_size, sentences=known.sentences, on_gpu=on_gpu)
    share = reserved / parts.training
    report.row(
        shape=shape.name,
        way=way,
        reserved_mib=reserved / 2**20,
        allocated_mib=torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        estimated_mib=parts.training / 2**20,
        share=share,
    )
    if on_gpu and not LEAST_OF_ESTIMATE <= share <= MOST_OF_ESTIMATE:
        report.missed(
            f"{shape.name}, {way}: {reserved / 2**20:,.0f} MiB are {share:.0%} of the estimate"
        )


def show_slowest_kernels(report: Report) -> None:
    """Profile steps of both shapes in the engine's fastest way."""
    for shape in SHAPES.values():
        changes: dict[str, object] = {"training.precision": "bf16"}
        vocab_size = shape.vocab_size
        if report.dry:
            changes, vocab_size = dict(TINY), TINY_VOCABULARY
        trainer = trainer_of(report, parse_config(merge(shape.config, changes)), vocab_size)
        steps = 2 if report.dry else 10
        for _ in range(steps):
            trainer.train_step()
        wait(trainer.device)
        on_gpu = trainer.device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities) as seen:
            for _ in range(steps):
                trainer.train_step()
            wait(trainer.device)
        by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        table = seen.key_averages().table(sort_by=by, row_limit=KERNELS, max_name_column_width=60)
        report.detail(f"{shape.name}, {steps} steps, the slowest {KERNELS}:\n{table}")
    report.did(f"the slowest {KERNELS} kernels of both shapes")
    if report.dry:
        report.skipped("kernels of a GPU: these are the CPU's operations")
