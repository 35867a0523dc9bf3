"""RunDirectory: the paths inside one run's folder, its name's rules and its frozen config."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import ConfigError, RunNameError, StorageError
from rnnlm_tui.store.atomic import make_own_directory, storage_errors
from rnnlm_tui.store.database_place import DATABASE_NAME, POINTER_NAME, DatabaseLocation, database_location

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Whole names only: nothing that could leave the runs folder, look like an option or hide."""
MAX_SOCKET_PATH_BYTES = 107
"""The kernel's field for a Unix socket's path has 108 bytes with its closing NUL (macOS: 104, which the short path meets too)."""


def check_run_name(name: str) -> str:
    """The name itself when a run may be called so.

    Raises:
        RunNameError: an impossible name; whether it is taken is not looked at.
    """
    if RUN_NAME.fullmatch(name):
        return name
    shown = repr(name) if len(name) <= 40 else f"{name[:40]!r}… ({counted(len(name), 'character')})"
    raise RunNameError(
        f"{shown} can't be a run's name: 1 to 64 of A-Z a-z 0-9 . _ - are allowed, a letter or digit first",
        hint="choose another name, or leave it out and one is made up",
    )


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder. Only its methods touch the disk, and `place`; the other properties are paths."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.toml"

    @property
    def database_location(self) -> DatabaseLocation | None:
        """Where its database lies when not in this folder."""
        return database_location(self.path)

    @property
    def database_path(self) -> Path:
        """In this folder, or where `place` says."""
        place = self.database_location
        return self.path / DATABASE_NAME if place is None else place.path

    @property
    def lock_path(self) -> Path:
        return self.path / "worker.lock"

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def snapshots_path(self) -> Path:
        """Weights that live samples ask for; not to resume from."""
        return self.path / "snapshots"

    @property
    def socket_path(self) -> Path:
        """Where the worker listens: in the run's folder or, where that path is too long or no place for a socket, in a short folder of this user's.

        The worker records the path it used as `socket` in the database.
        """
        inside = self.path / "control.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES and not (self.path / POINTER_NAME).exists():
            return inside
        digest = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
        return Path(f"/tmp/rnnlm-tui-{os.getuid()}") / f"{digest}.sock"

    def make_socket_directory(self) -> Path:
        """Make sure that the socket's folder exists and is this user's alone; returns `socket_path`.

        Raises:
            StorageError: somebody else owns the short folder or may enter it.
        """
        socket, folder = self.socket_path, self.socket_path.parent
        if folder == self.path:
            return socket
        make_own_directory(folder)
        return socket

    def check_there(self) -> None:
        """Refuse a run whose folder is not there any more: whoever looks at a list may be late.

        Raises:
            StorageError: it is gone.
        """
        if not self.path.is_dir():
            raise StorageError(f"{self.path} is gone: it was removed or moved", hint="`rnnlm-tui runs` shows what is left")

    def check_own_files(self) -> None:
        """Refuse a run whose folder holds links: what is written, tidied and removed through them would lie elsewhere.

        Raises:
            StorageError: one is there, or the folder can't be read.
        """
        with storage_errors("look into", self.path), os.scandir(self.path) as entries:
            links = sorted(entry.path for entry in entries if entry.is_symlink()) or [str(self.path)] * self.path.is_symlink()
        if links:
            raise StorageError(f"{links[0]} is a link: a run's files lie in its own folder", hint="put the file or folder itself there")

    def created(self) -> float:
        """Unix seconds of the run's creation: config.toml is written once. 0.0 when it is gone."""
        try:
            return self.config_path.stat().st_mtime
        except OSError:
            return 0.0

    def read_config(self) -> RunConfig:
        """The frozen config, validated again.

        Raises:
            StorageError: the file is missing, no TOML or no valid config.
        """
        import tomllib

        from rnnlm_tui.contract.validation import parse_stored_config

        with storage_errors("read", self.config_path):
            data = self.config_path.read_bytes()
        try:
            return parse_stored_config(tomllib.loads(data.decode("utf-8")))
        except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; a number of thousands of digits raises one too
            raise StorageError(
                f"{self.config_path} is damaged: {error}", hint="a run's config is never edited; restore the file, or start a new run"
            ) from error
        except ConfigError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            raise StorageError(
                f"{self.config_path} holds no valid config: {problems}", hint="it was edited, or written by another version of rnnlm-tui"
            ) from error
