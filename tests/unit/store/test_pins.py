"""Pins: empty files that protect a checkpoint from removal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnnlm_tui.errors import UnknownCheckpointError
from rnnlm_tui.store import checkpoints
from rnnlm_tui.store.checkpoints import (
    list_checkpoints,
    remove_checkpoint,
    sweep_temporary,
    write_checkpoint,
)
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.retention import pin_checkpoint, pinned_steps, unpin_checkpoint
from rnnlm_tui.system.locks import reading
from tests.unit.store.rows import new_run, write_model


@pytest.fixture
def run() -> RunDirectory:
    run = new_run()
    for step in (500, 1_000):
        write_checkpoint(run, step, write_model, None, {})
    return run


def test_a_pin_is_an_empty_private_file_that_sweeping_and_listing_ignore(run: RunDirectory) -> None:
    old = os.umask(0)
    try:
        assert pin_checkpoint(run, 500)
    finally:
        os.umask(old)
    found = (run.checkpoints_path / "pinned-000000500").stat()
    assert (found.st_size, found.st_mode & 0o777) == (0, 0o600)
    sweep_temporary(run)
    assert pinned_steps(run) == {500}
    assert [entry.step for entry in list_checkpoints(run)] == [500, 1_000]


def test_pinning_and_unpinning_twice_changes_nothing(run: RunDirectory) -> None:
    assert [pin_checkpoint(run, 500), pin_checkpoint(run, 500)] == [True, False]
    assert [unpin_checkpoint(run, 500), unpin_checkpoint(run, 500)] == [True, False]
    assert pinned_steps(run) == frozenset()


def test_a_pinned_checkpoint_is_removed_only_after_unpinning(run: RunDirectory) -> None:
    pin_checkpoint(run, 500)
    assert not remove_checkpoint(run, 500)
    unpin_checkpoint(run, 500)
    assert remove_checkpoint(run, 500)
    assert [entry.step for entry in list_checkpoints(run)] == [1_000]


def test_a_checkpoint_is_not_removed_while_it_is_read(run: RunDirectory) -> None:
    folder = run.checkpoints_path / "step-000000500"
    with reading(folder, run.path / "gone"), reading(folder):
        assert not remove_checkpoint(run, 500)
        assert [entry.step for entry in list_checkpoints(run)] == [500, 1_000]
    assert remove_checkpoint(run, 500)


def test_a_missing_checkpoint_cannot_be_pinned_and_leaves_no_pin(run: RunDirectory) -> None:
    for step in (499, 10**11):
        with pytest.raises(UnknownCheckpointError, match="no checkpoint of step"):
            pin_checkpoint(run, step)
    with pytest.raises(UnknownCheckpointError):
        pin_checkpoint(new_run("bare"), 1)
    assert pinned_steps(run) == pinned_steps(RunDirectory(Path("/nowhere"))) == frozenset()


def test_a_pin_during_the_removal_restores_the_checkpoint(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(of: RunDirectory) -> frozenset[int]:
        if looks:
            (
                of.checkpoints_path / "pinned-000000500"
            ).touch()  # between the rename and the second look
        looks.append(len(looks))
        return pinned_steps(of)

    monkeypatch.setattr(checkpoints, "pinned_steps", look)
    assert not remove_checkpoint(run, 500)
    assert [entry.step for entry in list_checkpoints(run)] == [500, 1_000]
