"""JSON-line logs of an attempt's rows, for runs whose database is outside their folder.

Appended with each commit and synced within a second.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import fsync_directory, open_private, storage_errors

_NAME = re.compile(r"metrics-(\d{1,6})\.jsonl")
AFTER = "after"
"""A pseudo-table: rows of later steps, from earlier attempts, are superseded."""

Entry = tuple[str, Sequence[Sequence[object]]]
"""A table's name and rows, with values in column order."""


class MetricsLog:
    """Appends to `metrics-<attempt>.jsonl`. Only for the process that writes the run's database.

    Raises (every method):
        StorageError: the file can't be written; it is as it was before the call.
    """

    def __init__(self, run: Path, attempt: int) -> None:
        self.path = run / f"metrics-{attempt}.jsonl"
        self._turn = Lock()
        self._unsynced = b""  # the last bytes, until they are on the disk
        self._lost = False
        with storage_errors("write", self.path):
            self._descriptor = open_private(self.path, os.O_WRONLY)
            self._size = self._before = os.lseek(self._descriptor, 0, os.SEEK_END)
            fsync_directory(run)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, one per line."""
        lines = b"".join(json.dumps({"table": table, "rows": rows}, separators=(",", ":")).encode() + b"\n" for table, rows in entries)
        self._before = self._size
        try:
            with self._turn:
                self._write(lines, self._size)
                self._size += len(lines)
                self._unsynced += lines
        except BaseException:
            self.undo()
            raise

    def _write(self, content: bytes, place: int) -> None:
        with storage_errors("write", self.path):
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], place + written)

    def undo(self) -> None:
        """Undo the last `append`."""
        with self._turn, suppress(OSError):  # the next line overwrites it in any case
            self._unsynced = self._unsynced[: len(self._unsynced) - (self._size - self._before)]
            self._size = self._before
            os.ftruncate(self._descriptor, self._size)

    def sync(self) -> None:
        """Wait until everything is on the disk. After a failed call, unsynced bytes are written again.

        Another thread may append meanwhile.
        """
        with self._turn:
            waiting = self._unsynced
            if self._lost:
                self._write(waiting, self._size - len(waiting))
        if waiting:
            try:
                with storage_errors("write", self.path):
                    os.fsync(self._descriptor)
            except StorageError:
                self._lost = True  # a full NFS server reports it only here, and drops what was written
                raise
            with self._turn:
                self._lost = False
                if self._unsynced.startswith(waiting):
                    self._unsynced = self._unsynced[len(waiting) :]

    def close(self) -> None:
        """Sync and close the file; a second call does nothing."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1


def logs_of(run: Path) -> list[Path]:
    """The logs of a run's attempts, oldest first."""
    with storage_errors("look into", run):
        found = [(int(match[1]), path) for path in run.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink()]
    return [path for _, path in sorted(found)]


def logged_rows(run: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, row) of all logs in the order written; incomplete and invalid lines are skipped.

    Raises:
        StorageError: a log can't be read.
    """
    for path in logs_of(run):
        with storage_errors("read", path), path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    table, rows = str(entry["table"]), [tuple(row) for row in entry["rows"]]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
                yield from ((table, row) for row in rows)
