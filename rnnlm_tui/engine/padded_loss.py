"""Cross-entropy of the vocabulary head for GPUs: aligned products and few passes over the logits.

In it, and nowhere else, the vocabulary is padded to a multiple of 64: rows of weight zero and bias
-inf, whose probability is zero. Tensor cores want rows that begin at multiples of 16 bytes; with
32,011 numbers a row, most rows don't, and the products fall back to slow kernels.

A step passes over the logits in memory six times: the product writes them (with the bias, which
cuBLASLt adds on the way), the kernel reads them and overwrites them with their gradient, and two
products and the sum of the rows, the bias's gradient, read that. The kernel's second read comes
from the cache. Single operations of torch without the kernel make ten passes, torch's own chunked
loss about fourteen.

Nothing is read back from the device, and no shape depends on a value, so training doesn't wait.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax
from rnnlm_tui.schema.memory import (
    VOCAB_ALIGNMENT,
    WIDTH_ALIGNMENT,
    aligned,
    gpu_chunk_rows,
)

SWITCH = "RNNLM_TUI_TRITON"
"""Environment variable: `0` uses torch's operations only. A trial can't save a process that
Triton's compiler aborts."""


def padded_mean_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    *,
    reduced: bool,
    softmax: Softmax,
) -> Tensor:
    """`mean_loss` for GPUs, on any device. Its gradient can be taken once.

    Rows with the target `IGNORED` cost their product and nothing else.

    Args:
        reduced: inputs of all products, and the logits, in bf16; sums, losses and gradients
            float32.
    """
    arguments = hidden_NH, weight_VH, bias_V, targets_N, reduced, softmax
    return cast(Tensor, _PaddedCrossEntropy.apply(*arguments))  # type: ignore[no-untyped-call]


@torch.no_grad()
def padded_token_losses(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor, softmax: Softmax
) -> Tensor:
    """`token_losses` for GPUs, on any device: in the precision of the weights."""
    vocab_size = weight_VH.shape[0]
    dtype = weight_VH.dtype
    inputs_NI, weight_WI, bias_W = _operands(hidden_NH, weight_VH, bias_V, dtype)
    losses = [
        softmax.losses(F.linear(inputs_NI[chunk], weight_WI, bias_W), targets_N[chunk], vocab_size)
        for chunk in _chunks(inputs_NI, vocab_size)
    ]
    return torch.cat(losses)


class _PaddedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor,
        targets_N: Tensor,
        reduced: bool,
        softmax: Softmax,
    ) -> Tensor:
        vocab_size, width = weight_VH.shape
        dtype = torch.bfloat16 if reduced else weight_VH.dtype
        inputs_NI, weight_WI, bias_W = _operands(hidden_NH, weight_VH, bias_V, dtype)
        count = (targets_N != IGNORED).sum()
        losses: list[Tensor] = []
        hidden_grads: list[Tensor] = []
        grads: list[Tensor] = []
        for chunk in _chunks(inputs_NI, vocab_size):
            gradient_RW, losses_R = softmax.gradient(
                F.linear(inputs_NI[chunk], weight_WI, bias_W), targets_N[chunk], count, vocab_size
            )
            losses.append(losses_R)
            hidden_grads.append(wide_product(gradient_RW, weight_WI)[:, :width])
            weight_part = wide_product(gradient_RW.t(), inputs_NI[chunk])
            parts = [weight_part, gradient_RW.sum(0, dtype=weight_part.dtype)]
            del gradient_RW  # or it would overlap with the next chunk's in memory
            if grads:
                for grad, part in zip(grads, parts, strict=True):
                    grad.add_(part)
            else:
                grads = parts
            del parts, weight_part
        weight_grad_VH = grads[0][:vocab_size, :width].contiguous()
        bias_grad_V = grads[1][:vocab_size]
        ctx.save_for_backward(_joined(hidden_grads).contiguous(), weight_grad_VH, bias_grad_V)
        ctx.is_taken = False
        return _joined(losses).sum() / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        if ctx.is_taken:
            raise RuntimeError("the gradient of the head's loss can be taken only once")
        ctx.is_taken = True
        hidden_grad_NH, weight_grad_VH, bias_grad_V = ctx.saved_tensors
        # `grad` is nearly always 1, but asking would wait for the device.
        return (
            hidden_grad_NH * grad,
            weight_grad_VH.mul_(grad),
            bias_grad_V * grad,
            None,
            None,
            None,
        )


def wide_product(left_NK: Tensor, right_KM: Tensor) -> Tensor:
    """Product of matrices, at least in float32 also where its inputs are bf16."""
    if left_NK.dtype != torch.bfloat16:
        return left_NK @ right_KM
    if left_NK.device.type == "cpu":  # has no product with another output type
        return left_NK.float() @ right_KM.float()
    if torch.version.hip:
        return (left_NK @ right_KM).float()
    return torch.mm(left_NK, right_KM, out_dtype=torch.float32)


