"""A GPU's results against the CPU's."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rnnlm_tui.engine import tensor_file
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.generation import Generation, read_text
from rnnlm_tui.engine.matmul import choose_matmul, roundings
from rnnlm_tui.engine.snapshot import SnapshotCopies, snapshot_of, weights_are_finite
from rnnlm_tui.engine.trainer import Trainer
from tests.gpu import DEVICE, NEEDS_GPU, ON_DEVICE
from tests.unit.engine.builders import CPU, plain, small_model, trainer_of

pytestmark = ON_DEVICE


def losses(trainer: Trainer, steps: int) -> Tensor:
    return torch.stack([trainer.train_step().loss for _ in range(steps)]).cpu()


@NEEDS_GPU
def test_bf16_matmul_trains_alike_and_keeps_all_state_in_float32() -> None:
    rounded, exact = (
        trainer_of("stream", dropout=0.0, device=DEVICE, precision=precision)
        for precision in ("bf16", "float32")
    )
    torch.testing.assert_close(losses(rounded, 10), losses(exact, 10), rtol=2e-2, atol=2e-2)
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.float32}
    assert {part.dtype for layer in rounded.state for part in layer} == {torch.float32}


@NEEDS_GPU
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_a_copy_keeps_the_values_of_its_step_while_training_goes_on(
    tmp_path: Path, data_mode: str
) -> None:
    trainer = trainer_of(data_mode, cell_type="lstm", device=DEVICE)
    copies = SnapshotCopies()
    for number in range(2):  # the second copy takes the memory of the first
        losses(trainer, 5)
        live = snapshot_of(trainer)
        weights = {name: one.cpu() for name, one in live.weights.items()}
        state = {name: one.cpu() for name, one in live.state.tensors.items()}
        copy = copies.copy(live)
        assert copy is not None
        folder = tmp_path / str(number)
        folder.mkdir()
        losses(trainer, 5)
        assert weights_are_finite(copy)
        tensor_file.write_tensors(folder / "weights", copy.weights)
        tensor_file.write_tensors(folder / "state", copy.state.tensors)
        for name, expected in (("weights", weights), ("state", state)):
            written = load_file(folder / name)
            assert written.keys() == expected.keys()
            for key, tensor in expected.items():
                assert torch.equal(written[key], tensor), key


@NEEDS_GPU
def test_auto_measures_all_formats_and_leaves_the_chosen_precision_set() -> None:
    chosen = choose_matmul("auto", torch.randn(2_000, 64, device=DEVICE))
    assert [name for name, _ in chosen.speedups] == list(roundings(DEVICE)[1:])
    assert torch.backends.cudnn.allow_tf32 == (chosen.mode != "float32")


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_a_greedy_batch_gives_the_cpus_text(cell_type: str) -> None:
    settings = plain(greedy=True, repetition_penalty=1.3, penalty_window=5, max_new_tokens=20)
    texts = []
    for device in (CPU, DEVICE):
        model = small_model(cell_type=cell_type).double().to(device).eval()
        start = read_text(model, [1, 2, 3])
        texts.append(
            [
                [one.token for one in tokens]
                for tokens in Generation(model, start, settings, count=3)
            ]
        )
    assert texts[0] == texts[1]


@NEEDS_GPU
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("cell_type", ["elman", "lstm", "gru"])
def test_cudnn_finds_the_weights_in_one_block(cell_type: str, dropout: float) -> None:
    """In every mode: it would copy them in each call and warn."""
    trainer = trainer_of("stream", cell_type=cell_type, dropout=dropout, device=DEVICE)
    model = trainer.model
    storages = {weight.untyped_storage().data_ptr() for weight in model.layers.parameters()}
    assert len(storages) == model.num_layers
    tokens = torch.ones(2, 5, dtype=torch.int64, device=DEVICE)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*single contiguous chunk of memory")
        trainer.train_step()
        model.eval()
        model(tokens, model.initial_state(2))
