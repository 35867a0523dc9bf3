"""What ended a process that somebody waits for, as its last message tells it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rnnlm_tui.errors import RnnlmError


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in words for people."""

    message: str
    hint: str
    exit_code: int
    out_of_memory: bool
    """Of the device's or the machine's."""


def failure_of(error: Exception) -> Failure:
    """Any exception as a failure: our own by what they say, others by their name and text."""
    exhausted = _is_out_of_memory(error) or _is_out_of_memory(error.__cause__)
    if isinstance(error, RnnlmError):
        return Failure(error.message, error.hint, error.exit_code, exhausted)
    return Failure("out of memory" if exhausted else f"{type(error).__name__}: {error}", "", RnnlmError.exit_code, exhausted)


def _is_out_of_memory(error: BaseException | None) -> bool:
    if error is None or "torch" not in sys.modules:  # torch itself may be what can't be imported
        return isinstance(error, MemoryError)
    from rnnlm_tui.engine.failures import is_out_of_memory

    return is_out_of_memory(error)
