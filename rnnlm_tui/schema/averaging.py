"""Messages between the client and the process that averages checkpoints."""

from __future__ import annotations

from pydantic import Field

from rnnlm_tui.schema.protocol import Message


class AveragePart(Message):
    """One of the checkpoints whose mean is taken."""

    address: str
    """`plain-otter@1500`."""
    path: str
    """Its folder."""


class AverageRequest(Message):
    """Average the weights of some checkpoints and evaluate the mean."""

    run: str
    """Folder of the run that gets the average, and on whose validation set all are evaluated."""
    parts: tuple[AveragePart, ...] = Field(min_length=2)
    folder: str
    """The folder of the average, which is created."""


class EvaluatedPart(Message):
    """A part with its loss, measured in the same way as the average's."""

    address: str
    loss: float
    """On the validation set, in nats per token."""


class AverageDone(Message):
    """The last line of a successful process."""

    step: int
    """Of the newest part."""
    loss: float
    """Of the average on the validation set, in nats per token."""
    tokens: int
    """Tokens of the validation set that count."""
    parts: tuple[EvaluatedPart, ...]
