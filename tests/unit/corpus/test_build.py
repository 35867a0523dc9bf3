"""Folders are built atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.corpus.build import (
    claimed,
    discard,
    empty,
    move_unheld,
    publish,
    sweep,
)


def test_a_finished_folder_replaces_what_has_its_name(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "abc"
    for name in ("first", "second"):
        (work / name).mkdir(parents=True)
        (work / name / "who").write_text(name)
        publish(work / name, target)
        assert (target / "who").read_text() == name
    empty(work)
    assert list(tmp_path.rglob("who")) == [target / "who"]


def test_only_what_no_process_builds_is_swept(tmp_path: Path) -> None:
    sweep(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for name in (".unfinished-a", ".unfinished-b", "finished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
    with claimed(tmp_path / ".unfinished-b", lambda: False, lambda _: None, "reading"):
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {".unfinished-b", "finished"}


def test_a_damaged_folder_is_removed_completely(tmp_path: Path) -> None:
    (tmp_path / "abc" / "deep").mkdir(parents=True)
    discard(tmp_path / "abc")
    discard(tmp_path / "abc")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_not_moved(tmp_path: Path) -> None:
    folder, place = tmp_path / "abc", tmp_path / "place"
    place.mkdir()
    with claimed(folder, lambda: False, lambda _: None, "reading"):
        (folder / "text").write_text("kept")
        with pytest.raises(BlockingIOError):
            move_unheld(folder, place)
    assert (folder / "text").read_text() == "kept"
    move_unheld(folder, place)
    assert (place / "abc" / "text").exists()
    assert not folder.exists()
