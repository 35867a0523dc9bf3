"""Atomic and private files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.system import files
from rnnlm_tui.system.files import (
    make_private_directory,
    open_private,
    storage_errors,
    write_text_atomically,
)


def test_a_file_is_replaced_atomically_without_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("long " * 999, "ü\nshort\r\n"):
        write_text_atomically(path, text)
    assert path.read_bytes() == "ü\nshort\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_only_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_text_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write_text_atomically(path, "new")
    assert "free some space" in caught.value.hint
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_new_parent_folders_are_private_and_existing_ones_unchanged(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")
    assert [
        path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")
    ] == [0o755, 0o700, 0o700]


def test_a_file_instead_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"can't create the folder .*file"):
        make_private_directory(tmp_path / "file" / "deeper")
    with pytest.raises(StorageError, match=r"can't create the folder .*file"):
        make_private_directory(tmp_path / "file")


def test_an_error_names_the_file_inside_the_folder_that_failed(tmp_path: Path) -> None:
    wanted = tmp_path / "step-1" / "model.safetensors"
    inside = pytest.raises(StorageError, match=f"^can't read {wanted}: No such file")
    with inside, storage_errors("read", tmp_path):
        wanted.read_bytes()
    itself = pytest.raises(StorageError, match=f"^can't read {tmp_path / 'run'}: No such file")
    with itself, storage_errors("read", tmp_path / "run"):
        (tmp_path / "run-2").read_bytes()


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept", encoding="utf-8")
    path.chmod(0o640)
    os.close(open_private(path, os.O_RDWR))
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("kept", 0o640)


def test_names_of_unfinished_files_are_invalid_run_names() -> None:
    from rnnlm_tui.store.paths import RUN_NAME

    assert not RUN_NAME.fullmatch(files.TEMPORARY_PREFIX + "x")
