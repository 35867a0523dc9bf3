"""Exact mode: a run that was interrupted ends in the very bits of one that was not, for every cell,
in both data modes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.checkpoint import load_training_state, write_model, write_training_state
from rnnlm_tui.engine.device import set_exactness
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer

from .builders import tokenizer_folder, trainer_of


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    set_exactness(True)
    yield
    set_exactness(False)


def train(trainer: Trainer, steps: int) -> list[float]:
    return [trainer.train_step().loss.item() for _ in range(steps)]


def weights(model: RecurrentLanguageModel) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]


@pytest.mark.parametrize("all_dropouts", [False, True])
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_interrupted_runs_are_bit_equal_at_the_end(
    tmp_path: Path, cell_type: str, data_mode: str, all_dropouts: bool
) -> None:
    def fresh(seed: int) -> Trainer:
        return trainer_of(data_mode, cell_type=cell_type, all_dropouts=all_dropouts, seed=seed)

    straight = fresh(3)
    losses = train(straight, 12)
    first = fresh(3)
    codec = tokenizer_folder(tmp_path / "codec")
    began = train(first, 7)  # in the middle of the second pass
    write_model(tmp_path, first.model, codec)
    write_training_state(tmp_path, first.state_dict())
    second = fresh(99)
    load_training_state(tmp_path, second)
    assert began + train(second, 5) == losses
    assert weights(second.model) == weights(straight.model)
    assert [part.tolist() for layer in second.state for part in layer] == [
        part.tolist() for layer in straight.state for part in layer
    ]


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_unfilled_memory_changes_no_bit(cell_type: str) -> None:
    found = []
    for fills in (False, True):
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        trainer = trainer_of("sentences", cell_type=cell_type, all_dropouts=True)
        found.append((train(trainer, 3), weights(trainer.model)))
    assert found[0] == found[1]
