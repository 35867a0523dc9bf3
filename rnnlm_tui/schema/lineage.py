"""What a run remembers of the checkpoint that it started from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

OptimizerStart = Literal["fresh", "keep"]
"""Whether a new run begins with an empty optimizer state, or with that of the checkpoint."""


class Parent(BaseModel):
    """What a run remembers of the checkpoint that it started from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    """The parent run's name then. It may have been renamed since: `run_named` follows that."""
    checkpoint: str
    """The step, or `average-1500` for averaged weights."""
    step: int = Field(ge=0)
    hash: str
    """SHA-256 of the checkpoint's manifest, which names the hashes of its files."""
    created: float
    """When the parent run was created, in Unix seconds: another run may have its name by now."""
    optimizer: OptimizerStart = "fresh"
    validation_loss: float | None = None
    """Of that checkpoint, in nats per token."""
    corpus_hash: str | None = None
    """Of the corpus that the parent was trained on."""
    changed: dict[str, tuple[JsonValue, JsonValue]] = {}
    """The config fields that differ from the parent's at the checkpoint: the parent's value and the
    run's own."""

    @property
    def address(self) -> str:
        """`plain-otter@1500`, with the name that the parent had then."""
        return f"{self.run}@{self.checkpoint}"
