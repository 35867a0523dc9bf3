"""Health of a net: figures of every cell by plain formulas, and nets made ill, each with its
advice."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, SentenceBatches, StreamBatches
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.health import LAGS, Figures, health
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.optim import build_optimizer
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.engine.step import Update
from rnnlm_tui.schema.health import readings
from rnnlm_tui.schema.metrics import HealthRow

from .builders import (
    batches_of,
    optimizer_config,
    sentences,
    small_model,
    text,
    train,
    trainer_of,
    weights,
)
from .reference import expected

EVERY_CELL = pytest.mark.parametrize("cell_type", sorted(CELLS))
KEPT = {
    "lstm": ("forget", 0, 1),
    "gru": ("update", 0, 1),
    "mingru": ("update", 1, -1),
    "minlstm": ("forget", 0, 1),
    "slstm": ("forget", 0, 1),
    "mlstm": ("forget", 0, 1),
}
"""The gate g of a cell whose share a + b g of the state stays: (g, a, b)."""
EXPONENTIAL = {"slstm": ("input",), "mlstm": ("input",)}


def sample_of(data_mode: str) -> Batch:
    if data_mode == "stream":
        return StreamBatches(text(140, seed=7), 4, 20).batch(0, 0)
    tokens, offsets = sentences(9, seed=1)
    return SentenceBatches(tokens, offsets, 9, 12, 0, shuffle=False).batch(0, 0)


def measured(
    model: RecurrentLanguageModel, sample: Batch | None = None, max_grad_norm: float = 0.0
) -> Figures:
    optimizer = build_optimizer(model.parameters(), optimizer_config("adamw"), 0.01)
    return health(model, sample or sample_of("stream"), optimizer, max_grad_norm)


def advice(model: RecurrentLanguageModel, sample: Batch | None = None) -> list[str]:
    row = HealthRow(1, 1, dict(measured(model, sample)), 0.0)
    return [reading.words for reading in readings([row]) if reading.advice]


def counted(values_TBU: Tensor, sample: Batch) -> list[list[float]]:
    """A row for each token that counts, in any order."""
    keeps = [
        [target >= 0 for target in row]  # -100: ignored
        for row in sample.targets_BT.tolist()
    ]
    found = values_TBU.transpose(0, 1).tolist()
    return [
        units
        for row, kept in zip(found, keeps, strict=True)
        for units, counts in zip(row, kept, strict=True)
        if counts
    ]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def deviation(values: list[float]) -> float:
    return math.sqrt(mean([(value - mean(values)) ** 2 for value in values]))


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
@EVERY_CELL
def test_figures_of_every_cell_equal_a_plain_computation(cell_type: str, data_mode: str) -> None:
    model = small_model(cell_type=cell_type, pad_id=0).double()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter.mul_(3)  # so that some units saturate
    sample = sample_of(data_mode)
    found = measured(model, sample)
    inputs_TBE = model.embedding.weight.detach()[sample.inputs_BT.t()]
    for number, layer in enumerate(model.cells, 1):
        with torch.no_grad():
            plain = expected(cell_type, layer, inputs_TBE, layer.initial_state(len(inputs_TBE[0])))
        wanted: dict[str, float] = {}
        outputs = counted(plain.outputs, sample)
        size = math.sqrt(mean([value**2 for row in outputs for value in row]))
        units = [list(unit) for unit in zip(*outputs, strict=True)]
        wanted["dead"] = mean([float(deviation(unit) <= 0.01 * size) for unit in units])
        if plain.tanh is not None:
            values = [value for row in counted(plain.tanh, sample) for value in row]
            wanted["saturated"] = mean([float(abs(value) > 0.9) for value in values])
        for name, gate in plain.gates.items():
            kind = "exponential" if name in EXPONENTIAL.get(cell_type, ()) else "gate"
            values = [value for row in counted(gate, sample) for value in row]
            wanted[f"{kind} {name}"] = mean(values)
            wanted[f"{kind}-spread {name}"] = deviation(values)
        if cell_type in KEPT:
            name, start, slope = KEPT[cell_type]
            rows = counted(plain.gates[name], sample)
            shares = [start + slope * mean(list(unit)) for unit in zip(*rows, strict=True)]
            memories = sorted(1 / (1 - share) for share in shares)
            middle = len(memories) // 2
            wanted["memory"] = mean(memories[middle - 1 : middle + 1])
        own = found[f"layer {number}"]
        assert {name: own[name] for name in wanted} == pytest.approx(wanted, rel=1e-7, abs=1e-12)
        assert set(own) == {*wanted, "gradient"}, "no step, so no update"
        inputs_TBE = plain.outputs

    twin = copy.deepcopy(model)
    loss, _ = twin(sample.inputs_BT, twin.initial_state(len(sample.inputs_BT)), sample.targets_BT)
    loss.backward()
    squares: dict[str, float] = {}
    for name, parameter in twin.named_parameters():
        part = {"embedding": "embedding", "output": "output"}.get(name.split(".")[0])
        part = part or f"layer {int(name.split('.')[1]) + 1}"
        assert parameter.grad is not None
        squares[part] = squares.get(part, 0.0) + float(parameter.grad.pow(2).sum())
    for part, square in squares.items():
        assert found[part]["gradient"] == pytest.approx(math.sqrt(square), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_update_over_weight_is_that_of_the_last_step(optimizer: str) -> None:
    """AdamW's from its moments; SGD's, which keeps none, is that of a step on the sample."""
    trainer = trainer_of("stream", optimizer=optimizer, dropout=0.0)
    train(trainer, 5)
    sample = trainer.batches.batch(1, 0)
    update = trainer.update
    group = trainer.optimizer.param_groups[0]
    if optimizer == "adamw":
        before = copy.deepcopy(trainer.model)
        train(trainer, 1)
        after, found = trainer.model, health(trainer.model, sample, trainer.optimizer, 0.5)
    else:
        before = trainer.model
        found = health(before, sample, trainer.optimizer, update.max_grad_norm)
        after = copy.deepcopy(before)
        copied = build_optimizer(after.parameters(), optimizer_config("sgd"), group["lr"])
        state = after.initial_state(len(sample.inputs_BT))
        Update(after, copied, update.max_grad_norm, reduced=False).do(
            sample.inputs_BT, sample.targets_BT, None, state
        )
    for part, prefix in (("embedding", "embedding."), ("layer 2", "layers.1.")):
        change = size = 0.0
        for (name, new), old in zip(after.named_parameters(), before.parameters(), strict=True):
            if name.startswith(prefix) and new.dim() == 2:
                change += float((new - old).detach().double().pow(2).sum())
                size += float(new.detach().double().pow(2).sum())
        assert found[part]["update"] == pytest.approx(math.sqrt(change / size), rel=1e-2)


def test_reach_is_that_of_the_longest_texts_relative_to_lag_1() -> None:
    model, sample = small_model(cell_type="gru"), sample_of("sentences")
    lengths = (sample.targets_BT >= 0).sum(1).tolist()
    rows = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))[:2]
    total = [0.0] * (LAGS + 1)
    for row in rows:
        length = lengths[row]
        ids = [int(sample.inputs_BT[row, 0]), *sample.targets_BT[row, :length].tolist()]
        for lag, norm in enumerate(gradient_by_lag(model, ids, length, lags=LAGS).tolist()):
            total[lag] += norm
    found = measured(model, sample)["model"]
    shares = [norm / total[1] for norm in total]
    assert found["lag 4"] == pytest.approx(shares[4])
    assert found["reach"] == max(lag for lag, share in enumerate(shares) if lag and share >= 0.01)
    assert found["growth"] == pytest.approx(max(shares[1:]))


@EVERY_CELL
def test_a_fresh_model_of_every_cell_is_healthy(cell_type: str) -> None:
    assert advice(small_model(cell_type=cell_type, width=32)) == []


@torch.no_grad()
def test_a_saturated_net_is_named_with_its_advice() -> None:
    model = small_model(width=32)
    model.layers[1].get_parameter("weight_ih_l0").mul_(100)
    assert "layer 2: saturated units 9" in advice(model)[0]
    assert advice(model)[0].endswith("%: lower the learning rate or init_scale")


@pytest.mark.parametrize(
    ("bias", "memory", "stuck"),
    [
        (20.0, "memory 1e6 tok: it forgets nothing: use the default initialization", "open"),
        (-20.0, "memory 1 tok: it forgets every token: use the default initialization", "shut"),
    ],
)
@torch.no_grad()
def test_stuck_forget_gates_are_named_with_their_advice(
    bias: float, memory: str, stuck: str
) -> None:
    model = small_model(cell_type="lstm", width=32)
    model.layers[0].get_parameter("bias_ih_l0").view(4, 32)[1] = bias
    found = [words for words in advice(model) if words.startswith("layer 1")]
    assert found[0] == f"layer 1: {memory}"
    assert "forget gate" in found[1]
    assert f"it is stuck {stuck}" in found[1]
    assert "forget gate, spread" in found[2]
    assert "doesn't react to the text" in found[2]


@torch.no_grad()
def test_dead_units_are_named_with_their_advice() -> None:
    model = small_model(width=32, num_layers=1)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        model.layers[0].get_parameter(name)[:8] = 0
    model.layers[0].get_parameter("bias_ih_l0")[:8] = 0.5
    assert advice(model) == [
        "layer 1: dead units 25 %: lower the learning rate, or train a smaller hidden_size"
    ]


@torch.no_grad()
def test_an_exploding_recurrence_is_named_with_its_advice() -> None:
    model = small_model(width=64, num_layers=1)
    model.layers[0].get_parameter("weight_hh_l0").normal_(
        std=4 / 8, generator=torch.Generator().manual_seed(1)
    )
    model.layers[0].get_parameter("weight_ih_l0").mul_(0.1)
    found = advice(model, StreamBatches(text(600, seed=7), 4, 40).batch(0, 0))
    assert any(
        words.startswith("model: gradient growth ×") and "the recurrence explodes" in words
        for words in found
    )


@EVERY_CELL
def test_training_is_bit_equal_with_and_without_it(cell_type: str) -> None:
    """With every kind of dropout, which draws from the global generator."""
    quiet, watched = (
        trainer_of("stream", cell_type=cell_type, all_dropouts=True) for _ in range(2)
    )
    train(quiet, 4)
    watched = trainer_of("stream", cell_type=cell_type, all_dropouts=True)
    for _ in range(4):
        found = health(
            watched.model, batches_of("stream").batch(0, 1), watched.optimizer, max_grad_norm=0.5
        )
        assert found == health(
            watched.model, batches_of("stream").batch(0, 1), watched.optimizer, max_grad_norm=0.5
        ), "no dropout"
        assert all(parameter.grad is None for parameter in watched.model.parameters())
        train(watched, 1)
    assert watched.model.training
    assert weights(watched) == weights(quiet)
    one, other = watched.state_dict().tensors, quiet.state_dict().tensors
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_text_of_one_token_and_a_diverged_model_have_figures() -> None:
    model = small_model(cell_type="lstm")
    assert measured(model, StreamBatches(text(2), 1, 64).batch(0, 0))["model"] == {}
    with torch.no_grad():
        model.output.bias[0] = math.nan
    assert math.isnan(measured(model)["layer 1"]["gradient"])
    assert not [words for words in advice(model) if "nan" in words]
