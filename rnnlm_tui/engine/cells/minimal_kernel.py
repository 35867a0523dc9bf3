"""Triton kernels of a gated average: all time steps in one launch, each way.

Units don't depend on each other, so each thread walks through the time steps of its own. Importing
this module needs Triton, which comes with torch's CUDA wheels on Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
"""Units of a program, one a thread: many small programs, since each waits for memory most of the
time."""


@triton.jit(do_not_specialize=("steps",))  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    gates,
    candidates,
    state,
    hiddens,
    steps,
    size,
    width,
    candidate_time,
    candidate_row,
    BLOCK: tl.constexpr,
):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    candidates += places // width * candidate_row + places % width
    h = tl.load(state + places, mask=inside, other=0.0)
    for _ in range(steps):
        z = tl.load(gates + places, mask=inside, other=0.0)
        h = (1.0 - z) * h + z * tl.load(candidates, mask=inside, other=0.0)
        tl.store(hiddens + places, h, mask=inside)
        gates += size
        candidates += candidate_time
        hiddens += size


@triton.jit(do_not_specialize=("steps",))  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    hidden_grads,
    gates,
    candidates,
    state,
    hiddens,
    gate_grads,
    candidate_grads,
    state_grad,
    steps,
    size,
    width,
    candidate_time,
    candidate_row,
    BLOCK: tl.constexpr,
):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    candidates += places // width * candidate_row + places % width
    first = tl.load(state + places, mask=inside, other=0.0)
    last = (steps - 1).to(tl.int64)
    hidden_grads += last * size
    gates += last * size
    candidates += last * candidate_time
    hiddens += last * size
    gate_grads += last * size
    candidate_grads += last * size
    total = tl.zeros((BLOCK,), tl.float32)
    for passed in range(steps):
        earlier = inside & (tl.zeros_like(places) + passed < steps - 1)
        total += tl.load(hidden_grads + places, mask=inside, other=0.0)
        z = tl.load(gates + places, mask=inside, other=0.0)
        c = tl.load(candidates, mask=inside, other=0.0)
        before = tl.load(hiddens - size + places, mask=earlier, other=0.0)
        before = tl.where(earlier, before, first)
        tl.store(gate_grads + places, (c - before) * total, mask=inside)
        tl.store(candidate_grads + places, z * total, mask=inside)
        total = (1.0 - z) * total
        hidden_grads -= size
        gates -= size
        candidates -= candidate_time
        hiddens -= size
        gate_grads -= size
        candidate_grads -= size
    tl.store(state_grad + places, total, mask=inside)


def forward(gate_TBH: Tensor, candidate_TBH: Tensor, state_BH: Tensor) -> Tensor:
    """`AverageKernel.forward` in one launch, for float32."""
    gate_TBH, candidate_TBH = gate_TBH.contiguous(), _rows(candidate_TBH)
    hidden_TBH, size = torch.empty_like(gate_TBH), state_BH.numel()
    with torch.cuda.device_of(gate_TBH):  # type: ignore[no-untyped-call]
        _forward_kernel[(triton.cdiv(size, BLOCK),)](
            gate_TBH,
            candidate_TBH,
            state_BH.contiguous(),
            hidden_TBH,
            len(gate_TBH),
            size,
            state_BH.shape[1],
            *candidate_TBH.stride()[:2],
            BLOCK=BLOCK,
        )
    return hidden_TBH


def backward(
    grad_TBH: Tensor,
    gate_TBH: Tensor,
    candidate_TBH: Tensor,
    state_BH: Tensor,
    hidden_TBH: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`AverageKernel.backward` in one launch, for float32."""
    candidate_TBH, size = _rows(candidate_TBH), state_BH.numel()
    gate_grad_TBH, candidate_grad_TBH = (torch.empty_like(hidden_TBH) for _ in range(2))
    state_grad_BH = hidden_TBH.new_empty(state_BH.shape)
    with torch.cuda.device_of(hidden_TBH):  # type: ignore[no-untyped-call]
        _backward_kernel[(triton.cdiv(size, BLOCK),)](
            grad_TBH.contiguous(),
            gate_TBH.contiguous(),
            candidate_TBH,
            state_BH.contiguous(),
            hidden_TBH.contiguous(),
            gate_grad_TBH,
            candidate_grad_TBH,
            state_grad_BH,
            len(hidden_TBH),
            size,
            state_BH.shape[1],
            *candidate_TBH.stride()[:2],
            BLOCK=BLOCK,
        )
    return gate_grad_TBH, candidate_grad_TBH, state_grad_BH


def _rows(candidate_TBH: Tensor) -> Tensor:
    """As it is if its rows have no gaps inside, such as a part of a projection."""
    return candidate_TBH if candidate_TBH.stride(2) == 1 else candidate_TBH.contiguous()
