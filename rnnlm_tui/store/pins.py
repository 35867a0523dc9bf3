"""Pinned checkpoints, which are never removed: an empty file beside the checkpoint, no database needed."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from rnnlm_tui.errors import NewerCheckpointError, UnknownCheckpointError
from rnnlm_tui.store.atomic import fsync_directory, open_private, storage_errors
from rnnlm_tui.store.run_directory import RunDirectory

_PIN = re.compile(r"pinned-(\d{9,12})")


def pinned_steps(run: RunDirectory) -> frozenset[int]:
    """Steps with a pin; the checkpoints are not verified.

    Raises:
        StorageError: the folder can't be read.
    """
    with storage_errors("look into", run.checkpoints_path):
        try:
            names = [entry.name for entry in run.checkpoints_path.iterdir()]
        except FileNotFoundError:
            return frozenset()
    return frozenset(int(match[1]) for match in map(_PIN.fullmatch, names) if match)


def pin_checkpoint(run: RunDirectory, step: int) -> bool:
    """Pin a checkpoint; returns False if it was pinned already. Safe while a worker removes old ones.

    Raises:
        UnknownCheckpointError: no such checkpoint, or it was just removed.
        CheckpointError: names or sizes of its files don't match the manifest.
        StorageError: the pin can't be written.
    """
    from rnnlm_tui.store.manifest import check_sizes

    path = run.checkpoints_path / f"pinned-{step:09d}"
    folder = run.checkpoints_path / f"step-{step:09d}"
    if folder.is_dir():
        with suppress(NewerCheckpointError):
            check_sizes(folder)
    with storage_errors("pin", path):
        known = path.exists()
        if not known and run.checkpoints_path.is_dir():
            os.close(open_private(path, os.O_WRONLY))
            fsync_directory(path.parent)
        there = folder.is_dir()
        if not there:
            path.unlink(missing_ok=True)
    if not there:
        raise UnknownCheckpointError(f"{run.name} has no checkpoint of step {step:,}", hint=f"`rnnlm-tui checkpoints {run.name}` lists them")
    return not known


def unpin_checkpoint(run: RunDirectory, step: int) -> bool:
    """Unpin a checkpoint; returns False if it was not pinned.

    Raises:
        StorageError: the pin can't be removed.
    """
    path = run.checkpoints_path / f"pinned-{step:09d}"
    with storage_errors("unpin", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        fsync_directory(path.parent)
    return True
