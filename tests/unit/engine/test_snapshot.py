"""Snapshots: what a checkpoint is written from while training goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rnnlm_tui.engine import snapshot as module
from rnnlm_tui.engine.checkpoint import (
    write_model,
    write_model_files,
    write_training_state,
)
from rnnlm_tui.engine.snapshot import Snapshot, SnapshotCopies, snapshot_of, weights_are_finite
from rnnlm_tui.engine.trainer import Trainer

from .builders import tokenizer_folder, train, trainer_of


def write(snapshot: Snapshot, folder: Path, codec: Path) -> dict[str, bytes]:
    """All files of a snapshot, by name."""
    folder.mkdir()
    write_model_files(folder, snapshot.config, snapshot.weights, codec)
    write_training_state(folder, snapshot.state)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("mode", "optimizer", "cell"), [("stream", "adamw", "lstm"), ("sentences", "sgd", "gru")]
)
def test_a_copy_written_while_training_goes_on_has_the_bytes_of_its_step(
    mode: str, optimizer: str, cell: str, tmp_path: Path
) -> None:
    def at_step_7() -> Trainer:
        torch.manual_seed(5)
        trainer = trainer_of(mode, optimizer=optimizer, cell_type=cell)
        train(trainer, 7)
        trainer.active_seconds = 1.5  # the only figure that two trainers don't share
        return trainer

    codec = tokenizer_folder(tmp_path / "codec")
    trainer, copies = at_step_7(), SnapshotCopies()
    copy = copies.copy(snapshot_of(trainer))
    assert copy is not None
    train(trainer, 4)
    beside = write(copy, tmp_path / "beside", codec)
    waiting = at_step_7()
    (tmp_path / "waiting").mkdir()
    write_model(tmp_path / "waiting", waiting.model, codec)
    write_training_state(tmp_path / "waiting", waiting.state_dict())
    assert beside == {path.name: path.read_bytes() for path in (tmp_path / "waiting").iterdir()}


def test_the_next_copy_takes_no_new_memory() -> None:
    trainer, copies = trainer_of("stream"), SnapshotCopies()
    train(trainer, 1)
    first = copies.copy(snapshot_of(trainer))
    train(trainer, 1)
    second = copies.copy(snapshot_of(trainer))
    assert first is not None
    assert second is not None
    assert first.bytes == second.bytes == snapshot_of(trainer).bytes
    places = [[one.data_ptr() for one in copy.tensors.values()] for copy in (first, second)]
    assert places[0] == places[1]


def test_without_memory_for_a_copy_there_is_none_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer, copies = trainer_of("stream"), SnapshotCopies()
    train(trainer, 1)
    live = snapshot_of(trainer)
    with monkeypatch.context() as patch:
        patch.setattr(module, "spare_bytes", lambda: live.bytes - 1)
        assert copies.copy(live) is None
    assert copies.copy(live) is not None, "memory that is free again is used"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_not_finite_is_found(value: float) -> None:
    trainer = trainer_of("stream")
    with torch.no_grad():
        trainer.model.output.weight[:, 0] = 3e38  # finite, but not their sum
    assert weights_are_finite(snapshot_of(trainer))
    with torch.no_grad():
        list(trainer.model.parameters())[-1].view(-1)[-1] = value
    assert not weights_are_finite(snapshot_of(trainer))
