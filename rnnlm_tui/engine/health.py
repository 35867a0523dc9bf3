"""Figures of a net's health on a small sample of text: saturation, gates, memory, gradients.

`schema.health` has their meanings and their healthy ranges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rnnlm_tui.engine.batches import Batch
from rnnlm_tui.engine.cells.base import Inside
from rnnlm_tui.engine.inspection import SATURATED
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.engine.model import RecurrentLanguageModel, look_up
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.engine.step import Update

Figures = dict[str, dict[str, float]]
"""By part of the model, then by name; those that aren't finite are left out."""
DEAD = 0.01
"""A unit is dead if its output's standard deviation is at most this share of the layer's RMS."""
LONGEST_MEMORY = 1e6
"""Tokens; a gate of 1 would keep its state for ever."""
FELT = 0.01
"""The gradient reaches as far back as this share of that at lag 1."""
LAGS = 32
"""The largest lag: each costs a step of the recurrence and its gradient in double precision."""
SHOWN_LAGS = (2, 4, 8, 16, LAGS)


def health(update: Update, sample: Batch) -> Figures:
    """All figures of the model of an update, on a sample that is on its device, without dropout.

    Nothing that training depends on changes: weights, gradients, optimizer, mode and generators.
    """
    model, found = update.model, Figures()
    with torch.inference_mode(False), torch.enable_grad():
        features_TBE = look_up(sample.inputs_BT.t(), model.embedding.weight, model.pad_id)
        states = model.initial_state(len(sample.inputs_BT))
        for number, (layer, state) in enumerate(zip(model.cells, states, strict=True), 1):
            # The layer stays in training, where alone cuDNN computes gradients.
            rate, layer.weight_dropout = layer.weight_dropout, 0.0
            try:
                outputs_TBH, _ = layer(features_TBE, state)
            finally:
                layer.weight_dropout = rate
            with torch.no_grad():
                inside = layer.inside(features_TBE, outputs_TBH, state)
                found[f"layer {number}"] = _activations(inside, outputs_TBH, sample.rows_N)
            features_TBE = outputs_TBH
        hidden_NH, targets_N = features_TBE.flatten(0, 1), sample.targets_BT.t().flatten()
        loss = mean_loss(hidden_NH, model.output.weight, model.output.bias, targets_N)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
    parts = {part: found.get(part, {}) | own for part, own in _learning(update, gradients).items()}
    parts["model"] = _by_lag(model, sample)
    return {
        part: {name: value for name, value in figures.items() if math.isfinite(value)}
        for part, figures in parts.items()
    }


def _activations(inside: Inside, outputs_TBH: Tensor, rows_N: Tensor | None) -> dict[str, float]:
    def read(values_TBU: Tensor) -> Tensor:
        """Without padding, (N, units)."""
        flat = values_TBU.flatten(0, 1)
        return flat if rows_N is None else flat.index_select(0, rows_N)

    outputs_NH, found = read(outputs_TBH), dict[str, Tensor]()
    if inside.tanh_TBH is not None:
        found["saturated"] = (read(inside.tanh_TBH).abs() > SATURATED).float().mean()
    limit = DEAD * outputs_NH.square().mean().sqrt()
    found["dead"] = (outputs_NH.std(0, correction=0) <= limit).float().mean()
    if inside.kept is not None:
        forgotten_U = 1 - read(inside.kept).mean(0)
        found["memory"] = (1 / forgotten_U.clamp(min=1 / LONGEST_MEMORY)).quantile(0.5)
    for name, gate in inside.gates.items():
        kind = "exponential" if name in inside.exponential else "gate"
        found[f"{kind} {name}"] = read(gate).mean()
        found[f"{kind}-spread {name}"] = read(gate).std(correction=0)
    return {name: float(value) for name, value in found.items()}


@torch.no_grad()
def _learning(update: Update, gradients: tuple[Tensor, ...]) -> Figures:
    """Gradient norm of each part's parameters and, after a first update, update over weight of its
    matrices: biases may start at zero."""
    norm, most = float(nn.utils.get_total_norm(gradients)), update.max_grad_norm
    clip = min(1.0, most / norm) if most and norm else 1.0
    squares: dict[str, list[float]] = {}
    for (name, parameter), gradient in zip(update.model.named_parameters(), gradients, strict=True):
        head, number = name.split(".")[:2]
        part = f"layer {int(number) + 1}" if head == "layers" else head
        sums = squares.setdefault(part, [0.0, 0.0, 0.0])
        sums[0] += float(gradient.norm()) ** 2
        if parameter.dim() > 1:
            sums[1] += float(_change(update.optimizer, parameter, gradient * clip).norm()) ** 2
            sums[2] += float(parameter.norm()) ** 2
    found = Figures()
    for part, (gradient_square, change, weight) in squares.items():
        found[part] = {"gradient": math.sqrt(gradient_square)}
        if change and weight:
            found[part]["update"] = math.sqrt(change / weight)
    return found


def _change(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
    """A parameter's newest update by AdamW, from its moments, zero before the first; plain SGD
    keeps none: what it would do with this gradient."""
    group, state = optimizer.param_groups[0], optimizer.state.get(parameter)
    if "betas" in group:
        if not state:
            return torch.zeros(())
        mean, square = (1 - beta ** float(state["step"]) for beta in group["betas"])
        root = (state["exp_avg_sq"] / square).sqrt_().add_(group["eps"])
        gradient = (state["exp_avg"] / mean).div_(root)
    return gradient.add(parameter, alpha=group["weight_decay"]).mul_(group["lr"])


def _by_lag(model: RecurrentLanguageModel, sample: Batch) -> dict[str, float]:
    """How far back the gradient of the last token of the longest text reaches; empty for a text of
    two tokens."""
    length_B = (sample.targets_BT >= 0).sum(1)
    row, last = int(length_B.argmax()), int(length_B.max())
    ids = [*sample.inputs_BT[row, :last].tolist(), int(sample.targets_BT[row, last - 1])]
    norms = gradient_by_lag(model, ids, last, lags=LAGS)[1:].tolist()
    if len(norms) < 2 or not norms[0] > 0:
        return {}
    shares = {lag: norm / norms[0] for lag, norm in enumerate(norms, 1)}
    return {
        "reach": max(lag for lag, share in shares.items() if share >= FELT),
        "growth": max(shares.values()),
        **{f"lag {lag}": shares[lag] for lag in SHOWN_LAGS if lag in shares},
    }
