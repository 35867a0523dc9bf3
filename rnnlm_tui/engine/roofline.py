"""Measure how fast a device multiplies matrices and reads memory: the limits of training and sampling."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rnnlm_tui.contract.bench import Numbers
from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.matmul import can_round
from rnnlm_tui.engine.products import product

READ_BYTES = 256 * 2**20
"""Size of the array that is read: more than the caches hold."""

_PRECISIONS: dict[Numbers, str] = {"float32": "highest", "tf32": "high", "medium": "medium", "bf16": "highest"}


def ways_to_multiply(device: torch.device) -> tuple[Numbers, ...]:
    """Number formats in which this device multiplies matrices, the exact one first."""
    if not can_round(device):
        return ("float32",)
    return ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "medium")


def multiplication_speeds(device: torch.device, shapes: tuple[tuple[int, int, int], ...], seconds: float) -> dict[Numbers, float]:
    """The best GFLOP/s over all shapes (M, N, K), an M×K by K×N product, in each number format.

    All available libraries are tried: the fastest one depends on shape and CPU.

    Args:
        seconds: for all formats and shapes together, about.
    """
    ways = ways_to_multiply(device)
    before = torch.get_float32_matmul_precision()
    best: dict[Numbers, float] = {}
    try:
        for way in ways:
            torch.set_float32_matmul_precision(_PRECISIONS[way])
            trials = [trial for shape in shapes for trial in _trials(device, shape, way)]
            for operations, work in trials:
                best[way] = max(best.get(way, 0.0), 1e-9 * operations / _shortest(work, device, seconds / len(ways) / len(trials)))
    finally:
        torch.set_float32_matmul_precision(before)
    return best


def _trials(device: torch.device, shape: tuple[int, int, int], way: Numbers) -> list[tuple[int, Callable[[], Tensor]]]:
    """Operation counts and products: torch's, and the one that the vocabulary head uses."""
    rows, columns, depth = shape
    operations = 2 * rows * columns * depth
    left_MK, right_NK = (torch.randn(length, depth, device=device) for length in (rows, columns))
    works: list[Callable[[], Tensor]] = []
    if way != "bf16":
        works.append(partial(torch.matmul, left_MK, right_NK.t()))
    works.append(partial(product, left_MK, right_NK) if way in ("float32", "tf32") else partial(product, left_MK.bfloat16(), right_NK.bfloat16()))
    return [(operations, work) for work in works]


@torch.inference_mode()
def reading_speed(device: torch.device, seconds: float) -> float:
    """Bytes per second when reading a large array once, with torch's current threads."""
    array = torch.ones(READ_BYTES // 4, device=device)
    return READ_BYTES / _shortest(array.sum, device, seconds)


def _shortest(work: Callable[[], Tensor], device: torch.device, seconds: float) -> float:
    """Shortest of at least three repetitions, after a warm-up."""
    work()
    wait(device)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return min(times)
