"""Export a run's metrics into a folder, once or following the run until it ends.

CSV, Parquet and W&B files are rewritten as a whole, so a file that has its name is always
complete; while a run is followed, that takes at most a twentieth of the time. TensorBoard's event
files grow, and TensorBoard shows a followed run live.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, get_args

from rnnlm_tui.client.metric_files import FileKind, write_tables
from rnnlm_tui.errors import InputError, StorageError, install_extra
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import Extent, RunReader
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    make_private_directory,
    read_at_most,
    storage_errors,
    write_bytes_atomically,
    write_text_atomically,
)
from rnnlm_tui.system.locks import read_lock, sole_writer

MetricFormat = Literal["csv", "parquet", "tensorboard", "wandb"]
FORMATS: tuple[MetricFormat, ...] = get_args(MetricFormat)
_EXTRA = f"install it, in the clone: {install_extra('export')}"
_LIBRARIES = {
    "parquet": ("pyarrow.parquet", _EXTRA),
    "tensorboard": ("tensorboard.compat.proto.summary_pb2", _EXTRA),
    "wandb": ("wandb", "pip install wandb"),
}
"""The module that a format needs, and the command that installs it."""
MARKER_NAME = "export.json"
"""The file that says which run a folder is an export of."""
CONFIG_NAME = "config.toml"
POLL_SECONDS = 0.5
BUSY_SHARE = 0.05
"""Largest part of the time that a followed run's files are rewritten."""
TRIES = 5
"""A run that is resumed while it is read is read again."""
_MAX_MARKER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ExportedMetrics:
    """What is in the folder."""

    folder: Path
    format: MetricFormat
    rows: dict[str, int]
    """Rows of each series, read back and compared."""
    step: int
    """The newest step."""
    ended: bool
    """Whether the run had no worker any more."""
    files: tuple[str, ...]


class MetricsWriter(Protocol):
    """Writes one format."""

    def update(self, reader: RunReader, extent: Extent) -> None:
        """Write what is new up to `extent`."""

    def finish(self, reader: RunReader, extent: Extent) -> dict[str, int]:
        """Read everything back, compare it, and return the rows of each series."""

    def close(self) -> None:
        """Close files, also after an error."""


class _TableWriter:
    """CSV or Parquet: everything is rewritten and compared by each update."""

    def __init__(self, folder: Path, kind: FileKind) -> None:
        self._folder, self._kind = folder, kind
        self._counts: dict[str, int] = {}

    def update(self, reader: RunReader, extent: Extent) -> None:
        self._counts = write_tables(self._folder, self._kind, reader, extent)

    def finish(self, reader: RunReader, extent: Extent) -> dict[str, int]:
        del reader, extent
        return self._counts

    def close(self) -> None:
        """Nothing stays open."""


def export_metrics(
    run: RunDirectory,
    format: MetricFormat,
    folder: Path,
    *,
    follow: bool = False,
    report: Callable[[int], None] | None = None,
) -> ExportedMetrics:
    """Write all series of a run in a format, and its config.

    An earlier export of the same run in the same format is continued: no row is lost or doubled,
    also if the run was resumed or the export was interrupted in the meantime.

    Args:
        follow: continue until the run's worker ends.
        report: called with the newest exported step.

    Raises:
        InputError: the folder has something else in it, or a library is missing.
        StorageError: a file can't be written, or differs from the run when it is read back.
    """
    _check_library(format)
    if not os.path.lexists(folder):
        make_private_directory(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="name a folder")
    with sole_writer(folder), RunReader(run) as reader:
        _claim(run, format, folder)
        writer = _writer(run, format, folder, live=follow)
        try:
            extent, ended = _write(run, reader, writer, format, report, follow=follow)
            rows = writer.finish(reader, extent)
        finally:
            writer.close()
    with storage_errors("look into", folder):
        files = tuple(
            sorted(
                str(path.relative_to(folder))
                for path in folder.rglob("*")
                if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
            )
        )
    return ExportedMetrics(folder, format, rows, extent.step, ended, files)


def _check_library(format: MetricFormat) -> None:
    module, command = _LIBRARIES.get(format, ("json", ""))
    try:
        import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        raise InputError(
            f"the format {format} needs the library {library}, which isn't installed", hint=command
        ) from None


def _write(
    run: RunDirectory,
    reader: RunReader,
    writer: MetricsWriter,
    format: MetricFormat,
    report: Callable[[int], None] | None,
    *,
    follow: bool,
) -> tuple[Extent, bool]:
    """Write once, or until the run has ended; how far, and whether it has ended."""
    seen, pause_until = -1, 0.0
    while True:
        ended = not read_lock(run.lock_path).held
        version = reader.data_version()
        if ended or not follow or (version != seen and time.monotonic() >= pause_until):
            began = time.monotonic()
            extent, seen = _update(writer, reader), version
            if format != "tensorboard":
                pause_until = time.monotonic() + (time.monotonic() - began) / BUSY_SHARE
            if report is not None:
                report(extent.step)
            if ended or not follow:
                return extent, ended
        time.sleep(POLL_SECONDS)


def _update(writer: MetricsWriter, reader: RunReader) -> Extent:
    """Write up to the run's end as it is now; again, if the run is resumed meanwhile."""
    for _ in range(TRIES):
        extent = reader.extent()
        try:
            writer.update(reader, extent)
        except StorageError:
            if reader.extent().attempts == extent.attempts:
                raise
        if reader.extent().attempts == extent.attempts:
            return extent
    raise StorageError(f"{reader.run.name} was resumed again and again while it was read")


def _writer(run: RunDirectory, format: MetricFormat, folder: Path, *, live: bool) -> MetricsWriter:
    if format == "tensorboard":
        from rnnlm_tui.client.event_files import EventFiles

        return EventFiles(run, folder, live=live)
    if format == "wandb":
        from rnnlm_tui.client.wandb_run import WandbWriter

        return WandbWriter(run, folder)
    return _TableWriter(folder, format)


def _claim(run: RunDirectory, format: MetricFormat, folder: Path) -> None:
    """Check that the folder is empty or an export of this run in this format, and mark it.

    Raises:
        InputError: it is something else.
    """
    mine = {"run": run.name, "created": run.created(), "format": format}
    marker = folder / MARKER_NAME
    with storage_errors("look into", folder):
        names = [path.name for path in folder.iterdir()]
        others = [name for name in names if not name.startswith(TEMPORARY_PREFIX)]
    if others:
        try:
            found = json.loads(read_at_most(marker, _MAX_MARKER_BYTES))
        except (OSError, ValueError, RecursionError):
            raise InputError(
                f"{folder} isn't empty, and has no export of {run.name}",
                hint="name a new or an empty folder",
            ) from None
        known = found if isinstance(found, dict) else {}
        if any(known.get(key) != mine[key] for key in ("created", "format")):
            raise InputError(
                f"{folder} is an export of {str(known.get('run'))[:64]} as"
                f" {str(known.get('format'))[:16]}",
                hint="name another folder",
            )
    write_text_atomically(marker, json.dumps(mine) + "\n")
    with storage_errors("read", run.config_path):
        config = run.config_path.read_bytes()
    write_bytes_atomically(folder / CONFIG_NAME, config)
