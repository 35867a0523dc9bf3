"""All layers in one call of torch's kernels: the same numbers, and weights in one block."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rnnlm_tui.engine.cells import CELLS, RecurrentLayer
from rnnlm_tui.engine.cells.base import GatedLayer, kernel_weights
from rnnlm_tui.engine.cells.stacked import kernel_layers, lay_out, run_stacked
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.optim import adamw, clip_gradients

from .builders import small_model

KERNEL_CELLS = pytest.mark.parametrize("cell_type", ["elman", "gru", "lstm"])


def drawn_stack(cell_type: str, widths: Sequence[int]) -> nn.ModuleList:
    """Layers in float64 with weights in ±0.7."""
    layers = nn.ModuleList(
        cast(nn.Module, CELLS[cell_type](inputs, outputs, 1))
        for inputs, outputs in pairwise(widths)
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layers


def one_by_one(
    layers: Sequence[RecurrentLayer], features_TBE: Tensor, state: State
) -> tuple[Tensor, State]:
    after = []
    for layer, before in zip(layers, state, strict=True):
        features_TBE, reached = layer(features_TBE, before)
        after.append(reached)
    return features_TBE, tuple(after)


@KERNEL_CELLS
@pytest.mark.parametrize("widths", [(5, 4, 4), (4, 4, 4, 4)])
@pytest.mark.parametrize("length", [1, 7])
def test_one_call_equals_layer_after_layer(
    cell_type: str, widths: tuple[int, ...], length: int
) -> None:
    layers = drawn_stack(cell_type, widths)
    stacked = kernel_layers(cast(Sequence[RecurrentLayer], layers))
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    inputs = drawn(length, 3, widths[0]).requires_grad_()
    parts = len(stacked[0].initial_state(1))
    state = tuple(
        tuple(drawn(3, layer.hidden_size).requires_grad_() for _ in range(parts))
        for layer in stacked
    )
    leaves = [inputs, *(part for layer in state for part in layer), *layers.parameters()]
    shares = [drawn(length, 3, 4), *(drawn(3, 4) for _ in range(parts * len(stacked)))]
    found = []
    for run in (run_stacked, one_by_one):
        hidden, after = run(stacked, inputs, state)
        results = [hidden, *(part for layer in after for part in layer)]
        total = sum((result * share).sum() for result, share in zip(results, shares, strict=True))
        found.append([*results, *torch.autograd.grad(cast(Tensor, total), leaves)])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-6)


@KERNEL_CELLS
@pytest.mark.parametrize("tied", [False, True])
def test_a_models_loss_gradients_and_state_are_the_same(
    monkeypatch: pytest.MonkeyPatch, cell_type: str, tied: bool
) -> None:
    model = small_model(cell_type=cell_type, tie_weights=tied, num_layers=3, pad_id=0).double()
    tokens = torch.randint(1, 23, (4, 9), generator=torch.Generator().manual_seed(5))
    found = []
    for forced in (False, True):
        monkeypatch.setattr("rnnlm_tui.engine.model.takes_cuda_path", lambda _, way=forced: way)
        _, carried = model(tokens[:, :3], model.initial_state(4))
        loss, state = model(tokens[:, 3:-1], carried, tokens[:, 4:])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        found.append([loss, *(part for layer in state for part in layer), *gradients])
    for plain, stacked in zip(*found, strict=True):
        torch.testing.assert_close(stacked, plain, rtol=0, atol=1e-6)


def test_layers_with_something_dropped_between_them_are_called_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bool] = []

    def counted(layers: Sequence[GatedLayer], inputs: Tensor, state: State) -> tuple[Tensor, State]:
        calls.append(layers[0].training)
        return run_stacked(layers, inputs, state)

    monkeypatch.setattr("rnnlm_tui.engine.model.run_stacked", counted)
    monkeypatch.setattr("rnnlm_tui.engine.model.takes_cuda_path", lambda _: True)

    def run(model: RecurrentLanguageModel) -> None:
        model(torch.tensor([[1, 2, 3]]), model.initial_state(1))

    run(small_model(cell_type="lstm"))
    assert calls == [True]
    for dropping in (
        small_model(cell_type="lstm", dropout=0.2),
        small_model(cell_type="lstm", dropout=0.2, all_dropouts=True),
        small_model(cell_type="elman", all_dropouts=True),
    ):
        run(dropping)
        assert calls == [True]
        run(dropping.eval())  # the weights are still laid out for single layers
        assert calls == [True]
        dropping.lay_out()
        run(dropping)
        assert calls == [True, False]
        del calls[1:]
    for other in (small_model(num_layers=1), small_model(cell_type="mingru")):
        run(other)
    assert calls == [True]


def test_a_cpu_runs_layer_after_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("rnnlm_tui.engine.model.run_stacked")
    model = small_model(cell_type="lstm")
    model(torch.tensor([[1, 2, 3]]), model.initial_state(1))


@pytest.fixture
def flattening(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Lets CPU weights pass for a GPU's; cuDNN's function is replaced by one that does what its
    source says: all matrices and biases become views of one new block, in its own order."""
    blocks: list[Tensor] = []

    def flatten(weights: list[Tensor], per_layer: int, *_: object) -> Tensor:
        assert per_layer == 4
        block = weights[0].new_zeros(sum(weight.numel() for weight in weights))
        start = 0
        for weight in sorted(weights, key=lambda weight: -weight.dim()):  # the matrices first
            part = block[start : start + weight.numel()].view_as(weight)
            part.copy_(weight)
            weight.set_(part)  # type: ignore[call-overload]
            start += weight.numel()
        blocks.append(block)
        return block

    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", flatten)
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr("rnnlm_tui.engine.cells.stacked.get_cudnn_mode", lambda mode: mode)
    monkeypatch.setattr("rnnlm_tui.engine.cells.stacked.on_cudnn", lambda _: True)
    monkeypatch.setattr("rnnlm_tui.engine.model.takes_cuda_path", lambda _: True)
    return blocks


