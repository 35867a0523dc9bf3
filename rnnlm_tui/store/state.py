"""What the app remembers between starts: its state, and the prompts that were typed."""

from __future__ import annotations

import json
import os
from typing import cast

from rnnlm_tui.store.atomic import make_private_directory, open_private, storage_errors, write_text_atomically
from rnnlm_tui.store.locations import history_file, state_file

KEPT_PROMPTS = 1_000
_MOST_HISTORY_BYTES = 4 * 1024 * 1024
"""A longer history is cut to its newest prompts at the next one."""


def load_state() -> dict[str, object]:
    """The state as it was saved; empty where there is none, or where the file is damaged or unreadable."""
    try:
        state = json.loads(state_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast(dict[str, object], state) if isinstance(state, dict) else {}


def save_state(state: dict[str, object]) -> None:
    """Save JSON values for the next start.

    Raises:
        StorageError: the file can't be written.
    """
    make_private_directory(state_file().parent)
    write_text_atomically(state_file(), json.dumps(state, indent=1) + "\n")


def load_history(limit: int = KEPT_PROMPTS) -> list[str]:
    """The newest `limit` prompts, the oldest of them first; damaged lines are passed over."""
    try:
        lines = history_file().read_bytes().split(b"\n")
    except OSError:
        return []
    prompts = [prompt for prompt in map(_prompt, lines) if prompt is not None]
    return prompts[max(0, len(prompts) - limit) :]


def append_history(text: str) -> None:
    """Add a prompt; an empty one, or the same as the last, adds nothing.

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
    with storage_errors("write", path):
        descriptor = open_private(path, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            half_a_line = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if half_a_line else b"") + line.encode("ascii"))
            long = os.fstat(descriptor).st_size > _MOST_HISTORY_BYTES
        finally:
            os.close(descriptor)
    if long:
        kept = load_history(KEPT_PROMPTS // 2)
        write_text_atomically(path, "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in kept))


def _prompt(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    return prompt if isinstance(prompt, str) else None
