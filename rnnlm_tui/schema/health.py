"""The figures of a net's health, each with its healthy range and one line of advice."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from rnnlm_tui.schema.formatting import figure, scientific
from rnnlm_tui.schema.metrics import HealthRow

Place = tuple[str, str]
"""The part of the model, `layer 2`, and the figure's name there, `gate forget`."""


def _number(value: float) -> str:
    return figure(value).removesuffix(".00").removesuffix(".0")


def _tokens(value: float) -> str:
    return f"{_number(value)} tok"


def _share(value: float) -> str:
    return f"{figure(100 * value, 0)} %"


def _times(value: float) -> str:
    return f"×{_number(value)}"


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
        """What to do about a value; empty: it is in its range, or isn't a number."""
        return self.below if value < self.low else self.above if value > self.high else ""


CALMER = "lower the learning rate or init_scale"
FIGURES: tuple[Figure, ...] = (
    Figure(
        "saturated", "saturated units",
        "share of tanh activations above 0.9 in absolute value, where the slope is below a fifth",
        _share, high=0.75, above=CALMER,
    ),
    Figure(
        "dead", "dead units",
        "share of units whose output varies by less than 1 % of the layer's root mean square",
        _share, high=0.1, above="lower the learning rate, or train a smaller hidden_size",
    ),
    Figure(
        "memory", "memory",
        "1 / (1 - k) tokens of the median unit, k being the mean share of its state that it keeps:"
        " the forget gate, GRU's update gate, 1 - minGRU's update gate",
        _tokens, low=1.02, high=1000,
        below="it forgets every token: use the default initialization",
        above="it forgets nothing: use the default initialization",
    ),
    Figure(
        "gate", "{} gate", "mean over units and tokens", _number, low=0.02, high=0.98,
        below="it is stuck shut: lower the learning rate or init_scale",
        above="it is stuck open: lower the learning rate or init_scale",
    ),
    Figure(
        "gate-spread", "{} gate, spread", "standard deviation over units and tokens", _number,
        low=0.005, below="it doesn't react to the text: use the default initialization",
    ),
    Figure(
        "exponential", "{} gate", "sLSTM and mLSTM: mean, relative to the largest so far", _number
    ),
    Figure("exponential-spread", "{} gate, spread", "likewise its standard deviation", _number),
    Figure(
        "gradient", "gradient norm",
        "L2 norm of the gradient of the sample's mean loss, before clipping", _number,
        low=1e-4, high=10,
        below="it hardly learns: use the default initialization or fewer layers",
        above="lower max_grad_norm or the learning rate",
    ),
    Figure(
        "update", "update / weight",
        "L2 norm of the newest update over that of the weights; about 1e-3 is usual",
        scientific, high=5e-2, above="lower the learning rate",
    ),
    Figure(
        "reach", "gradient reaches",
        "the largest lag at which the gradient of a token's loss is 1 % of lag 1's or more",
        _tokens, low=2, below="the gradient vanishes: use lstm or gru, or a longer bptt",
    ),
    Figure(
        "growth", "gradient growth", "the largest gradient at any lag over that at lag 1",
        _times, high=10, above="the recurrence explodes: lower init_scale or the learning rate",
    ),
    Figure("lag", "gradient at lag {}", "relative to lag 1", _share),
)  # fmt: skip
"""In the order in which they are shown."""
_BY_NAME = {entry.name: entry for entry in FIGURES}


class Reading(NamedTuple):
    """A figure of a part of the model at the newest evaluation, and before."""

    place: Place
    values: tuple[float, ...]
    """At each evaluation that has it, oldest first."""

    @property
    def figure(self) -> Figure:
        """What it is."""
        return figure_named(self.place[1])

    @property
    def title(self) -> str:
        """`forget gate`."""
        return self.figure.title.format(self.place[1].partition(" ")[2])

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
        """`layer 2: saturated units 64 %: lower the learning rate or init_scale`."""
        return f"{self.place[0]}: {self.title} {self.value}: {self.advice}"


def figure_named(name: str) -> Figure:
    """The figure of a key in the log; raises KeyError for one of a later version."""
    return _BY_NAME[name.partition(" ")[0]]


def readings(rows: Iterable[HealthRow]) -> list[Reading]:
    """The figures of the newest row, in the order of the model's parts and of `FIGURES`.

    Args:
        rows: oldest first.
    """
    found: dict[Place, list[float]] = {}
    newest: dict[Place, float] = {}
    for row in rows:
        newest = values_of(row)
        for place, value in newest.items():
            found.setdefault(place, []).append(value)
    parts = list(dict.fromkeys(part for part, _ in newest))
    return sorted(
        (Reading(place, tuple(found[place])) for place in newest),
        key=lambda one: (parts.index(one.place[0]), FIGURES.index(one.figure)),
    )


def left_range(row: HealthRow) -> set[Place]:
    """The figures of a row that are out of their range."""
    return {
        place for place, value in values_of(row).items() if figure_named(place[1]).advice(value)
    }


def values_of(row: HealthRow) -> dict[Place, float]:
    """A row's numbers; figures that a later version added are left out."""
    found = {}
    for part, figures in row.figures.items():
        for name, value in (figures if isinstance(figures, dict) else {}).items():
            if name.partition(" ")[0] in _BY_NAME and isinstance(value, int | float | str):
                with suppress(ValueError):
                    found[part, name] = float(value)  # "inf" and "nan" are text in the log
    return found
