"""A checkpoint's manifest (size and SHA-256 of each file) and the verification against it."""

import hashlib
import os
import platform
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic_core import ValidationError

from rnnlm_tui import __version__
from rnnlm_tui.errors import CheckpointError, NewerCheckpointError, StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.record import Bounds, Record
from rnnlm_tui.system.files import (
    PRIVATE_FILE,
    folders_named,
    fsync_file,
    storage_errors,
    write_text_atomically,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

MANIFEST_NAME = "manifest.json"
CHECKPOINT_FORMAT = 1
"""Incremented when the meaning of a checkpoint's files changes."""
MAX_MANIFEST_BYTES = 4_000_000
"""A manifest takes some kilobytes; a longer file is not read."""
CHECKPOINT_FOLDER = re.compile(r"step-(\d{9,12})")
"""The name of a finished checkpoint's folder, and its step."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PICKLE_SUFFIXES = frozenset({
    ".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pk", ".pkl", ".pt", ".pth",
    ".torch",
})  # fmt: skip
"""Files that may hold a pickle. Reading one can run arbitrary code, so they are refused
unopened."""
_READ_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model"})


class ManifestFile(Record):
    """One file of a checkpoint."""

    size: Annotated[int, Bounds(ge=0)]
    sha256: Annotated[str, Bounds(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Record):
    """A finished checkpoint or snapshot. Written last: a folder without one is unfinished."""

    format: int = CHECKPOINT_FORMAT
    kind: Literal["checkpoint", "snapshot"]
    """A snapshot has only weights: it can't be resumed from."""
    run: str
    step: Annotated[int, Bounds(ge=0)]
    parent: str | None = None
    """The previous checkpoint (`step-000001000`), or the `run@step` that the run started from."""
    created: float
    """Unix seconds."""
    versions: dict[str, str]
    """Of rnnlm_tui and python; the whole environment is in the attempt's row."""
    facts: "dict[str, JsonValue]" = {}  # noqa: RUF012 (records don't change)
    """From the worker: attempt, epoch, tokens_seen, train_loss, validation_loss and so on."""
    files: dict[str, ManifestFile]
    checksum: str = ""
    """SHA-256 of the manifest without this field; empty until it is written."""

    def text(self) -> str:
        """The manifest as JSON, with its checksum."""
        return self.model_copy(update={"checksum": self.digest()}).model_dump_json(indent=1) + "\n"

    def digest(self) -> str:
        """The correct checksum."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()

    def number(self, fact: str) -> float | None:
        """A fact; None if it is none, or no number."""
        value = self.facts.get(fact)
        return value if isinstance(value, int | float) else None

    @property
    def bytes(self) -> int:
        """Size of all files except the manifest."""
        return sum(file.size for file in self.files.values())


def seal(
    folder: Path,
    kind: Literal["checkpoint", "snapshot"],
    run: str,
    step: int,
    parent: str | None,
    facts: Mapping[str, object],
    hashes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the files in `folder` private and durable and write their manifest, the last of them.

    Args:
        facts: JSON values.
        hashes: SHA-256 of files that were hashed while they were written; the others are read.

    Raises:
        CheckpointError: one is a pickle, a folder or a link, or has an invalid name.
    """
    manifest = Manifest(
        kind=kind,
        run=run,
        step=step,
        parent=parent,
        created=time.time(),
        versions={"rnnlm_tui": __version__, "python": platform.python_version()},
        facts=cast("dict[str, JsonValue]", dict(facts)),
        files={
            path.name: ManifestFile(
                size=_size_of_regular(path), sha256=hashes.get(path.name) or _sha256(path)
            )
            for path in sorted(folder.iterdir())
        },
    )
    for name in manifest.files:
        (folder / name).chmod(PRIVATE_FILE)
        fsync_file(folder / name)
    write_text_atomically(folder / MANIFEST_NAME, manifest.text())


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest without checking the files.

    Raises:
        CheckpointError: it is missing, damaged, not a regular file, from a newer version, or from
            another folder.
    """
    with _advised(folder):
        return _manifest(folder)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    _refuse_pickle(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a checkpoint: a checkpoint is a folder with a {MANIFEST_NAME}"
            if folder.exists()
            else f"checkpoint not found: {folder}"
        )
    if not os.path.lexists(path):
        raise CheckpointError(
            f"{folder} has no {MANIFEST_NAME}: it is unfinished, or not a checkpoint of rnnlm-tui"
        )
    size = _size_of_regular(path)
    if size > MAX_MANIFEST_BYTES:
        raise CheckpointError(
            f"{path} is damaged: it has {counted(size, 'byte')}, a manifest has at most"
            f" {MAX_MANIFEST_BYTES:,}"
        )
    text = path.read_bytes()
    newer = re.search(rb'"format":\s*(\d{1,6})\b', text)
    if newer and int(newer[1]) > CHECKPOINT_FORMAT:
        raise NewerCheckpointError(
            f"{folder} was written by a newer version of rnnlm-tui (format {int(newer[1])})",
            hint="update rnnlm-tui",
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{path} is damaged: {where + ': ' if where else ''}{first['msg']}"
        ) from error
    if manifest.checksum != manifest.digest():
        raise CheckpointError(f"{path} is damaged: its checksum doesn't match")
    place = CHECKPOINT_FOLDER.fullmatch(folder.name)
    if place is not None and (manifest.kind != "checkpoint" or manifest.step != int(place[1])):
        raise CheckpointError(
            f"{path} is from another folder: it says {manifest.kind} of step {manifest.step:,}"
        )
    return manifest


def verify_checkpoint(path: Path) -> Manifest:
    """Verify all files of a checkpoint against its manifest.

    Raises:
        CheckpointError: not a checkpoint, or a file is missing, changed, of the wrong kind or not
            in the manifest; the message names it.
    """
    with _advised(path):
        manifest = _check_sizes(path)
        for name, facts in manifest.files.items():
            if _sha256(path / name) != facts.sha256:
                raise CheckpointError(
                    f"{path / name} is damaged: its content doesn't match the manifest (SHA-256)"
                )
        return manifest


def check_sizes(path: Path) -> Manifest:
    """Check only names and sizes of a checkpoint's files, which misses flipped bits; returns its
    manifest.

    Raises:
        CheckpointError: as `verify_checkpoint`.
    """
    with _advised(path):
        return _check_sizes(path)


def _check_sizes(path: Path) -> Manifest:
    manifest = _manifest(path)
    for name, facts in manifest.files.items():
        if not FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
            raise CheckpointError(f"{path / MANIFEST_NAME} has an invalid file name: {name[:80]!r}")
        size = _size_of_regular(path / name)
        if size != facts.size:
            raise CheckpointError(
                f"{path / name} is damaged: it has {counted(size, 'byte')}, the manifest says"
                f" {facts.size:,}"
            )
    others = sorted(
        other.name
        for other in path.iterdir()
        if other.name not in manifest.files and other.name != MANIFEST_NAME
    )
    for name in others:
        _refuse_pickle(path / name)
        if Path(name).suffix in _READ_SUFFIXES:
            raise CheckpointError(
                f"{path / name} is not in the manifest: it was added later",
                hint="move it out of the checkpoint",
            )
    return manifest


@contextmanager
def _advised(folder: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError, and add a hint to a CheckpointError that has none: which
    other checkpoint to use."""
    try:
        with storage_errors("read", folder):
            yield
    except CheckpointError as error:
        error.hint = error.hint or _advice(folder)
        raise


def _advice(folder: Path) -> str:
    """A hint for a damaged checkpoint: the newest other one that passes `check_sizes`."""
    if CHECKPOINT_FOLDER.fullmatch(folder.name) is None:
        return "give a checkpoint as RUN@STEP; `rnnlm-tui runs` lists the runs"
    run, instead = folder.absolute().parents[1].name, ""
    with suppress(StorageError):
        for step, other in reversed(step_folders(folder.parent)):
            with suppress(StorageError, OSError):
                if not instead and other.name != folder.name and _check_sizes(other):
                    instead = f"use {run}@{step}"
    return (
        f"{instead or f'no other checkpoint of {run} is valid'}; `rnnlm-tui verify {run}` checks"
        " all of them"
    )


def step_folders(place: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each folder in `place` that is named like a checkpoint, by step.

    Raises:
        StorageError: the place can't be read.
    """
    found = folders_named(place, CHECKPOINT_FOLDER)
    return sorted((int(path.name.rpartition("-")[2]), path) for path in found)


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"refused to open {path}: {path.suffix} files may hold a pickle, which can run"
            " arbitrary code",
            hint="only safetensors files are read",
        )


def _size_of_regular(path: Path) -> int:
    """Size of a checkpoint's file; refuses links, folders, pipes and pickles."""
    _refuse_pickle(path)
    if not FILE_NAME.fullmatch(path.name):
        raise CheckpointError(f"{path} has an invalid name for a checkpoint's file")
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(
            f"{path} is not a regular file: links and folders are not allowed in a checkpoint"
        )
    return found.st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
