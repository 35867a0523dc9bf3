"""The learning-rate range test: what is asked and measured, and the peak that it suggests.

The test is Smith's (2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3) with
the growth by a constant factor and the end of fast.ai's `lr_find`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import median
from typing import NamedTuple

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import exact, figure, scientific
from rnnlm_tui.schema.protocol import Message
from rnnlm_tui.schema.rules import ADAMW_MAX_RATE, SGD_MAX_RATE

FIRST = 1e-5
FIRST_SGD = 1e-3
LAST = 1.0
LAST_SGD = 100.0
"""SGD's updates scale with the gradient, so that its rates are larger."""
STEPS = 100
LEAST_STEPS, MOST_STEPS = 20, 10_000
DIVERGED = 4.0
"""The test ends at a loss this many times the lowest, as fast.ai's does."""
CLEAR = 1 / 3
"""The loss falls clearly where it falls at least this fraction as fast as at its steepest.

With a half, suggestions for the demo, `lstm` and `gru` were below the best of a grid by up to 2."""
WINDOW = 20
"""The loss is averaged over one step in so many of the test on either side."""
NOISE = 5.0
"""The smoothed loss has to fall by this many standard deviations of a step's loss around it."""


class RangeRequest(Message):
    """Train with a rate that grows by a constant factor from `first` to `last`."""

    config: RunConfig
    first: float
    last: float
    steps: int

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of each step."""
        growth, most = self.last / self.first, self.steps - 1
        return tuple(self.first * growth ** (step / most) for step in range(self.steps))


def range_request(
    config: RunConfig, first: float | None = None, last: float | None = None, steps: int = STEPS
) -> RangeRequest:
    """The test of a config; by default from 1e-5 to 1, for SGD from 1e-3 to 100.

    Raises:
        InputError: with all problems of the range, named as options of the command line.
    """
    sgd = config.optimizer.algorithm == "sgd"
    first = first if first is not None else FIRST_SGD if sgd else FIRST
    last = last if last is not None else LAST_SGD if sgd else LAST
    most = SGD_MAX_RATE if sgd else ADAMW_MAX_RATE
    problems = []
    if not 0 < first < most:
        problems.append(f"--from is {exact(first)}, must be above 0 and below {most:,}")
    if not 0 < last <= most:
        problems.append(f"--to is {exact(last)}, must be above 0 and at most {most:,}")
    if not problems and first >= last:
        problems.append(f"--from is {exact(first)}, must be below --to ({exact(last)})")
    if not LEAST_STEPS <= steps <= MOST_STEPS:
        problems.append(f"--steps is {steps:,}, must be {LEAST_STEPS} … {MOST_STEPS:,}")
    if problems:
        raise InputError("; ".join(problems))
    return RangeRequest(config=config, first=first, last=last, steps=steps)


class RangeDone(Message):
    """The losses of a test, up to the step at which it ended, and what follows from them."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Of each step's batch before its update, in nats per token."""
    smoothed: tuple[float, ...]
    diverged: bool
    """Whether it ended before the last rate."""
    suggestion: float | None
    """The peak to train with; None: none can be read from the losses."""
    reason: str
    """In one sentence."""
    hint: str = ""
    """What to do without a suggestion."""


class Suggestion(NamedTuple):
    """The end of a test: see the fields of `RangeDone`."""

    peak: float | None
    reason: str
    hint: str = ""


def smoothed(losses: Sequence[float], steps: int) -> tuple[float, ...]:
    """Average each loss with its neighbours, nearer ones with more weight.

    Unlike a moving average of the past, this doesn't shift the curve to higher rates.

    Args:
        steps: those of the whole test.
    """
    reach = max(1, steps // WINDOW)
    averages = []
    for at in range(len(losses)):
        near = range(max(0, at - reach), min(len(losses), at + reach + 1))
        weights = [reach + 1 - abs(other - at) for other in near]
        total = sum(weight * losses[other] for weight, other in zip(weights, near, strict=True))
        averages.append(total / sum(weights))
    return tuple(averages)


def suggestion(
    rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float], *, diverged: bool
) -> Suggestion:
    """Suggest a peak: the last rate at which the loss falls clearly.

    The rule is from Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch" (2020),
    chapter 5: "the last point where the loss was clearly decreasing". Clearly is here: at least
    a third as fast as at its steepest. Where the loss is lowest depends more on chance.
    """
    first, last = (scientific(rate) for rate in (rates[0], rates[-1]))
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    noise = 1.5 * median(abs(one - mean) for one, mean in zip(losses, smooth, strict=True))
    fall = max(smooth[: lowest + 1]) - smooth[lowest]
    if fall <= NOISE * noise or lowest < 2:
        if diverged or smooth[-1] - smooth[lowest] > NOISE * noise:
            return Suggestion(
                None,
                f"the loss rises from {scientific(rates[lowest])} on and never fell before",
                "test smaller rates with --from",
            )
        return Suggestion(
            None,
            f"the loss hardly changes between {first} and {last}: by {figure(fall)}, and"
            f" by {figure(noise)} from one step to the next",
            "test larger rates with --to, or more steps with --steps",
        )
    best = list(accumulate(smooth, min))  # the way back from a jump is no fall
    falls = [(best[at - 1] - best[at + 1]) / 2 for at in range(1, lowest)]
    steepest = max(range(len(falls)), key=falls.__getitem__)
    ends = next(
        (at for at in range(steepest, len(falls)) if falls[at] < CLEAR * falls[steepest]),
        len(falls),
    )
    fastest, peak = (float(f"{rates[at]:.1e}") for at in (steepest + 1, ends))
    if len(rates) - lowest <= max(1, len(rates) // WINDOW) and not diverged:
        return Suggestion(
            None, f"the loss still falls at the last rate, {last}", "test larger rates with --to"
        )
    return Suggestion(
        peak,
        f"the loss falls fastest at {scientific(fastest)}, at least a third as fast up to"
        f" {scientific(peak)}, and rises from {scientific(rates[lowest])} on: suggested peak"
        f" {scientific(peak)}, the last rate at which it falls clearly",
    )
