"""Messages about a test of differences between models, and their words."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from rnnlm_tui.schema.formatting import counted, figure
from rnnlm_tui.schema.protocol import Message
from rnnlm_tui.schema.sampling import FolderReading

Unit = Literal["nats per token", "bits per byte"]
"""Tokens if all models have the same ones, else bytes."""


class ComparedPart(Message):
    """A checkpoint that is tested, or a model; the others are compared with the first one."""

    letter: str
    address: str
    """`plain-otter@1500`, or the folder of a model."""
    path: str
    """Folder of the checkpoint or model."""
    run: str = ""
    """Folder of its run; empty: a model in a local folder, which is never the first."""


class SignificanceRequest(Message):
    """Score the test text with each of these, and test the differences."""

    parts: tuple[ComparedPart, ...] = Field(min_length=2)
    device: str = "cpu"
    reading: FolderReading = FolderReading()
    """How models in local folders are opened."""


class ComparedModel(Message):
    """The loss of a model on the test text."""

    letter: str
    address: str
    loss: float
    """In the unit of the test."""
    tokens: int
    """Scored tokens of its own tokenizer."""
    scored_bytes: int
    """Their bytes; 0 if the tokenizer doesn't keep the text."""


class ComparedSentence(Message):
    """A sentence that two models predict differently."""

    number: int
    """Its place in the test text, from 1."""
    text: str
    first: float
    """Loss of the first model on it, summed, in nats or bits."""
    other: float

    @property
    def difference(self) -> float:
        return self.other - self.first


class Difference(Message):
    """How much a model's loss differs from the first one's: negative if it is better."""

    letter: str
    value: float
    low: float
    high: float
    """The ends of the 95 % interval."""
    better: tuple[ComparedSentence, ...]
    """The sentences on which it is better by most."""
    worse: tuple[ComparedSentence, ...]

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class KindOfToken(Message):
    """The losses on the tokens of a kind. Tokens are the first model's; where another has its own,
    their losses are spread evenly over their bytes."""

    family: str
    """`times in training`, `place in the sentence` or `part of a word`."""
    kind: str
    tokens: int
    losses: tuple[float | None, ...]
    """Of each tested model, in the unit of the test; None of one from a local folder, of which only
    the losses of whole sentences are known."""

    @property
    def loss(self) -> float:
        """Of the first model."""
        return self.losses[0] or 0.0

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Of the other models to the first one."""
        return tuple(None if one is None else one - self.loss for one in self.losses[1:])


class SignificanceDone(Message):
    """The last line of a successful test."""

    unit: Unit
    sentences: int
    method: str
    resamples: int
    seed: int
    models: tuple[ComparedModel, ...]
    """Those with comparable losses."""
    differences: tuple[Difference, ...]
    """Of each but the first."""
    kinds: tuple[KindOfToken, ...]
    left_out: tuple[str, ...]
    """Why some aren't compared."""

    @property
    def about(self) -> str:
        """`1,023 sentences; paired bootstrap-t, 10,000 resamples, seed 0`."""
        return (
            f"{counted(self.sentences, 'sentence')}; {self.method},"
            f" {counted(self.resamples, 'resample')}, seed {self.seed}"
        )

    def verdict(self, found: Difference) -> str:
        """`B is better than A by 0.031 bits per byte, 95 % interval 0.012 to 0.050`."""
        first, other = self.models[0].letter, found.letter
        digits = decimals(found)
        if not found.is_real:
            ends = f"{signed(found.low, digits)} to {signed(found.high, digits)}"
            return (
                f"no clear difference between {first} and {other}: {signed(found.value, digits)}"
                f" {self.unit}, 95 % interval {ends}"
            )
        better, worse = (other, first) if found.value < 0 else (first, other)
        ends = " to ".join(figure(one, digits) for one in sorted(map(abs, (found.low, found.high))))
        size = figure(abs(found.value), digits)
        return f"{better} is better than {worse} by {size} {self.unit}, 95 % interval {ends}"


def decimals(found: Difference) -> int:
    """How many decimals show two digits of the interval's half width, at least three."""
    half = (found.high - found.low) / 2
    return 3 if half <= 0 else max(3, 1 - math.floor(math.log10(half)))


def signed(value: float, digits: int) -> str:
    """`−0.031`, `+0.002`."""
    return f"{'−' if value < 0 else '+'}{abs(value):,.{digits}f}"
