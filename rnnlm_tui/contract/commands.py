"""The commands of a worker's control socket, one JSON object per line."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verb = Literal["status", "pause", "resume", "stop", "checkpoint", "evaluate", "sample", "set", "snapshot"]

SETTABLE: tuple[str, ...] = ("optimizer.learning_rate", "evaluation.every", "checkpoint.every")
"""Config fields that `set` can change during a run; each change is recorded as an event."""

SETTINGS_KEY = "settings"
"""Meta key of the values changed by `set`, as JSON (dotted path to value), for later attempts."""

CHANGED_FACT = "changed"
"""The same in a checkpoint's manifest, for rebuilding a lost database."""

MAX_REQUEST_BYTES = 65_536
"""The connection is closed if a line is longer."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Command(_Message):
    """A request to a worker.

    It is executed between two steps and journalled before it is answered, except for `status`.
    """

    id: str = Field(min_length=1, max_length=64, description="Chosen by the sender. A repeated id is answered from the journal and not executed again.")
    verb: Verb
    path: str | None = Field(default=None, description="set: the field's dotted path, one of SETTABLE.")
    value: float | None = Field(default=None, description="set: the new value.")
    prompt: str | None = Field(default=None, max_length=20_000, description="sample: the prompt; default: the configured prompts.")


class CommandResult(_Message):
    """The answer to a command."""

    id: str
    ok: bool
    error: str = ""
    """Why the command failed, in one sentence."""
    hint: str = ""
    status: str = ""
    """The worker's state after the command: running, paused, preparing or stopping."""
    step: int = 0
    checkpoint: str = ""
    """checkpoint, snapshot: the directory written; stop: the newest checkpoint, empty if there is none.
    Relative to the run directory."""
    text: str = ""
    """sample: the continuation; evaluate: the results as text."""


def setting_value(path: str, value: float) -> float | int:
    """The number of a `set` command as the field's type: int for intervals."""
    return int(value) if path.endswith(".every") and value.is_integer() else value
