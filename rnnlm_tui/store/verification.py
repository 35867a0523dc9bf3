"""Verify all checkpoints of a run, including the links to their parents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import NewerCheckpointError, RnnlmError, StorageError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.store.checkpoints import DAMAGED_PREFIX, checkpoint_folders, resolve_checkpoint
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, verify_checkpoint
from rnnlm_tui.store.pins import pinned_steps
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import run_named


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
    """The previous checkpoint, or the `run@step` that the run started from; empty if none or unknown."""
    parent_kept: bool = False
    """Whether the parent still exists. Retention removes old checkpoints, so a missing one is normal."""
    pinned: bool = False
    newer: bool = False
    """A newer version of rnnlm-tui wrote it: it can't be verified, and the run can't be resumed."""


def check_checkpoints(run: RunDirectory) -> Iterator[CheckpointCheck]:
    """Verify each checkpoint by step; pins without a checkpoint come last.

    Raises:
        StorageError: the folder can't be read.
    """
    folders = dict(checkpoint_folders(run))
    pinned = pinned_steps(run)
    for step, path in folders.items():
        found = _check(step, path, pinned=step in pinned)
        if not found.problem or path.is_dir():  # a running worker may have removed it
            yield found
    for step in sorted(pinned - folders.keys()):
        path = run.checkpoints_path / f"step-{step:09d}"
        yield CheckpointCheck(step, path, f"{path} is pinned but missing; `rnnlm-tui unpin {run.name}@{step}` removes the pin", pinned=True)


def damaged_folders(run: RunDirectory) -> list[Path]:
    """Folders of damaged checkpoints that a resume moved aside, by name."""
    with storage_errors("look into", run.checkpoints_path):
        return sorted(run.checkpoints_path.glob(f"{DAMAGED_PREFIX}step-*"))


def _check(step: int, path: Path, *, pinned: bool) -> CheckpointCheck:
    try:
        manifest = verify_checkpoint(path)
    except StorageError as error:
        return CheckpointCheck(step, path, error.message, pinned=pinned, newer=isinstance(error, NewerCheckpointError))
    parent = manifest.parent or ""
    place = CHECKPOINT_FOLDER.fullmatch(parent)
    problem = ""
    if place is not None and int(place[1]) >= step:
        problem = f"{path}: its manifest names the later {parent} as its parent"
    kept = (path.parent / parent).is_dir() if place is not None else _is_there(parent)
    return CheckpointCheck(step, path, problem, len(manifest.files), manifest.bytes, parent, kept, pinned)


def _is_there(address: str) -> bool:
    """Whether `run@step` still exists."""
    name, _, which = address.partition("@")
    try:
        return bool(which) and resolve_checkpoint(run_named(name), which).is_dir()
    except RnnlmError:
        return False
