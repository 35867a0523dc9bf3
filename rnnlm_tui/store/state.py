"""The app's saved state and prompt history."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import cast

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.paths import history_file, state_file
from rnnlm_tui.system.files import (
    free_aside_path,
    make_private_directory,
    move_aside,
    open_private,
    read_at_most,
    storage_errors,
    write_bytes_atomically,
    write_text_atomically,
)
from rnnlm_tui.system.locks import folder_lock

KEPT_PROMPTS = 1_000
_MOST_STATE_BYTES = 16 * 1024 * 1024
"""A longer file is not a state file."""
_MOST_HISTORY_BYTES = 4 * 1024 * 1024
"""A longer history is cut to its newest prompts when the next one is added."""


def load_state() -> tuple[dict[str, object], str]:
    """The saved state, empty if there is none, and the reason if the file is invalid, else an empty
    text."""
    try:
        state = json.loads(read_at_most(state_file(), _MOST_STATE_BYTES))
    # if the home is a file, the first write reports it
    except (FileNotFoundError, NotADirectoryError):
        return {}, ""
    except OSError as error:
        return {}, error.strerror or str(error)
    except (ValueError, RecursionError):
        return {}, "not valid JSON"
    return (
        (cast(dict[str, object], state), "")
        if isinstance(state, dict)
        else ({}, "not a JSON object")
    )


def move_state_aside() -> str:
    """Move an invalid state file aside and return a message about it."""
    try:
        return f"kept as {move_aside(state_file()).name}"
    except StorageError as error:
        return error.message


def save_state(state: dict[str, object]) -> None:
    """Save JSON values for the next start.

    Raises:
        StorageError: the file can't be written.
    """
    make_private_directory(state_file().parent)
    write_text_atomically(state_file(), json.dumps(state, indent=1) + "\n")


def load_history(limit: int = KEPT_PROMPTS) -> list[str]:
    """The newest `limit` prompts, oldest first; damaged lines are skipped."""
    prompts = [prompt for prompt in map(_prompt, _history_lines()) if prompt is not None]
    return prompts[max(0, len(prompts) - limit) :]


def move_damaged_prompts_aside() -> str:
    """Move invalid lines of the prompt history to another file and return a message about them;
    empty if all are valid."""
    path = history_file()
    if not path.is_file():
        return ""
    number = "the prompt history"
    try:
        with folder_lock(path.parent):
            lines = _history_lines()
            damaged = [line for line in lines if line and _prompt(line) is None]
            if not damaged:
                return ""
            number = f"{counted(len(damaged), 'line')} of the prompt history can't be read"
            aside = free_aside_path(path)
            write_bytes_atomically(aside, b"".join(line + b"\n" for line in damaged))
            _rewrite_history([prompt for prompt in map(_prompt, lines) if prompt is not None])
    except StorageError as error:
        return f"{number}: {error.message}"
    return f"{number}: kept as {aside.name}"


def append_history(text: str) -> None:
    """Add a prompt, unless it is empty or the same as the last.

    Raises:
        StorageError: the file can't be written.
    """
    if not text.strip():
        return
    known = load_history()
    if known and known[-1] == text:
        return
    path = history_file()
    make_private_directory(path.parent)
    line = json.dumps({"prompt": text}) + "\n"
    with folder_lock(path.parent), storage_errors("write", path):
        descriptor = open_private(path, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            half_a_line = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if half_a_line else b"") + line.encode("ascii"))
            long = os.fstat(descriptor).st_size > _MOST_HISTORY_BYTES
        finally:
            os.close(descriptor)
    if long:
        move_damaged_prompts_aside()
        with folder_lock(path.parent):
            _rewrite_history(load_history(KEPT_PROMPTS // 2))


def _history_lines() -> list[bytes]:
    try:
        return history_file().read_bytes().split(b"\n") if history_file().is_file() else []
    except OSError:
        return []


def _rewrite_history(prompts: Iterable[str]) -> None:
    write_text_atomically(
        history_file(), "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    )


def _prompt(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    return prompt if isinstance(prompt, str) else None
