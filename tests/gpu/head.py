"""Measure the output layer alone: loss and gradients, by the kernel and by torch's operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.matmul import roundings, set_gpu_precision
from rnnlm_tui.engine.padded_loss import kernel_note, padded_mean_loss, softmax_for
from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax
from rnnlm_tui.schema.memory import VOCAB_ALIGNMENT, aligned, gpu_chunk_rows
from tests.gpu.parts import Report
from tests.gpu.shapes import SHAPES

MOST_RUNS = 50
PASSES = 5
"""Reads and writes of all logits in memory by the kernel's way; see `engine.padded_loss`."""
MeanLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def measure_head(report: Report) -> None:
    """Time of a loss with its gradients, at each shape, in each number format."""
    device = torch.device(report.setting.device)
    note = kernel_note(device)
    if note:
        report.note(note)
    ways: dict[str, Softmax] = {"torch's operations": PLAIN}
    if softmax_for(device) is not PLAIN:
        ways = {"kernel": softmax_for(device), **ways}
    cases = [
        (name, numbers, way)
        for name in SHAPES
        for numbers in reversed(roundings(device))
        for way in (*ways, "F.linear_cross_entropy")
        if way in ways or numbers != "bf16"
    ]
    each = report.seconds_left * 0.8 / len(cases)
    for name, numbers, way in cases:
        rows, vocab_size, width = _sizes(name, dry=report.dry)
        if way in ways:
            loss: MeanLoss = partial(padded_mean_loss, reduced=numbers == "bf16", softmax=ways[way])
        elif hasattr(nn, "LinearCrossEntropyOptions"):
            loss = _torchs
        else:
            continue
        set_gpu_precision(device, rounded=numbers == "TF32")
        seconds = _measured(loss, (rows, vocab_size, width), device, each)
        set_gpu_precision(device, rounded=False)
        logits = (2 if numbers == "bf16" else 4) * rows * aligned(vocab_size, VOCAB_ALIGNMENT)
        report.row(
            shape=name,
            numbers=numbers,
            way=way,
            rows=rows,
            ms=1e3 * seconds,
            logits_gb_per_second=PASSES * logits / seconds / 1e9 if way == "kernel" else None,
            tflops=6e-12 * rows * vocab_size * width / seconds,
        )
    report.did("the loss and the gradients of the output layer, without the rest of a step")
    if report.dry:
        report.skipped("the kernel, TF32, bf16 and the shapes themselves: they need a GPU")


def _sizes(name: str, *, dry: bool) -> tuple[int, int, int]:
    """Rows, vocabulary and width of a step's output layer."""
    if dry:
        return 24, 100, 16
    shape = SHAPES[name]
    training = shape.config.training
    length = training.bptt if training.data_mode == "stream" else training.context_length - 1
    rows = round(training.batch_size * length * shape.used)
    return rows, shape.vocab_size, shape.config.model.hidden_size


def _torchs(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """torch's own chunked loss, with our size of chunks."""
    size = gpu_chunk_rows(hidden.shape[0], weight.shape[0], 4)
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=size)
    return F.linear_cross_entropy(
        hidden, weight, targets, linear_bias=bias, ignore_index=IGNORED, options=options
    )


def _measured(
    loss: MeanLoss, sizes: tuple[int, int, int], device: torch.device, seconds: float
) -> float:
    """The shortest time of one call with its gradients; the first two calls choose kernels."""
    rows, vocab_size, width = sizes
    generator = torch.Generator(device).manual_seed(1)
    hidden, weight = (
        torch.randn(size, width, device=device, generator=generator).requires_grad_()
        for size in (rows, vocab_size)
    )
    bias = torch.zeros(vocab_size, device=device, requires_grad=True)
    targets = torch.arange(rows, device=device) % vocab_size
    best, until = float("inf"), time.perf_counter() + seconds
    for run in range(2 + MOST_RUNS):
        wait(device)
        began = time.perf_counter()
        torch.autograd.grad(loss(hidden, weight, bias, targets), [hidden, weight, bias])
        wait(device)
        if run >= 2:
            best = min(best, time.perf_counter() - began)
        if best < float("inf") and time.perf_counter() > until:
            break
    return best
