"""Save, find, verify and remove checkpoints."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.errors import CheckpointError, StorageError, UnknownCheckpointError
from rnnlm_tui.store import checkpoints
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import (
    CheckpointEntry,
    checkpoint_rows,
    list_checkpoints,
    read_checkpoints,
    remove_checkpoint,
    sweep_temporary,
    write_checkpoint,
    write_snapshot,
)
from rnnlm_tui.store.labels import (
    RunLabels,
    change_labels,
    labels_file,
    pin_checkpoint,
    read_labels,
)
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import delete_checkpoints
from rnnlm_tui.store.verify import move_damaged_aside, newest_valid
from rnnlm_tui.system.locks import reading
from tests.unit.store.damages import DAMAGES
from tests.unit.store.rows import begin, evaluation_row, write_model


def write(run: RunDirectory, step: int, validation_loss: float | None = None) -> Path:
    return write_checkpoint(
        run, step, write_model, None, {"attempt": 1, "validation_loss": validation_loss}
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_has_its_files_and_their_manifest(run: RunDirectory) -> None:
    path = write_checkpoint(
        run,
        1_500,
        write_model,
        "step-000001000",
        {"epoch": 1.5, "train_loss": 4.25, "device": "cpu", "rates": [1, 2]},
    )
    assert path == run.checkpoints_path / "step-000001500"
    assert names(path) == ["config.json", "manifest.json", "model.safetensors"]
    manifest = verify_checkpoint(path)
    assert (manifest.kind, manifest.run, manifest.step, manifest.parent) == (
        "checkpoint",
        "plain-otter",
        1_500,
        "step-000001000",
    )
    assert manifest.facts == {"epoch": 1.5, "train_loss": 4.25, "device": "cpu", "rates": [1, 2]}
    assert manifest.files["model.safetensors"].size == 10_240
    assert {"rnnlm_tui", "python"} <= set(manifest.versions)
    assert names(run.checkpoints_path) == ["step-000001500"]


def test_a_nan_loss_leaves_the_manifest_valid(run: RunDirectory) -> None:
    path = write_checkpoint(
        run, 1, write_model, None, {"train_loss": math.nan, "validation_loss": math.inf}
    )
    json.loads(
        (path / "manifest.json").read_text(encoding="utf-8"),
        parse_constant=lambda word: pytest.fail(word),
    )
    assert verify_checkpoint(path).step == 1
    assert list_checkpoints(run)[0].row().validation_loss is None


def test_checkpoints_are_listed_by_step_with_their_facts(run: RunDirectory) -> None:
    for step in (1_000, 500, 2_000_000_000):
        write(run, step, 4.0)
    (run.checkpoints_path / "step-000000007").mkdir()
    (run.checkpoints_path / "notes").mkdir()
    entries = list_checkpoints(run)
    assert [entry.step for entry in entries] == [500, 1_000, 2_000_000_000]
    assert {entry.row().validation_loss for entry in entries} == {4.0}
    assert entries[0].bytes == sum(path.stat().st_size for path in entries[0].path.iterdir())


def test_best_last_and_a_step_are_resolved(run: RunDirectory) -> None:
    for step, loss in ((500, 5.0), (1_000, 4.0), (1_500, 4.5)):
        write(run, step, loss)
    found = {
        which: checkpoint_path(run, which).name
        for which in (None, "best", "last", "500", "1,000", "000001000")
    }
    assert found == {
        None: "step-000001000",
        "best": "step-000001000",
        "last": "step-000001500",
        "500": "step-000000500",
        "1,000": "step-000001000",
        "000001000": "step-000001000",
    }


def test_a_loss_measured_after_the_checkpoint_also_decides_the_best(
    run: RunDirectory,
) -> None:
    for step, loss in ((500, 5.0), (1_000, None), (2_000, math.nan)):
        write(run, step, loss)
    assert checkpoint_path(run, "best").name == "step-000000500"
    with begin(run) as log:
        log.append(evaluation_row(500, loss=9.0), evaluation_row(1_000), evaluation_row(1_500))
    assert checkpoint_path(run, "best").name == "step-000001000"
    rows = read_checkpoints(run)
    assert [(row.step, row.best, row.last) for row in rows] == [
        (500, False, False),
        (1_000, True, False),
        (2_000, False, True),
    ]
    assert [row.validation_loss for row in rows[:2]] == [5.0, 4.0]


def test_the_folders_are_the_list_of_checkpoints_and_each_manifest_is_read_once(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[int, CheckpointEntry] = {}
    for step in (1, 2):
        write(run, step, 5.0)
    assert [row.step for row in checkpoint_rows(run, [], known)] == [1, 2]
    assert remove_checkpoint(run, 1)
    with monkeypatch.context() as moment:
        moment.setattr(checkpoints, "read_manifest", None)
        assert [row.step for row in checkpoint_rows(run, [], known)] == [2]
    write(run, 3)
    (run.checkpoints_path / "step-000000004").mkdir()
    rows = checkpoint_rows(run, [], known)
    assert [(row.step, row.best, row.last) for row in rows] == [(2, True, False), (3, False, True)]


@pytest.mark.parametrize(
    "which", ["501", "", "latest", "-1", "../500", "5e2", "9" * 300, "\x1b[31m", "٥٠٠"]
)
def test_an_unknown_checkpoint_error_lists_the_existing_ones(run: RunDirectory, which: str) -> None:
    write(run, 500)
    with pytest.raises(UnknownCheckpointError, match="it has best, last and 500") as caught:
        checkpoint_path(run, which)
    assert caught.value.message.isprintable()


def test_a_similar_name_is_suggested_and_last_is_suggested_without_a_best(
    run: RunDirectory,
) -> None:
    with pytest.raises(UnknownCheckpointError, match="plain-otter has no checkpoint yet"):
        checkpoint_path(run, "last")
    write(run, 500)
    with pytest.raises(UnknownCheckpointError) as caught:
        checkpoint_path(run, "lst")
    assert caught.value.hint == 'did you mean "last"?'
    with pytest.raises(UnknownCheckpointError, match="none is the best") as caught:
        checkpoint_path(run, "best")
    assert caught.value.hint == "use plain-otter@last"
    assert checkpoint_path(run, None).name == "step-000000500"
    damaged = write(run, 600) / "manifest.json"
    damaged.write_text("{")
    assert checkpoint_path(run, None).name == "step-000000500"
    assert checkpoint_path(run, "600") == damaged.parent, "whoever reads it reports the damage"


def test_saving_a_step_again_replaces_its_checkpoint(run: RunDirectory) -> None:
    write(run, 500, 5.0)
    path = write(run, 500, 4.0)
    assert verify_checkpoint(path).facts["validation_loss"] == 4.0
    assert names(run.checkpoints_path) == ["step-000000500"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(
    run: RunDirectory, damage: str
) -> None:
    def write_files(folder: Path) -> None:
        write_model(folder)
        for name in ("training_state.json", "training_state.safetensors"):
            (folder / name).write_bytes(bytes(64))

    good, bad = (write_checkpoint(run, step, write_files, None, {}) for step in (400, 600))
    DAMAGES[damage](bad)
    path, damaged = newest_valid(run)
    assert path == good
    assert [entry.step for entry in damaged] == [600]
    assert "step-000000600" in damaged[0].problem


def test_newest_valid_is_none_if_all_are_damaged(run: RunDirectory) -> None:
    assert newest_valid(run) == (None, [])
    (write(run, 500) / "model.safetensors").write_bytes(b"")
    path, damaged = newest_valid(run)
    assert path is None
    assert len(damaged) == 1


def test_pickles_folders_and_links_in_a_checkpoint_are_refused_and_nothing_written(
    run: RunDirectory,
) -> None:
    def refusal(make: Callable[[Path], object]) -> str:
        def write_files(folder: Path) -> None:
            write_model(folder)
            make(folder)

        with pytest.raises(CheckpointError) as caught:
            write_checkpoint(run, 1, write_files, None, {})
        assert names(run.checkpoints_path) == []
        return caught.value.message

    for name in ("weights.pt", "model.bin", "state.PKL", "optimizer.pth", "rng.npy"):
        assert "pickle" in refusal(lambda folder: (folder / name).write_bytes(b"?"))  # noqa: B023
    assert "not a regular file" in refusal(lambda folder: (folder / "more").mkdir())
    link = refusal(lambda folder: (folder / "link.json").symlink_to("/etc/passwd"))
    assert "not a regular file" in link


def test_a_full_disk_keeps_older_checkpoints_and_leaves_no_part(run: RunDirectory) -> None:
    write(run, 500)

    def full(folder: Path) -> None:
        write_model(folder)
        raise OSError(28, "No space left on device")

    for step in (500, 1_000):
        with pytest.raises(StorageError, match=r"can't write the checkpoint .*No space left"):
            write_checkpoint(run, step, full, None, {})
    assert names(run.checkpoints_path) == ["step-000000500"]
    verify_checkpoint(run.checkpoints_path / "step-000000500")


def test_removing_a_missing_checkpoint_is_no_error(run: RunDirectory) -> None:
    write(run, 500)
    write(run, 1_000)
    assert remove_checkpoint(run, 500)
    assert remove_checkpoint(run, 500)
    assert names(run.checkpoints_path) == ["step-000001000"]


def test_a_checkpoint_that_is_pinned_read_or_being_labelled_is_not_removed(
    run: RunDirectory,
) -> None:
    folder, removed = write(run, 500), list[bool]()
    pin_checkpoint(run, 500)
    assert not remove_checkpoint(run, 500)
    pin_checkpoint(run, 500, pinned=False)
    with reading(folder, run.path / "gone"), reading(folder):
        assert not remove_checkpoint(run, 500)

    def pin(labels: RunLabels) -> RunLabels:
        removed.append(remove_checkpoint(run, 500))
        return replace(labels, pins=frozenset({500}))

    change_labels(run, pin)
    assert removed == [False]
    assert names(run.checkpoints_path) == ["step-000000500"]


@pytest.mark.parametrize("text", ['{"pins": [50', '{"pins": [500, "x"]}', "[]"])
def test_with_damaged_labels_no_checkpoint_is_removed(run: RunDirectory, text: str) -> None:
    write(run, 400)
    labels_file(run).path.write_text(text)
    for remove in (remove_checkpoint, lambda run, step: delete_checkpoints(run, [step])):
        with pytest.raises(StorageError, match=r"labels.json is damaged .*pinned is unknown"):
            remove(run, 400)
    assert names(run.checkpoints_path) == ["step-000000400"]
    labels_file(run).move_damaged_aside()
    assert not remove_checkpoint(run, 400), "it may have been pinned"
    pin_checkpoint(run, 400, pinned=False)
    assert remove_checkpoint(run, 400)


def test_sweeping_keeps_everything_that_is_complete(run: RunDirectory) -> None:
    write(run, 500)
    snapshot = write_snapshot(run, 7, write_model)
    (run.checkpoints_path / ".tmp-a").mkdir()
    (run.snapshots_path / ".tmp-b").write_text("", encoding="utf-8")
    (run.path / ".tmp-c").write_text("", encoding="utf-8")
    sweep_temporary(run)
    assert names(run.checkpoints_path) == ["step-000000500"]
    assert names(run.snapshots_path) == [snapshot.name]
    assert names(run.path) == ["checkpoints", "config.toml", "snapshots"]


def test_a_starting_worker_leaves_what_another_process_is_writing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, 500)
    sync, starts = os.fsync, list[bool]()

    def start_meanwhile(descriptor: int) -> None:
        if not starts:
            starts.append(True)
            sweep_temporary(run)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", start_meanwhile)
    change_labels(run, lambda labels: replace(labels, note="better"))
    assert read_labels(run).note == "better"


def test_sweeping_a_run_without_checkpoints_does_nothing(run: RunDirectory) -> None:
    sweep_temporary(run)
    assert names(run.path) == ["config.toml"]


def test_the_newest_two_snapshots_are_kept_under_unique_paths(run: RunDirectory) -> None:
    paths = []
    for mtime, step in enumerate([10, 10, 20, 5]):
        paths.append(write_snapshot(run, step, write_model))
        os.utime(paths[-1], (1_760_000_000 + mtime, 1_760_000_000 + mtime))
    assert len(set(paths)) == 4
    assert set(run.snapshots_path.iterdir()) == set(paths[-2:])
    assert verify_checkpoint(paths[-1]).kind == "snapshot"
    assert list_checkpoints(run) == []


def test_a_damaged_checkpoint_moved_aside_is_no_longer_the_last(run: RunDirectory) -> None:
    good, bad = write(run, 500), write(run, 1_000)
    (bad / "model.safetensors").write_bytes(b"")
    _, (damaged,) = newest_valid(run)
    assert move_damaged_aside(damaged.path) == run.checkpoints_path / "damaged-step-000001000"
    assert checkpoint_path(run, "last") == good
    assert [entry.step for entry in list_checkpoints(run)] == [500]
    (write(run, 1_000) / "model.safetensors").write_bytes(b"")
    _, (again,) = newest_valid(run)
    second = move_damaged_aside(again.path)
    assert second.name.startswith("damaged-step-000001000-")
    sweep_temporary(run)
    assert names(run.checkpoints_path) == sorted(
        ["damaged-step-000001000", second.name, "step-000000500"]
    )
