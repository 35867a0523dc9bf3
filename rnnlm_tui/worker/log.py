"""The run's log as a worker writes it: a disk that takes no more lines ends nothing."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

_DESCRIPTOR = 2


class Log(io.TextIOBase):
    """Text to this process's stderr, which is the run's log; lines that can't be written are left out."""

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """stderr's."""
        return _DESCRIPTOR

    def write(self, text: str, /) -> int:
        """Write it now, as far as the disk takes it."""
        with suppress(OSError):
            os.write(_DESCRIPTOR, text.encode("utf-8", "backslashreplace"))
        return len(text)


def log_whatever_the_disk_takes() -> None:
    """Let all that this process prints go through such a log."""
    sys.stdout = sys.stderr = Log()
