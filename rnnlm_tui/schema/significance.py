"""Messages about a test of differences between models, and their words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

from rnnlm_tui.schema.formatting import counted, figure
from rnnlm_tui.schema.protocol import Message

Unit = Literal["nats per token", "bits per byte"]
"""Tokens if all models have the same ones, else bytes."""
RESAMPLES, SEED = 10_000, 0
NAME, HALF_BAR = 20, 12
"""Cells of a name at most, and of an interval's bar on each side of zero."""


class ComparedPart(Message):
    """A checkpoint of a run, or a model in a local folder."""

    letter: str
    address: str
    """`plain-otter@1500`, or the folder as it was named."""
    path: str
    """Its folder."""
    is_run: bool = True


class SignificanceRequest(Message):
    """Score the first one's test text with each of these, and test the differences to it."""

    parts: tuple[ComparedPart, ...]
    """The first is a run's."""


class ComparedSentence(Message):
    """A sentence of the test text."""

    number: int
    """From 1."""
    text: str
    difference: float
    """Of its loss, in nats or bits."""


class ComparedModel(ComparedPart):
    """The loss of a model; negative differences to the first one are better."""

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

    def bar(self, most: float) -> str:
        """Draw the interval, `├──●──┤  │`: zero in the middle, `most` at the ends. Rounded away
        from zero, so that only zero is drawn there."""
        low, value, high = (
            HALF_BAR + int(math.copysign(math.ceil(abs(place) / most * HALF_BAR), place))
            for place in (self.low, self.difference, self.high)
        )
        cells = [" "] * (2 * HALF_BAR + 1)
        cells[low : high + 1] = "─" * (high - low + 1)
        cells[HALF_BAR] = "┼" if low <= HALF_BAR <= high else "│"
        cells[low], cells[high], cells[value] = "├", "┤", "●"
        return "".join(cells)


class KindOfToken(Message):
    """The losses on the tokens of a kind."""

    family: str
    """`times in training`, `place in the sentence` or `part of a word`."""
    kind: str
    tokens: int
    losses: tuple[float, ...]
    """Of each model, in nats per token."""


class SignificanceDone(Message):
    """The last line of a successful test."""

    unit: Unit
    sentences: int
    method: str = "paired bootstrap-t over sentences"
    resamples: int = RESAMPLES
    seed: int = SEED
    models: tuple[ComparedModel, ...]
    """Those with comparable losses."""
    kinds: tuple[KindOfToken, ...]
    """None if the models have different tokens."""
    left_out: tuple[str, ...]
    """Why some aren't compared."""

    def verdict(self, other: ComparedModel) -> str:
        """`B is better than A by 0.031 bits per byte, 95 % interval 0.012 to 0.050`."""
        first, unit = self.models[0].letter, self.unit
        if other.low <= 0 <= other.high:
            ends = f"95 % interval {signed(other.low)} to {signed(other.high)}"
            size = signed(other.difference)
            return f"no clear difference between {first} and {other.letter}: {size} {unit}, {ends}"
        names = (other.letter, first) if other.difference < 0 else (first, other.letter)
        ends = " to ".join(figure(end, 3) for end in sorted(map(abs, (other.low, other.high))))
        size = figure(abs(other.difference), 3)
        return f"{' is better than '.join(names)} by {size} {unit}, 95 % interval {ends}"

    def lines(self) -> Iterator[str]:
        """The outcome as text: intervals, verdicts, kinds of token, sentences."""
        first, *others = self.models
        differences = [f"{one.letter} − {first.letter}" for one in others]
        most = max(max(-one.low, one.high) for one in others) or 1.0
        scale = f"{'better ':>{HALF_BAR}}0 worse"
        yield f"{'':{NAME + 2}}{self.unit:>15}{f'− {first.letter}':>9}  {scale}"
        for one in self.models:
            apart = "" if one is first else signed(one.difference)
            bar = "│".center(2 * HALF_BAR + 1) if one is first else one.bar(most)
            whole = len(one.address) <= NAME
            name = one.address if whole else f"{one.address[: NAME - 1]}…"
            name = f"{one.letter} {name:{NAME}}"
            yield f"{name}{figure(one.loss, 3):>15}{apart:>9}  {bar}".rstrip()
        about = counted(self.sentences, "sentence"), self.method, f"{self.resamples:,} resamples"
        yield from ("", *map(self.verdict, others), *self.left_out)
        yield f"{', '.join(about)}, seed {self.seed}"
        for family, kinds in groupby(self.kinds, lambda one: one.family):
            yield from ("", f"{family:24}" + _cells("tokens", first.letter, *differences))
            for kind in kinds:
                loss, *more = kind.losses
                cells = (f"{kind.tokens:,}", figure(loss, 3), *(signed(one - loss) for one in more))
                yield f"  {kind.kind:22}{_cells(*cells)}"
        for other, name in zip(others, differences, strict=True):
            yield from ("", f"{name:>10}  sentences, {self.unit.split()[0]}")
            for sentence in other.sentences:
                size = signed(sentence.difference, 1)
                yield f"{size:>10}  {sentence.number:,}: {sentence.text}"


def signed(value: float, digits: int = 3) -> str:
    """`−0.031`, `+0.002`."""
    return f"{'−' if value < 0 else '+'}{figure(abs(value), digits)}"


def _cells(*values: str) -> str:
    return "".join(f"{value:>10}" for value in values)