def softmax_for(device: torch.device) -> Softmax:
    """The Triton kernel, if it works on this device, else `PLAIN`."""
    return _tried(device)[0]


def kernel_note(device: torch.device) -> str:
    """Why an NVIDIA or AMD GPU doesn't use the Triton kernel; empty: it does, or never could."""
    return _tried(device)[1]


@functools.cache
def _tried(device: torch.device) -> tuple[Softmax, str]:
    """The device's way, and what keeps it from the kernel.

    The kernel is tried once, against torch's operations. That compiles and runs it; `choose_matmul`
    does it before training.
    """
    if device.type != "cuda":
        return PLAIN, ""
    problem = f"{SWITCH} is 0"
    if os.environ.get(SWITCH) != "0":
        try:
            from rnnlm_tui.engine.loss_kernel import KERNEL

            if _agrees_in_all_types(KERNEL, device):
                return KERNEL, ""
            problem = "its results are wrong here"
        except Exception as error:  # Triton's errors have no base class
            problem = _problem(error)
    return PLAIN, f"training is slower without the loss kernel: {problem}"


def _problem(error: Exception) -> str:
    """What keeps the kernel from working, in one line."""
    if isinstance(error, ModuleNotFoundError):
        return "Triton isn't installed"
    text = str(error).strip()
    if "find C compiler" in text:
        return "Triton needs a C compiler (install gcc)"
    if isinstance(error, subprocess.CalledProcessError):
        return "Triton's C compiler failed (are Python's headers installed, python3-dev?)"
    return (text or type(error).__name__).splitlines()[0]


def _agrees_in_all_types(softmax: Softmax, device: torch.device) -> bool:
    dtypes = [torch.float32]
    if torch.cuda.is_bf16_supported(including_emulation=False):
        dtypes.append(torch.bfloat16)
    return all(agrees(softmax, device, dtype) for dtype in dtypes)


def agrees(softmax: Softmax, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a way's losses and gradients are those of `PLAIN` for a few rows: short ones, and
    long ones, which a kernel reads in several blocks."""
    return all(_agrees_at(softmax, vocab_size, device, dtype) for vocab_size in (70, 33_000))


def _agrees_at(softmax: Softmax, vocab_size: int, device: torch.device, dtype: torch.dtype) -> bool:
    padded = aligned(vocab_size, VOCAB_ALIGNMENT)
    logits_RW = torch.linspace(-4, 4, 5 * padded, device=device).view(5, padded).to(dtype)
    logits_RW[:, vocab_size:] = -torch.inf
    targets_R = torch.tensor(
        [0, vocab_size - 1, IGNORED, vocab_size // 2, VOCAB_ALIGNMENT], device=device
    )
    count = (targets_R != IGNORED).sum()
    wanted = PLAIN.gradient(logits_RW.clone(), targets_R, count, vocab_size)
    losses_R = softmax.losses(logits_RW.clone(), targets_R, vocab_size)
    found = softmax.gradient(logits_RW.clone(), targets_R, count, vocab_size)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4
    return all(
        torch.allclose(
            one.float(),
            other.float(),
            rtol=tolerance,
            atol=tolerance * float(other.float().abs().mean()),
        )
        for one, other in (*zip(found, wanted, strict=True), (losses_R, wanted[1]))
    )


def _operands(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """inputs_NI, weight_WI and bias_W of one dtype, padded, with I >= H and W >= V."""
    vocab_size, width = weight_VH.shape
    inner, outer = aligned(width, WIDTH_ALIGNMENT), aligned(vocab_size, VOCAB_ALIGNMENT)
    bias_W = bias_V.new_full((outer,), -torch.inf, dtype=dtype)
    bias_W[:vocab_size].copy_(bias_V)
    return (
        _padded(hidden_NH, hidden_NH.shape[0], inner, dtype),
        _padded(weight_VH, outer, inner, dtype),
        bias_W,
    )


def _padded(matrix: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """A copy with zeros behind the last row and column; the matrix itself if nothing changes."""
    given_rows, given_columns = matrix.shape
    if (rows, columns, dtype) == (given_rows, given_columns, matrix.dtype):
        return matrix.contiguous()
    padded = matrix.new_empty(rows, columns, dtype=dtype)
    padded[:given_rows, :given_columns].copy_(matrix)
    if rows > given_rows:
        padded[given_rows:].zero_()
    if columns > given_columns:
        padded[:, given_columns:].zero_()
    return padded


def _chunks(inputs_NI: Tensor, vocab_size: int) -> Iterator[slice]:
    """Equal chunks of rows; without rows, an empty one."""
    rows = inputs_NI.shape[0]
    size = max(1, gpu_chunk_rows(rows, vocab_size, inputs_NI.element_size()))
    return (slice(start, start + size) for start in range(0, max(1, rows), size))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
