"""How far back a recurrent model learns: the gradient of one token's loss by lag."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine.cells import LayerState, RecurrentLayer
from rnnlm_tui.engine.generation import TextState, check_ids, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError


def gradient_by_lag(
    model: RecurrentLanguageModel,
    ids: Sequence[int],
    position: int,
    *,
    lags: int,
    start: TextState | None = None,
) -> Tensor:
    """L2 norms of the gradient of one token's loss, -ln p, by lag: float64, on the CPU.

    Lag 0 is the gradient with respect to the input of the head that predicts the token. Lag k > 0
    is the gradient with respect to everything that the layers pass on, k tokens before the last one
    read, to the next token: all tensors of all layers' states, so nothing reaches the loss from
    before around them. For an LSTM these are h and c, for the xLSTM cells the stabilised memory.

    Each step of the recurrence is recorded by autograd, in double precision: over 200 tokens a
    vanishing gradient would leave the range of float32. Weights and generators are unchanged.

    Args:
        position: of the token, from 1.
        lags: the largest lag; fewer where the text begins.
        start: a text that was read before, from whose state the model starts.

    Raises:
        InputError: an id outside the vocabulary, or no such position.
    """
    check_ids(model, ids)
    if not 1 <= position < len(ids):
        raise InputError(
            f"position {position:,} is not in 1 to {len(ids) - 1:,}"
            if len(ids) > 1
            else "a gradient needs a text of at least two tokens",
            hint="choose a token after the first",
        )
    first = max(0, position - 1 - lags)
    with torch.inference_mode(False):
        if first:
            start = read_text(model, ids[:first], start)
        before = start.state if start else model.initial_state(1)
        with torch.enable_grad():
            output_1H, passed = _steps(model, ids[first:position], before)
            weight_VH, bias_V = model.output.weight.detach(), model.output.bias.detach()
            logits_1V = F.linear(output_1H.to(weight_VH), weight_VH, bias_V).to(output_1H)
            loss = F.cross_entropy(logits_1V, torch.tensor([ids[position]]).to(output_1H.device))
            parts = [part for state in passed for part in state]
            gradients = iter(torch.autograd.grad(loss, [output_1H, *parts], allow_unused=True))
    return torch.stack(
        [_norm([next(gradients)]), *(_norm([next(gradients) for _ in state]) for state in passed)]
    )


def _steps(
    model: RecurrentLanguageModel, ids: Sequence[int], state: State
) -> tuple[Tensor, list[LayerState]]:
    """The last layer's output after the last token, and what all layers pass on after the tokens
    before it, the latest first.

    What is passed on are views, so that their gradients don't contain the way from a layer to the
    one above it at the same token.
    """
    device = model.output.weight.device
    if device.type == "mps":  # Apple GPUs have no float64
        device = torch.device("cpu")
    copied = copy.deepcopy(model.layers).to(device, torch.float64).requires_grad_(False).eval()
    layers = tuple(cast(Iterable[RecurrentLayer], copied))
    tokens_T = torch.tensor(ids, device=model.embedding.weight.device)
    features_TE = F.embedding(tokens_T, model.embedding.weight.detach()).to(device, torch.float64)
    before = [tuple(_wide(part, device) for part in layer) for layer in state]
    passed: list[LayerState] = []
    for features_1E in torch.split(features_TE, 1):
        output_1H, after = features_1E, list[LayerState]()
        for layer, layer_before in zip(layers, before, strict=True):
            output_1H, layer_after = layer.step(output_1H, layer_before)
            after.append(layer_after)
        before = [tuple(_differentiable(part) for part in layer) for layer in after]
        passed.append(tuple(part for layer in before for part in layer))
    return _differentiable(output_1H), passed[-2::-1]


def _wide(part: Tensor, device: torch.device) -> Tensor:
    # A copy: what was made in inference mode can't be recorded.
    return part.to(device, torch.float64, copy=True)


def _differentiable(part: Tensor) -> Tensor:
    """A new node of the recorded computation with the same numbers."""
    return part.view_as(part) if part.requires_grad else part.detach().requires_grad_()


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Scaled, since the squares of a vanishing gradient would become zero."""
    found = [gradient.flatten() for gradient in gradients if gradient is not None]
    if not found:
        return torch.zeros((), dtype=torch.float64)
    whole = torch.cat(found)
    largest = whole.abs().amax().clamp(min=torch.finfo(whole.dtype).tiny)
    return torch.mul(torch.linalg.vector_norm(whole / largest), largest).cpu()
