"""Checkpoints on disk: written whole or not at all, verified by hash, found by step or mark."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from pydantic import JsonValue

from rnnlm_tui.errors import CheckpointError, StorageError, UnknownCheckpointError, near_names
from rnnlm_tui.store.atomic import TEMPORARY_PREFIX, fsync_directory, fsync_file, make_private_directory, storage_errors, write_text_atomically
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest, verify_checkpoint
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.retention import best_step
from rnnlm_tui.store.run_directory import RunDirectory

__all__ = [
    "CheckpointEntry", "DamagedCheckpoint", "Manifest", "Phase", "list_checkpoints", "newest_valid", "remove_checkpoint", "resolve_checkpoint",
    "set_aside", "sweep_temporary", "verify_checkpoint", "write_checkpoint", "write_snapshot",
]  # fmt: skip

Phase = Literal["begin", "files", "synced", "manifest", "aside", "renamed"]
"""Moments of a write: nothing there, files written, files on disk, manifest on disk, old one of the step put aside, in place."""
KEPT_SNAPSHOTS = 2
"""The newest, and the one before it that a sampler may still be reading."""
_FOLDER = re.compile(r"step-(\d{9,12})")
_ASIDE_PREFIX = ".old-"
_DAMAGED_PREFIX = "damaged-"
_SHOWN_STEPS = 12


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """A finished checkpoint on disk, its files not yet verified."""

    step: int
    path: Path
    facts: Mapping[str, JsonValue]
    """What the worker wrote into the manifest: attempt, epoch, tokens_seen, train_loss, validation_loss and so on."""
    bytes: int
    """Of all its files."""
    created: float
    """Unix seconds."""
    parent: str | None

    @property
    def validation_loss(self) -> float | None:
        """Nats per token of the evaluation at this step; None where there was none."""
        loss = self.facts.get("validation_loss")
        return float(loss) if isinstance(loss, int | float) else None


@dataclass(frozen=True, slots=True)
class DamagedCheckpoint:
    """A checkpoint's folder that can't be used."""

    step: int
    path: Path
    problem: str
    """Which file and why, in one sentence."""


def write_checkpoint(
    run: RunDirectory,
    step: int,
    write_files: Callable[[Path], None],
    parent: str | None,
    facts: Mapping[str, object],
    *,
    at: Callable[[Phase], None] = lambda _: None,
) -> Path:
    """Write the checkpoint of a step: all of it is on the disk when this returns, and nothing of it is seen when it fails.

    Args:
        write_files: puts plain files, no pickles, into the folder that it is given.
        parent: the checkpoint before this one, for the manifest.
        facts: JSON values for the manifest; `validation_loss` among them decides which is the best.
        at: told of each phase; a test ends the process there.

    Raises:
        CheckpointError: `write_files` left a pickle, a folder or a link.
        StorageError: the disk is full or not writable; older checkpoints are as they were.
    """
    target = run.checkpoints_path / f"step-{step:09d}"
    return _write(run, "checkpoint", target, step, write_files, parent, facts, at)


def write_snapshot(run: RunDirectory, step: int, write_files: Callable[[Path], None]) -> Path:
    """Write weights for a live sample, under a name of its own each time; all but the newest two are removed.

    Raises: as `write_checkpoint`.
    """
    target = run.snapshots_path / f"step-{step:09d}-{secrets.token_hex(4)}"
    path = _write(run, "snapshot", target, step, write_files, None, {}, lambda _: None)
    with storage_errors("tidy", run.snapshots_path):
        finished = sorted((entry for entry in run.snapshots_path.iterdir() if entry.name.startswith("step-")), key=lambda entry: entry.stat().st_mtime_ns)
    for old in finished[:-KEPT_SNAPSHOTS]:
        if old != path:
            shutil.rmtree(old, ignore_errors=True)
    return path


def list_checkpoints(run: RunDirectory) -> list[CheckpointEntry]:
    """The finished checkpoints on disk by step, from their manifests; folders with none or a damaged one are left out."""
    found = []
    for step, path in _folders(run):
        try:
            manifest = read_manifest(path)
            size = manifest.bytes + (path / MANIFEST_NAME).stat().st_size
        except (StorageError, FileNotFoundError):
            continue  # damaged, which newest_valid tells, or removed in this moment
        found.append(CheckpointEntry(step, path, manifest.facts, size, manifest.created, manifest.parent))
    return found


def newest_valid(run: RunDirectory) -> tuple[Path | None, list[DamagedCheckpoint]]:
    """The newest checkpoint whose every file is as it was written, and the damaged ones that are newer; call `sweep_temporary` first."""
    damaged = []
    for step, path in reversed(list(_folders(run))):
        try:
            manifest = verify_checkpoint(path)
            if manifest.kind != "checkpoint" or manifest.step != step:
                raise CheckpointError(f"{path / MANIFEST_NAME} belongs to another place: it says {manifest.kind} of step {manifest.step:,}")
        except StorageError as error:
            damaged.append(DamagedCheckpoint(step, path, error.message))
        else:
            return path, damaged
    return None, damaged


def resolve_checkpoint(run: RunDirectory, which: str) -> Path:
    """The folder of `best`, `last` or a step (`1500`); its files are not verified. Works from the manifests alone where the database is damaged.

    Raises:
        UnknownCheckpointError: there is none, with those that exist.
    """
    entries = list_checkpoints(run)
    if not entries:
        raise UnknownCheckpointError(f"{run.name} has no checkpoint yet", hint=f"while it runs, `rnnlm-tui checkpoint {run.name}` writes one")
    if which == "last":
        return entries[-1].path
    by_step = {entry.step: entry.path for entry in entries}
    if which == "best":
        later = _losses_in_index(run)
        best = best_step((entry.step, later.get(entry.step, entry.validation_loss)) for entry in entries)
        if best is None:
            raise UnknownCheckpointError(f"no checkpoint of {run.name} was evaluated, so none is the best", hint=f"use {run.name}@last")
        return by_step[best]
    digits = which.replace(",", "")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 12 and int(digits) in by_step:
        return by_step[int(digits)]
    steps = [str(step) for step in by_step]
    listed = ("… " if len(steps) > _SHOWN_STEPS else "") + ", ".join(steps[-_SHOWN_STEPS:])
    shown = f'"{which}"' if which.isprintable() and len(which) <= 40 else repr(which[:40])
    raise UnknownCheckpointError(
        f"{run.name} has no checkpoint {shown}: there are best, last and {listed}", hint=near_names(which[:40], ["best", "last", *steps])
    )


def remove_checkpoint(run: RunDirectory, step: int) -> None:
    """Remove a checkpoint from the disk; one that isn't there is no error. First out of sight, so that a crash leaves no half of it.

    Raises:
        StorageError: it can't be removed.
    """
    path = run.checkpoints_path / f"step-{step:09d}"
    doomed = run.checkpoints_path / f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(8)}"
    with storage_errors("remove", path):
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)


def set_aside(damaged: DamagedCheckpoint) -> Path:
    """Rename a damaged checkpoint to `damaged-step-…` beside the others, where a person may look into it; returns its new path.

    It is then no checkpoint any more: not the last one, and none that retention counts.

    Raises:
        StorageError: it can't be renamed.
    """
    path = damaged.path
    target = path.with_name(f"{_DAMAGED_PREFIX}{path.name}")
    with storage_errors("set aside", path):
        if target.exists():
            target = path.with_name(f"{target.name}-{secrets.token_hex(4)}")
        path.rename(target)
        fsync_directory(path.parent)
    return target


def sweep_temporary(run: RunDirectory) -> None:
    """Clear away what a killed worker left half-made; for the worker that holds the lock, at its start.

    A checkpoint that was put aside while its step was written anew is put back when the new one never arrived.

    Raises:
        StorageError: something can't be removed.
    """
    for folder in (run.path, run.checkpoints_path, run.snapshots_path):
        if not folder.is_dir():
            continue
        with storage_errors("tidy", folder):
            for path in sorted(folder.iterdir()):
                if path.name.startswith(_ASIDE_PREFIX):
                    target = folder / path.name.removeprefix(_ASIDE_PREFIX)
                    _remove(path) if target.exists() else path.rename(target)
                elif path.name.startswith(TEMPORARY_PREFIX):
                    _remove(path)
            fsync_directory(folder)


def _write(
    run: RunDirectory,
    kind: Literal["checkpoint", "snapshot"],
    target: Path,
    step: int,
    write_files: Callable[[Path], None],
    parent: str | None,
    facts: Mapping[str, object],
    at: Callable[[Phase], None],
) -> Path:
    make_private_directory(target.parent)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{target.name}-{secrets.token_hex(4)}"
    make_private_directory(temporary)
    try:
        at("begin")
        with storage_errors("write the checkpoint", target):
            write_files(temporary)
            at("files")
            manifest = describe_files(temporary, kind, run.name, step, parent, cast(dict[str, JsonValue], dict(facts)))
            for name in manifest.files:
                (temporary / name).chmod(0o600)
                fsync_file(temporary / name)
            at("synced")
            write_text_atomically(temporary / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
            at("manifest")
            _put_in_place(temporary, target, at)
            at("renamed")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _put_in_place(temporary: Path, target: Path, at: Callable[[Phase], None]) -> None:
    """Rename into place; a checkpoint of the same step steps aside for a moment, and `sweep_temporary` knows it."""
    aside = target.parent / f"{_ASIDE_PREFIX}{target.name}"
    if target.exists():
        _remove(aside)
        target.rename(aside)
        at("aside")
    try:
        temporary.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    fsync_directory(target.parent)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _losses_in_index(run: RunDirectory) -> dict[int, float]:
    """Validation losses that the index knows, measured after a checkpoint was written as well; none where the database can't be read."""
    try:
        with RunReader(run) as reader:
            return {row.step: row.validation_loss for row in reader.checkpoints() if row.validation_loss is not None}
    except StorageError:
        return {}


def _folders(run: RunDirectory) -> Iterator[tuple[int, Path]]:
    """(step, folder) of everything that has a checkpoint's name, by step."""
    with storage_errors("look into", run.checkpoints_path):
        try:
            names = sorted(path.name for path in run.checkpoints_path.iterdir() if path.is_dir() and not path.is_symlink())
        except FileNotFoundError:
            return
    matches = [match for match in map(_FOLDER.fullmatch, names) if match]
    yield from sorted((int(match[1]), run.checkpoints_path / match[0]) for match in matches)