def addresses(model: RecurrentLanguageModel) -> set[int]:
    return {parameter.untyped_storage().data_ptr() for parameter in model.layers.parameters()}


@KERNEL_CELLS
@pytest.mark.parametrize("tied", [False, True])
def test_a_moved_models_layers_share_one_block_and_train_the_same(
    flattening: list[Tensor], cell_type: str, tied: bool, tmp_path: Path
) -> None:
    plain = small_model(cell_type=cell_type, tie_weights=tied)
    joined = small_model(cell_type=cell_type, tie_weights=tied)
    kept = dict(joined.named_parameters())
    joined._apply(lambda tensor: tensor.clone())  # a move
    assert addresses(joined) == {flattening[-1].data_ptr()}
    assert len(addresses(plain)) == len(list(plain.layers.parameters()))
    assert all(parameter is kept[name] for name, parameter in joined.named_parameters())
    assert list(joined.state_dict()) == list(plain.state_dict())

    tokens = torch.randint(1, 23, (4, 9), generator=torch.Generator().manual_seed(5))
    for model in (plain, joined):
        optimizer = adamw(model.parameters(), learning_rate=0.01)
        for _ in range(4):
            loss, _ = model(tokens[:, :-1], model.initial_state(4), tokens[:, 1:])
            loss.backward()
            clip_gradients(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert addresses(joined) == {flattening[-1].data_ptr()}
    assert (joined.output.weight is joined.embedding.weight) == tied
    for trained, wanted in zip(joined.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(trained, wanted, rtol=1e-4, atol=1e-6)

    # Files have separate tensors, and loading one writes into the block.
    weights = {name: parameter.detach() for name, parameter in joined.named_parameters()}
    save_file(weights, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * joined.num_parameters() + 4_000
    other = small_model(cell_type=cell_type, tie_weights=tied, seed=9)
    other._apply(lambda tensor: tensor.clone())
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert addresses(other) == {flattening[-1].data_ptr()}
    for loaded, parameter in zip(other.parameters(), joined.parameters(), strict=True):
        assert torch.equal(loaded, parameter)
    copied = copy.deepcopy(joined)
    assert not addresses(copied) & addresses(joined)
    assert torch.equal(copied.layers[1].weight_hh_l0, joined.layers[1].weight_hh_l0)  # type: ignore[arg-type]


@pytest.mark.usefixtures("flattening")
def test_layers_are_laid_out_for_how_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(cell_type="gru", dropout=0.3)
    stacked = kernel_layers(cast(Sequence[RecurrentLayer], model.layers))
    separated: list[GatedLayer] = []
    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", lambda layer: separated.append(layer))
    model.lay_out()
    assert not any(layer.joined for layer in stacked)
    model.eval().lay_out()
    assert all(layer.joined for layer in stacked)
    assert separated == []
    model.train().lay_out()
    assert separated == list(stacked)
    assert not any(layer.joined for layer in stacked)
    model.dropout = 0.0
    model.lay_out()
    assert all(layer.joined for layer in stacked)


@pytest.mark.usefixtures("flattening")
def test_a_single_layer_out_of_the_block_gets_its_own_copy() -> None:
    model = small_model(cell_type="lstm")
    model.lay_out()
    layer = kernel_layers(cast(Sequence[RecurrentLayer], model.layers))[1]
    given = kernel_weights(layer, layer.weight_hh_l0, block=True)
    assert len({weight.untyped_storage().data_ptr() for weight in given}) == 1
    assert given[0].storage_offset() == 0
    assert given[0].untyped_storage().data_ptr() != layer.weight_ih_l0.untyped_storage().data_ptr()
    for own, copied in zip(
        (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0),
        given,
        strict=True,
    ):
        assert torch.equal(own, copied)
    lay_out((layer,), together=False)
    assert kernel_weights(layer, layer.weight_hh_l0, block=True)[0] is layer.weight_ih_l0
