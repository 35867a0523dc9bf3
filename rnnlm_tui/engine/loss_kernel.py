"""Triton kernel of the vocabulary head: softmax, loss and gradient of rows of logits in one go.

Importing this module needs Triton, which comes with torch's CUDA wheels on Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlm_tui.engine.softmax import IGNORED, Softmax

NUMBERS_PER_WARP = 512
"""Numbers that a warp (32 threads) holds at once: 16 per thread, two loads of 16 bytes in bf16."""

FEW_WARPS, MANY_WARPS = 16, 32
"""Warps of a program for rows up to `SHORT_ROW` bytes, and for longer ones.

Each program reads its row twice. The second time it comes from the L2 cache, if the rows of all
running programs fit there: with 16 warps and 40 to 60 registers, two or three programs run on a
multiprocessor, on an H100 at most 396 rows of 64 KB, 25 MB of its 50. (Worked out, not measured.)
"""

SHORT_ROW = 2**16
"""Bytes of a row up to which `FEW_WARPS` are used."""

IGNORED_TARGET = tl.constexpr(IGNORED)


@triton.jit(do_not_specialize=("targets", "losses"))  # type: ignore[untyped-decorator]
def _softmax_kernel(  # type: ignore[no-untyped-def]
    logits,
    width,
    vocab_size,
    targets,
    count,
    losses,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row a program.

    `width` is a multiple of 64, so Triton loads 16 bytes at a time; a mask at `vocab_size`, which
    is none, would make it load single numbers.
    """
    row = tl.program_id(0).to(tl.int64)  # row * width passes 2**31
    logits += row * width
    target = tl.load(targets + row)
    if target == IGNORED_TARGET:
        if GRADIENT:
            for start in range(0, width, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                tl.store(logits + columns, 0.0, mask=columns < width)
        tl.store(losses + row, 0.0)
        return
    of_target = tl.load(logits + target).to(tl.float32)

    # One pass for the largest logit and the sum of exponentials (Milakov and Gimelshein, "Online
    # normalizer calculation for softmax", 2018).
    largest = float("-inf")
    total = 0.0
    base = 0.0
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        block = tl.load(logits + columns, mask=columns < width, other=float("-inf"))
        block = tl.where(columns < vocab_size, block.to(tl.float32), float("-inf"))
        higher = tl.maximum(largest, tl.max(block, 0))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf is NaN
        total = total * tl.exp(largest - base) + tl.sum(tl.exp(block - base), 0)
        largest = higher
    # The largest logit is subtracted first: the sum of both would round off what is left.
    tl.store(losses + row, (base - of_target) + tl.log(total))

    if GRADIENT:
        share = 1.0 / tl.load(count).to(tl.float32)
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            block = tl.load(logits + columns, mask=columns < width, other=float("-inf"))
            block = tl.where(columns < vocab_size, block.to(tl.float32), float("-inf"))
            gradient = tl.exp(block - base) * (share / total)  # all but the target's part
            gradient = tl.where(columns == target, gradient - share, gradient)
            tl.store(logits + columns, gradient, mask=columns < width)


def gradient(
    logits_RW: Tensor, targets_R: Tensor, count: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """`Softmax.gradient`: (softmax - onehot(target)) / count, written over the logits.

    Padded columns get zeros whatever the logits are there. All sums are float32.

    Args:
        logits_RW: rows without gaps, float32 or bf16, W a multiple of 64.
    """
    losses_R = _launch(logits_RW, targets_R, count, vocab_size, writes=True)
    return logits_RW, losses_R


def losses(logits_RW: Tensor, targets_R: Tensor, vocab_size: int) -> Tensor:
    """`Softmax.losses`, float32; the logits stay."""
    return _launch(logits_RW, targets_R, targets_R, vocab_size, writes=False)


KERNEL = Softmax(gradient, losses)
"""This kernel as a way to compute the loss."""


def warps(width: int, number_bytes: int) -> int:
    """Warps of a program for rows of this many numbers."""
    most = FEW_WARPS if width * number_bytes <= SHORT_ROW or torch.version.hip else MANY_WARPS
    return min(most, max(1, int(triton.next_power_of_2(width)) // NUMBERS_PER_WARP))


def _launch(
    logits_RW: Tensor, targets_R: Tensor, count: Tensor, vocab_size: int, *, writes: bool
) -> Tensor:
    rows, width = logits_RW.shape
    losses_R = torch.empty(rows, dtype=torch.float32, device=logits_RW.device)
    if not rows:
        return losses_R
    number = warps(width, logits_RW.element_size())
    with torch.cuda.device_of(logits_RW):  # type: ignore[no-untyped-call]
        _softmax_kernel[(rows,)](
            logits_RW,
            width,
            vocab_size,
            targets_R,
            count,
            losses_R,
            GRADIENT=writes,
            BLOCK=number * NUMBERS_PER_WARP,
            num_warps=number,
        )
    return losses_R
