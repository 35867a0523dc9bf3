"""Weights of an `nn.RNNBase` layer for a forward pass: with weight dropout, in one block for cuDNN."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from rnnlm_tui.engine.dropout import drop


class GatedLayer(Protocol):
    """The parameters of `ElmanLayer`, `LstmLayer` and `GruLayer`, by torch's names."""

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    training: bool
    weight_dropout: float

    @property
    def bias_hh_l0(self) -> Tensor: ...


def state_weights(layer: GatedLayer) -> Tensor:
    """The state-to-state weights of one forward pass, after weight dropout in training."""
    if layer.training and layer.weight_dropout:
        return drop(layer.weight_hh_l0, layer.weight_dropout)
    return layer.weight_hh_l0


def kernel_weights(layer: GatedLayer, state_weights: Tensor, *, block: bool) -> list[Tensor]:
    """The four tensors of torch's fused kernels, in their order.

    Args:
        block: for cuDNN, which reads one block of memory. The parameters are in one block since the
            layer was moved to the GPU. With weight dropout all four are copied into a new block;
            otherwise cuDNN would copy them and warn.
    """
    weights = [layer.weight_ih_l0, state_weights, layer.bias_ih_l0, layer.bias_hh_l0]
    if not block or state_weights is layer.weight_hh_l0:
        return weights
    joined = torch.cat([weight.flatten() for weight in weights])
    parts = joined.split_with_sizes([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
