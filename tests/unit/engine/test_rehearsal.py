"""A rehearsed step changes nothing, and a lack of memory is reported with the shape."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.memory import (
    held_bytes,
    largest_step,
    peak_bytes,
    rehearse_evaluation,
    rehearse_step,
)
from rnnlm_tui.errors import DeviceError
from tests.unit.engine.builders import train, trainer_of, weights


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_after_a_rehearsal_is_bit_equal(data_mode: str, optimizer: str) -> None:
    plain = trainer_of(data_mode, optimizer=optimizer, all_dropouts=True)
    train(plain, 3)
    rehearsed = trainer_of(data_mode, optimizer=optimizer, all_dropouts=True)
    before = rehearsed.state_dict()
    assert rehearse_step(rehearsed) > 0
    rehearse_evaluation(rehearsed)
    after = rehearsed.state_dict()
    assert after.values == before.values
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    train(rehearsed, 2)
    first = weights(rehearsed)
    rehearse_step(rehearsed)  # with moments and a carried state, as after a resume
    train(rehearsed, 1)
    assert weights(rehearsed) == weights(plain) != first


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_no_batch_of_the_run_is_larger_than_the_one_rehearsed(data_mode: str) -> None:
    trainer = trainer_of(data_mode)
    rows, length = largest_step(trainer)
    shapes = [
        trainer.batches.batch(epoch, index).inputs_BT.shape
        for epoch in range(3)
        for index in range(trainer.batches.steps_per_epoch)
    ]
    assert max(shape[0] for shape in shapes) == rows
    assert max(shape[1] for shape in shapes) == length


def test_a_step_out_of_memory_reports_its_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = trainer_of("stream")
    monkeypatch.setattr(type(trainer.model), "forward", lambda *_, **__: torch.empty(2**60))
    with pytest.raises(DeviceError, match="out of memory in a step of 4 x 10 tokens"):
        rehearse_step(trainer)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_an_evaluation_out_of_memory_reports_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.engine.evaluate.token_losses", lambda *_: torch.empty(2**60))
    with pytest.raises(DeviceError, match="out of memory in an evaluation of 16 x 128 tokens"):
        rehearse_evaluation(trainer_of("stream"))


def test_memory_of_a_gpu_is_what_torch_reserved_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps between tensors are reserved, too, and can't be used otherwise."""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 5 * 2**20)
    device = torch.device("cuda:0")
    assert (held_bytes(device), peak_bytes(device)) == (3 * 2**20, 5 * 2**20)
