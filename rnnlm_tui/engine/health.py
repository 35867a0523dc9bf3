"""Figures of a net's health on a small sample of text: saturation, gates, memory, gradients.

`schema.health` has their meanings and their healthy ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from rnnlm_tui.engine.batches import Batch
from rnnlm_tui.engine.cells.base import Inside
from rnnlm_tui.engine.inspection import SATURATED
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.engine.model import RecurrentLanguageModel, look_up
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.errors import InputError

Figures = dict[str, dict[str, float]]
"""By part of the model, then by name."""
DEAD = 0.01
"""A unit is dead if its output's standard deviation is at most this share of the layer's RMS."""
LONGEST_MEMORY = 1e6
"""Tokens; a gate of 1 would keep its state for ever."""
FELT = 0.01
"""The gradient reaches as far back as this share of that at lag 1."""
LAGS = 32
"""The largest lag: each costs a step of the recurrence and its gradient in double precision."""
SHOWN_LAGS = (2, 4, 8, 16, LAGS)
REACHED_TEXTS = 2
"""Texts of the sample whose gradients by lag are summed."""


def health(
    model: RecurrentLanguageModel,
    sample: Batch,
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float,
) -> Figures:
    """All figures of a model that is being trained, on a sample that is on its device.

    Nothing that training depends on changes: weights, gradients, optimizer, mode and generators.
    There is no dropout.

    Args:
        max_grad_norm: clips the gradient from which the update of plain SGD is computed, which
            keeps no state; the update of AdamW is computed from its moments.
    """
    found: Figures = {}
    parameters = dict(model.named_parameters())
    with _without_weight_dropout(model), torch.inference_mode(False), torch.enable_grad():
        features_TBE = look_up(sample.inputs_BT.t(), model.embedding.weight, model.pad_id)
        for number, (layer, state) in enumerate(
            zip(model.cells, model.initial_state(len(sample.inputs_BT)), strict=True), 1
        ):
            outputs_TBH, _ = layer(features_TBE, state)
            with torch.no_grad():
                inside = layer.inside(features_TBE, outputs_TBH, state)
                found[f"layer {number}"] = _activations(inside, outputs_TBH, sample.rows_N)
            features_TBE = outputs_TBH
        hidden_NH, targets_N = features_TBE.flatten(0, 1), sample.targets_BT.t().flatten()
        loss = mean_loss(hidden_NH, model.output.weight, model.output.bias, targets_N)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    parts: dict[str, list[tuple[nn.Parameter, Tensor]]] = {}
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        if gradient is not None:
            parts.setdefault(_part_of(name), []).append((parameter, gradient))
    norm = float(nn.utils.get_total_norm([one for part in parts.values() for _, one in part]))
    clip = min(1.0, max_grad_norm / norm) if max_grad_norm and norm else 1.0
    ordered: Figures = {}
    for part, pairs in parts.items():
        ordered[part] = found.get(part, {}) | _learning(pairs, optimizer, clip)
    return ordered | {"model": _by_lag(model, sample)}


@contextmanager
def _without_weight_dropout(model: RecurrentLanguageModel) -> Iterator[None]:
    """The model stays in training: cuDNN computes gradients only there."""
    rates = [layer.weight_dropout for layer in model.cells]
    try:
        for layer in model.cells:
            layer.weight_dropout = 0.0
        yield
    finally:
        for layer, rate in zip(model.cells, rates, strict=True):
            layer.weight_dropout = rate


def _part_of(name: str) -> str:
    """The part of the model that has a parameter."""
    head, *rest = name.split(".")
    return f"layer {int(rest[0]) + 1}" if head == "layers" else head


def _activations(inside: Inside, outputs_TBH: Tensor, rows_N: Tensor | None) -> dict[str, float]:
    def read(values: Tensor) -> Tensor:
        """(N, units), without padding."""
        flat = values.flatten(0, 1)
        return flat if rows_N is None else flat.index_select(0, rows_N)

    outputs_NH, found = read(outputs_TBH), dict[str, Tensor]()
    if inside.tanh_TBH is not None:
        found["saturated"] = (read(inside.tanh_TBH).abs() > SATURATED).float().mean()
    varies_H = outputs_NH.std(0, correction=0)
    found["dead"] = (varies_H <= DEAD * outputs_NH.square().mean().sqrt()).float().mean()
    if inside.kept is not None:
        forgotten_U = 1 - read(inside.kept).double().mean(0)
        found["memory"] = (1 / forgotten_U.clamp(min=1 / LONGEST_MEMORY)).quantile(0.5)
    for name, gate in inside.gates.items():
        kind = "exponential" if name in inside.exponential else "gate"
        found[f"{kind} {name}"] = read(gate).mean()
        found[f"{kind}-spread {name}"] = read(gate).std(correction=0)
    return {name: float(value) for name, value in found.items()}


@torch.no_grad()
def _learning(
    pairs: Iterable[tuple[nn.Parameter, Tensor]], optimizer: torch.optim.Optimizer, clip: float
) -> dict[str, float]:
    """Gradient norm of a part's parameters and, after a first update, update over weight of its
    matrices: biases may start at zero."""
    gradients, updates, weights = [], [], []
    group = optimizer.param_groups[0]
    for parameter, gradient in pairs:
        gradients.append(torch.linalg.vector_norm(gradient))
        if parameter.dim() < 2:
            continue
        weights.append(torch.linalg.vector_norm(parameter))
        direction = _direction(parameter, gradient * clip, optimizer)
        if direction is not None:
            direction.add_(parameter, alpha=group["weight_decay"])
            updates.append(torch.linalg.vector_norm(direction) * group["lr"])
    found = {"gradient": float(torch.stack(gradients).norm())}
    if updates and (total := float(torch.stack(weights).norm())):
        found["update"] = float(torch.stack(updates).norm()) / total
    return found


def _direction(
    parameter: nn.Parameter, gradient: Tensor, optimizer: torch.optim.Optimizer
) -> Tensor | None:
    """The newest update without learning rate and weight decay; None: there was none."""
    group = optimizer.param_groups[0]
    if "betas" not in group:  # SGD
        return gradient
    state = optimizer.state.get(parameter)
    if not state:
        return None
    mean, square = (
        1 - beta ** float(state["step"]) for beta in group["betas"]
    )  # corrections of the moments' bias
    root = (state["exp_avg_sq"] / square).sqrt_().add_(group["eps"])
    return (state["exp_avg"] / mean).div_(root)


def _by_lag(model: RecurrentLanguageModel, sample: Batch) -> dict[str, float]:
    """How far back the gradient of the last tokens of the longest texts reaches; empty for texts of
    fewer than three tokens, and for models without a recurrence."""
    counted_B = (sample.targets_BT >= 0).sum(1)
    total = torch.zeros(0, dtype=torch.float64)
    for row in counted_B.argsort(descending=True, stable=True)[:REACHED_TEXTS].tolist():
        length = int(counted_B[row])
        ids = [*sample.inputs_BT[row, :length].tolist(), int(sample.targets_BT[row, length - 1])]
        with suppress(InputError):
            norms = gradient_by_lag(model, ids, length, lags=LAGS)[1:]
            shorter, longer = sorted((total, norms), key=len)
            total = longer.clone()
            total[: len(shorter)] += shorter
    if len(total) < 2 or not float(total[0]) > 0:
        return {}
    shares = total / total[0]
    felt = torch.nonzero(shares >= FELT)
    lags = {f"lag {lag}": float(shares[lag - 1]) for lag in SHOWN_LAGS if lag <= len(shares)}
    return {"reach": float(felt[-1]) + 1, "growth": float(shares.max()), **lags}
