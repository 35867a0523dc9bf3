"""Health of a net: figures of every cell by plain formulas, and nets made ill, each with its
advice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, SentenceBatches, StreamBatches
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.health import Figures, health
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.optim import build_optimizer
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.engine.step import Update
from rnnlm_tui.schema.health import HealthRow, readings

from .builders import optimizer_config, sentences, small_model, text, train, trainer_of, weights
from .reference import expected

EVERY_CELL = pytest.mark.parametrize("cell_type", sorted(CELLS))
STREAMS = StreamBatches(text(164, seed=7), 4, 40).batch(0, 0)
SENTENCES = SentenceBatches(*sentences(9, seed=1), 9, 12, 0, shuffle=False).batch(0, 0)


def measured(model: RecurrentLanguageModel, sample: Batch = STREAMS) -> Figures:
    optimizer = build_optimizer(model.parameters(), optimizer_config("adamw"), 0.01)
    return health(Update(model, optimizer, 0.0, reduced=False), sample)


def advice(model: RecurrentLanguageModel) -> list[str]:
    row = HealthRow(1, 1, {**measured(model)}, 0.0)
    return [reading.words for reading in readings([row]) if reading.advice]


def kept(cell_type: str, gates: dict[str, Tensor]) -> Tensor | None:
    """The share of its state that a unit keeps, as each paper's equations have it."""
    if cell_type in ("elman", "gru"):
        return gates.get("update")
    return 1 - gates["update"] if cell_type == "mingru" else gates.get("forget")


@pytest.mark.parametrize("sample", [STREAMS, SENTENCES], ids=["stream", "sentences"])
@EVERY_CELL
def test_figures_of_every_cell_equal_a_plain_computation(cell_type: str, sample: Batch) -> None:
    model = small_model(cell_type=cell_type, pad_id=0).double()
    for parameter in model.layers.parameters():
        parameter.data *= 3  # so that some units saturate
    found, counts_TB = measured(model, sample), (sample.targets_BT != -100).t()
    inputs_TBE = model.embedding.weight.detach()[sample.inputs_BT.t()]
    for number, layer in enumerate(model.cells, 1):
        with torch.no_grad():
            plain = expected(
                cell_type, layer, inputs_TBE, layer.initial_state(len(sample.inputs_BT))
            )
        inputs_TBE, outputs_NH = plain.outputs, plain.outputs[counts_TB]
        off_NH = outputs_NH - outputs_NH.sum(0) / len(outputs_NH)
        dead_H = (off_NH**2).mean(0).sqrt() <= 0.01 * (outputs_NH**2).mean().sqrt()
        wanted = {"dead": dead_H.double().mean()}
        if plain.tanh is not None:
            wanted["saturated"] = (abs(plain.tanh[counts_TB]) > 0.9).double().mean()
        for name, gate in plain.gates.items():
            is_sigmoid = name != "input" or cell_type not in ("slstm", "mlstm")
            kind = "gate" if is_sigmoid else "exponential"
            values = gate[counts_TB].flatten()
            wanted[f"{kind} {name}"] = mean = values.sum() / len(values)
            wanted[f"{kind}-spread {name}"] = ((values - mean) ** 2).mean().sqrt()
        if (share := kept(cell_type, plain.gates)) is not None:
            memory = sorted(1 / (1 - share[counts_TB].mean(0)))
            middle = len(memory) // 2
            wanted["memory"] = (memory[middle - 1] + memory[middle]) / 2
        own = found[f"layer {number}"]
        assert set(own) == {*wanted, "gradient"}, "no step, so no update"
        for name, value in wanted.items():
            assert own[name] == pytest.approx(float(value), rel=1e-7, abs=1e-12)

    state = model.initial_state(len(sample.inputs_BT))
    loss, _ = model(sample.inputs_BT, state, sample.targets_BT)
    for part, module in (("embedding", model.embedding), ("layer 2", model.layers[1])):
        gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
        norm = torch.cat([one.flatten() for one in gradients]).norm()
        assert found[part]["gradient"] == pytest.approx(float(norm))


