"""Paths: the data home, a run's folder, and its database, which may be outside that folder.

If a run's folder is on a network filesystem, its database is on a local disk, and other hosts read
copies of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path, user_state_path

from rnnlm_tui.errors import ConfigError, RunNameError, StorageError
from rnnlm_tui.schema.formatting import counted, user_path
from rnnlm_tui.system.disk import filesystem_here, is_network
from rnnlm_tui.system.files import make_own_directory, storage_errors, write_text_atomically
from rnnlm_tui.system.locks import host_name

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig


HOME_VARIABLE = "RNNLM_TUI_HOME"
"""Environment variable: the data home; empty counts as not set."""

DATABASES_VARIABLE = "RNNLM_TUI_DATABASES"
"""Environment variable: a folder on a local disk for the databases of new runs; empty counts as not
set."""
DATABASE_NAME = "run.db"
COPY_NAME = "copy.db"
"""Name of a copy. Not run.db: after a change of the host's name, a run's own database must not pass
for a copy."""
SNAPSHOTS_NAME = "snapshots"
POINTER_NAME = "database.json"
"""In the run's folder: location and host of a database outside it."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A valid name can't leave the runs folder, look like an option or be hidden."""
MAX_SOCKET_PATH_BYTES = 107
"""The kernel's field for a Unix socket's path has 108 bytes with its NUL (macOS: 104, which the
short path fits too)."""


def home() -> Path:
    """The data home: `RNNLM_TUI_HOME`, else the user's data directory for `rnnlm-tui`. Always
    absolute."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    return user_path(chosen).absolute() if chosen else user_data_path("rnnlm-tui", appauthor=False)


def runs_dir() -> Path:
    """One folder for each run."""
    return home() / "runs"


def corpora_dir() -> Path:
    """One folder for each prepared corpus, named by its hash."""
    return home() / "corpora"


def trash_dir() -> Path:
    """Deleted runs, until they are purged."""
    return home() / "trash"


def states_dir() -> Path:
    """Kept recurrent states, one file each."""
    return home() / "states"


def state_file() -> Path:
    """The app's state between starts."""
    return home() / "app-state.json"


def queue_dir() -> Path:
    """The folder of the queue's file, lock and log."""
    return home() / "queue"


def queue_file() -> Path:
    """The runs that wait."""
    return queue_dir() / "queue.json"


def queue_lock() -> Path:
    """Held by the queue's process."""
    return queue_dir() / "queue.lock"


def queue_log() -> Path:
    """The output of the queue's process."""
    return queue_dir() / "queue.log"


def keymap_file() -> Path:
    """The user's key bindings for the app."""
    return home() / "keymap.toml"


def history_file() -> Path:
    """The prompt history, one JSON object per line."""
    return home() / "prompt-history.jsonl"


def samples_file() -> Path:
    """Everything sampled by app and command line, one JSON object per line."""
    return home() / "samples.jsonl"


def summaries_file() -> Path:
    """Cache of ended runs' summaries, so that a list of hundreds of runs is fast. Safe to
    delete."""
    return home() / "summaries.json"


def calibration_file() -> Path:
    """Measurements of probes."""
    return home() / "calibration.json"


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A database outside its run's folder."""

    id: str
    """Name of the database's folder on every host: 16 hexadecimal digits."""
    host: str
    """The host with the run's own database. Other hosts have copies, made from the logs in the
    run's folder."""
    folder: Path
    """The database's folder on that host."""
    why: str
    """`nfs4, a network filesystem`."""

    @property
    def here(self) -> bool:
        """Whether the run's own database is on this host."""
        return self.host == host_name()

    @property
    def path(self) -> Path:
        """The database on this host: the run's own, or a copy."""
        return (
            self.folder / DATABASE_NAME if self.here else databases_folder() / self.id / COPY_NAME
        )

    def __str__(self) -> str:
        return (
            f"{self.folder / DATABASE_NAME} on {self.host}, because the run's folder is on"
            f" {self.why}; its metrics are in that folder too, as JSON lines"
        )


def database_location(run: Path) -> DatabaseLocation | None:
    """The location of a run's database, or None if it is in the run's folder.

    Raises:
        StorageError: the pointer file is damaged.
    """
    pointer = run / POINTER_NAME
    try:
        values = json.loads(pointer.read_bytes())
        place = DatabaseLocation(
            str(values["id"]), str(values["host"]), Path(values["folder"]), str(values["why"])
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"can't read {pointer}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{pointer} is damaged, so the run's database can't be found",
            hint="remove this file, and the database is rebuilt",
        ) from error
    if not (
        len(place.id) == 16
        and set(place.id) <= set("0123456789abcdef")
        and place.folder.is_absolute()
    ):
        raise StorageError(
            f"{pointer} is damaged: it has an invalid folder",
            hint="remove this file, and the database is rebuilt",
        )
    return place


def choose_location(run: Path) -> DatabaseLocation | None:
    """Choose and create the location of a new run's database; None: the run's folder.

    Raises:
        StorageError: no local folder can be created.
    """
    import secrets  # lazily, as hashlib: OpenSSL costs the first screen milliseconds

    why = why_outside_run(run)
    return None if why is None else _settle(run, secrets.token_hex(8), why)


def take_over_database(run: Path, place: DatabaseLocation) -> DatabaseLocation:
    """Make this host's database the run's own. The caller holds the run's lock.

    Raises:
        StorageError: no local folder can be created, or the run's folder can't be written.
    """
    return _settle(run, place.id, place.why)


def why_outside_run(folder: Path) -> str | None:
    """Why databases of runs in `folder` are stored outside it; None if they aren't."""
    kind = filesystem_here(folder)
    if is_network(kind):
        return f"{kind}, a network filesystem"
    return (
        f"a disk that {DATABASES_VARIABLE} keeps databases off"
        if os.environ.get(DATABASES_VARIABLE)
        else None
    )


