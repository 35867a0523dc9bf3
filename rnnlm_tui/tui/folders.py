"""Look through folders for a text, a tokenizer or a config, complete paths as a shell does, and
find free names in the current folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.schema.formatting import UNSAFE, user_path

MOST_ENTRIES = 10_000
"""Entries of a folder that are read: a folder with more would hold up the app."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""A folder with one of these files may hold a tokenizer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder."""

    name: str
    path: Path
    is_folder: bool
    bytes: int | None = None
    """Size of a file; None for a folder, and if it can't be read."""
    is_tokenizer: bool = False
    """Whether it is a folder with the files of a tokenizer."""


def list_folder(folder: Path, *, tokenizers: bool = False) -> list[Entry]:
    """List a folder: folders first, then files, by name; hidden ones at the end.

    Names that can't be typed or shown (control characters, not UTF-8) are left out.

    Args:
        tokenizers: look into its folders for tokenizers.

    Raises:
        InputError: it isn't a folder, or can't be read.
    """
    try:
        with os.scandir(folder) as scan:
            found = list(islice(scan, MOST_ENTRIES))
    except OSError as error:
        raise InputError(
            f"can't list {folder}: {error.strerror or error}", hint="choose another folder"
        ) from error
    return sorted(
        (_entry(item, tokenizers=tokenizers) for item in found if not UNSAFE.search(item.name)),
        key=lambda entry: (entry.name.startswith("."), not entry.is_folder, entry.name),
    )


def _entry(item: os.DirEntry[str], *, tokenizers: bool) -> Entry:
    path = Path(item.path)
    try:
        if item.is_dir():
            known = tokenizers and any((path / name).is_file() for name in TOKENIZER_FILES)
            return Entry(item.name, path, True, is_tokenizer=known)
        return Entry(item.name, path, False, item.stat().st_size)
    except OSError:  # a dangling link, or not permitted
        return Entry(item.name, path, False)


def complete_path(text: str, words: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Complete the last part of a path that the user types; never raises.

    Return the text as far as it is unambiguous, and the names that would fit, if there are several;
    folders end with a slash.

    Args:
        text: as typed, also with `~`; kept as it is apart from what is added at the end.
        words: other completions, such as the names of built-in corpora.
    """
    before, slash, part = text.rpartition("/")
    folder = user_path(before + slash) if slash else Path()
    if text == "~":
        return "~/", []
    try:
        entries = list_folder(folder)
    except (InputError, ValueError):  # a null byte, for example
        entries = []
    names = [
        entry.name + ("/" if entry.is_folder else "")
        for entry in entries
        if entry.name.startswith(part) and (part or not entry.name.startswith("."))
    ]
    if not slash:
        names += [word for word in words if word.startswith(part) and word not in names]
    if not names:
        return text, []
    same = os.path.commonprefix(names)  # noqa: RUF071 (of one part of a path, by characters)
    return before + slash + same, names if len(names) > 1 else []


def start_folder(text: str) -> Path:
    """The folder in which browsing begins: that of a path, or the nearest one that exists."""
    path = user_path(text).absolute() if text else Path.cwd()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def free_path(name: str, ending: str = "") -> Path:
    """Return a path in the current folder that doesn't exist: `name`, `name-2` and so on."""
    names = (f"{name}{f'-{number}' if number > 1 else ''}{ending}" for number in count(1))
    return next(path for path in map(Path.cwd().joinpath, names) if not path.exists())


def save_text(name: str, text: str, ending: str = ".txt") -> Path:
    """Write text to a new file in the current folder, never over another, and return its path.

    Raises:
        StorageError: it can't be written.
    """
    path = free_path(name, ending)
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(
            f"can't write {path}: {error.strerror}", hint="start rnnlm-tui in a writable folder"
        ) from error
    return path
