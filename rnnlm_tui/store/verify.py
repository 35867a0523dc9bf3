"""Verify checkpoints, and move damaged ones aside."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import NewerCheckpointError, RnnlmError, StorageError
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import checkpoint_folders
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import run_named
from rnnlm_tui.system.files import fsync_directory, storage_errors

DAMAGED_PREFIX = "damaged-"
"""Prefix of the folder of a damaged checkpoint that was moved aside."""


@dataclass(frozen=True, slots=True)
class CheckpointCheck:
    """Result of verifying one checkpoint."""

    step: int
    path: Path
    problem: str = ""
    """What is wrong, in a sentence; empty if the checkpoint is valid."""
    files: int = 0
    bytes: int = 0
    parent: str = ""
    """The previous checkpoint, or the `run@step` that the run started from; empty if none or
    unknown."""
    parent_kept: bool = False
    """Whether the parent still exists. Retention removes old checkpoints, so a missing one is
    normal."""
    pinned: bool = False
    newer: bool = False
    """A newer version of rnnlm-tui wrote it: it can't be verified, and the run can't be resumed."""


def newest_valid(run: RunDirectory) -> tuple[Path | None, list[CheckpointCheck]]:
    """The newest checkpoint that passes verification, and the damaged newer ones. Call
    `sweep_temporary` first.

    Raises:
        NewerCheckpointError: a newer version wrote the newest; resuming from an older one would
            lose work.
    """
    damaged = []
    for step, path in reversed(checkpoint_folders(run)):
        try:
            verify_checkpoint(path)
        except NewerCheckpointError:
            raise
        except StorageError as error:
            damaged.append(CheckpointCheck(step, path, error.message))
        else:
            return path, damaged
    return None, damaged


def move_damaged_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to `damaged-step-…`, so that it no longer counts; returns its new
    path.

    Raises:
        StorageError: the folder can't be renamed.
    """
    target = path.with_name(f"{DAMAGED_PREFIX}{path.name}")
    with storage_errors("move aside", path):
        if target.exists():
            target = path.with_name(f"{target.name}-{secrets.token_hex(4)}")
        path.rename(target)
        fsync_directory(path.parent)
    return target


def check_checkpoints(run: RunDirectory, only: Path | None = None) -> Iterator[CheckpointCheck]:
    """Verify each checkpoint by step; pins without a checkpoint come last.

    Args:
        only: the folder of the one to verify.

    Raises:
        StorageError: the folder can't be read.
    """
    folders = dict(checkpoint_folders(run))
    pinned = read_labels(run).pins
    for step, path in folders.items():
        if only is not None and path != only:
            continue
        found = _check(step, path, pinned=step in pinned)
        if not found.problem or path.is_dir():  # a running worker may have removed it
            yield found
    for step in sorted(pinned - folders.keys()) if only is None else ():
        path = run.checkpoints_path / f"step-{step:09d}"
        yield CheckpointCheck(
            step,
            path,
            f"{path} is pinned but missing; `rnnlm-tui unpin {run.name}@{step}` removes the pin",
            pinned=True,
        )


def damaged_folders(run: RunDirectory) -> list[Path]:
    """Folders of damaged checkpoints that a resume moved aside, by name."""
    with storage_errors("look into", run.checkpoints_path):
        return sorted(run.checkpoints_path.glob(f"{DAMAGED_PREFIX}step-*"))


def _check(step: int, path: Path, *, pinned: bool) -> CheckpointCheck:
    try:
        manifest = verify_checkpoint(path)
    except StorageError as error:
        return CheckpointCheck(
            step, path, error.message, pinned=pinned, newer=isinstance(error, NewerCheckpointError)
        )
    parent = manifest.parent or ""
    own, files = CHECKPOINT_FOLDER.fullmatch(parent) is not None, len(manifest.files)
    kept = (path.parent / parent).is_dir() if own else _is_there(parent)
    return CheckpointCheck(step, path, "", files, manifest.bytes, parent, kept, pinned)


def _is_there(address: str) -> bool:
    """Whether `run@step` still exists."""
    name, _, which = address.partition("@")
    try:
        return bool(which) and checkpoint_path(run_named(name), which).is_dir()
    except RnnlmError:
        return False
