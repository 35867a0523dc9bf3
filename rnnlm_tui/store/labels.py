"""A run's labels (tags, note, pin, former names) and the notes on its checkpoints.

The labels are a separate file beside the database. A note on a checkpoint is a file beside it,
as a pin is, so that neither needs a worker or the database.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rnnlm_tui.errors import InputError, UnknownCheckpointError
from rnnlm_tui.schema.formatting import UNSAFE, counted, safe
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import (
    fsync_directory,
    move_aside,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.locks import folder_lock

MOST_TAGS = 16
MOST_TAG_CHARACTERS = 32
MOST_NOTE_CHARACTERS = 500
_CHECKPOINT_NOTE = re.compile(r"note-(\d{9,12})")
_NOT_IN_TAGS = frozenset(" ,\"'<>=!")
"""Characters with a meaning in filters."""
_MOST_BYTES = 64 * 1024
"""A longer file is not a labels file."""


@dataclass(frozen=True, slots=True)
class RunLabels:
    """A run's labels."""

    tags: tuple[str, ...] = ()
    """In the order they were added, without duplicates."""
    note: str = ""
    """One line."""
    pinned: bool = False
    """Stays on top of the list."""
    former_names: tuple[str, ...] = ()
    """Names by which runs that started from this run's weights still refer to it."""
    usable: bool = True
    """Whether the file is valid; an invalid one is moved aside before new labels are written."""


NO_LABELS = RunLabels()
"""Labels of a run without any."""
UNUSABLE = RunLabels(usable=False)
"""Labels of a run whose labels file is invalid."""


def labels_path(run: RunDirectory) -> Path:
    """The file of a run's labels, created with the first label."""
    return run.path / "labels.json"


def read_labels(run: RunDirectory) -> RunLabels:
    """A run's labels; empty if the file is missing or can't be read."""
    try:
        return _found_labels(run)
    except OSError:
        return NO_LABELS


def write_labels(run: RunDirectory, labels: RunLabels) -> None:
    """Write a run's labels atomically.

    Raises:
        InputError: a tag or the note is invalid.
        StorageError: the file can't be written.
    """
    checked = replace(labels, tags=check_tags(labels.tags), note=check_note(labels.note))
    values = {name: value for name, value in asdict(checked).items() if name != "usable"}
    write_text_atomically(labels_path(run), json.dumps(values, indent=1) + "\n")


def change_labels(run: RunDirectory, change: Callable[[RunLabels], RunLabels]) -> RunLabels:
    """Change a run's labels under the folder's lock, and return the new ones.

    Raises:
        InputError: a tag or the note is invalid; nothing was changed.
        StorageError: the file can't be read or written.
    """
    run.check_there()
    with folder_lock(run.path), storage_errors("read", labels_path(run)):
        before = _found_labels(run)
        if not before.usable:
            move_aside(labels_path(run))
            before = NO_LABELS
        changed = change(before)
        changed = replace(changed, tags=check_tags(changed.tags), note=check_note(changed.note))
        if changed != before:
            write_labels(run, changed)
        return changed


def move_labels_aside(run: RunDirectory) -> str:
    """Move an invalid labels file aside and return its new name; empty if it is valid after all.

    Raises:
        StorageError: the file can't be moved.
    """
    with folder_lock(run.path), storage_errors("read", labels_path(run)):
        return "" if _found_labels(run).usable else move_aside(labels_path(run)).name


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
    with suppress(OSError):
        for path in run.checkpoints_path.iterdir():
            match = _CHECKPOINT_NOTE.fullmatch(path.name)
            if match is not None:
                with suppress(OSError):
                    text = _read(path).decode("utf-8", "replace")
                    line = safe(" ".join(text.split()), keep="")[:MOST_NOTE_CHARACTERS]
                    if line:
                        found[int(match[1])] = line
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
    raise UnknownCheckpointError(
        f"{run.name} has no checkpoint of step {step:,}",
        hint=f"`rnnlm-tui checkpoints {run.name}` lists them",
    )


def _found_labels(run: RunDirectory) -> RunLabels:
    """Like `read_labels`, but raises OSError if an existing file can't be read."""
    try:
        values = json.loads(_read(labels_path(run)))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return NO_LABELS
        raise
    except (ValueError, RecursionError):
        return UNUSABLE
    if not isinstance(values, dict):
        return UNUSABLE
    tags, note, pinned, names = (
        values.get("tags", []),
        values.get("note", ""),
        values.get("pinned", False),
        values.get("former_names", []),
    )
    if not (
        _are_texts(tags)
        and isinstance(note, str)
        and isinstance(pinned, bool)
        and _are_texts(names)
    ):
        return UNUSABLE
    return RunLabels(tuple(dict.fromkeys(tags)), note, pinned, tuple(names))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read(path: Path) -> bytes:
    """The file's bytes; refuses a link and never blocks on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
