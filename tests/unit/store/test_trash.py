"""Delete, restore and purge runs and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.errors import RunNameError, StorageError, UnknownRunError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import RunLabels, change_labels, labels_file
from rnnlm_tui.store.paths import RunDirectory, runs_dir, trash_dir
from rnnlm_tui.store.runs import create_run, find_run, list_runs, rename_run, run_named
from rnnlm_tui.store.trash import (
    Trashed,
    delete_checkpoints,
    delete_run,
    find_trashed,
    list_trash,
    purge,
    restore_run,
)
from tests.unit.store.rows import (
    new_run,
    parent_checkpoint,
    write_model,
)


def test_a_deleted_run_is_in_the_trash_its_name_free_and_restored_it_is_unchanged() -> None:
    before = time.time()
    run = new_run()
    write_checkpoint(run, 4, write_model, None, {})
    labels_file(run).write(RunLabels(("kept",), "a note", pinned=True))
    files = [path for path in run.path.rglob("*") if path.is_file()]
    contents = {path.relative_to(run.path): path.read_bytes() for path in files}
    first = delete_run(run)
    assert (first.name, first.path.parent) == ("plain-otter", trash_dir())
    assert int(before) <= first.deleted <= time.time()
    kept = [path.stat().st_size for path in first.path.rglob("*") if path.is_file()]
    assert first.bytes == sum(kept) > 0
    assert list_runs() == []
    with pytest.raises(UnknownRunError) as caught:
        find_run("plain-otter")
    assert caught.value.hint == "it is in the trash: `rnnlm-tui restore plain-otter` restores it"
    second = delete_run(new_run())
    assert second.path != first.path
    assert [run.path for run in list_trash()] == [second.path, first.path]
    restored = restore_run(first)
    assert restored == run
    assert {path: (restored.path / path).read_bytes() for path in contents} == contents
    assert list_trash() == [second]


def test_the_trash_is_listed_newest_first_without_other_files(home: Path) -> None:
    assert list_trash() == []
    older = delete_run(new_run("plain-otter"))
    older.path.rename(trash_dir() / "plain-otter.0123456789.abcdef01")
    newer = delete_run(new_run("plain-otter"))
    (trash_dir() / "stray").mkdir()
    (trash_dir() / "a-link.0123456789.abcdef01").symlink_to(newer.path)
    (trash_dir() / "note.0123456789.abcdef01").write_text("", encoding="utf-8")
    (trash_dir() / "empty.0123456789.abcdef01").mkdir()
    assert [run.name for run in list_trash()] == ["plain-otter", "plain-otter"]
    assert list_trash()[0] == newer
    assert find_trashed("plain-otter") == newer
    assert find_trashed("plain-otter.0123456789.abcdef01").deleted == 123_456_789
    with pytest.raises(UnknownRunError) as caught:
        find_trashed("plian-otter")
    assert caught.value.hint == 'did you mean "plain-otter"?'


def test_a_run_renamed_by_another_process_is_reported_as_gone() -> None:
    run = new_run("plain-otter")
    rename_run(run, "brisk-heron")
    actions: list[Callable[[RunDirectory], object]] = [
        delete_run,
        lambda run: rename_run(run, "other"),
        lambda run: change_labels(run, lambda labels: replace(labels, pinned=True)),
    ]
    for late in actions:
        with pytest.raises(StorageError, match="plain-otter is gone: it was removed or moved"):
            late(run)
    assert [left.name for left in list_runs()] == ["brisk-heron"]
    assert list_trash() == []


def test_restoring_under_a_taken_name_asks_for_another() -> None:
    trashed = delete_run(new_run())
    new_run()
    with pytest.raises(RunNameError, match='run "plain-otter" already exists') as caught:
        restore_run(trashed)
    assert "--as NAME" in caught.value.hint
    with pytest.raises(RunNameError):
        restore_run(trashed, "a/b")
    assert list_trash() == [trashed]
    assert restore_run(trashed, "other").path == runs_dir() / "other"
    with pytest.raises(StorageError, match="no longer in the trash"):
        restore_run(trashed, "third")


def test_a_parent_restored_under_another_name_is_still_found() -> None:
    create_run(RunConfig(), "child", parent_checkpoint(new_run("parent")))
    restored = restore_run(delete_run(run_named("parent")), "other")
    assert run_named("parent") == restored


def test_a_purge_frees_the_reported_bytes_of_runs_in_the_trash_alone() -> None:
    run, kept, gone = new_run("run"), delete_run(new_run("kept")), delete_run(new_run("gone"))
    (trash_dir() / ".tmp-plain-otter.0123456789.abcdef01").mkdir()  # of a killed purge
    assert list_trash() == [gone, kept]
    assert purge([gone]) == gone.bytes
    assert list_trash() == [kept]
    assert [path.name for path in trash_dir().iterdir()] == [kept.path.name]
    kept.path.rename(kept.path.with_name("aside"))
    kept.path.symlink_to(run.path)
    for other in (gone, kept):
        with pytest.raises(StorageError, match="no longer in the trash"):
            purge([other])
    assert run.config_path.exists()


def test_a_deletion_waits_for_a_change_of_labels_and_sees_its_pin(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        write_checkpoint(run, step, write_model, None, {})
    deletions: list[Future[tuple[list[Trashed], dict[int, str]]]] = []

    def change(labels: RunLabels) -> RunLabels:
        deletions.append(pool.submit(delete_checkpoints, run, [1]))
        wait(deletions, 0.1)
        return replace(labels, pins=frozenset({1}))

    with ThreadPoolExecutor() as pool:
        change_labels(run, change)
        assert deletions[0].result() == ([], {1: "it is pinned: unpin it first"})
    assert list_trash(run) == []


def test_of_several_checkpoints_those_that_must_be_kept_stay_with_the_reason() -> None:
    run = new_run()
    for step in (10, 20, 30):
        write_checkpoint(run, step, write_model, None, {})
    done, kept = delete_checkpoints(run, [10, 20, 30])
    assert [one.step for one in done] == [10]
    assert sorted(kept) == [20, 30]
    assert all("valid" in why for why in kept.values())
    assert delete_checkpoints(run, []) == ([], {})
