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
from rnnlm_tui.engine.trainer import Trainer
from tests.gpu import DEVICE, NEEDS_GPU, ON_DEVICE

from .builders import CPU, tokenizer_folder, train, trainer_of, weights


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    set_exactness(True)
    yield
    set_exactness(False)


CELL_CASES = [
    (cell, dropouts, "adamw", [7]) for cell in sorted(CELLS) for dropouts in (False, True)
]


@pytest.mark.parametrize(
    "device", [CPU, pytest.param(DEVICE, marks=[*ON_DEVICE, NEEDS_GPU])], ids=["cpu", "device"]
)
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
@pytest.mark.parametrize(
    ("cell_type", "all_dropouts", "optimizer", "stops"),
    [
        *CELL_CASES,
        ("elman", False, "adamw", [1, 2, 11]),
        ("elman", False, "sgd", [7]),
        ("elman", False, "sgd", [1, 10]),
    ],
)
def test_interrupted_runs_are_bit_equal_at_the_end(
    tmp_path: Path,
    cell_type: str,
    data_mode: str,
    all_dropouts: bool,
    optimizer: str,
    stops: list[int],
    device: torch.device,
) -> None:
    def fresh(seed: int) -> Trainer:
        return trainer_of(
            data_mode,
            cell_type=cell_type,
            all_dropouts=all_dropouts,
            optimizer=optimizer,
            seed=seed,
            device=device,
        )

    straight = fresh(3)
    losses = train(straight, 12)
    codec = tokenizer_folder(tmp_path / "codec")
    trainer, found = fresh(3), list[float]()
    for stop in stops:
        found += train(trainer, stop - trainer.step)
        folder = tmp_path / str(stop)
        folder.mkdir()
        write_model(folder, trainer.model, codec)
        write_training_state(folder, trainer.state_dict())
        trainer = fresh(99)  # another seed: everything must come from the files
        load_training_state(folder, trainer)
    assert found + train(trainer, 12 - trainer.step) == losses
    assert weights(trainer) == weights(straight)
    counters = [(one.step, one.tokens_seen, one.epochs_done) for one in (trainer, straight)]
    assert counters[0] == counters[1]
    assert [part.tolist() for layer in trainer.state for part in layer] == [
        part.tolist() for layer in straight.state for part in layer
    ]


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_unfilled_memory_changes_no_bit(cell_type: str) -> None:
    found = []
    for fills in (False, True):
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        trainer = trainer_of("sentences", cell_type=cell_type, all_dropouts=True)
        found.append((train(trainer, 3), weights(trainer)))
    assert found[0] == found[1]
