"""Folders are listed and paths completed, whatever their names are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.folders import complete_path, free_path, list_folder, save_text, start_folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a few files."""
    for name in ("novels", "notes"):
        (tmp_path / name).mkdir()
    for name in ("novel.txt", "über.txt", ".secret", "a\tb.txt", "a\x1b.txt"):
        (tmp_path / name).write_text("x" * 10)
    (tmp_path / "notes" / "tokenizer.json").write_text("{}")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_folders_come_first_and_names_that_cannot_be_typed_are_left_out(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_folder(here, tokenizers=True)
    names = [entry.name for entry in listing]
    assert names == ["notes", "novels", "gone", "novel.txt", "über.txt", ".secret"]
    assert [entry.name for entry in listing if entry.is_tokenizer] == ["notes"]
    monkeypatch.setattr(folders, "MOST_ENTRIES", 2)
    assert len(list_folder(here)) == 2, "a large folder is cut"
    with pytest.raises(InputError, match="can't list"):
        list_folder(here / "novel.txt")


def test_a_path_is_completed_as_far_as_it_is_unambiguous_and_browsing_begins_there(
    here: Path,
) -> None:
    for typed, text, *candidates in (
        ("no", "no", "notes/", "novels/", "novel.txt"),
        ("nov", "novel", "novels/", "novel.txt"),
        ("novel.", "novel.txt"),
        ("notes/", "notes/tokenizer.json"),
        (".s", ".secret"),
        ("zzz", "zzz"),
        ("pre", "presidents"),
        ("~", "~/"),
        ("a\0b/x", "a\0b/x"),
    ):
        assert complete_path(typed, ("presidents",)) == (text, candidates)
    assert start_folder("notes/x/y.txt") == here / "notes"
    assert start_folder("") == here
    assert start_folder("/nowhere-at-all/x") == Path("/")


def test_a_saved_text_and_a_folder_get_the_next_free_number(here: Path) -> None:
    assert free_path("exports") == here / "exports"
    assert free_path("notes") == here / "notes-2"
    paths = [save_text("otter-sample", f"text {number}\udcff") for number in range(2)]
    assert paths == [here / "otter-sample.txt", here / "otter-sample-2.txt"]
    assert paths[0].read_text() == "text 0\\udcff"
    with pytest.raises(StorageError, match="No such file") as caught:
        save_text("nowhere/otter", "")
    assert caught.value.hint == "start rnnlm-tui in a writable folder"
