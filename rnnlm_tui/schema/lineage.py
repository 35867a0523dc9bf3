"""What a run remembers of the checkpoint that it started from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui.schema.record import Bounds, Record

if TYPE_CHECKING:
    from pydantic import JsonValue

OptimizerStart = Literal["fresh", "keep"]
"""Whether a new run begins with an empty optimizer state, or with that of the checkpoint."""

CHANGED_FACT = "changed"
"""In a checkpoint's manifest: the values changed by `set` that are in effect, by dotted path."""


class Parent(Record):
    """What a run remembers of the checkpoint that it started from."""

    EXTRA = "ignore"

    run: str
    """The parent run's name then. It may have been renamed since: `run_named` follows that."""
    checkpoint: str
    """The step, or `average-1500` for averaged weights."""
    step: Annotated[int, Bounds(ge=0)]
    hash: str
    """SHA-256 of the checkpoint's manifest, which names the hashes of its files."""
    created: float
    """When the parent run was created, in Unix seconds: another run may have its name by now."""
    optimizer: OptimizerStart = "fresh"
    validation_loss: float | None = None
    """Of that checkpoint, in nats per token."""
    corpus_hash: str | None = None
    """Of the corpus that the parent was trained on."""
    changed: dict[str, tuple[JsonValue, JsonValue]] = {}  # noqa: RUF012 (records don't change)
    """The config fields that differ from the parent's at the checkpoint: the parent's value and the
    run's own."""

    @property
    def address(self) -> str:
        """`plain-otter@1500`, with the name that the parent had then."""
        return f"{self.run}@{self.checkpoint}"
