"""Reserve 4 MiB on a run's disk, released when the disk is full so that the run can still record it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import open_private, storage_errors
from rnnlm_tui.store.free_space import ROOM_FOR_ROWS, require_space

BALLAST_BYTES = 4 * 2**20


class Ballast:
    """A file beside a run's database, filled with random bytes: no file system can compress it."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.ballast")

    def make(self) -> None:
        """Write the file, if it isn't there yet.

        Raises:
            StorageError: not enough space for the file and some rows; no part of the file is left.
        """
        if self._is_whole():
            return
        self.release()
        require_space(self.path.parent, BALLAST_BYTES + ROOM_FOR_ROWS, "a run")
        try:
            with storage_errors("write", self.path), os.fdopen(open_private(self.path, os.O_WRONLY), "wb") as file:
                file.write(os.urandom(BALLAST_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except StorageError:
            self.release()
            raise

    def release(self) -> None:
        """Remove the file, if possible."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _is_whole(self) -> bool:
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return found.st_size == BALLAST_BYTES  # not st_blocks: ZFS updates it seconds later
