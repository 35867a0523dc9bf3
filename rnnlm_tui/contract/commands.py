"""The verbs of a worker's control socket: one JSON object a line each way."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verb = Literal["status", "pause", "resume", "stop", "checkpoint", "evaluate", "sample", "set", "snapshot"]

SETTABLE: tuple[str, ...] = ("optimizer.learning_rate", "evaluation.every", "checkpoint.every")
"""Config fields that `set` may change while a run goes on; each change is an event of the run."""

SETTINGS_KEY = "settings"
"""Meta key of what `set` changed, as JSON from dotted path to value, so that a later attempt goes on with it."""

CHANGED_FACT = "changed"
"""The same in a checkpoint's manifest, from which a lost database is rebuilt."""

MAX_REQUEST_BYTES = 65_536
"""A longer line is refused and its connection closed."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Command(_Message):
    """A request to a worker. Each one that acts does so between two steps and is journalled before it is answered; `status` only looks."""

    id: str = Field(min_length=1, max_length=64, description="Chosen by the sender; a repeated id is answered from the journal and acts once.")
    verb: Verb
    path: str | None = Field(default=None, description="set: the field's dotted path, one of SETTABLE.")
    value: float | None = Field(default=None, description="set: the new value.")
    prompt: str | None = Field(default=None, max_length=20_000, description="sample: the prompt; without one the configured prompts are continued.")


class CommandResult(_Message):
    """The answer to a command."""

    id: str
    ok: bool
    error: str = ""
    """Why not, in one sentence."""
    hint: str = ""
    status: str = ""
    """running, paused, preparing or stopping: the worker's state after the command."""
    step: int = 0
    checkpoint: str = ""
    """checkpoint, snapshot: the directory that was written; stop: the newest checkpoint, empty before the first. Relative to the run directory."""
    text: str = ""
    """sample: the continuation; evaluate: the figures in words."""


def setting_value(path: str, value: float) -> float | int:
    """A `set` command's number as the config field at `path` wants it: whole for the intervals."""
    return int(value) if path.endswith(".every") and value.is_integer() else value
