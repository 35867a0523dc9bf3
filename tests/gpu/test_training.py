"""Training on a GPU: steps wait for nothing, losses are the CPU's, memory is the estimated one."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.device import (
    set_threads,
    use_device,
    wait,
)
from rnnlm_tui.engine.memory import peak_bytes, rehearse_evaluation, reset_peak
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.machine import usable_cores
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from tests.fakes.random_corpus import random_corpus
from tests.gpu import DEVICE, DRY, NEEDS_GPU, ON_DEVICE
from tests.gpu.shapes import SHAPES, TINY

pytestmark = ON_DEVICE
Property = Callable[[str, object], None]

WARM_UPS = 2 if DRY else 12
"""Steps before the checked ones: libraries choose their kernels."""
CHECKED_STEPS = 5 if DRY else 50
COMPARED_STEPS = 5 if DRY else 200
TOLERANCE = 1e-4
"""Largest mean difference of the losses of 200 steps in nats; of one step, ten times as much.
float32 differs from float64 by 3e-7 there, at most 1e-6 in one step, for every cell (on a CPU);
TF32 by mistake would differ by more than this."""
LEAST_OF_ESTIMATE, MOST_OF_ESTIMATE = 0.5, 1.15
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
    "training.matmul": "float32",
    "schedule.warmup_steps": 0,
    "schedule.kind": "constant",
    "optimizer.learning_rate": 1e-3,
    **(TINY if DRY else {}),
}
SMALL_VOCABULARY = 50 if DRY else 1_000


def trainer_of(
    folder: Path, config: RunConfig, vocab_size: int, device: torch.device = DEVICE
) -> Trainer:
    """A trainer on random tokens, with the weights of the config's seed. With small batches a pass
    ends within the checked steps."""
    count = 640 if vocab_size <= SMALL_VOCABULARY else 6_000
    corpus = random_corpus(folder, config, vocab_size, count, as_in_text=True)
    torch.manual_seed(config.training.seed)
    model = build_model(config, corpus).to(use_device(str(device)))
    return build_trainer(config, model, build_batches(config, corpus))


def small_config(**changes: object) -> RunConfig:
    named = {path.replace("__", "."): value for path, value in changes.items()}
    return parse_config(merge(RunConfig(), {**SMALL, **named}))


@contextmanager
def refused_waits() -> Iterator[None]:
    """Raise an error for each operation that waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mode", ["sentences", "stream"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_steps_wait_for_nothing(tmp_path: Path, cell: str, mode: str) -> None:
    config = small_config(model__cell_type=cell, training__data_mode=mode)
    trainer = trainer_of(tmp_path, config, SMALL_VOCABULARY)
    for _ in range(WARM_UPS):
        trainer.train_step()
    wait(DEVICE)
    if DRY:
        results = [trainer.train_step() for _ in range(CHECKED_STEPS)]
    else:
        with refused_waits():
            results = [trainer.train_step() for _ in range(CHECKED_STEPS)]
    assert math.isfinite(results[-1].loss.item())
    assert math.isfinite(results[-1].grad_norm.item())


@pytest.mark.parametrize("case", [*sorted(CELLS), "book"])
def test_the_losses_of_training_are_the_cpus(
    tmp_path: Path, case: str, record_property: Property
) -> None:
    if case == "book":
        sizes = {"training.batch_size": 16, "training.matmul": "float32", **(TINY if DRY else {})}
        config = parse_config(merge(SHAPES["book"].config, sizes))
        vocab_size = SMALL_VOCABULARY if DRY else SHAPES["book"].vocab_size
    else:
        mode = "sentences" if case in ("elman", "gru", "slstm") else "stream"
        config = small_config(model__cell_type=case, training__data_mode=mode)
        vocab_size = SMALL_VOCABULARY
    # A small model gains nothing from more threads, and loses much beside other processes.
    set_threads(1 if vocab_size <= SMALL_VOCABULARY else min(8, usable_cores()))
    found: list[Tensor] = []
    for device in (torch.device("cpu"), DEVICE):
        trainer = trainer_of(tmp_path, config, vocab_size, device)
        losses = [trainer.train_step().loss for _ in range(COMPARED_STEPS)]
        found.append(torch.stack(losses).cpu().double())
    difference = (found[0] - found[1]).abs()
    record_property("mean difference", f"{difference.mean():.2e}")
    record_property("largest difference", f"{difference.max():.2e}")
    assert difference.mean() <= TOLERANCE
    assert difference.max() <= 10 * TOLERANCE


@NEEDS_GPU
@pytest.mark.parametrize("numbers", ["float32", "bf16"])
@pytest.mark.parametrize("name", SHAPES)
def test_memory_is_the_estimated_one(
    tmp_path: Path, name: str, numbers: str, record_property: Property
) -> None:
    shape = SHAPES[name]
    changes = {
        # Not `auto`: trying the products takes memory, too.
        "training.matmul": "float32" if numbers == "float32" else "medium",
        "training.precision": numbers,
    }
    config = parse_config(merge(shape.config, changes))
    gc.collect()  # what earlier tests left
    torch.cuda.empty_cache()
    reset_peak(DEVICE)
    trainer = trainer_of(tmp_path, config, shape.vocab_size)
    for _ in range(WARM_UPS):
        trainer.train_step()
    rehearse_evaluation(trainer)
    wait(DEVICE)
    estimated = memory_parts(config, shape.vocab_size, on_gpu=True).training
    share = peak_bytes(DEVICE) / estimated
    record_property("MiB reserved", round(peak_bytes(DEVICE) / 2**20))
    record_property("MiB allocated", round(torch.cuda.max_memory_allocated(DEVICE) / 2**20))
    record_property("of the estimate", f"{share:.0%}")
    assert LEAST_OF_ESTIMATE <= share <= MOST_OF_ESTIMATE
