"""Folders are built atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.corpus.build import (
    claimed,
    discard,
    move_unheld,
    publish,
    sweep,
)


def test_a_finished_folder_is_renamed_once_and_the_second_of_two_builders_is_told(
    tmp_path: Path,
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    assert publish(tmp_path / "first", tmp_path / "abc")
    assert not publish(tmp_path / "second", tmp_path / "abc")
    assert (tmp_path / "abc" / "who").read_text() == "first"
    assert not (tmp_path / "first").exists()


def test_sweeping_a_missing_folder_creates_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_damaged_folder_is_removed_completely(tmp_path: Path) -> None:
    (tmp_path / "abc" / "deep").mkdir(parents=True)
    discard(tmp_path / "abc")
    discard(tmp_path / "abc")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_not_moved(tmp_path: Path) -> None:
    folder, place = tmp_path / "abc", tmp_path / "place"
    place.mkdir()
    with claimed(folder, lambda: False, lambda: None):
        (folder / "text").write_text("kept")
        with pytest.raises(BlockingIOError):
            move_unheld(folder, place)
    assert (folder / "text").read_text() == "kept"
    move_unheld(folder, place)
    assert (place / "abc" / "text").exists()
    assert not folder.exists()
