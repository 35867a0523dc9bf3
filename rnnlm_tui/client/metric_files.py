"""Metrics as CSV or Parquet files: each written, read back and compared before it gets its name."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rnnlm_tui.client.metric_tables import TABLES, Cell, CellKind, MetricTable
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.reader import Extent, RunReader
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    fsync_file,
    open_private,
    storage_errors,
)

FileKind = Literal["csv", "parquet"]
GROUP_ROWS = 65_536
"""Rows that a Parquet file holds together, and that are in memory at once."""
LONGEST_CELL = 2**31 - 1

Row = tuple[Cell, ...]


class RowDigest:
    """Rows passed through, counted and hashed, to compare what was read with what was written."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def pass_on(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows."""
        for row in rows:
            self.rows += 1
            self._hash.update(repr(row).encode("utf-8", "surrogatepass"))
            yield row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowDigest) and (self.rows, self._hash.digest()) == (
            other.rows,
            other._hash.digest(),
        )

    __hash__ = None  # type: ignore[assignment]


def write_tables(folder: Path, kind: FileKind, reader: RunReader, extent: Extent) -> dict[str, int]:
    """Write all series of a run into a folder, one file each.

    Returns:
        The number of rows of each series.

    Raises:
        StorageError: a file can't be written, or differs from the run when it is read back.
    """
    write, read = (_write_csv, _read_csv) if kind == "csv" else (_write_parquet, _read_parquet)
    unfinished: dict[Path, Path] = {}
    counts: dict[str, int] = {}
    try:
        for table in TABLES:
            target = folder / f"{table.name}.{kind}"
            temporary = folder / f"{TEMPORARY_PREFIX}{target.name}"
            unfinished[temporary] = target
            written, found = RowDigest(), RowDigest()
            with storage_errors("write", target):
                temporary.unlink(missing_ok=True)
                os.close(open_private(temporary, os.O_WRONLY))
                write(temporary, table, written.pass_on(_comparable(table, reader, extent)))
                fsync_file(temporary)
                for _ in found.pass_on(read(temporary, table)):
                    continue
            if written != found:
                raise StorageError(
                    f"{target} differs from the run after writing it", hint="try again"
                )
            counts[table.name] = written.rows
        with storage_errors("write", folder):
            for temporary, target in unfinished.items():
                temporary.replace(target)
            fsync_directory(folder)
    except BaseException:
        for temporary in unfinished:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
    return counts


def _comparable(table: MetricTable, reader: RunReader, extent: Extent) -> Iterator[Row]:
    """The rows with each cell in its column's type: SQLite returns 3 for a float that is whole."""
    kinds = tuple(table.columns.values())
    for row in table.rows(reader, extent):
        yield tuple(
            value if value is None else _AS[kind](value)
            for kind, value in zip(kinds, row, strict=True)
        )


_AS: dict[CellKind, Callable[[Any], Cell]] = {"int": int, "float": float, "text": str}


def _write_csv(path: Path, table: MetricTable, rows: Iterator[Row]) -> None:
    """A header and one line per row; None is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(table.columns)
        # every text is quoted: an unquoted one with a carriage return can't be read back
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)


def _read_csv(path: Path, table: MetricTable) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    kinds = tuple(table.columns.values())
    nullable = [kind != "text" or name in _NULL_TEXTS for name, kind in table.columns.items()]
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if next(rows, None) != list(table.columns):
            raise StorageError(f"{path} differs from the run after writing it")
        for row in rows:
            yield tuple(
                None if not text and may_be_null else _AS[kind](text)
                for text, kind, may_be_null in zip(row, kinds, nullable, strict=True)
            )


_NULL_TEXTS = ("gpu_name", "other_gpus", "gpu_throttle", "gpu_fault")
"""Text columns in which an empty cell is None; the others are never None."""


def _write_parquet(path: Path, table: MetricTable, rows: Iterator[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_ROWS)):
            columns = zip(*group, strict=True)
            arrays = [
                pa.array(column, type=field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _read_parquet(path: Path, table: MetricTable) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if file.schema_arrow.names != list(table.columns):
            raise StorageError(f"{path} differs from the run after writing it")
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
