"""Cross-entropy of the vocabulary head for GPUs: aligned products and few passes over the logits.

In it, and nowhere else, the vocabulary is padded to a multiple of 64: rows of weight zero and bias
-inf, whose probability is zero. Tensor cores want rows that begin at multiples of 16 bytes; with
32,011 numbers a row, most rows don't, and the products fall back to slow kernels.

A step passes over the logits in memory six times: the product writes them (with the bias, which
cuBLASLt adds on the way), the kernel reads them and overwrites them with their gradient, two
products read that, and a sum over rows gives the bias's gradient. The kernel's second read comes
from the cache. An extra column of ones in the last product would save the sum, but the product
would be 136 columns wide instead of 128, which many kernels compute as 192 or 256, and the weight's
gradient had to be copied out of it. Single operations of torch without the kernel make ten passes,
torch's own chunked loss about fourteen.

Nothing is read back from the device, and no shape depends on a value, so CUDA graphs can record it.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax
from rnnlm_tui.schema.estimates import (
    VOCAB_ALIGNMENT,
    WIDTH_ALIGNMENT,
    aligned,
    gpu_chunk_rows,
)


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
    inputs_NI, weight_WI, bias_W = _operands(hidden_NH, weight_VH, bias_V, weight_VH.dtype)
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
        inputs_NI, weight_WI, bias_W = _operands(
            hidden_NH, weight_VH, bias_V, torch.bfloat16 if reduced else weight_VH.dtype
        )
        count = (targets_N != IGNORED).sum()
        losses: list[Tensor] = []
        hidden_grads: list[Tensor] = []
        weight_grad_WI = bias_grad_W = weight_VH.new_empty(0)
        for chunk in _chunks(inputs_NI, vocab_size):
            gradient_RW, losses_R = softmax.gradient(
                F.linear(inputs_NI[chunk], weight_WI, bias_W), targets_N[chunk], count, vocab_size
            )
            losses.append(losses_R)
            hidden_grads.append(wide_product(gradient_RW, weight_WI)[:, :width])
            part_WI = wide_product(gradient_RW.t(), inputs_NI[chunk])
            part_W = gradient_RW.sum(0, dtype=part_WI.dtype)
            if chunk.start == 0:
                weight_grad_WI, bias_grad_W = part_WI, part_W
            else:
                weight_grad_WI.add_(part_WI)
                bias_grad_W.add_(part_W)
            del gradient_RW, part_WI  # or they would overlap with the next chunk's in memory
        ctx.save_for_backward(
            _joined(hidden_grads).contiguous(),
            weight_grad_WI[:vocab_size, :width].contiguous(),  # copies nothing at usual widths
            bias_grad_W[:vocab_size],
        )
        ctx.softmax, ctx.is_taken = softmax, False
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
            ctx.softmax.scale(weight_grad_VH, grad),
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

    The first call compiles and runs the kernel and waits for the device, so it must not be inside
    the recording of a CUDA graph; `choose_matmul` makes it before training.
    """
    if device.type != "cuda":
        return PLAIN, ""
    try:
        from rnnlm_tui.engine.loss_kernel import KERNEL

        dtypes = [torch.float32]
        if torch.cuda.is_bf16_supported(including_emulation=False):
            dtypes.append(torch.bfloat16)
        if all(agrees(KERNEL, device, dtype) for dtype in dtypes):
            return KERNEL, ""
        problem = "its results are wrong here"
    except Exception as error:  # Triton's errors have no base class
        problem = _problem(error)
    return PLAIN, f"training is slower without the loss kernel: {problem}"


def _problem(error: Exception) -> str:
    """What keeps Triton from working, in one line."""
    if isinstance(error, ModuleNotFoundError):
        return "Triton isn't installed"
    text = str(error).strip()
    if "find C compiler" in text:
        return "Triton needs a C compiler (install gcc)"
    if isinstance(error, subprocess.CalledProcessError):
        return "Triton's C compiler failed (are Python's headers installed, python3-dev?)"
    return (text or type(error).__name__).splitlines()[0]


def agrees(softmax: Softmax, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a way's losses and gradients are those of `PLAIN` for a few rows."""
    vocab_size, padded = 70, 2 * VOCAB_ALIGNMENT
    logits_RW = torch.linspace(-4, 4, 5 * padded, device=device).view(5, padded).to(dtype)
    logits_RW[:, vocab_size:] = -torch.inf
    targets_R = torch.tensor([0, 69, IGNORED, 7, 64], device=device)
    count = (targets_R != IGNORED).sum()
    wanted = PLAIN.gradient(logits_RW.clone(), targets_R, count, vocab_size)
    losses_R = softmax.losses(logits_RW.clone(), targets_R, vocab_size)
    found = softmax.gradient(logits_RW.clone(), targets_R, count, vocab_size)
    scaled = softmax.scale(torch.ones(3, device=device), torch.full((), 2.0, device=device))
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4
    return all(
        torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance)
        for one, other in (
            *zip(found, wanted, strict=True),
            (losses_R, wanted[1]),
            (scaled, torch.full_like(scaled, 2.0)),
        )
    )


def _operands(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """inputs_NI, weight_WI and bias_W of one dtype, padded, with I >= H and W >= V."""
    vocab_size, width = weight_VH.shape
    inner, outer = aligned(width, WIDTH_ALIGNMENT), aligned(vocab_size, VOCAB_ALIGNMENT)
    bias_W = F.pad(bias_V.to(dtype), (0, outer - vocab_size), value=-torch.inf)
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