def databases_folder() -> Path:
    """The folder on a local disk for databases: `RNNLM_TUI_DATABASES` or a folder of the user."""
    chosen = os.environ.get(DATABASES_VARIABLE, "")
    if chosen:
        return user_path(chosen).absolute()
    own = user_state_path("rnnlm-tui", appauthor=False) / "databases"
    places = (own, Path(f"/var/tmp/rnnlm-tui-{os.getuid()}"))
    return next((place for place in places if not is_network(filesystem_here(place))), own)


def remove_local_database(place: DatabaseLocation) -> None:
    """Remove this host's database of a deleted run; the run's folder still has the logs."""
    if place.path.parent.name == place.id:
        shutil.rmtree(place.path.parent, ignore_errors=True)


def make_folder(place: DatabaseLocation) -> None:
    """Create the private folder of this host's database.

    Raises:
        StorageError: the folder can't be created, or other users can enter it.
    """
    parent = place.path.parent.parent
    if not os.environ.get(DATABASES_VARIABLE):
        make_own_directory(parent)
    make_own_directory(place.path.parent)


def _settle(run: Path, id: str, why: str) -> DatabaseLocation:
    place = DatabaseLocation(id, host_name(), databases_folder() / id, why)
    make_folder(place)
    values = {"id": place.id, "host": place.host, "folder": str(place.folder), "why": place.why}
    write_text_atomically(run / POINTER_NAME, json.dumps(values, indent=1) + "\n")
    return place


def check_run_name(name: str) -> str:
    """Return the name if it is valid, whether or not it is taken.

    Raises:
        RunNameError: the name is invalid.
    """
    if RUN_NAME.fullmatch(name):
        return name
    shown = repr(name) if len(name) <= 40 else f"{name[:40]!r}… ({counted(len(name), 'character')})"
    raise RunNameError(
        f"invalid run name {shown}: use 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or"
        " digit",
        hint="choose another name, or leave it out to get a generated one",
    )


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder. Only its methods, `database_location` and `database_path` read the disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.toml"

    @property
    def draft_path(self) -> Path:
        """A draft's config while it has problems; `config_path` has its nearest valid values."""
        return self.path / "draft.toml"

    @property
    def database_location(self) -> DatabaseLocation | None:
        """The location of its database if it is outside this folder, else None."""
        return database_location(self.path)

    @property
    def database_path(self) -> Path:
        """The run's database on this host."""
        place = self.database_location
        return self.path / DATABASE_NAME if place is None else place.path

    @property
    def lock_path(self) -> Path:
        return self.path / "worker.lock"

    @property
    def logs_path(self) -> Path:
        """The rows of each attempt, one file each."""
        return self.path / "log"

    @property
    def log_path(self) -> Path:
        """The output of its workers."""
        return self.path / "worker.log"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def snapshots_path(self) -> Path:
        """Weights for live samples; they can't be resumed from."""
        return self.path / SNAPSHOTS_NAME

    @property
    def socket_path(self) -> Path:
        """The worker's control socket: in the run's folder, or in a short folder under /tmp.

        The latter if the path is too long or on a network filesystem. The worker records the path
        it used as `socket` in the database.
        """
        inside = self.path / "control.sock"
        if (
            len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES
            and not (self.path / POINTER_NAME).exists()
        ):
            return inside
        import hashlib

        digest = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
        return Path(f"/tmp/rnnlm-tui-{os.getuid()}") / f"{digest}.sock"

    def make_socket_directory(self) -> Path:
        """Create the socket's private folder if needed; returns `socket_path`.

        Raises:
            StorageError: another user owns the folder or can enter it.
        """
        socket, folder = self.socket_path, self.socket_path.parent
        if folder == self.path:
            return socket
        make_own_directory(folder)
        return socket

    def check_there(self) -> None:
        """Check that the run's folder still exists.

        Raises:
            StorageError: the folder is gone.
        """
        if not self.path.is_dir():
            raise StorageError(
                f"{self.path} is gone: it was removed or moved",
                hint="`rnnlm-tui runs` shows what is left",
            )

    def check_own_files(self) -> None:
        """Refuse a run whose folder has links: files outside it would be written and removed
        through them.

        Raises:
            StorageError: the folder has a link, or can't be read.
        """
        with storage_errors("look into", self.path), os.scandir(self.path) as entries:
            links = (
                sorted(entry.path for entry in entries if entry.is_symlink())
                or [str(self.path)] * self.path.is_symlink()
            )
        if links:
            raise StorageError(
                f"{links[0]} is a symbolic link, which is not allowed in a run's folder",
                hint="put the file or folder itself there",
            )

    def created(self) -> float:
        """When the run was created or, as a draft, last changed, in Unix seconds; 0.0 if it is
        gone."""
        try:
            return self.config_path.stat().st_mtime
        except OSError:
            return 0.0

    def read_config(self) -> RunConfig:
        """Read and validate the frozen config.

        Raises:
            StorageError: the file is missing, or isn't TOML or a valid config.
        """
        import tomllib

        from rnnlm_tui.schema.validation import parse_stored_config

        with storage_errors("read", self.config_path):
            data = self.config_path.read_bytes()
        try:
            return parse_stored_config(tomllib.loads(data.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            # TOMLDecodeError is a ValueError; a number with thousands of digits raises one too
            raise StorageError(
                f"{self.config_path} is damaged: {error}",
                hint="a run's config can't be edited; restore the file, or start a new run",
            ) from error
        except ConfigError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            raise StorageError(
                f"invalid config {self.config_path}: {problems}",
                hint="it was edited, or written by another version of rnnlm-tui",
            ) from error
