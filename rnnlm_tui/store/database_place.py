"""Where a run's database lies: in its folder, or on a local disk where that folder is on a network filesystem."""

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
"""Environment variable that names a folder on a local disk for the databases of new runs; empty counts as not set."""
DATABASE_NAME = "run.db"
COPY_NAME = "copy.db"
"""Of a copy: a host that was renamed must not take for one what is a run's own."""
POINTER_NAME = "database.json"
"""In the run's folder: where its database lies, and on which host. Without it the database lies beside it."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A database outside of its run's folder."""

    id: str
    """Names the folder that holds it, on every host; of 16 hexadecimal digits."""
    host: str
    """Whose database is the run's; elsewhere lie copies, made from the logs in the run's folder."""
    folder: Path
    """On that host."""
    why: str
    """`nfs4, a network filesystem`."""

    @property
    def here(self) -> bool:
        """The run's own database is this host's."""
        return self.host == host_name()

    @property
    def path(self) -> Path:
        """The database on this host: the run's own or a copy."""
        return self.folder / DATABASE_NAME if self.here else databases_folder() / self.id / COPY_NAME

    def __str__(self) -> str:
        return f"{self.folder / DATABASE_NAME} on {self.host}, for the run's folder is on {self.why}; its metrics are in that folder too, as JSON lines"


def database_location(run: Path) -> DatabaseLocation | None:
    """Where the database of the run in this folder lies when not in it.

    Raises:
        StorageError: the note of it is damaged.
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
        raise StorageError(f"{pointer} is damaged, so the run's database can't be found", hint="it is rebuilt where this file is removed") from error
    if not (len(place.id) == 16 and set(place.id) <= set("0123456789abcdef") and place.folder.is_absolute()):
        raise StorageError(f"{pointer} is damaged: it names an impossible folder", hint="the database is rebuilt where this file is removed")
    return place


def choose_location(run: Path) -> DatabaseLocation | None:
    """Where the database of a new run in this folder goes; None: into it. A place is made, and noted in the folder.

    Raises:
        StorageError: no local folder can be made.
    """
    why = why_outside_run(run)
    return None if why is None else _settle(run, secrets.token_hex(8), why)


def take_over_database(run: Path, place: DatabaseLocation) -> DatabaseLocation:
    """From now on this host's database is the run's own. The caller holds the run's lock.

    Raises:
        StorageError: no local folder can be made, or the run's can't be written.
    """
    return _settle(run, place.id, place.why)


def why_outside_run(folder: Path) -> str | None:
    """Why databases of runs in `folder` don't lie there; None where they do."""
    kind = filesystem_here(folder)
    if is_network(kind):
        return f"{kind}, a network filesystem"
    return f"a disk that {DATABASES_VARIABLE} keeps databases off" if os.environ.get(DATABASES_VARIABLE) else None


def databases_folder() -> Path:
    """The folder on a local disk for databases: `RNNLM_TUI_DATABASES`, else the first of the user's own that is no network filesystem."""
    chosen = os.environ.get(DATABASES_VARIABLE, "")
    if chosen:
        return user_path(chosen).absolute()
    own = user_state_path("rnnlm-tui", appauthor=False) / "databases"
    places = (own, Path(f"/var/tmp/rnnlm-tui-{os.getuid()}"))
    return next((place for place in places if not is_network(filesystem_here(place))), own)


def remove_local_database(place: DatabaseLocation) -> None:
    """Remove this host's database of a run that is deleted: its logs lie in its folder."""
    if place.path.parent.name == place.id:
        shutil.rmtree(place.path.parent, ignore_errors=True)


def make_folder(place: DatabaseLocation) -> None:
    """Make sure that the folder of this host's database is there, and this user's alone.

    Raises:
        StorageError: it can't be made, or somebody else may enter it.
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
