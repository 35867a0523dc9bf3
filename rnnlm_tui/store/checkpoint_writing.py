"""Write and remove checkpoints atomically, and clean up after a crash."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import JsonValue

from rnnlm_tui.store.atomic import TEMPORARY_PREFIX, fsync_directory, fsync_file, make_private_directory, storage_errors, write_text_atomically
from rnnlm_tui.store.manifest import MANIFEST_NAME, describe_files
from rnnlm_tui.store.pins import pinned_steps
from rnnlm_tui.store.run_directory import RunDirectory

KEPT_SNAPSHOTS = 2
"""The newest, and the one before it, which a sampler may still be reading."""
_ASIDE_PREFIX = ".old-"


def write_checkpoint(run: RunDirectory, step: int, write_files: Callable[[Path], None], parent: str | None, facts: Mapping[str, object]) -> Path:
    """Save a checkpoint atomically and durably; if it fails, nothing of it is visible.

    Args:
        write_files: writes plain files, no pickles, into the given folder.
        parent: the previous checkpoint, for the manifest.
        facts: JSON values for the manifest; `validation_loss` decides which checkpoint is the best.

    Raises:
        CheckpointError: `write_files` created a pickle, a folder or a link.
        StorageError: the disk is full or not writable; older checkpoints are unchanged.
    """
    target = run.checkpoints_path / f"step-{step:09d}"
    return _write(run, "checkpoint", target, step, write_files, parent, facts)


def write_snapshot(run: RunDirectory, step: int, write_files: Callable[[Path], None]) -> Path:
    """Save weights for a live sample under a unique name, and remove all but the newest two.

    Raises: as `write_checkpoint`.
    """
    target = run.snapshots_path / f"step-{step:09d}-{secrets.token_hex(4)}"
    path = _write(run, "snapshot", target, step, write_files, None, {})
    with storage_errors("tidy", run.snapshots_path):
        finished = sorted((entry for entry in run.snapshots_path.iterdir() if entry.name.startswith("step-")), key=lambda entry: entry.stat().st_mtime_ns)
    for old in finished[:-KEPT_SNAPSHOTS]:
        if old != path:
            shutil.rmtree(old, ignore_errors=True)
    return path


def remove_checkpoint(run: RunDirectory, step: int) -> bool:
    """Remove a checkpoint atomically; True also if it is already gone.

    Returns False if it is pinned, even if that happened just now.

    Raises:
        StorageError: the checkpoint can't be removed.
    """
    path = run.checkpoints_path / f"step-{step:09d}"
    doomed = run.checkpoints_path / f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(8)}"
    with storage_errors("remove", path):
        if step in pinned_steps(run):
            return False
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return True
        if step in pinned_steps(run):  # pin_checkpoint looks for the checkpoint after it wrote the pin: one of the two sees the other
            doomed.rename(path)
            return False
        shutil.rmtree(doomed)
    return True


def sweep_temporary(run: RunDirectory) -> None:
    """Remove what a killed worker left unfinished. Only for the worker that holds the run's lock.

    A checkpoint that was being replaced is restored if its replacement is incomplete.

    Raises:
        StorageError: a file can't be removed.
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
) -> Path:
    make_private_directory(target.parent, parents=False)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{target.name}-{secrets.token_hex(4)}"
    try:
        make_private_directory(temporary, parents=False)
        with storage_errors("write the checkpoint", target):
            write_files(temporary)
            manifest = describe_files(temporary, kind, run.name, step, parent, cast(dict[str, JsonValue], dict(facts)))
            for name in manifest.files:
                (temporary / name).chmod(0o600)
                fsync_file(temporary / name)
            write_text_atomically(temporary / MANIFEST_NAME, manifest.text())
            _put_in_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename into place. An older checkpoint of the same step is first renamed to `.old-…`."""
    aside = target.parent / f"{_ASIDE_PREFIX}{target.name}"
    try:
        if target.exists():
            _remove(aside)
            target.rename(aside)
        temporary.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    fsync_directory(target.parent)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
