"""Which checkpoints of a run were exported, as what and where to: `exports.json` in its folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import move_aside, read_at_most, storage_errors, write_text_atomically
from rnnlm_tui.system.locks import folder_lock

_MOST_BYTES = 1 << 20
MOST_EXPORTS = 1_000
"""The newest are kept."""


@dataclass(frozen=True, slots=True)
class Export:
    """One export of a checkpoint."""

    step: int
    format: str
    """`hf`, `onnx` or `book`."""
    folder: str
    """Where it was written, absolute; it may have been moved since."""
    time: float
    """Unix seconds."""


def exports_path(run: RunDirectory) -> Path:
    """The file of a run's exports, created with the first."""
    return run.path / "exports.json"


def read_exports(run: RunDirectory) -> tuple[Export, ...]:
    """A run's exports, oldest first; empty if the file is missing, invalid or unreadable."""
    return _found(run) or ()


def exported_steps(run: RunDirectory) -> frozenset[int]:
    """Steps of the checkpoints that were exported, whether or not they still exist."""
    return frozenset(export.step for export in read_exports(run))


def add_export(run: RunDirectory, export: Export) -> None:
    """Record an export. One of the same step, format and folder is replaced.

    Raises:
        StorageError: the file can't be written.
    """
    run.check_there()
    with folder_lock(run.path), storage_errors("write", exports_path(run)):
        found = _found(run)
        if found is None:
            move_aside(exports_path(run))
        place = (export.step, export.format, export.folder)
        kept = [one for one in found or () if (one.step, one.format, one.folder) != place]
        values = [asdict(one) for one in [*kept, export][-MOST_EXPORTS:]]
        write_text_atomically(exports_path(run), json.dumps(values, indent=1) + "\n")


def _found(run: RunDirectory) -> tuple[Export, ...] | None:
    """The exports in the file; None if it exists and is invalid."""
    path = exports_path(run)
    try:
        if path.is_symlink():
            return None
        values = json.loads(read_at_most(path, _MOST_BYTES))
        return tuple(
            Export(int(one["step"]), str(one["format"]), str(one["folder"]), float(one["time"]))
            for one in values
        )
    except OSError:
        return None if os.path.lexists(path) and not os.access(path, os.R_OK) else ()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
