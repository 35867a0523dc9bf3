"""List, save and remove checkpoints, and clean up after a crash.

Listing reads only the manifests. Saving and removing are atomic.
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.schema.metrics import CheckpointRow, EvaluationRow, evaluations_during_run
from rnnlm_tui.store.labels import labels_file, sound_labels
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, read_manifest, seal, step_folders
from rnnlm_tui.store.paths import RunDirectory, weights_name
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    remove,
    storage_errors,
)
from rnnlm_tui.system.locks import (
    STAGING_NAME,
    folder_lock,
    put_staged,
    read_lock,
    staging,
    sweep_staging,
)

WriteFiles = Callable[[Path], Mapping[str, str] | None]
"""Writes a checkpoint's files into a folder; returns the SHA-256 of those that it hashed on the
way."""
KEPT_SNAPSHOTS = 2
"""The newest, and the one before it, which a sampler may still be reading."""


class CheckpointEntry(NamedTuple):
    """A finished checkpoint or average on disk, its files not yet verified."""

    path: Path
    manifest: Manifest
    bytes: int
    """Total size of the files."""

    @property
    def step(self) -> int:
        return self.manifest.step

    @property
    def name(self) -> str:
        """As in an address: `1500`, or `average-1500`."""
        return weights_name(str(self.path))

    def row(self, measured: float | None = None) -> CheckpointRow:
        """The checkpoint in a list, neither best nor last.

        Args:
            measured: validation loss from an evaluation after the checkpoint was written.
        """
        fact = self.manifest.number
        validation, train = fact("validation_loss"), fact("train_loss")
        return CheckpointRow(
            attempt=int(fact("attempt") or 0),
            step=self.step,
            epoch=fact("epoch") or 0.0,
            tokens_seen=int(fact("tokens_seen") or 0),
            train_loss=math.nan if train is None else train,
            validation_loss=measured if validation is None else validation,
            bytes=self.bytes,
            path=f"{self.path.parent.name}/{self.path.name}",
            best=False,
            last=False,
            time=self.manifest.created,
        )


def checkpoint_folders(run: RunDirectory) -> list[tuple[int, Path]]:
    """(step, folder) of each folder named like a checkpoint, by step."""
    return step_folders(run.checkpoints_path)


def list_checkpoints(run: RunDirectory) -> list[CheckpointEntry]:
    """The finished checkpoints by step; folders with a missing or damaged manifest are skipped."""
    return read_entries(path for _, path in checkpoint_folders(run))


def read_entries(folders: Iterable[Path]) -> list[CheckpointEntry]:
    """Read the manifests of checkpoints or averages; damaged ones (`newest_valid` reports them) and
    those that were just removed are skipped."""
    found = []
    for path in folders:
        with suppress(StorageError, FileNotFoundError):
            manifest = read_manifest(path)
            size = manifest.bytes + (path / MANIFEST_NAME).stat().st_size
            found.append(CheckpointEntry(path, manifest, size))
    return found


def best_step(losses: Iterable[tuple[int, float | None]]) -> int | None:
    """The step with the lowest finite loss, the earliest of equals; None if there is none."""
    known = [(loss, step) for step, loss in losses if loss is not None and math.isfinite(loss)]
    return min(known)[1] if known else None


def checkpoint_rows(
    run: RunDirectory,
    evaluations: Iterable[EvaluationRow],
    known: MutableMapping[int, CheckpointEntry] | None = None,
) -> list[CheckpointRow]:
    """The finished checkpoints by step, with their losses; the folders are the list.

    Args:
        evaluations: of the run, with the losses of checkpoints that were evaluated later.
        known: what a caller has read before; a manifest never changes.
    """
    losses = {row.step: row.loss for row in evaluations_during_run([*evaluations], "validation")}
    known = {} if known is None else known
    folders = dict(checkpoint_folders(run))
    for step in known.keys() - folders.keys():
        del known[step]
    new = read_entries(folders[step] for step in folders.keys() - known.keys())
    known.update((entry.step, entry) for entry in new)
    rows = [known[step].row(losses.get(step)) for step in sorted(known)]
    best = best_step((row.step, row.validation_loss) for row in rows)
    return [row._replace(best=row.step == best, last=row is rows[-1]) for row in rows]


def read_checkpoints(run: RunDirectory) -> list[CheckpointRow]:
    """The finished checkpoints of a run by step, with the losses that its logs have.

    Raises:
        StorageError: the run's folder can't be read.
    """
    from rnnlm_tui.store.reader import RunReader

    with RunReader(run) as reader:
        return checkpoint_rows(run, reader.evaluations())


def write_checkpoint(
    run: RunDirectory,
    step: int,
    write_files: WriteFiles,
    parent: str | None,
    facts: Mapping[str, object],
    kind: Literal["checkpoint", "snapshot"] = "checkpoint",
) -> Path:
    """Save a checkpoint atomically and durably; if it fails, nothing of it is visible.

    Args:
        write_files: writes plain files, no pickles, into the given folder.
        parent: the previous checkpoint, for the manifest.
        facts: JSON values for the manifest; `validation_loss` decides which checkpoint is the best.
        kind: a snapshot has a name of its own.

    Raises:
        CheckpointError: `write_files` created a pickle, a folder or a link.
        StorageError: the disk is full or not writable; older checkpoints are unchanged.
    """
    if kind == "checkpoint":
        target = run.checkpoints_path / f"step-{step:09d}"
    else:
        target = run.snapshots_path / f"step-{step:09d}-{secrets.token_hex(4)}"
    make_private_directory(target.parent, parents=False)
    with staging(target.parent) as place, storage_errors("write the checkpoint", target):
        folder = place / target.name
        make_private_directory(folder, parents=False)
        hashes = write_files(folder) or {}
        seal(folder, kind, run.name, step, parent, facts, hashes)
        put_staged(folder, target)
    return target


def write_snapshot(run: RunDirectory, step: int, write_files: WriteFiles) -> Path:
    """Save weights for a live sample under a unique name, and remove all but the newest two.

    Raises: as `write_checkpoint`.
    """
    path = write_checkpoint(run, step, write_files, None, {}, "snapshot")
    with storage_errors("tidy", run.snapshots_path):
        finished = sorted(
            (entry for entry in run.snapshots_path.iterdir() if entry.name.startswith("step-")),
            key=lambda entry: entry.stat().st_mtime_ns,
        )
    for old in finished[:-KEPT_SNAPSHOTS]:
        if old != path:
            shutil.rmtree(old, ignore_errors=True)
    return path


def remove_checkpoint(run: RunDirectory, step: int) -> bool:
    """Remove a checkpoint atomically; True also if it is already gone.

    Returns False, without waiting, if it is pinned, a process is reading it, or the run's labels
    are being written.

    Raises:
        StorageError: the checkpoint can't be removed, or the labels are damaged.
    """
    path = run.checkpoints_path / f"step-{step:09d}"
    doomed = run.checkpoints_path / f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(8)}"
    with storage_errors("remove", path):
        try:
            with folder_lock(run.path, wait=False):
                if not path.exists():
                    return True
                labels = sound_labels(run)
                if step in labels.pins:
                    return False
                with folder_lock(path, wait=False):  # its readers hold it
                    path.rename(doomed)
                if labels.notes.pop(step, ""):
                    with suppress(StorageError):  # the disk may be full
                        labels_file(run).write(labels)
        except RunStateError:
            return False
        shutil.rmtree(doomed)
    return True


def sweep_temporary(run: RunDirectory) -> None:
    """Remove what a killed worker left unfinished. Only for the worker that holds the run's lock:
    what other processes write meanwhile, such as an average or the run's labels, is left.

    A checkpoint that was being replaced is restored if its replacement is incomplete.

    Raises:
        StorageError: a file can't be removed.
    """
    for folder in (run.path, run.checkpoints_path, run.snapshots_path):
        if not folder.is_dir():
            continue
        sweep_staging(folder)
        with storage_errors("tidy", folder):
            for path in sorted(folder.iterdir()):
                if (
                    path.name.startswith(TEMPORARY_PREFIX)
                    and not STAGING_NAME.fullmatch(path.name)
                    and not (path.is_file() and read_lock(path).held)
                ):
                    remove(path)
            fsync_directory(folder)
