"""Choose how matrix products are computed: in float32, or with rounded inputs if faster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.loss import mean_loss, rows_per_chunk
from rnnlm_tui.errors import DeviceError

REDUCED_CPU_FEATURES = ("avx512_bf16", "amx_bf16")
"""Capabilities of CPUs that multiply bf16 faster than float32, by torch's names."""

TRIALS, LEAST_TRIALS, MAX_TRIAL_SECONDS = 8, 2, 0.25
"""The best of this many trials counts, since other processes only slow one down; fewer if they take
long."""

USUAL_ROWS = 4_096
"""About the rows of a step of the book's model."""

CLEARLY_FASTER = 1.05
"""Speedup from which rounding is worth it."""


@dataclass(frozen=True, slots=True)
class Matmul:
    """The chosen mode, and the measurement behind it."""

    mode: Literal["float32", "medium"]
    """`medium`: on a CPU the head's products round inputs to bf16, on a GPU all products round to
    TF32."""
    speedup: float | None = None
    """float32's time over medium's for the head; None: not measured."""
    rounded: Literal["bf16", "TF32"] = "bf16"
    """What `medium` rounds to on this device."""

    def __str__(self) -> str:
        products = f"{'float32' if self.mode == 'float32' else self.rounded} matmul"
        if self.speedup is None:
            return products
        return (
            f"{products}: {self.rounded} was {self.speedup:.2f} times as fast"
            if self.mode == "float32"
            else f"{products}: {self.speedup:.2f} times as fast as float32"
        )


def can_round(device: torch.device) -> bool:
    """Whether the device multiplies rounded numbers fast: bf16 on a CPU, TF32 on an NVIDIA GPU
    since Ampere."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in REDUCED_CPU_FEATURES)
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def choose_matmul(wanted: str, weight_VH: Tensor, rows: int = USUAL_ROWS) -> Matmul:
    """The mode for `training.matmul` on the head's device; on a GPU also sets torch's precision.

    `auto` measures both modes for a head of this shape, in a fifth of a second on two cores, and
    takes the faster one.

    Args:
        rows: positions of a step. On a CPU one chunk of them is tried: with fewer, rounding the
            weights would dominate and favour float32.

    Raises:
        DeviceError: the device doesn't support `medium`.
    """
    device = weight_VH.device
    if wanted == "medium" and not can_round(device):
        needed = (
            "a CPU with avx512_bf16 or amx_bf16"
            if device.type == "cpu"
            else "a CUDA GPU of compute capability 8.0"
        )
        raise DeviceError(
            f"training.matmul = medium isn't supported on this {device.type}: it needs {needed} or"
            " newer",
            hint="set training.matmul to auto or float32",
        )
    chosen = Matmul("medium" if wanted == "medium" else "float32")
    if wanted == "auto" and can_round(device):
        exact, rounded = _seconds(weight_VH, rows)
        speedup = exact / rounded
        chosen = Matmul(
            "medium" if speedup > CLEARLY_FASTER else "float32",
            speedup,
            "bf16" if device.type == "cpu" else "TF32",
        )
    set_gpu_precision(device, rounded=chosen.mode == "medium")
    return chosen


def _seconds(weight_VH: Tensor, rows: int) -> tuple[float, float]:
    """Best times of a loss with its gradient, in float32 and rounded, measured alternately.

    On a CPU this is CPU time, which other processes affect far less than wall time.
    """
    device = weight_VH.device
    vocab_size, width = weight_VH.shape
    if device.type == "cpu":
        rows = min(rows, rows_per_chunk(vocab_size, reduced=True))
    hidden_NH = (
        torch.linspace(-1, 1, rows * width, device=device).view(rows, width).requires_grad_()
    )
    weight_VH = weight_VH.detach().requires_grad_()
    bias_V = torch.zeros(vocab_size, device=device, requires_grad=True)
    targets_N = torch.arange(rows, device=device) % vocab_size
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    best = [float("inf"), float("inf")]
    until = time.perf_counter() + MAX_TRIAL_SECONDS
    for turn in range(1 + TRIALS):
        for rounded in (False, True):
            set_gpu_precision(device, rounded=rounded)
            wait(device)
            began = clock()
            loss = mean_loss(
                hidden_NH, weight_VH, bias_V, targets_N, reduced=rounded and device.type == "cpu"
            )
            torch.autograd.grad(loss, [hidden_NH, weight_VH, bias_V])
            wait(device)
            if turn:  # the first trial selects kernels
                best[rounded] = min(best[rounded], clock() - began)
        if turn >= LEAST_TRIALS and time.perf_counter() > until:
            break
    return best[False], best[True]


def set_gpu_precision(device: torch.device, *, rounded: bool) -> None:
    """On a CUDA GPU, use TF32 or float32 in all matrix products from now on."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded
