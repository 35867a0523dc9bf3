"""List a run's finished checkpoints from their manifests, without reading their files or the database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from rnnlm_tui.contract.metrics import CheckpointRow
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, MANIFEST_NAME, read_manifest
from rnnlm_tui.store.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """A finished checkpoint on disk, its files not yet verified."""

    step: int
    path: Path
    facts: Mapping[str, JsonValue]
    """From the manifest: attempt, epoch, tokens_seen, train_loss, validation_loss and so on."""
    bytes: int
    """Total size of the files."""
    created: float
    """Unix seconds."""
    parent: str | None

    @property
    def validation_loss(self) -> float | None:
        """Validation loss at this step in nats per token; None if there was no evaluation."""
        loss = self.facts.get("validation_loss")
        return float(loss) if isinstance(loss, int | float) else None

    def row(self, measured: float | None = None) -> CheckpointRow:
        """The checkpoint's row in the index; the database sets `best` and `last`.

        Args:
            measured: validation loss from an evaluation after the checkpoint was written.
        """
        attempt, epoch, tokens, loss = (self.facts.get(name) for name in ("attempt", "epoch", "tokens_seen", "train_loss"))
        return CheckpointRow(
            attempt=attempt if isinstance(attempt, int) else 1,
            step=self.step,
            epoch=float(epoch) if isinstance(epoch, int | float) else 0.0,
            tokens_seen=tokens if isinstance(tokens, int) else 0,
            train_loss=float(loss) if isinstance(loss, int | float) else math.nan,
            validation_loss=measured if self.validation_loss is None else self.validation_loss,
            bytes=self.bytes,
            path=f"{self.path.parent.name}/{self.path.name}",
            best=False,
            last=False,
            time=self.created,
        )


def checkpoint_folders(run: RunDirectory) -> Iterator[tuple[int, Path]]:
    """(step, folder) of each folder named like a checkpoint, by step."""
    with storage_errors("look into", run.checkpoints_path):
        try:
            names = sorted(path.name for path in run.checkpoints_path.iterdir() if path.is_dir() and not path.is_symlink())
        except FileNotFoundError:
            return
    matches = [match for match in map(CHECKPOINT_FOLDER.fullmatch, names) if match]
    yield from sorted((int(match[1]), run.checkpoints_path / match[0]) for match in matches)


def list_checkpoints(run: RunDirectory) -> list[CheckpointEntry]:
    """The finished checkpoints by step; folders with a missing or damaged manifest are skipped."""
    found = []
    for step, path in checkpoint_folders(run):
        try:
            manifest = read_manifest(path)
            size = manifest.bytes + (path / MANIFEST_NAME).stat().st_size
        except (StorageError, FileNotFoundError):
            continue  # damaged (newest_valid reports it), or just removed
        found.append(CheckpointEntry(step, path, manifest.facts, size, manifest.created, manifest.parent))
    return found
