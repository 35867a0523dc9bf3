"""The worker's output: it goes to the run's log, and a full disk is no error."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

_STDERR = 2


class Log(io.TextIOBase):
    """Writes to this process's stderr, which is the run's log; lines that can't be written are dropped."""

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """stderr's."""
        return _STDERR

    def write(self, text: str, /) -> int:
        """Write the text now, as far as the disk accepts it."""
        with suppress(OSError):
            os.write(_STDERR, text.encode("utf-8", "backslashreplace"))
        return len(text)


def log_without_disk_errors() -> None:
    """Send everything that this process prints through such a log."""
    sys.stdout = sys.stderr = Log()
