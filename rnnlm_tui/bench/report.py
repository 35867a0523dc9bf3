"""The JSON report of `bench`, and how measurements become its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

from pydantic import BaseModel, ConfigDict

Numbers = Literal["float32", "tf32", "medium", "bf16"]
"""Number format of the matrix products; `medium` rounds their inputs to bf16, `tf32` to 19 bits."""
Kind = Literal["naive", "library", "engine"]
"""What trains or samples: the textbook's loop, torch's own layers, or ours."""
SAMPLED_TOKENS = 200
"""Tokens of one continuation; the naive way reruns the whole text for each, so its cost grows with
them."""
COMPARED_TOKENS = 20
"""Tokens of the warm-up continuation, by which greedy ways are compared; later tokens may differ
where two logits are equal within rounding.
"""
FORMAT = 2
"""Version of the JSON report; increased when a field changes its meaning."""


@dataclass(frozen=True, slots=True)
class Ready:
    """How a program computes; it has computed nothing yet."""

    device: str
    """`cpu, 2 threads`."""
    torch: str
    threads: int
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a program."""

    steps: int
    """Optimizer updates or continuations."""
    tokens: int
    """Training targets or sampled tokens."""
    seconds: float
    peak_bytes: int
    """Peak memory so far: of the process on a CPU, of torch's allocator on a GPU."""
    first: float
    """Training: loss of the first step, before its update. Sampling: seconds to the first token."""
    ids: tuple[int, ...] = ()
    """The first tokens of a continuation."""

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextFigures(_Figures):
    """The training text."""

    title: str
    """`57 State of the Union addresses`."""
    own: bool
    """The preset's own corpus; False: a built-in one instead, since the preset's isn't on this
    machine."""
    tokenizer: str
    folder: str
    corpus_vocab_size: int
    vocab_size: int
    """Of the model."""
    tokens_per_step: float
    """Targets that count."""
    used: float
    """Share of positions that aren't padding."""
    steps_per_epoch: int | None
    """Of the preset's own text; None: its length is unknown here."""


class Spread(_Figures):
    """Median and quartiles of the turns."""

    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""


class WayFigures(_Figures):
    """One way to train or to sample."""

    name: str
    threads: int
    turns: int
    tokens_per_second: Spread
    """Trained: non-padding tokens over training time."""
    ratio: Spread
    """To the first way, by turns of the same round."""


class TrainingFigures(WayFigures):
    """One way to train."""

    numbers: Numbers
    ratio_to_library: Spread | None
    """To torch's own layers with all logits; None: torch has no such layer."""
    peak_bytes: int
    """Peak memory: of the process on a CPU, of torch's allocator on a GPU."""
    peak_share: float
    """Share of the naive loop's peak."""
    first_loss: float
    """Loss of the first step, with the same weights and batch for every way."""
    first_tokens: int
    """Targets of the warm-up steps, the same for every way."""
    steps: int
    """Of all turns."""
    epoch_seconds: float | None
    """Seconds of one pass over the preset's own data at this speed; None: its size is unknown."""


class SamplingFigures(WayFigures):
    """One way to continue a prompt."""

    first_token_seconds: float
    """Median."""
    same_tokens: bool | None
    """Greedy: whether the first tokens equal those of the naive way with the same weights."""


class ProcessFigures(WayFigures):
    """Training by several processes that share each batch; the first way is one process."""

    processes: int
    efficiency: float
    """Median speed of a GPU, or of a core, compared with one process."""
    communication: Spread | None
    """Share of the time that adding up the gradients takes: what turns without it save. None: one
    process."""
    gradient_bytes: int
    """What is added up in each step."""
    sent_bytes: int
    """What each process sends in a step, computed for a ring."""


class BenchReport(_Figures):
    """The result of one `bench`."""

    format: int = FORMAT
    version: str
    preset: str
    seconds: float
    """Computing time per way."""
    device: str
    """`cpu, 2 threads`."""
    torch: str
    others_cores: float
    """Cores that other processes used meanwhile; above a few tenths, speeds are too low and ratios
    less certain."""
    data: TextFigures
    training: tuple[TrainingFigures, ...]
    sampling: tuple[SamplingFigures, ...]
    processes: tuple[ProcessFigures, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks for the reader, one sentence each."""


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles by linear interpolation; at least one value."""
    low, _, high = quantiles(values, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(median=median(values), low=low, high=high)


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Spread of the ratios of two ways in the same rounds: what slows a whole round cancels
    out."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
