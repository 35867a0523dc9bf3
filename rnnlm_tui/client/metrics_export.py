"""Export a run's metrics into a folder, once or following the run until it ends.

Every file is written beside the earlier one and takes its name when all of them are complete; while
a run is followed, that takes at most a twentieth of the time. Only the event files of a followed
run grow, so that TensorBoard shows it live.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from rnnlm_tui.client.metric_tables import TABLES, Cell, MetricTable
from rnnlm_tui.errors import InputError, install_extra
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    fsync_file,
    make_private_directory,
    open_private,
    read_at_most,
    storage_errors,
    write_bytes_atomically,
    write_text_atomically,
)
from rnnlm_tui.system.locks import folder_lock, read_lock, staging

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
_MAX_MARKER_BYTES = 65_536
GROUP_ROWS = 65_536
"""Rows that are in memory at once, and that a Parquet file holds together."""


@dataclass(frozen=True, slots=True)
class ExportedMetrics:
    """What is in the folder."""

    format: MetricFormat
    folder: Path
    rows: dict[str, int]
    """Rows of each series."""
    step: int
    """The newest step."""
    ended: bool
    """Whether the run had no worker any more."""
    files: tuple[str, ...]


Write = Callable[[RunReader], dict[str, int]]
"""Writes one format, and returns the rows of each series."""


def _write_tables(
    folder: Path, kind: Literal["csv", "parquet"], reader: RunReader
) -> dict[str, int]:
    """Write all files again."""
    write = _write_csv if kind == "csv" else _write_parquet
    counts: dict[str, int] = {}
    with staging(folder) as place, storage_errors("write", folder):
        for table in TABLES:
            path = place / f"{table.name}.{kind}"
            os.close(open_private(path, os.O_WRONLY))
            counts[table.name] = write(path, table, table.rows(reader))
            fsync_file(path)
        for path in list(place.glob(f"*.{kind}")):
            path.replace(folder / path.name)
        fsync_directory(folder)
    return counts


def _write_csv(path: Path, table: MetricTable, rows: Iterator[tuple[Cell, ...]]) -> int:
    """Write a header and one line a row, None as an empty cell; the number of rows."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(table.columns)
        # every text is quoted: an unquoted one with a carriage return can't be read back
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        while group := list(islice(rows, GROUP_ROWS)):
            writer.writerows(group)
            count += len(group)
    return count


def _write_parquet(path: Path, table: MetricTable, rows: Iterator[tuple[Cell, ...]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns.items()])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_ROWS)):
            columns: list[Any] = [
                pa.array(column, type=field.type)
                for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(group)
    return count


def export_metrics(
    run: RunDirectory,
    format: MetricFormat,
    folder: Path,
    *,
    follow: bool = False,
    report: Callable[[int], None] | None = None,
) -> ExportedMetrics:
    """Write all series of a run in a format, and its config.

    An earlier export of the same run in the same format is replaced.

    Args:
        follow: continue until the run's worker ends.
        report: called with the newest exported step.

    Raises:
        InputError: the folder has something else in it, or a library is missing.
        StorageError: a file can't be written.
    """
    _check_library(format)
    if not os.path.lexists(folder):
        make_private_directory(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="name a folder")
    with folder_lock(folder, wait=False), RunReader(run) as reader:
        _claim(run, format, folder)
        with _writer(run, format, folder) as write:
            rows, step, ended = _write(run, reader, write, format, report, follow=follow)
    with storage_errors("look into", folder):
        files = tuple(
            sorted(
                str(path.relative_to(folder))
                for path in folder.rglob("*")
                if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
            )
        )
    return ExportedMetrics(format, folder, rows, step, ended, files)


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
    write: Write,
    format: MetricFormat,
    report: Callable[[int], None] | None,
    *,
    follow: bool,
) -> tuple[dict[str, int], int, bool]:
    """Write once, or until the run has ended; the rows, the newest step, whether it has ended."""
    seen: object = None
    pause_until = 0.0
    while True:
        ended = not read_lock(run.lock_path).held
        version = reader.refresh()
        if ended or not follow or (version != seen and time.monotonic() >= pause_until):
            began = time.monotonic()
            with reader.read_transaction():  # a resume meanwhile comes with the next look
                rows, seen = write(reader), version
                step = max((row.step for row in reader.recent_steps(1)), default=0)
            if format != "tensorboard":
                pause_until = time.monotonic() + (time.monotonic() - began) / BUSY_SHARE
            if report is not None:
                report(step)
            if ended or not follow:
                return rows, step, ended
        time.sleep(POLL_SECONDS)


@contextmanager
def _writer(run: RunDirectory, format: MetricFormat, folder: Path) -> Iterator[Write]:
    if format == "tensorboard":
        from rnnlm_tui.client.event_files import EventFiles

        with closing(EventFiles(run, folder)) as files:
            yield files
    elif format == "wandb":
        from rnnlm_tui.client.wandb_run import write_run

        yield partial(write_run, run, folder)
    else:
        yield partial(_write_tables, folder, format)


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
