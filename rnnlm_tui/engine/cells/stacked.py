"""All layers in one call of torch's fused kernels, for cells that have one: Elman, LSTM and GRU.

Called layer by layer, a GPU walks through the time steps once for each layer. In one call cuDNN
starts a layer as soon as the one below has its first steps and works on several at once (Appleyard,
Kocisky and Blunsom, "Optimizing Performance of Recurrent Neural Networks on GPUs", 2016). Dropout
between the layers would have to be cuDNN's own, whose generator can't be saved, so such layers are
called one by one.

The parameters keep their names and stay separate tensors. For the one call they are views of one
block of memory in cuDNN's order; gradients are views of a second one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.backends.cudnn import is_acceptable
from torch.backends.cudnn.rnn import get_cudnn_mode

from rnnlm_tui.engine.cells.base import GatedLayer, LayerState, RecurrentLayer


def kernel_layers(layers: Iterable[RecurrentLayer]) -> tuple[GatedLayer, ...]:
    """The layers, if there are several and one kernel runs them all; else empty."""
    found = tuple(layers)
    if len(found) < 2 or not all(isinstance(layer, nn.RNNBase) for layer in found):
        return ()
    return tuple(cast(GatedLayer, layer) for layer in found)


def run_stacked(
    layers: Sequence[GatedLayer], inputs_TBE: Tensor, state: Sequence[LayerState]
) -> tuple[Tensor, tuple[LayerState, ...]]:
    """Run all layers over T time steps, without dropout: the last one's hidden_TBH, and the state
    of each after the last step."""
    before_LBH = [torch.stack(part) for part in zip(*state, strict=True)]
    settings = True, len(layers), 0.0, layers[0].training, False, False
    weights = _weights(layers)
    after_LBH: Sequence[Tensor]
    if layers[0].mode == "LSTM":
        hidden_TBH, *after_LBH = torch._VF.lstm(inputs_TBE, before_LBH, weights, *settings)
    else:
        kernel = torch._VF.gru if layers[0].mode == "GRU" else torch._VF.rnn_tanh
        hidden_TBH, *after_LBH = kernel(inputs_TBE, before_LBH[0], weights, *settings)
    return hidden_TBH, tuple(zip(*(part.unbind(0) for part in after_LBH), strict=True))


@torch.no_grad()
def lay_out(layers: Sequence[GatedLayer], *, together: bool) -> None:
    """Move the weights on a GPU into one block for all layers, or one for each.

    cuDNN would otherwise copy them in every call and warn. The parameters stay the same objects
    with the same numbers, but get other addresses: not while a recorded CUDA graph uses the old
    ones.
    """
    weights = _weights(layers)
    together = together and torch._use_cudnn_rnn_flatten_weight() and on_cudnn(weights)
    for layer in layers:
        if layer.joined and not together:
            layer.flatten_parameters()
        layer.joined = together
    if together:
        first = layers[0]
        with torch.cuda.device_of(weights[0]):  # type: ignore[no-untyped-call]
            torch._cudnn_rnn_flatten_weight(
                weights,
                len(weights) // len(layers),
                first.input_size,
                get_cudnn_mode(first.mode),  # type: ignore[no-untyped-call]
                first.hidden_size,
                0,
                len(layers),
                False,
                False,
            )


def on_cudnn(weights: Iterable[Tensor]) -> bool:
    """All are on a GPU and of a type that cuDNN takes."""
    return all(
        weight.is_cuda and is_acceptable(weight)  # type: ignore[no-untyped-call]
        for weight in weights
    )


def _weights(layers: Sequence[GatedLayer]) -> list[Tensor]:
    return [
        weight
        for layer in layers
        for weight in (
            layer.weight_ih_l0,
            layer.weight_hh_l0,
            layer.bias_ih_l0,
            layer.bias_hh_l0,
        )
    ]
