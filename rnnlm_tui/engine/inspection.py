"""Look inside a model that reads a text: surprise, rank and entropy at each token, and what each
layer computes there.

Further shape letters: R rows of logits in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine.generation import TextState, check_ids
from rnnlm_tui.engine.matmul import set_gpu_precision
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError

SATURATED = 0.9
"""Absolute activation above which a tanh unit hardly reacts: its slope is below a fifth."""
WINDOW = 1_024
"""Tokens that a layer reads at once, so that what it computes inside stays small."""
PRODUCT_NUMBERS = 2**20
"""Logits in memory at once, 4 MiB."""
SOFTMAX_NUMBERS = 2**16
"""Of these, in double precision at once on a CPU: half a MiB stays in memory that the process has
already. 8 MiB took twice the time, for new pages (measured)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model computed while it read a text of T tokens. All tensors are on the CPU."""

    ids: tuple[int, ...]
    start: State
    """The state before the first token, on the model's device."""
    first_output_H: Tensor | None
    """The input of the head that predicts the first token; None if nothing does."""
    outputs_LTH: Tensor
    """Each layer's output after each token."""
    bits_T: Tensor
    """Surprise of each token, -log2 p at temperature 1, float64; NaN where nothing predicts it."""
    rank_T: Tensor
    """1: the token was the most likely one. Of equal logits the one with the lower index is first.
    0 where nothing predicts the token."""
    entropy_T: Tensor
    """Entropy of the prediction in bits, float64; NaN where there is none."""

    @property
    def predicted(self) -> int:
        """Number of tokens that are predicted: all, or all but the first."""
        return int((self.rank_T > 0).sum())

    @property
    def bits_per_token(self) -> float:
        """Mean surprise of the predicted tokens; perplexity is 2 to its power. NaN without any."""
        return float(self.bits_T.nanmean())


@dataclass(frozen=True, slots=True)
class Activity:
    """Figures of one layer's output at each token."""

    norm_T: Tensor
    """L2 norm."""
    change_T: Tensor
    """L2 norm of the difference to the token before; 0 at the first."""


@torch.no_grad()
def trace(
    model: RecurrentLanguageModel,
    ids: Sequence[int],
    start: TextState | None = None,
    check: Callable[[], None] = lambda: None,
) -> Trace:
    """Read a text, without dropout, and keep what the model computed at each token.

    The state and the products are in the model's type, softmax and entropy in double precision.
    In float32 a token's surprise is within 1e-5 bits of the same model in float64 (measured on
    trained models of every cell).

    Args:
        start: a text that was read before; None: the initial state, which predicts nothing.
        check: called between parts of the work; what it raises ends it.

    Raises:
        InputError: an id outside the vocabulary, or a model that predicts NaN.
    """
    check_ids(model, ids)
    state = start.state if start else model.initial_state(1)
    with _exactly(model):
        outputs_LTH = _outputs(model, ids, state, check)
        first_output_H = start.output_BH[0].cpu() if start else None
        predicting_NH = outputs_LTH[-1, :-1]
        if first_output_H is not None:
            predicting_NH = torch.cat([first_output_H[None], outputs_LTH[-1]])[: len(ids)]
        scores_N3 = _scores(model, predicting_NH, ids[len(ids) - len(predicting_NH) :], check)
    scores_T3 = torch.full((len(ids), 3), math.nan, dtype=torch.float64)
    scores_T3[len(ids) - len(scores_N3) :] = scores_N3
    bits_T, rank_T, entropy_T = scores_T3.unbind(1)
    return Trace(
        ids=tuple(ids),
        start=state,
        first_output_H=first_output_H,
        outputs_LTH=outputs_LTH,
        bits_T=bits_T,
        rank_T=rank_T.nan_to_num(0).long(),
        entropy_T=entropy_T,
    )


@torch.no_grad()
def logits_at(model: RecurrentLanguageModel, trace: Trace, position: int) -> Tensor:
    """logits_V that predict the token at a position, on the CPU; after the last token: what comes
    next.

    Raises:
        InputError: nothing predicts the token, or the text has no such position.
    """
    if not 0 <= position <= len(trace.ids):
        raise InputError(f"position {position:,} is not in 0 to {len(trace.ids):,}")
    hidden_H = trace.outputs_LTH[-1, position - 1] if position else trace.first_output_H
    if hidden_H is None:
        raise InputError(
            "nothing predicts the first token: the model starts from its initial state",
            hint="choose a later token",
        )
    weight_VH, bias_V = model.output.weight, model.output.bias
    return F.linear(hidden_H.to(weight_VH.device), weight_VH, bias_V).cpu()


def activity(outputs_TH: Tensor) -> Activity:
    """Norm and change of a layer's output at each token."""
    change_T = outputs_TH.new_zeros(len(outputs_TH))
    change_T[1:] = outputs_TH.diff(dim=0).norm(dim=1)
    return Activity(norm_T=outputs_TH.norm(dim=1), change_T=change_T)


