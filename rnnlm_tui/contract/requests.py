"""What an app or CLI asks of a sampler, and what comes back: one JSON object a line over pipes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rnnlm_tui.contract.config import SamplingConfig

MAX_PROMPT_CHARACTERS = 20_000


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleRequest(_Message):
    kind: Literal["sample"] = "sample"
    id: str
    checkpoint: str
    """Absolute path of a checkpoint or snapshot directory."""
    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS)
    settings: SamplingConfig = SamplingConfig()


class CancelRequest(_Message):
    kind: Literal["cancel"] = "cancel"
    id: str


class LoadRequest(_Message):
    """Load a checkpoint ahead of its first sample, so that the first token comes at once."""

    kind: Literal["load"] = "load"
    id: str
    checkpoint: str


class SamplePiece(_Message):
    """Text that was drawn since the last piece, whole characters only."""

    kind: Literal["piece"] = "piece"
    id: str
    text: str
    tokens: int
    """Tokens drawn so far."""


class SampleDone(_Message):
    kind: Literal["done"] = "done"
    id: str
    reason: Literal["length", "stop", "cancelled"]
    stop: str = ""
    """The stop string that ended the text, which it does not hold; empty for the other reasons."""
    text: str
    """The whole continuation, without the prompt."""
    tokens: int
    prompt_tokens: int
    seconds: float
    first_token_seconds: float
    bits_per_token: float
    """Mean surprise of the drawn tokens under the model at temperature 1."""
    unknown: tuple[str, ...] = ()
    """Words or characters of the prompt that the model has no token for, so that it read <unk> instead."""


class SampleFailed(_Message):
    kind: Literal["failed"] = "failed"
    id: str
    message: str
    hint: str = ""
    exit_code: int = 1


class SamplerReady(_Message):
    """Sent once at the start, and in answer to a load request."""

    kind: Literal["ready"] = "ready"
    id: str = ""
    device: str = "cpu"
