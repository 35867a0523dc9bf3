"""The app's saved state and prompt history."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.paths import history_file, state_file
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.json_files import JsonFile, JsonLines

KEPT_PROMPTS = 1_000
_MOST_STATE_BYTES = 16 * 1024 * 1024
_MOST_HISTORY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Prompt:
    """A line of the prompt history."""

    prompt: str


def load_state() -> dict[str, object]:
    """Return the saved state, empty if there is none or it can't be read; a damaged file is moved
    aside."""
    with suppress(StorageError):
        _state().move_damaged_aside()
    return _state().look().value


def save_state(state: dict[str, object]) -> None:
    """Save JSON values for the next start.

    Raises:
        StorageError: the file can't be written.
    """
    make_private_directory(state_file().parent)
    _state().write(state)


def prompt_history() -> JsonLines[Prompt]:
    """The file of the newest prompts."""
    return JsonLines(history_file(), Prompt, "prompt history", KEPT_PROMPTS, _MOST_HISTORY_BYTES)


def read_history() -> list[str]:
    """The prompts of the history, oldest first."""
    return [line.prompt for line in prompt_history().read()]


def append_history(text: str) -> None:
    """Add a prompt, unless it is empty or the same as the last.

    Raises:
        StorageError: the file can't be read or written.
    """
    prompt = Prompt(text)
    if text.strip() and prompt not in prompt_history().read()[-1:]:
        prompt_history().append(prompt)


def _state() -> JsonFile[dict[str, object]]:
    return JsonFile(state_file(), dict, {}, _MOST_STATE_BYTES)