@pytest.mark.parametrize(("optimizer", "rel"), [("adamw", 1e-3), ("sgd", 0.05)])
def test_update_over_weight_is_that_of_the_last_step(optimizer: str, rel: float) -> None:
    """AdamW's from its moments; SGD's, which keeps none, is that of a step on the sample, at the
    rate of the step before."""
    trainer = trainer_of("stream", optimizer=optimizer, dropout=0.0)
    train(trainer, 5)  # a pass: the next step starts from a zero state
    sample, before = trainer.batches.batch(1, 0), copy.deepcopy(trainer.model)
    found = health(trainer.update, sample)
    train(trainer, 1)
    if optimizer == "adamw":
        found = health(trainer.update, sample)
    for part, prefix in (("embedding", "embedding.w"), ("layer 2", "layers.1.w")):
        new, old = (
            torch.cat([one.flatten() for name, one in model.named_parameters() if prefix in name])
            for model in (trainer.model, before)
        )
        ratio = ((new - old).norm() / new.norm()).item()
        assert found[part]["update"] == pytest.approx(ratio, rel=rel)


def test_reach_is_that_of_the_longest_text_relative_to_lag_1() -> None:
    model = small_model(cell_type="gru")
    lengths = (SENTENCES.targets_BT != -100).sum(1).tolist()
    last = max(lengths)
    row = lengths.index(last)
    ids = torch.cat([SENTENCES.inputs_BT[row, :1], SENTENCES.targets_BT[row, :last]]).tolist()
    norms = gradient_by_lag(model, ids, last, lags=32)
    shares, found = (norms / norms[1]).tolist(), measured(model, SENTENCES)["model"]
    assert found["lag 4"] == pytest.approx(shares[4])
    assert found["reach"] == max(lag for lag, share in enumerate(shares) if share >= 0.01)
    assert measured(model, StreamBatches(text(2), 1, 64).batch(0, 0))["model"] == {}


@EVERY_CELL
def test_a_fresh_model_of_every_cell_is_healthy(cell_type: str) -> None:
    assert advice(small_model(cell_type=cell_type, width=32)) == []


ILL: dict[str, tuple[str, Callable[[Any], object], list[str]]] = {
    "saturated": ("elman", lambda layer: layer.weight_ih_l0.mul_(100),
        ["layer 1: saturated units 96 %: lower the learning rate or init_scale"]),
    "dead": ("elman", lambda layer: [one[:16].zero_() for one in layer.parameters()],
        ["layer 1: dead units 25 %: lower the learning rate, or train a smaller hidden_size"]),
    "stuck at 1": ("lstm", lambda layer: layer.bias_ih_l0.view(4, -1)[1].fill_(20),
        ["layer 1: memory 1e6 tok: it forgets nothing", "forget gate 1: it is stuck open"]),
    "stuck at 0": ("lstm", lambda layer: layer.bias_ih_l0.view(4, -1)[1].fill_(-20),
        ["layer 1: memory 1 tok: it forgets every token", "stuck shut", "it doesn't react"]),
    "exploding": ("elman", lambda layer: (layer.weight_hh_l0.normal_(std=0.5),
        layer.weight_ih_l0.mul_(0.1)), ["model: gradient growth ", "the recurrence explodes: "]),
}  # fmt: skip
"""The cell of a net, what is done to its layer, and what is said of it."""


@pytest.mark.parametrize("kind", ILL)
def test_a_net_that_is_made_ill_is_named_with_its_advice(kind: str) -> None:
    torch.manual_seed(1)
    cell_type, change, wanted = ILL[kind]
    model = small_model(cell_type=cell_type, width=64, num_layers=1)
    with torch.no_grad():
        change(model.layers[0])
    found = "; ".join(advice(model))
    assert all(words in found for words in wanted)


@EVERY_CELL
def test_training_is_bit_equal_with_and_without_it(cell_type: str) -> None:
    """With every kind of dropout, which draws from the global generator."""
    quiet = trainer_of("stream", cell_type=cell_type, all_dropouts=True)
    train(quiet, 4)
    watched = trainer_of("stream", cell_type=cell_type, all_dropouts=True)
    for _ in range(4):
        assert health(watched.update, STREAMS) == health(watched.update, STREAMS), "no dropout"
        assert all(parameter.grad is None for parameter in watched.model.parameters())
        train(watched, 1)
    assert weights(watched) == weights(quiet)
    ours, theirs = watched.state_dict().tensors, quiet.state_dict().tensors
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
