"""What the user says of a run and its checkpoints: tags, notes, pins and exports, in `labels.json`.

Each change is made under the lock of the run's folder, which also what removes checkpoints holds.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rnnlm_tui.errors import InputError, NewerCheckpointError, StorageError
from rnnlm_tui.schema.formatting import UNSAFE, counted, safe
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.json_files import JsonFile

MOST_TAGS = 16
MOST_TAG_CHARACTERS = 32
MOST_NOTE_CHARACTERS = 500
MOST_EXPORTS = 200
"""The newest are kept."""
SWEEP = "sweep:"
"""How the tag of a sweep's runs begins; the sweep's name follows."""
_NOT_IN_TAGS = frozenset(" ,\"'<>=!")
"""Characters with a meaning in filters."""
_MOST_BYTES = 1 << 23


class Export(NamedTuple):
    """One export of a checkpoint."""

    step: int
    format: str
    """`hf`, `onnx` or `book`."""
    folder: str
    """Where it was written, absolute; it may have been moved since."""
    time: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class RunLabels:
    """The labels of a run and its checkpoints."""

    tags: tuple[str, ...] = ()
    """In the order they were added, without duplicates."""
    note: str = ""
    """One line."""
    pinned: bool = False
    """Stays on top of the list."""
    pins: frozenset[int] = frozenset()
    """Steps of the pinned checkpoints, even if one is missing."""
    notes: dict[int, str] = field(default_factory=dict)
    """The notes on checkpoints by step, also on deleted ones."""
    exports: tuple[Export, ...] = ()
    """Oldest first, also of deleted checkpoints."""

    @property
    def of_run(self) -> dict[str, Any]:
        """The fields that a run's summary has too."""
        return {"tags": self.tags, "note": self.note, "pinned": self.pinned}


def labels_file(run: RunDirectory) -> JsonFile[RunLabels]:
    """The file of a run's labels, created with the first label."""

    def with_every_pin(labels: RunLabels) -> RunLabels:
        """Pin all checkpoints: which ones the damaged file had pinned is unknown."""
        names = [path.name.removeprefix("step-") for path in run.checkpoints_path.glob("step-*")]
        return replace(labels, pins=labels.pins | {int(name) for name in names if name.isdecimal()})

    path = run.path / "labels.json"
    return JsonFile(path, RunLabels, RunLabels(), _MOST_BYTES, with_every_pin)


def read_labels(run: RunDirectory) -> RunLabels:
    """A run's labels; empty if the file is missing or can't be read."""
    return labels_file(run).look().value


def sound_labels(run: RunDirectory) -> RunLabels:
    """A run's labels, for what removes checkpoints.

    Raises:
        StorageError: the labels can't be read, or are damaged: pins could be missing.
    """
    file = labels_file(run)
    labels, damage = file.read()
    if damage:
        raise StorageError(
            f"{file.path} is damaged ({damage}): which checkpoints are pinned is unknown",
            hint=f"`rnnlm-tui tag {run.name}` keeps a copy and pins all of them; unpin what may go",
        )
    return labels


def change_labels(run: RunDirectory, change: Callable[[RunLabels], RunLabels]) -> RunLabels:
    """Change a run's labels under the folder's lock, and return the new ones.

    Raises:
        InputError: a tag or a note is invalid; nothing was changed.
        StorageError: the file can't be read or written.
    """

    def checked(before: RunLabels) -> RunLabels:
        after = change(before)
        # a note goes with the checkpoint, once that isn't in the run's trash either
        there = {path.name.partition(".")[0] for path in run.path.glob("*/step-*")}
        notes = {step: check_note(note) for step, note in after.notes.items()}
        return replace(
            after,
            tags=check_tags(after.tags),
            note=check_note(after.note),
            notes={step: note for step, note in notes.items() if note and _name(step) in there},
            exports=after.exports[-MOST_EXPORTS:],
        )

    run.check_there()
    return labels_file(run).change(checked)


def pin_checkpoint(run: RunDirectory, step: int, *, pinned: bool = True) -> RunLabels:
    """Pin or unpin a checkpoint, and return the new labels.

    Raises:
        UnknownCheckpointError: no such checkpoint to pin.
        CheckpointError: names or sizes of its files don't match the manifest.
        StorageError: the labels can't be read or written.
    """
    from rnnlm_tui.store.manifest import check_sizes

    def change(labels: RunLabels) -> RunLabels:
        if not pinned:
            return replace(labels, pins=labels.pins - {step})
        with suppress(NewerCheckpointError):
            check_sizes(_existing(run, step))
        return replace(labels, pins=labels.pins | {step})

    return change_labels(run, change)


def note_checkpoint(run: RunDirectory, step: int, note: str) -> RunLabels:
    """Write the note on a checkpoint, and return the new labels; an empty one removes it.

    Raises:
        InputError: the note is too long.
        UnknownCheckpointError: no such checkpoint.
        StorageError: the labels can't be read or written.
    """

    def change(labels: RunLabels) -> RunLabels:
        _existing(run, step)
        return replace(labels, notes={**labels.notes, step: note})

    return change_labels(run, change)


def add_export(run: RunDirectory, export: Export) -> None:
    """Record an export. One of the same step, format and folder is replaced.

    Raises:
        StorageError: the labels can't be read or written.
    """

    def change(labels: RunLabels) -> RunLabels:
        others = [one for one in labels.exports if one._replace(time=export.time) != export]
        return replace(labels, exports=(*others, export))

    change_labels(run, change)


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


def _existing(run: RunDirectory, step: int) -> Path:
    folder = run.checkpoints_path / _name(step)
    if not folder.is_dir():
        raise run.no_checkpoint(step)
    return folder


def _name(step: int) -> str:
    return f"step-{step:09d}"
