"""Messages about a test of differences between models, and their words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

from pydantic import Field

from rnnlm_tui.schema.formatting import counted, figure
from rnnlm_tui.schema.protocol import Message
from rnnlm_tui.schema.sampling import FolderReading

Unit = Literal["nats per token", "bits per byte"]
"""Tokens if all models have the same ones, else bytes."""
MOST_NAME, NUMBER, LEAST_BAR, MOST_BAR = 24, 10, 10, 30
"""Cells of a name and a number at most, and of an interval's bar on each side of zero."""


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


class ComparedSentence(Message):
    """A sentence that a model predicts better or worse than the first one by much."""

    number: int
    """Its place in the test text, from 1."""
    text: str
    difference: float
    """Of its loss, in nats or bits."""


class ComparedModel(Message):
    """The loss of a model on the test text; negative differences to the first one are better."""

    letter: str
    address: str
    loss: float
    """In the unit of the test."""
    size: int
    """Scored tokens or bytes."""
    difference: float
    low: float
    high: float
    """The ends of its 95 % interval."""
    sentences: tuple[ComparedSentence, ...]
    """Those with the largest differences each way, in the order of these."""

    def bar(self, most: float, half: int) -> str:
        """Draw the interval, `├──●──┤  │`: zero in the middle, `most` at the ends. Rounded away
        from zero, so that only zero is drawn there."""
        low, value, high = (
            half + int(math.copysign(math.ceil(abs(place) / most * half), place))
            for place in (self.low, self.difference, self.high)
        )
        cells = [" "] * (2 * half + 1)
        cells[low : high + 1] = "─" * (high - low + 1)
        cells[half] = "┼" if low <= half <= high else "│"
        cells[low], cells[high], cells[value] = "├", "┤", "●"
        return "".join(cells)


class KindOfToken(Message):
    """The losses on the tokens of a kind. Tokens are the first model's; where another has its own,
    their losses are spread evenly over their bytes."""

    family: str
    """`times in training`, `place in the sentence` or `part of a word`."""
    kind: str
    tokens: int
    losses: tuple[float, ...]
    """Of each model, in the unit of the test; NaN of a model in a local folder, of which only the
    losses of whole sentences are known."""


class SignificanceDone(Message):
    """The last line of a successful test."""

    unit: Unit
    sentences: int
    method: str
    resamples: int
    seed: int
    models: tuple[ComparedModel, ...]
    """Those with comparable losses."""
    kinds: tuple[KindOfToken, ...]
    left_out: tuple[str, ...]
    """Why some aren't compared."""

    def verdict(self, other: ComparedModel) -> str:
        """`B is better than A by 0.031 bits per byte, 95 % interval 0.012 to 0.050`."""
        first, unit = self.models[0].letter, self.unit
        if other.low <= 0 <= other.high:
            ends = f"95 % interval {signed(other.low)} to {signed(other.high)}"
            names = f"{first} and {other.letter}"
            return f"no clear difference between {names}: {signed(other.difference)} {unit}, {ends}"
        names = (other.letter, first) if other.difference < 0 else (first, other.letter)
        ends = " to ".join(figure(end, 3) for end in sorted(map(abs, (other.low, other.high))))
        size = figure(abs(other.difference), 3)
        return f"{' is better than '.join(names)} by {size} {unit}, 95 % interval {ends}"

    def lines(self, width: int) -> Iterator[str]:
        """The outcome as text: intervals, verdicts, kinds of token, sentences."""
        first, *others = self.models
        name = min(MOST_NAME, max(len(one.address) for one in self.models))
        room = (width - name - len(self.unit) - NUMBER - 8) // 2
        half = max(LEAST_BAR, min(MOST_BAR, room))
        head = f"{'':{name + 2}}  {self.unit}{f'− {first.letter}':>{NUMBER}}  "
        yield f"{head}{'better ':>{half}}0 worse"
        most = max(max(-one.low, one.high) for one in others) or 1.0
        for one in self.models:
            loss = figure(one.loss, 3).rjust(len(self.unit))
            row = f"{one.letter} {one.address[:name]:{name}}  {loss}"
            apart = f"{signed(one.difference):>{NUMBER}}  {one.bar(most, half)}"
            yield row + (apart if one is not first else f"{'':{NUMBER + 2 + half}}│")
        yield ""
        yield from map(self.verdict, others)
        yield from self.left_out
        yield (
            f"{counted(self.sentences, 'sentence')}; {self.method}, {self.resamples:,} resamples,"
            f" seed {self.seed}"
        )
        for family, kinds in groupby(self.kinds, lambda one: one.family):
            yield ""
            heads = (first.letter, *(f"{one.letter} − {first.letter}" for one in others))
            yield f"{family:24}{'tokens':>{NUMBER}}" + "".join(f"{one:>{NUMBER}}" for one in heads)
            for kind in kinds:
                loss, *more = kind.losses
                cells = (f"{kind.tokens:,}", figure(loss, 3), *(signed(one - loss) for one in more))
                yield f"  {kind.kind:22}" + "".join(f"{cell:>{NUMBER}}" for cell in cells)
        for other in others:
            yield ""
            names = f"{other.letter} − {first.letter}"
            yield f"{names:>{NUMBER}}  sentences, {self.unit.split()[0]}"
            for one in other.sentences:
                row = f"{signed(one.difference, 1):>{NUMBER}}  {one.number:,}: {one.text}"
                yield row if len(row) <= width else f"{row[: width - 1]}…"


def signed(value: float, digits: int = 3) -> str:
    """`−0.031`, `+0.002`, or a dash for NaN."""
    sign = "−" if value < 0 else "+" if value >= 0 else ""
    return sign + figure(abs(value), digits)
