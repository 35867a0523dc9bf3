"""Embedding lookup whose gradient a CUDA graph can record."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def look_up(tokens: Tensor, weight_VE: Tensor, pad_id: int | None) -> Tensor:
    """Vectors of the tokens, shape (..., E); the padding token's gets no gradient.

    Equal to `F.embedding`, whose gradient sorts more than 3,072 tokens on a GPU, which a graph can't
    record, and takes longer on a CPU.
    """
    return cast(Tensor, _LookUp.apply(tokens, weight_VE, pad_id))  # type: ignore[no-untyped-call]


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, weight_VE: Tensor, pad_id: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.vocab_size, ctx.pad_id = weight_VE.shape[0], pad_id  # type: ignore[attr-defined]
        return weight_VE.index_select(0, tokens.flatten()).view(*tokens.shape, weight_VE.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, None]:
        (tokens,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        weight_grad_VE = grad.new_zeros(ctx.vocab_size, grad.shape[-1])  # type: ignore[attr-defined]
        weight_grad_VE.index_add_(0, tokens.flatten(), grad.flatten(0, -2))
        pad_id = ctx.pad_id  # type: ignore[attr-defined]
        if pad_id is not None:
            weight_grad_VE[pad_id] = 0
        return None, weight_grad_VE, None
