"""LogFollower: follow a worker's log from near its end."""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 1024 * 1024
"""How much of a log's end is read."""
MOST_LINES = 20_000


class LogFollower:
    """Reads new lines of a log with each `look`. For one thread at a time."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, most_lines: int = MOST_LINES) -> None:
        self.path = path
        self.skipped = 0
        """Bytes at the log's start that were not read."""
        self.lines: list[str] = []
        """Oldest first; the last one may still grow. Invalid UTF-8 is replaced."""
        self.dropped = 0
        """Number of lines that were read and dropped."""
        self._most_bytes, self._most_lines = most_bytes, most_lines
        self._rest = b""
        self._offset = 0
        self._file: tuple[int, int] | None = None

    def look(self) -> bool:
        """Read new lines; returns whether anything changed. A replaced log is read again, a missing one is empty."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self._begin((status.st_dev, status.st_ino), status.st_size)
                if status.st_size == self._offset:
                    return False
                file.seek(self._offset)
                new = file.read(status.st_size - self._offset)
        except OSError:
            changed = bool(self.lines)
            self._begin(None, 0)
            return changed
        self._offset += len(new)
        self._take(new)
        return True

    def _begin(self, file: tuple[int, int] | None, size: int) -> None:
        self._file, self._rest, self.lines, self.dropped = file, b"", [], 0
        self.skipped = self._offset = max(0, size - self._most_bytes)

    def _take(self, new: bytes) -> None:
        if self._rest:
            self.lines.pop()  # the incomplete last line
        whole, newline, self._rest = (self._rest + new).rpartition(b"\n")
        if newline:
            self.lines += whole.decode("utf-8", errors="replace").splitlines() or [""]
        if self._rest:
            self.lines.append(self._rest.decode("utf-8", errors="replace"))
        more = len(self.lines) - self._most_lines
        if more > 0:
            del self.lines[:more]
            self.dropped += more
