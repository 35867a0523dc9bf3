"""An exception as the last message of a worker process, for the process that waits for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rnnlm_tui.errors import RnnlmError


@dataclass(frozen=True, slots=True)
class ProcessFailure:
    """An error in words."""

    message: str
    hint: str
    exit_code: int
    out_of_memory: bool
    """The device or the machine ran out of memory."""


def failure_of(error: Exception) -> ProcessFailure:
    """The failure of any exception: its message, or the type and text of one that isn't ours."""
    exhausted = _is_out_of_memory(error) or _is_out_of_memory(error.__cause__)
    if isinstance(error, RnnlmError):
        return ProcessFailure(error.message, error.hint, error.exit_code, exhausted)
    return ProcessFailure("out of memory" if exhausted else f"{type(error).__name__}: {error}", "", RnnlmError.exit_code, exhausted)


def _is_out_of_memory(error: BaseException | None) -> bool:
    if error is None or "torch" not in sys.modules:  # importing torch may be what failed
        return isinstance(error, MemoryError)
    from rnnlm_tui.engine.failures import is_out_of_memory

    return is_out_of_memory(error)
