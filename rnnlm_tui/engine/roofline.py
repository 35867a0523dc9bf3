"""How fast a device multiplies matrices and reads memory: the limits that training and sampling are held against."""

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
"""Of the array whose reading is timed: more than the caches hold."""

_PRECISIONS: dict[Numbers, str] = {"float32": "highest", "tf32": "high", "medium": "medium", "bf16": "highest"}


def ways_to_multiply(device: torch.device) -> tuple[Numbers, ...]:
    """The numbers in which this device multiplies matrices, the exact first."""
    if not can_round(device):
        return ("float32",)
    return ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "medium")


def multiplication_speeds(device: torch.device, shapes: tuple[tuple[int, int, int], ...], seconds: float) -> dict[Numbers, float]:
    """The best speed over (M, N, K) of an M×K by K×N product in each kind of numbers, 10^9 floating-point operations a second.

    Of every library that computes it: which one is fastest depends on the shape and on the CPU.

    Args:
        seconds: for all kinds and shapes together, about.
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
    """Operations, and what does them: torch's product, and the one that the vocabulary head uses."""
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
    """Bytes a second of a pass that reads a large array once, with the threads that torch has now."""
    array = torch.ones(READ_BYTES // 4, device=device)
    return READ_BYTES / _shortest(array.sum, device, seconds)


def _shortest(work: Callable[[], Tensor], device: torch.device, seconds: float) -> float:
    """Of several repetitions, three at least; the first one only warms up."""
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
