"""What an app or CLI asks of a sampler, and what comes back: one JSON object a line over pipes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_PROMPT_CHARACTERS = 20_000


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleSettings(_Message):
    """How a continuation is drawn; bounds as in the config's sampling section."""

    temperature: float = Field(default=0.8, gt=0, le=100)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_new_tokens: int = Field(default=100, ge=1, le=1_000_000)
    seed: int = Field(default=7, ge=0, lt=2**63)
    greedy: bool = False


class SampleRequest(_Message):
    kind: Literal["sample"] = "sample"
    id: str
    checkpoint: str
    """Absolute path of a checkpoint or snapshot directory."""
    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS)
    settings: SampleSettings = SampleSettings()


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
    reason: Literal["length", "cancelled"]
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
