"""Messages between the app or CLI and a sampler, one JSON object per line over pipes."""

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
    """Load a checkpoint in advance, so that the first sample starts immediately."""

    kind: Literal["load"] = "load"
    id: str
    checkpoint: str


class SamplePiece(_Message):
    """The text generated since the last piece, in whole characters."""

    kind: Literal["piece"] = "piece"
    id: str
    text: str
    tokens: int
    """Tokens generated so far."""


class SampleDone(_Message):
    kind: Literal["done"] = "done"
    id: str
    reason: Literal["length", "stop", "cancelled"]
    stop: str = ""
    """The stop string that ended the text, if `reason` is stop; it isn't part of `text`."""
    text: str
    """The whole continuation, without the prompt."""
    tokens: int
    prompt_tokens: int
    seconds: float
    first_token_seconds: float
    bits_per_token: float
    """Mean of -log2 p of the generated tokens at temperature 1."""
    unknown: tuple[str, ...] = ()
    """Words or characters of the prompt outside the vocabulary, read as <unk>."""


class SampleFailed(_Message):
    kind: Literal["failed"] = "failed"
    id: str
    message: str
    hint: str = ""
    exit_code: int = 1


class SamplerReady(_Message):
    """Sent at the start, and as the answer to a load request."""

    kind: Literal["ready"] = "ready"
    id: str = ""
    device: str = "cpu"
