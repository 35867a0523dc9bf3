"""A look at every byte of a run's checkpoints: which are whole, which are damaged and why, and what their links to earlier ones say."""

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
    """What a look at one checkpoint found."""

    step: int
    path: Path
    problem: str = ""
    """What is wrong with it, in a sentence; empty: every byte is as it was written."""
    files: int = 0
    bytes: int = 0
    parent: str = ""
    """The checkpoint before it, or `run@step` that the run started from; empty where it had none or can't say."""
    parent_kept: bool = False
    """The parent is still on the disk; older ones make way for newer ones, so one that isn't is no damage."""
    pinned: bool = False
    newer: bool = False
    """A newer version of rnnlm-tui wrote it, so this one can't tell whether it is whole, and goes on from no other."""


def check_checkpoints(run: RunDirectory) -> Iterator[CheckpointCheck]:
    """Each checkpoint of a run by step, every file of it read; pins whose checkpoint is gone come last.

    Raises:
        StorageError: the folder can't be read.
    """
    folders = dict(checkpoint_folders(run))
    pinned = pinned_steps(run)
    for step, path in folders.items():
        found = _check(step, path, pinned=step in pinned)
        if not found.problem or path.is_dir():  # a living worker may have removed it meanwhile
            yield found
    for step in sorted(pinned - folders.keys()):
        path = run.checkpoints_path / f"step-{step:09d}"
        yield CheckpointCheck(step, path, f"{path} is pinned and missing; `rnnlm-tui unpin {run.name}@{step}` forgets the pin", pinned=True)


def damaged_folders(run: RunDirectory) -> list[Path]:
    """Folders of damaged checkpoints that a resume has put aside, by name."""
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
        problem = f"{path}: its manifest names the later {parent} as the checkpoint before it"
    kept = (path.parent / parent).is_dir() if place is not None else _is_there(parent)
    return CheckpointCheck(step, path, problem, len(manifest.files), manifest.bytes, parent, kept, pinned)


def _is_there(address: str) -> bool:
    """Whether `run@step` is still on the disk."""
    name, _, which = address.partition("@")
    try:
        return bool(which) and resolve_checkpoint(run_named(name), which).is_dir()
    except RnnlmError:
        return False
