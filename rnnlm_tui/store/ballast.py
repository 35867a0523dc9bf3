"""Ballast: a few mebibytes kept on a run's disk, given up when it is full so that the run can still say so."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import open_private, storage_errors
from rnnlm_tui.store.free_space import ROOM_FOR_ROWS, require_space

BALLAST_BYTES = 4 * 2**20


class Ballast:
    """The file beside a run's database. It is written, not only reserved, with bytes that no file system can make smaller."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.ballast")

    def make(self) -> None:
        """Put it on the disk; nothing is done where it is there already.

        Raises:
            StorageError: there is no space for it and for some rows beside it, with need and have; nothing is left of it.
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
        """Give its space back; what can't be removed stays."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _is_whole(self) -> bool:
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return found.st_size == BALLAST_BYTES  # not its blocks: ZFS counts them seconds later
