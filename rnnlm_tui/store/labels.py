"""A run's labels (tags, note, pin) and the notes on its checkpoints.

A note on a checkpoint is a file beside it, as a pin is, so that neither needs a worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.schema.formatting import UNSAFE, counted, safe
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import (
    entries_named,
    fsync_directory,
    read_at_most,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.json_files import JsonFile

MOST_TAGS = 16
MOST_TAG_CHARACTERS = 32
MOST_NOTE_CHARACTERS = 500
_CHECKPOINT_NOTE = re.compile(r"note-\d{9,12}")
_NOT_IN_TAGS = frozenset(" ,\"'<>=!")
"""Characters with a meaning in filters."""
_MOST_BYTES = 64 * 1024
"""A longer file is neither labels nor a note."""


@dataclass(frozen=True, slots=True)
class RunLabels:
    """A run's labels."""

    tags: tuple[str, ...] = ()
    """In the order they were added, without duplicates."""
    note: str = ""
    """One line."""
    pinned: bool = False
    """Stays on top of the list."""


def labels_file(run: RunDirectory) -> JsonFile[RunLabels]:
    """The file of a run's labels, created with the first label."""
    return JsonFile(run.path / "labels.json", RunLabels, RunLabels(), _MOST_BYTES)


def read_labels(run: RunDirectory) -> RunLabels:
    """A run's labels; empty if the file is missing or can't be read."""
    return labels_file(run).look().value


def change_labels(run: RunDirectory, change: Callable[[RunLabels], RunLabels]) -> RunLabels:
    """Change a run's labels under the folder's lock, and return the new ones.

    Raises:
        InputError: a tag or the note is invalid; nothing was changed.
        StorageError: the file can't be read or written.
    """

    def checked(before: RunLabels) -> RunLabels:
        after = change(before)
        return replace(after, tags=check_tags(after.tags), note=check_note(after.note))

    run.check_there()
    return labels_file(run).change(checked)


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags without duplicates.

    Raises:
        InputError: a tag is invalid, or there are too many.
    """
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if (
            len(tag) > MOST_TAG_CHARACTERS
            or not tag[:1].isalnum()
            or not tag.isprintable()
            or set(tag) & _NOT_IN_TAGS
            or UNSAFE.search(tag)
        ):
            shown = safe(tag[: MOST_TAG_CHARACTERS + 1], keep="")
            raise InputError(
                f'invalid tag "{shown}": use one word of at most {MOST_TAG_CHARACTERS} characters'
                " that starts with a letter or digit, without , \" ' < > = !",
                hint="shorten it, or join its words with -",
            )
    if len(found) > MOST_TAGS:
        raise InputError(
            f"too many tags ({len(found)}): a run can have {MOST_TAGS}", hint="remove some first"
        )
    return found


def edited_tags(words: Iterable[str], before: Iterable[str] = ()) -> tuple[str, ...]:
    """Apply typed changes to tags: `paper` or `+paper` adds a tag, `-draft` removes one."""
    typed = list(words)
    taken = {word[1:] for word in typed if word.startswith("-") and len(word) > 1}
    given = [word.removeprefix("+") for word in typed if word == "-" or not word.startswith("-")]
    return tuple(dict.fromkeys(tag for tag in (*before, *given) if tag not in taken))


def check_note(note: str) -> str:
    """The note as one line with single spaces.

    Raises:
        InputError: the note is too long.
    """
    line = safe(" ".join(note.split()), keep="")
    if len(line) > MOST_NOTE_CHARACTERS:
        raise InputError(
            f"the note has {counted(len(line), 'character')}: at most {MOST_NOTE_CHARACTERS} are"
            " allowed",
            hint="shorten it",
        )
    return line


def note_path(run: RunDirectory, step: int) -> Path:
    """The file of the note on a checkpoint."""
    return run.checkpoints_path / f"note-{step:09d}"


def checkpoint_notes(run: RunDirectory) -> dict[int, str]:
    """The notes on a run's checkpoints by step; files that can't be read are skipped."""
    found: dict[int, str] = {}
    with suppress(StorageError):
        for entry in entries_named(run.checkpoints_path, _CHECKPOINT_NOTE):
            with suppress(OSError):
                text = read_at_most(Path(entry.path), _MOST_BYTES, links=False)
                words = text.decode("utf-8", "replace").split()
                if line := safe(" ".join(words), keep="")[:MOST_NOTE_CHARACTERS]:
                    found[int(entry.name.rpartition("-")[2])] = line
    return found


def note_checkpoint(run: RunDirectory, step: int, note: str) -> str:
    """Write the note on a checkpoint; an empty one removes it. Returns it as it was written.

    Raises:
        InputError: the note is too long.
        UnknownCheckpointError: no such checkpoint, or it was just removed.
        StorageError: the note can't be written, or the run's folder has a link.
    """
    run.check_own_files()
    line, path = check_note(note), note_path(run, step)
    folder = run.checkpoints_path / f"step-{step:09d}"
    with storage_errors("write the note on", folder):
        if line and folder.is_dir():
            write_text_atomically(path, line + "\n")
        else:
            path.unlink(missing_ok=True)
            if run.checkpoints_path.is_dir():
                fsync_directory(run.checkpoints_path)
        if folder.is_dir():
            return line
        path.unlink(missing_ok=True)
    raise run.no_checkpoint(step)
