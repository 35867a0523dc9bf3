"""A run with a parent starts from exactly that checkpoint, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.errors import CheckpointError, UnknownCheckpointError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.worker.parent import parent_checkpoint


def write_files(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def parent() -> RunDirectory:
    run = create_run(RunConfig(), "plain-otter")
    for step in (500, 1_000):
        write_checkpoint(run, step, write_files, None, {})
    return run


def test_a_parent_is_a_step_or_the_last_checkpoint(parent: RunDirectory) -> None:
    assert parent_checkpoint("plain-otter@500") == parent.checkpoints_path / "step-000000500"
    assert parent_checkpoint("plain-otter") == parent.checkpoints_path / "step-000001000"


def test_a_missing_parent_is_not_replaced_by_a_run_with_a_longer_name(parent: RunDirectory) -> None:
    with pytest.raises(
        UnknownCheckpointError,
        match='starts from the weights of plain@500, which are gone: no run "plain"',
    ):
        parent_checkpoint("plain@500")


def test_a_removed_step_is_reported_with_the_existing_ones(parent: RunDirectory) -> None:
    with pytest.raises(
        UnknownCheckpointError,
        match=r"plain-otter@200, which are gone: .* it has best, last and 500, 1000",
    ):
        parent_checkpoint("plain-otter@200")


def test_a_damaged_parent_is_refused(parent: RunDirectory) -> None:
    (parent.checkpoints_path / "step-000000500" / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        parent_checkpoint("plain-otter@500")
