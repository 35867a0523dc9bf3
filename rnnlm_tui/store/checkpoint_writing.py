"""How checkpoints come to the disk and leave it: written whole or not at all, swept after a crash, removed without a trace of a half."""

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
"""The newest, and the one before it that a sampler may still be reading."""
_ASIDE_PREFIX = ".old-"


def write_checkpoint(run: RunDirectory, step: int, write_files: Callable[[Path], None], parent: str | None, facts: Mapping[str, object]) -> Path:
    """Write the checkpoint of a step: all of it is on the disk when this returns, and nothing of it is seen when it fails.

    Args:
        write_files: puts plain files, no pickles, into the folder that it is given.
        parent: the checkpoint before this one, for the manifest.
        facts: JSON values for the manifest; `validation_loss` among them decides which is the best.

    Raises:
        CheckpointError: `write_files` left a pickle, a folder or a link.
        StorageError: the disk is full or not writable; older checkpoints are as they were.
    """
    target = run.checkpoints_path / f"step-{step:09d}"
    return _write(run, "checkpoint", target, step, write_files, parent, facts)


def write_snapshot(run: RunDirectory, step: int, write_files: Callable[[Path], None]) -> Path:
    """Write weights for a live sample, under a name of its own each time; all but the newest two are removed.

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
    """Remove a checkpoint from the disk, first out of sight, so that a crash leaves no half of it; one that isn't there is no error.

    Returns False for one that a person has pinned, in this very moment perhaps: it stays.

    Raises:
        StorageError: it can't be removed.
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
        if step in pinned_steps(run):  # whoever pins looks for the checkpoint after the pin is there: one of the two sees the other
            doomed.rename(path)
            return False
        shutil.rmtree(doomed)
    return True


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
    """Rename into place; a checkpoint of the same step steps aside for a moment, and `sweep_temporary` knows it."""
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
