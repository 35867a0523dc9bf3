"""Which checkpoints of a run were exported, as what and where to: `exports.json` in its folder."""

from __future__ import annotations

from dataclasses import dataclass

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.json_files import JsonFile

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


def exports_file(run: RunDirectory) -> JsonFile[tuple[Export, ...]]:
    """The file of a run's exports, oldest first; created with the first."""
    return JsonFile(run.path / "exports.json", tuple[Export, ...], (), _MOST_BYTES)


def exported_steps(run: RunDirectory) -> frozenset[int]:
    """Steps of the checkpoints that were exported, whether or not they still exist."""
    return frozenset(export.step for export in exports_file(run).look().value)


def add_export(run: RunDirectory, export: Export) -> None:
    """Record an export. One of the same step, format and folder is replaced.

    Raises:
        StorageError: the file can't be read or written.
    """
    place = (export.step, export.format, export.folder)

    def added(before: tuple[Export, ...]) -> tuple[Export, ...]:
        others = [one for one in before if (one.step, one.format, one.folder) != place]
        return (*others, export)[-MOST_EXPORTS:]

    run.check_there()
    exports_file(run).change(added)
