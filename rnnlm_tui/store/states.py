"""Kept states: a recurrent model's state after a text, as files that any process can read.

A file is `<home>/states/<name>.safetensors`. Its header describes the state, so that a list needs
no tensor library; `worker.states` reads and writes the tensors.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rnnlm_tui.errors import CheckpointError, InputError, StorageError, did_you_mean
from rnnlm_tui.schema.formatting import LATEST, counted, user_path
from rnnlm_tui.store.paths import RUN_NAME, states_dir
from rnnlm_tui.store.tensors import read_header
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    entries_named,
    make_private_directory,
    storage_errors,
    write_bytes_atomically,
)
from rnnlm_tui.system.locks import folder_lock

SUFFIX = ".safetensors"
_STATE = re.compile(rf"(?!{re.escape(TEMPORARY_PREFIX)}).*{re.escape(SUFFIX)}")
METADATA_KEY = "rnnlm_state"
"""In the metadata of the safetensors header: the StateInfo as JSON."""
KEPT_CHARACTERS = 2_000
"""Characters of the text before the state that are kept to show them."""


class StateInfo(BaseModel):
    """What a kept state is of."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    created: float = Field(ge=0, le=LATEST)
    """Unix seconds."""
    run: str
    """Name of the run when it was kept; may be empty."""
    step: int
    """Step of the checkpoint that read the text."""
    cell_type: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    tokenizer: str
    """SHA-256 of tokenizer.json."""
    text: str
    """The end of the text that was read, at most `KEPT_CHARACTERS`."""
    tokens: int
    """Tokens read."""
    note: str = ""
    path: Path = Path()
    """The file."""
    bytes: int = 0
    """Its size."""
    problem: str | None = None
    """Why the file can't be used, then all but name, path and size are empty."""

    @property
    def shape(self) -> str:
        """`elman, 2 x 192`."""
        return state_shape(self.cell_type, self.num_layers, self.hidden_size)

    def header(self) -> str:
        """As JSON for the file's header."""
        return self.model_dump_json(exclude={"path", "bytes", "problem"})


@dataclass(frozen=True, slots=True)
class DeletedState:
    """A deleted state, for undo."""

    path: Path
    data: bytes


def state_shape(cell_type: str, num_layers: int, hidden_size: int) -> str:
    """`elman, 2 x 192`: what a model and a state must agree in."""
    return f"{cell_type}, {num_layers} x {hidden_size:,}"


def list_states() -> list[StateInfo]:
    """All kept states, newest first. A damaged file is listed too, with its `problem`."""
    try:
        paths = [Path(entry.path) for entry in entries_named(states_dir(), _STATE)]
    except StorageError:
        return []
    found = []
    for path in paths:
        try:
            found.append(read_state_info(path))
        except StorageError as error:
            found.append(_unusable(path, error.message))
    return sorted(found, key=lambda info: (-info.created, info.name))


def find_state(name: str) -> StateInfo:
    """A kept state by its name, or any state's file by its path (with a slash or the suffix).

    Raises:
        InputError: there is no such state.
        StorageError: its file is damaged.
    """
    if os.sep in name or name.endswith(SUFFIX):
        path = user_path(name).absolute()
        if not path.exists():
            raise InputError(f"no file {path}", hint="give the name or the file of a kept state")
        return read_state_info(path)
    path = states_dir() / f"{name}{SUFFIX}"
    if not path.exists():
        names = [info.name for info in list_states()]
        raise InputError(
            f'no kept state "{name}"',
            hint=did_you_mean(name, names)
            or (
                f"there {'is' if len(names) == 1 else 'are'} {counted(len(names), 'kept state')}"
                if names
                else "no state is kept yet"
            ),
        )
    return read_state_info(path)