@torch.no_grad()
def gates_and_saturation(
    model: RecurrentLanguageModel, trace: Trace, layer: int
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Mean over the units of each gate of a layer at each token, (T,), and the share of its units
    whose tanh is saturated, saturated_T; no gates, or None, for cells without them.

    The names are those of the cell's module: input, forget and output, or reset and update.
    """
    index = layer_index(model, layer)
    cell, state = tuple(model.cells)[index], trace.start[index]
    found: dict[str, list[Tensor]] = {}
    saturated: list[Tensor] = []
    with _exactly(model):
        for window in _windows(len(trace.ids)):
            inputs_T1E = (
                trace.outputs_LTH[index - 1, window, None].to(model.output.weight.device)
                if index
                else _embedded(model, trace.ids[window])
            )
            outputs_T1H, after = cell(inputs_T1E, state)
            inside = cell.inside(inputs_T1E, outputs_T1H, state)
            for name, gate in inside.gates.items():
                found.setdefault(name, []).append(gate.mean((1, 2)).cpu())
            if inside.tanh_TBH is not None:
                flat = inside.tanh_TBH.abs() > SATURATED
                saturated.append(flat.float().mean((1, 2)).cpu())
            state = after
    gates = {name: torch.cat(parts) for name, parts in found.items()}
    return gates, torch.cat(saturated) if saturated else None


def layer_index(model: RecurrentLanguageModel, layer: int) -> int:
    """A layer's index from 0; -1 is the last.

    Raises:
        InputError: the model has no such layer.
    """
    if not -model.num_layers <= layer < model.num_layers:
        raise InputError(f"layer {layer} is not in 0 to {model.num_layers - 1}")
    return layer % model.num_layers


@contextmanager
def _exactly(model: RecurrentLanguageModel) -> Iterator[None]:
    """Without dropout, and on a GPU without rounded products: surprise is compared between
    checkpoints."""
    device, was_training = model.output.weight.device, model.training
    rounded = torch.get_float32_matmul_precision() != "highest"
    set_gpu_precision(device, rounded=False)
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        set_gpu_precision(device, rounded=rounded)


def _outputs(
    model: RecurrentLanguageModel, ids: Sequence[int], state: State, check: Callable[[], None]
) -> Tensor:
    """outputs_LTH on the CPU, read in windows."""
    shape = model.num_layers, len(ids), model.hidden_size
    outputs_LTH = torch.empty(shape, dtype=model.output.weight.dtype)
    states = list(state)
    for window in _windows(len(ids)):
        check()
        features_T1E = _embedded(model, ids[window])
        for index, layer in enumerate(model.cells):
            features_T1E, states[index] = layer(features_T1E, states[index])
            outputs_LTH[index, window] = features_T1E[:, 0].cpu()
    return outputs_LTH


def _windows(tokens: int) -> Iterable[slice]:
    return (slice(first, first + WINDOW) for first in range(0, tokens, WINDOW))


def _embedded(model: RecurrentLanguageModel, ids: Sequence[int]) -> Tensor:
    tokens_T1 = torch.tensor(ids, device=model.embedding.weight.device)[:, None]
    return F.embedding(tokens_T1, model.embedding.weight)


def _scores(
    model: RecurrentLanguageModel,
    hidden_NH: Tensor,
    targets: Sequence[int],
    check: Callable[[], None],
) -> Tensor:
    """Bits, rank and entropy of each target, (N, 3) in float64 on the CPU."""
    weight_VH, bias_V = model.output.weight, model.output.bias
    # Apple GPUs have no float64.
    device = torch.device("cpu") if weight_VH.device.type == "mps" else weight_VH.device
    targets_N1 = torch.tensor(targets, device=device, dtype=torch.int64)[:, None]
    rows = max(1, PRODUCT_NUMBERS // model.vocab_size)
    at_once = rows if device.type != "cpu" else max(1, SOFTMAX_NUMBERS // model.vocab_size)
    parts = [torch.empty(0, 3, dtype=torch.float64, device=device)]
    for hidden_RH, target_R1 in zip(
        torch.split(hidden_NH, rows), torch.split(targets_N1, rows), strict=True
    ):
        check()
        logits_RV = F.linear(hidden_RH.to(weight_VH.device), weight_VH, bias_V).to(device)
        parts += map(_scored, torch.split(logits_RV, at_once), torch.split(target_R1, at_once))
    scores_N3 = torch.cat(parts).cpu()
    if not bool(scores_N3.isfinite().all()):
        raise InputError(
            "this model predicts NaN: its training had diverged",
            hint="choose an earlier checkpoint",
        )
    return scores_N3


def _scored(logits_RV: Tensor, target_R1: Tensor) -> Tensor:
    """Bits, rank and entropy of each row's target, (R, 3) in float64."""
    wanted_R1 = logits_RV.gather(1, target_R1)
    rank_R = 1 + (logits_RV > wanted_R1).sum(1)
    equal_RV = logits_RV == wanted_R1
    if int(equal_RV.sum()) > len(equal_RV):
        index_V = torch.arange(logits_RV.shape[1], device=logits_RV.device)
        rank_R += (equal_RV & (index_V < target_R1)).sum(1)
    shifted_RV = logits_RV.double()
    shifted_RV -= logits_RV.amax(1, keepdim=True)
    weights_RV = shifted_RV.exp()
    total_R = weights_RV.sum(1)
    nats_R = total_R.log() - shifted_RV.gather(1, target_R1)[:, 0]
    entropy_R = total_R.log() - torch.linalg.vecdot(weights_RV, shifted_RV) / total_R
    return torch.stack((nats_R / math.log(2), rank_R.double(), entropy_R / math.log(2)), 1)
