"""Location of a run's database: its folder, or a local disk if that folder is on a network filesystem."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

from rnnlm_tui.contract.outside_text import user_path
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import make_own_directory, write_text_atomically
from rnnlm_tui.store.filesystems import filesystem_here, is_network
from rnnlm_tui.store.locks import host_name

DATABASES_VARIABLE = "RNNLM_TUI_DATABASES"
"""Environment variable: a folder on a local disk for the databases of new runs; empty counts as not set."""
DATABASE_NAME = "run.db"
COPY_NAME = "copy.db"
"""Name of a copy. Not run.db: after a change of the host's name, a run's own database must not pass for a copy."""
POINTER_NAME = "database.json"
"""In the run's folder: location and host of a database outside it."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A database outside its run's folder."""

    id: str
    """Name of the database's folder on every host: 16 hexadecimal digits."""
    host: str
    """The host with the run's own database. Other hosts have copies, made from the logs in the run's folder."""
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
        return self.folder / DATABASE_NAME if self.here else databases_folder() / self.id / COPY_NAME

    def __str__(self) -> str:
        return f"{self.folder / DATABASE_NAME} on {self.host}, because the run's folder is on {self.why}; its metrics are in that folder too, as JSON lines"


def database_location(run: Path) -> DatabaseLocation | None:
    """The location of a run's database, or None if it is in the run's folder.

    Raises:
        StorageError: the pointer file is damaged.
    """
    pointer = run / POINTER_NAME
    try:
        values = json.loads(pointer.read_bytes())
        place = DatabaseLocation(str(values["id"]), str(values["host"]), Path(values["folder"]), str(values["why"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"can't read {pointer}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{pointer} is damaged, so the run's database can't be found", hint="remove this file, and the database is rebuilt") from error
    if not (len(place.id) == 16 and set(place.id) <= set("0123456789abcdef") and place.folder.is_absolute()):
        raise StorageError(f"{pointer} is damaged: it has an invalid folder", hint="remove this file, and the database is rebuilt")
    return place


def choose_location(run: Path) -> DatabaseLocation | None:
    """Choose and create the location of a new run's database; None: the run's folder.

    Raises:
        StorageError: no local folder can be created.
    """
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
    return f"a disk that {DATABASES_VARIABLE} keeps databases off" if os.environ.get(DATABASES_VARIABLE) else None


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