def read_state_info(path: Path) -> StateInfo:
    """Read the header of a state's file; its name is the file's.

    Raises:
        StorageError: the file can't be read, or is not a kept state.
    """
    try:
        metadata, _ = read_header(Path(os.path.realpath(path)))
        info = StateInfo.model_validate_json(metadata[METADATA_KEY])
    except (CheckpointError, ValidationError, KeyError, TypeError):
        raise StorageError(f"{path} is damaged, or not a kept state", hint="delete it") from None
    size = path.stat().st_size
    return info.model_copy(update={"name": path.stem, "path": path, "bytes": size, "problem": None})


def check_state_name(name: str) -> str:
    """Return the name if it is valid, whether or not it is taken.

    Raises:
        InputError: the name is invalid.
    """
    if RUN_NAME.fullmatch(name):
        return name
    shown = repr(name) if len(name) <= 40 else f"{name[:40]!r}…"
    raise InputError(
        f"invalid name for a state {shown}: use 1 to 64 of A-Z a-z 0-9 . _ - and start with a"
        " letter or digit"
    )


def new_state_path(name: str) -> Path:
    """The file for a new state; its folder may be missing.

    Raises:
        InputError: the name is invalid or taken.
    """
    path = states_dir() / f"{check_state_name(name)}{SUFFIX}"
    if os.path.lexists(path):
        raise InputError(
            f'a state "{name}" exists already',
            hint=f"choose another name, such as {free_state_name(name)}, or delete it first",
        )
    return path


def free_state_name(wanted: str) -> str:
    """A valid name that isn't taken: the wanted one, or it with a number appended."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("._-")[:60] or "state"
    names = (base, *(f"{base}-{number}" for number in range(2, 1_000)))
    return next(name for name in names if not os.path.lexists(states_dir() / f"{name}{SUFFIX}"))


def write_state_file(path: Path, data: bytes) -> None:
    """Write a state's file privately and atomically, with its folder.

    Raises:
        InputError: the file exists.
        StorageError: the file can't be written.
    """
    if path.parent == states_dir():
        with storage_errors("write into", path.parent):
            if path.parent.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    make_private_directory(path.parent)
    with folder_lock(path.parent):  # another process may keep a state of this name
        if os.path.lexists(path):
            raise InputError(f"{path} exists already", hint="choose another name")
        write_bytes_atomically(path, data)


def delete_state(name: str) -> DeletedState:
    """Delete a kept state; `restore_state` undoes it.

    Raises:
        InputError: there is no such state.
        StorageError: the file can't be removed.
    """
    path = states_dir() / f"{name}{SUFFIX}"
    if os.sep in name or not os.path.lexists(path):
        raise InputError(f'no kept state "{name}"')
    with storage_errors("delete", path):
        deleted = DeletedState(path, path.read_bytes())
        path.unlink()
    return deleted


def restore_state(deleted: DeletedState) -> None:
    """Write a deleted state again.

    Raises:
        InputError: a new state has its name.
        StorageError: the file can't be written.
    """
    write_state_file(deleted.path, deleted.data)


def copy_state(state: Path, path: str) -> Path:
    """Copy a state's file to a new file, or into a folder, and return its path.

    Raises:
        InputError: the file exists.
        StorageError: it can't be written.
    """
    target = user_path(path).absolute()
    if target.is_dir() or path.endswith("/"):
        target = target / state.name
    elif not target.suffix:
        target = target.with_suffix(SUFFIX)
    with storage_errors("read", state):
        data = state.read_bytes()
    write_state_file(target, data)
    return target


def _unusable(path: Path, problem: str) -> StateInfo:
    try:
        found = path.stat()
        created, size = max(0.0, min(found.st_mtime, LATEST)), found.st_size
    except OSError:
        created, size = 0.0, 0
    unknown: dict[str, object] = dict.fromkeys(("run", "cell_type", "tokenizer", "text"), "")
    unknown |= dict.fromkeys(("step", "num_layers", "hidden_size", "vocab_size", "tokens"), 0)
    known = {"name": path.stem, "created": created, "path": path, "bytes": size}
    return StateInfo.model_validate(unknown | known | {"problem": problem})
