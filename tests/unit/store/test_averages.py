"""Averages stand beside the checkpoints; neither a resume nor retention sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.average import newest_parts, parts_at, remove
from rnnlm_tui.errors import CheckpointError, InputError, UnknownCheckpointError
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.averages import (
    AVERAGED_FACT,
    keep_average,
    list_averages,
    write_average,
)
from rnnlm_tui.store.checkpoints import CheckpointEntry, list_checkpoints, sweep_temporary
from rnnlm_tui.store.lineage import ParentCheckpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.verify import newest_valid
from rnnlm_tui.system.locks import staging
from tests.unit.store.rows import new_run, parent_checkpoint, write_model

FACTS = {AVERAGED_FACT: ["plain-otter@500", "plain-otter@1000"], "validation_loss": 4.0}


@pytest.fixture
def run() -> RunDirectory:
    run = new_run()
    for step in (500, 1_000):
        parent_checkpoint(run, step)
    return run


def kept(run: RunDirectory, step: int = 1_000) -> CheckpointEntry:
    with staging(run.checkpoints_path) as place:
        write_average(run, place / "average", step, write_model, FACTS)
        return keep_average(run, place / "average")


def test_an_average_is_found_by_its_name_and_by_nothing_else(run: RunDirectory) -> None:
    entry, again = kept(run), kept(run)
    assert [entry.name, again.name] == ["average-1000", "average-1000-2"]
    assert entry.row().validation_loss == 4.0
    assert list_averages(run) == [entry, again]
    assert checkpoint_path(run, "average-1,000") == entry.path
    assert ParentCheckpoint(run, again.path).address == "plain-otter@average-1000-2"
    assert parts_at(["plain-otter@average-1000-2"])[0].path == again.path

    assert [found.step for found in list_checkpoints(run)] == [500, 1_000]
    assert checkpoint_path(run, "last").name == "step-000001000"
    assert newest_valid(run)[0] == checkpoint_path(run, "1000")
    with pytest.raises(UnknownCheckpointError, match="500, 1000, average-1000, average-1000-2"):
        checkpoint_path(run, "average-7")


def test_an_average_is_invisible_until_it_is_kept_and_a_starting_worker_leaves_it(
    run: RunDirectory,
) -> None:
    before = sorted(path.name for path in run.checkpoints_path.iterdir())
    with staging(run.checkpoints_path) as place:
        write_average(run, place / "average", 1_000, write_model, FACTS)
        assert list_averages(run) == []
        sweep_temporary(run)
        name = keep_average(run, place / "average").path.name
    assert sorted(path.name for path in run.checkpoints_path.iterdir()) == [name, *before]


def test_a_damaged_or_missing_average_is_not_kept(run: RunDirectory) -> None:
    with staging(run.checkpoints_path) as place:
        with pytest.raises(CheckpointError):
            keep_average(run, place / "average")
        write_average(run, place / "average", 1_000, write_model, FACTS)
        (place / "average" / "model.safetensors").write_bytes(b"weights")
        with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
            keep_average(run, place / "average")


def test_only_a_kept_average_can_be_removed(run: RunDirectory) -> None:
    entry = kept(run)
    with pytest.raises(InputError, match='no average "1000"') as caught:
        remove(run, "1000")
    assert caught.value.hint == "it has average-1000"
    assert remove(run, "average-1000") == entry
    assert list_averages(run) == []
    assert [found.step for found in list_checkpoints(run)] == [500, 1_000]


def test_the_newest_parts_need_as_many_checkpoints(run: RunDirectory) -> None:
    assert [part.checkpoint for part in newest_parts(run, 2)] == ["500", "1000"]
    for count, words in ((1, "at least 2 checkpoints, not 1"), (3, "has 2 checkpoints, not 3")):
        with pytest.raises(InputError, match=words):
            newest_parts(run, count)


def test_a_name_like_an_averages_is_no_average(run: RunDirectory, tmp_path: Path) -> None:
    (run.checkpoints_path / "average-step-000001000").symlink_to(tmp_path)
    (run.checkpoints_path / "average-step-x").mkdir()
    assert list_averages(run) == []
