"""Choose how matrix products are computed: in float32, or with rounded inputs if faster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnnlm_tui.engine.device import is_out_of_memory, wait
from rnnlm_tui.engine.loss import mean_loss, rows_per_chunk
from rnnlm_tui.engine.padded_loss import softmax_for
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


Numbers = Literal["float32", "TF32", "bf16"]
"""What the inputs of products are rounded to, the most exact first."""


@dataclass(frozen=True, slots=True)
class Matmul:
    """The chosen mode, and the measurement behind it."""

    mode: Literal["float32", "medium", "bf16"]
    """`medium`: on a CPU the head's products round inputs to bf16, on a GPU all products round to
    TF32. `bf16`: on a GPU the head's round to bf16, all others to TF32."""
    numbers: Numbers
    """What the head's products round to."""
    speedups: tuple[tuple[Numbers, float], ...] = ()
    """float32's time for the head over that of each rounding; empty: not measured."""

    @property
    def reduced(self) -> bool:
        """The head's products and logits are in bf16."""
        return self.numbers == "bf16"

    def __str__(self) -> str:
        products = f"{self.numbers} matmul"
        if not self.speedups:
            return products
        others = [(name, times) for name, times in self.speedups if name != self.numbers]
        compared = " and ".join(
            f"{name} {'was ' if index == 0 else ''}{times:.2f}"
            for index, (name, times) in enumerate(others)
        )
        if self.numbers == "float32":
            return f"{products}: {compared} times as fast"
        found = f"{products}: {dict(self.speedups)[self.numbers]:.2f} times as fast as float32"
        return f"{found}; {compared} times" if others else found


def can_round(device: torch.device) -> bool:
    """Whether the device multiplies rounded numbers fast: bf16 on a CPU, TF32 on an NVIDIA GPU
    since Ampere."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in REDUCED_CPU_FEATURES)
    if device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8


def roundings(device: torch.device) -> tuple[Numbers, ...]:
    """What `auto` measures for the head on this device, the most exact first."""
    if device.type == "cpu":
        return ("float32", "bf16") if can_round(device) else ("float32",)
    found: tuple[Numbers, ...] = ("float32",)
    if can_round(device):
        found += ("TF32",)
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        found += ("bf16",)
    return found


def choose_matmul(
    wanted: str, weight_VH: Tensor, rows: int = USUAL_ROWS, *, precision: str = "float32"
) -> Matmul:
    """The mode for `training.matmul` on the head's device; on a GPU also sets torch's precision.

    `auto` measures float32 and all `roundings` for a head of this shape, in a fifth of a second on
    two cores, and takes the fastest; a less exact one only if it is clearly faster than those
    before it. If memory is too short to measure, it takes float32.

    Args:
        rows: positions of a step. On a CPU one chunk of them is tried: with fewer, rounding the
            weights would dominate and favour float32.
        precision: `bf16` decides for the head. Then `matmul` concerns the other products alone,
            and `auto` takes TF32 unmeasured, the more exact of the two.

    Raises:
        DeviceError: the device doesn't support `medium`.
    """
    device = weight_VH.device
    if device.type == "cuda":
        softmax_for(device)  # compiles and tries the kernel before the first step
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
    medium: Numbers = "bf16" if device.type == "cpu" else "TF32"
    if precision == "bf16":
        rounds = wanted == "medium" or (wanted == "auto" and can_round(device))
        chosen = Matmul("medium" if rounds else "float32", "bf16")
    elif wanted == "auto":
        chosen = _fastest(weight_VH, rows, medium)
    else:
        chosen = Matmul("medium", medium) if wanted == "medium" else Matmul("float32", "float32")
    set_gpu_precision(device, rounded=chosen.mode != "float32")
    return chosen


def _fastest(weight_VH: Tensor, rows: int, medium: Numbers) -> Matmul:
    """The result of measuring."""
    ways = roundings(weight_VH.device)
    if len(ways) == 1:
        return Matmul("float32", "float32")
    try:
        seconds = _seconds(weight_VH, rows, ways)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Matmul("float32", "float32")  # the rehearsal of a step explains it
    best: Numbers = "float32"
    for way in ways[1:]:
        if seconds[best] / seconds[way] > CLEARLY_FASTER:
            best = way
    speedups = tuple((way, seconds["float32"] / seconds[way]) for way in ways[1:])
    mode = best if best == "float32" else "medium" if best == medium else "bf16"
    return Matmul(mode, best, speedups)


def _seconds(weight_VH: Tensor, rows: int, ways: Sequence[Numbers]) -> dict[Numbers, float]:
    """Best times of a loss with its gradient in each way, measured in turns.

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
    best: dict[Numbers, float] = dict.fromkeys(ways, float("inf"))
    until = time.perf_counter() + MAX_TRIAL_SECONDS
    for turn in range(1 + TRIALS):
        for way in ways:
            set_gpu_precision(device, rounded=way == "TF32")
            wait(device)
            began = clock()
            loss = mean_loss(hidden_NH, weight_VH, bias_V, targets_N, reduced=way == "bf16")
            torch.autograd.grad(loss, [hidden_NH, weight_VH, bias_V])
            wait(device)
            if turn:  # the first trial selects kernels
                best[way] = min(best[way], clock() - began)
        if turn >= LEAST_TRIALS and time.perf_counter() > until:
            break
    return best


def set_gpu_precision(device: torch.device, *, rounded: bool) -> None:
    """On a CUDA GPU, use TF32 or float32 in all matrix products from now on, and float32 sums in
    those of bf16."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
