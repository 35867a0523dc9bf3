"""Folders are built atomically."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rnnlm_tui.corpus.build import (
    building_folder,
    claimed,
    discard,
    move_aside_unheld,
    publish,
    sweep,
    write_text_atomically,
)
from rnnlm_tui.errors import StorageError

DIE_WHILE_BUILDING = """
import os, signal, sys
from pathlib import Path
from rnnlm_tui.corpus.build import building_folder
with building_folder(Path(sys.argv[1]), "abc") as folder:
    (folder / "half").write_text("made")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_finished_folder_is_renamed_and_nothing_else_is_left(tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    with building_folder(root, "abc") as folder:
        (folder / "file").write_text("whole")
        assert not (root / "abc").exists()
        assert publish(folder, root / "abc")
    assert [path.name for path in root.iterdir()] == ["abc"]
    assert (root / "abc" / "file").read_text() == "whole"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), building_folder(tmp_path, "abc") as folder:
        fail(folder)
    assert not list(tmp_path.iterdir())


def test_the_second_of_two_builders_keeps_the_folder_of_the_first(tmp_path: Path) -> None:
    with building_folder(tmp_path, "abc") as first, building_folder(tmp_path, "abc") as second:
        (first / "who").write_text("first")
        (second / "who").write_text("second")
        assert publish(first, tmp_path / "abc")
        assert not publish(second, tmp_path / "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]
    assert (tmp_path / "abc" / "who").read_text() == "first"


def test_only_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIE_WHILE_BUILDING, str(tmp_path)], check=False, timeout=60
    )
    assert killed.returncode == -9
    assert len(list(tmp_path.glob(".tmp-*"))) == 1
    with building_folder(tmp_path, "other") as alive:
        sweep(tmp_path)
        assert list(tmp_path.glob(".tmp-*")) == [alive]


def test_sweeping_a_missing_folder_creates_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_damaged_folder_is_removed_completely(tmp_path: Path) -> None:
    (tmp_path / "abc" / "deep").mkdir(parents=True)
    discard(tmp_path / "abc")
    discard(tmp_path / "abc")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_not_moved_aside(tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    with claimed(folder, lambda: False, lambda: None):
        (folder / "text").write_text("kept")
        with pytest.raises(BlockingIOError):
            move_aside_unheld(folder)
    assert (folder / "text").read_text() == "kept"
    assert (move_aside_unheld(folder) / "text").exists()
    assert not folder.exists()


def test_a_root_that_is_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="can't write or lock"),
        building_folder(tmp_path / "file", "abc"),
    ):
        pass


def test_a_text_is_replaced_atomically(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_text_atomically(tmp_path / "a.json", text)
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
        assert (tmp_path / "a.json").read_text() == text
