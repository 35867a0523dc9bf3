"""Manifest: what a checkpoint's folder holds, by size and sha256, and the check against it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from rnnlm_tui import __version__
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import CheckpointError, NewerCheckpointError, StorageError
from rnnlm_tui.store.atomic import storage_errors

MANIFEST_NAME = "manifest.json"
CHECKPOINT_FORMAT = 1
"""Raised when the files inside a checkpoint change their meaning."""
MAX_MANIFEST_BYTES = 4_000_000
"""A manifest takes some kilobytes; what is longer is none, and is not read."""
CHECKPOINT_FOLDER = re.compile(r"step-(\d{9,12})")
"""The name of a finished checkpoint's folder, and its step."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PICKLE_SUFFIXES: frozenset[str] = frozenset({".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pk", ".pkl", ".pt", ".pth", ".torch"})
"""Files that are pickles, or may hold one: reading such a file can run any program, so they are refused unopened."""
_READ_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model"})


class CheckpointFile(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """A finished checkpoint or snapshot: written last, so a folder without it is half-made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = CHECKPOINT_FORMAT
    kind: Literal["checkpoint", "snapshot"]
    """A snapshot holds the weights alone and can't be resumed from."""
    run: str
    step: int = Field(ge=0)
    parent: str | None = None
    """The checkpoint before this one, `step-000001000`, or `run@step` that the run started from."""
    created: float
    """Unix seconds."""
    versions: dict[str, str]
    """rnnlm_tui and python; the whole environment is among the worker's facts."""
    facts: dict[str, JsonValue] = {}
    """What the worker says of the moment: attempt, epoch, tokens_seen, train_loss, validation_loss and so on."""
    files: dict[str, CheckpointFile]
    checksum: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """sha256 of the manifest without it, so that a flipped bit in the manifest itself is found; None in manifests that were written before there was one."""

    def text(self) -> str:
        """The manifest as its file holds it, checksum included."""
        return self.model_copy(update={"checksum": self.digest()}).model_dump_json(indent=1) + "\n"

    def digest(self) -> str:
        """What the checksum must be."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(file.size for file in self.files.values())


def describe_files(folder: Path, kind: Literal["checkpoint", "snapshot"], run: str, step: int, parent: str | None, facts: dict[str, JsonValue]) -> Manifest:
    """The manifest of the files that stand in `folder`.

    Raises:
        CheckpointError: there is a pickle, a folder, a link or an impossible name among them.
    """
    files = {path.name: CheckpointFile(size=_size_of_regular(path), sha256=_sha256(path)) for path in sorted(folder.iterdir())}
    versions = {"rnnlm_tui": __version__, "python": platform.python_version()}
    return Manifest(kind=kind, run=run, step=step, parent=parent, created=time.time(), versions=versions, facts=facts, files=files)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone; the files are not looked at.

    Raises:
        CheckpointError: none, a damaged one, one of a newer version, or something else than a plain file.
    """
    with _advised(folder):
        return _manifest(folder)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    _refuse_other_kinds(folder)
    if not os.path.lexists(path):
        raise CheckpointError(f"{folder} has no {MANIFEST_NAME}: it was never finished, or rnnlm-tui did not write it")
    size = _size_of_regular(path)
    if size > MAX_MANIFEST_BYTES:
        raise CheckpointError(f"{path} is damaged: it has {counted(size, 'byte')}, a manifest has {MAX_MANIFEST_BYTES:,} at most")
    with storage_errors("read", path):
        text = path.read_bytes()
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        newer = re.search(rb'"format":\s*(\d{1,6})\b', text)
        if newer and int(newer[1]) > CHECKPOINT_FORMAT:
            raise NewerCheckpointError(f"{folder} was written by a newer version of rnnlm-tui (format {int(newer[1])})", hint="update rnnlm-tui") from error
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path} is damaged: {where + ': ' if where else ''}{first['msg']}") from error
    if manifest.format > CHECKPOINT_FORMAT:
        raise NewerCheckpointError(f"{folder} was written by a newer version of rnnlm-tui (format {manifest.format})", hint="update rnnlm-tui")
    if manifest.checksum is not None and manifest.checksum != manifest.digest():
        raise CheckpointError(f"{path} is damaged: it is not as it was written (its checksum differs)")
    return manifest


