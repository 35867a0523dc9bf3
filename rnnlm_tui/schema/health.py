"""The figures of a net's health, each with its healthy range and one line of advice."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rnnlm_tui.schema.formatting import figure, scientific


class HealthRow(NamedTuple):
    """Figures of the net's health at one evaluation."""

    attempt: int
    step: int
    figures: dict[str, object]
    """By part of the model (`layer 1`), then by name: a `Figure`'s."""
    time: float


def _number(value: float) -> str:
    return figure(value).removesuffix(".00").removesuffix(".0")


def _tokens(value: float) -> str:
    return f"{_number(value)} tok"


def _share(value: float) -> str:
    return f"{figure(100 * value, 0)} %"


class Figure(NamedTuple):
    """One figure, in all layers."""

    name: str
    """Its key in the log; that of a gate follows: `gate forget`."""
    title: str
    """`{}` is the gate's name."""
    about: str
    """How it is computed."""
    form: Callable[[float], str]
    low: float = -math.inf
    high: float = math.inf
    below: str = ""
    """What to do about a value below the range."""
    above: str = ""

    @property
    def range(self) -> str:
        """The healthy range in words; empty: there is none."""
        low, high = self.form(self.low), self.form(self.high)
        if math.isinf(self.low):
            return "" if math.isinf(self.high) else f"up to {high}"
        return f"from {low}" if math.isinf(self.high) else f"{low.partition(' ')[0]} to {high}"

    def advice(self, value: float) -> str:
        """What to do about a value; empty: it is in its range."""
        return self.below if value < self.low else self.above if value > self.high else ""


CALMER = "lower the learning rate or init_scale"
USUAL = "use the default initialization"
FIGURES: tuple[Figure, ...] = (
    Figure("saturated", "saturated units",
        "share of tanh activations above 0.9 in absolute value, where the slope is below a fifth",
        _share, high=0.85, above=CALMER),
    Figure("dead", "dead units",
        "share of units whose output varies by less than 1 % of the layer's root mean square",
        _share, high=0.1, above="lower the learning rate, or train a smaller hidden_size"),
    Figure("memory", "memory",
        "1 / (1 - k) of the median unit, where k is the mean share of its state that a unit keeps:"
        " the forget gate, GRU's update gate, 1 - minGRU's update gate",
        _tokens, 1.02, 1_000, f"it forgets every token: {USUAL}", f"it forgets nothing: {USUAL}"),
    Figure("gate", "{} gate", "mean over units and tokens", _number, 0.02, 0.98,
        f"it is stuck shut: {CALMER}", f"it is stuck open: {CALMER}"),
    Figure("gate-spread", "{} gate, spread", "standard deviation over units and tokens", _number,
        low=0.005, below=f"it doesn't react to the text: {USUAL}"),
    Figure("exponential", "{} gate", "the same of the input gates of sLSTM and mLSTM, relative to"
        " the largest so far", _number),
    Figure("exponential-spread", "{} gate, spread", "likewise", _number),
    Figure("gradient", "gradient norm", "L2 norm of the gradient of the sample's mean loss, before"
        " clipping", _number, 1e-4, 10, f"it hardly learns: {USUAL} or fewer layers",
        "lower max_grad_norm or the learning rate"),
    Figure("update", "update / weight", "L2 norm of the newest update of the matrices over theirs;"
        " about 1e-3 is usual", scientific, high=5e-2, above="lower the learning rate"),
    Figure("reach", "gradient reaches", "the largest lag, up to 32, at which the gradient of a"
        " token's loss is at least 1 % of that at lag 1", _tokens, low=2,
        below="the gradient vanishes: use lstm or gru, or a longer bptt"),
    Figure("growth", "gradient growth", "the largest gradient at any lag over that at lag 1",
        _number, high=10, above="the recurrence explodes: lower init_scale or the learning rate"),
    Figure("lag", "gradient at lag {}", "relative to lag 1", _share),
)  # fmt: skip
_BY_NAME = {entry.name: entry for entry in FIGURES}


class Reading(NamedTuple):
    """A figure of a part of the model at the newest evaluation, and before."""

    part: str
    """`layer 2`."""
    name: str
    """Its key there: `gate forget`."""
    values: tuple[float, ...]
    """At each evaluation that has it, oldest first."""

    @property
    def figure(self) -> Figure:
        """What it is."""
        return _BY_NAME[self.name.partition(" ")[0]]

    @property
    def title(self) -> str:
        """`forget gate`."""
        return self.figure.title.format(self.name.partition(" ")[2])

    @property
    def value(self) -> str:
        """The newest value with its unit."""
        return self.figure.form(self.values[-1])

    @property
    def advice(self) -> str:
        """What to do; empty: it is healthy."""
        return self.figure.advice(self.values[-1])

    @property
    def words(self) -> str:
        """`layer 2: saturated units 84 %: lower the learning rate or init_scale`."""
        return f"{self.part}: {self.title} {self.value}: {self.advice}"


def readings(rows: Sequence[HealthRow]) -> list[Reading]:
    """The figures of the newest row, as it has them in order; `rows` oldest first."""
    past = [_values(row) for row in rows]
    return [
        Reading(*place, tuple(values[place] for values in past if place in values))
        for place in (past[-1] if past else ())
    ]


def _values(row: HealthRow) -> dict[tuple[str, str], float]:
    """A row's figures by part and name, without those that a later version added."""
    return {
        (part, name): float(value)
        for part, figures in row.figures.items()
        if isinstance(figures, dict)
        for name, value in figures.items()
        if isinstance(value, int | float) and name.partition(" ")[0] in _BY_NAME
    }