def verify_checkpoint(path: Path) -> Manifest:
    """Read every file of a checkpoint and compare it with the manifest.

    Raises:
        CheckpointError: not a checkpoint, or a file that is missing, changed, of the wrong kind or not in the manifest; the message names it.
    """
    with _advised(path):
        manifest = _check_sizes(path)
        for name, facts in manifest.files.items():
            if _sha256(path / name) != facts.sha256:
                raise CheckpointError(f"{path / name} is damaged: its bytes are not those that were written (sha256 differs)")
        return manifest


def check_sizes(path: Path) -> Manifest:
    """A checkpoint's manifest after a look at the names and sizes of its files: a cheap one, that no flipped bit is seen by.

    Raises:
        CheckpointError: as `verify_checkpoint`.
    """
    with _advised(path):
        return _check_sizes(path)


def _check_sizes(path: Path) -> Manifest:
    manifest = _manifest(path)
    place = CHECKPOINT_FOLDER.fullmatch(path.name)
    if place is not None and (manifest.kind != "checkpoint" or manifest.step != int(place[1])):
        raise CheckpointError(f"{path / MANIFEST_NAME} belongs to another place: it says {manifest.kind} of step {manifest.step:,}")
    for name, facts in manifest.files.items():
        if not FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
            raise CheckpointError(f"{path / MANIFEST_NAME} names an impossible file: {name[:80]!r}")
        size = _size_of_regular(path / name)
        if size != facts.size:
            raise CheckpointError(f"{path / name} is damaged: it has {counted(size, 'byte')}, the manifest says {facts.size:,}")
    with storage_errors("look into", path):
        others = sorted(other.name for other in path.iterdir() if other.name not in manifest.files and other.name != MANIFEST_NAME)
    for name in others:
        _refuse_pickle(path / name)
        if Path(name).suffix in _READ_SUFFIXES:
            raise CheckpointError(f"{path / name} is not in the manifest: it was put there later", hint="move it out of the checkpoint")
    return manifest


@contextmanager
def _advised(folder: Path) -> Iterator[None]:
    """An error that says not what to do next says which checkpoint of the same run to use."""
    try:
        yield
    except CheckpointError as error:
        error.hint = error.hint or _advice(folder)
        raise


def _advice(folder: Path) -> str:
    """What to do where a checkpoint is damaged: the run's name, and the newest other checkpoint that a glance finds whole."""
    if CHECKPOINT_FOLDER.fullmatch(folder.name) is None:
        return "a run's checkpoints are written RUN@STEP; `rnnlm-tui runs` lists the runs"
    run = folder.absolute().parents[1].name
    other = _newest_whole(folder)
    instead = f"no other checkpoint of {run} is whole" if other is None else f"use {run}@{other}"
    return f"{instead}; `rnnlm-tui verify {run}` reads every byte of all of them"


def _newest_whole(damaged: Path) -> int | None:
    """The step of the newest checkpoint beside a damaged one that a glance finds whole."""
    try:
        names = [path.name for path in damaged.parent.iterdir() if path.name != damaged.name]
    except OSError:
        return None
    steps = {int(match[1]): match[0] for match in map(CHECKPOINT_FOLDER.fullmatch, names) if match}
    for step in sorted(steps, reverse=True):
        with suppress(StorageError):
            _check_sizes(damaged.with_name(steps[step]))
            return step
    return None


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{path} is refused unopened: {path.suffix} files may hold a pickle, and reading one can run any program", hint="only safetensors are read"
        )


def _refuse_other_kinds(folder: Path) -> None:
    _refuse_pickle(folder)
    if not folder.exists():
        raise CheckpointError(f"there is no checkpoint {folder}")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a checkpoint: a checkpoint is a folder with a {MANIFEST_NAME}")


def _size_of_regular(path: Path) -> int:
    """Size of a file that may stand in a checkpoint; links, folders, pipes and pickles may not."""
    _refuse_pickle(path)
    if not FILE_NAME.fullmatch(path.name):
        raise CheckpointError(f"{path} can't be a checkpoint's file: its name is impossible")
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is not a plain file: links and folders are refused in a checkpoint")
    return found.st_size


def _sha256(path: Path) -> str:
    with storage_errors("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
