"""The learning-rate range test: what is asked and measured, and the peak that it suggests.

The test is Smith's (2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3) with
the growth by a constant factor of fast.ai's `lr_find`.
"""

from __future__ import annotations

from itertools import accumulate
from statistics import fmean, median

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import exact, scientific
from rnnlm_tui.schema.protocol import Message
from rnnlm_tui.schema.rules import ADAMW_MAX_RATE, SGD_MAX_RATE

Floats = tuple[float, ...]
STEPS, LEAST_STEPS, MOST_STEPS = 100, 20, 10_000
DIVERGED = 2.0
"""The test ends at a loss this many times the lowest; fast.ai's later, which shows nothing more."""
CLEAR = 1 / 3
"""The loss falls clearly where it falls at least this fraction as fast as at its steepest.

With a half, suggestions for the demo, `lstm` and `gru` were further below the best of a grid.
"""
WINDOW = 40
"""The loss is averaged, twice, over one step in so many of the test on either side."""
NOISE = 5.0
"""The smoothed loss has to fall by this many standard deviations of a step's loss around it."""


class RangeRequest(Message):
    """Train with these rates, one step each."""

    config: RunConfig
    rates: Floats


class RangeDone(Message):
    """The losses of a test, up to the step at which it ended, and what follows from them."""

    rates: Floats
    losses: Floats
    """Of each step's batch before its update, in nats per token."""
    smoothed: Floats
    suggestion: float | None
    """The peak to train with; None: none can be read from the losses."""
    reason: str
    """In one sentence."""


def range_request(
    config: RunConfig, first: float | None = None, last: float | None = None, steps: int = STEPS
) -> RangeRequest:
    """The test of a config: by default from 1e-5 to 1, with SGD from 1e-3 to 100.

    SGD's updates scale with the gradient, so that its rates are larger.

    Raises:
        InputError: with all problems of the range, named as options of the command line.
    """
    sgd = config.optimizer.algorithm == "sgd"
    least, largest, most = (1e-3, 100.0, SGD_MAX_RATE) if sgd else (1e-5, 1.0, ADAMW_MAX_RATE)
    first, last = least if first is None else first, largest if last is None else last
    problems = [
        f"{option} is {exact(rate)}, must be above 0 and at most {most:,}"
        for option, rate in (("--from", first), ("--to", last))
        if not 0 < rate <= most
    ]
    if first >= last:
        problems.append(f"--from is {exact(first)}, must be below --to ({exact(last)})")
    if not LEAST_STEPS <= steps <= MOST_STEPS:
        problems.append(f"--steps is {steps:,}, must be {LEAST_STEPS} … {MOST_STEPS:,}")
    if problems:
        raise InputError("; ".join(problems))
    growth = (last / first) ** (1 / (steps - 1))
    return RangeRequest(config=config, rates=tuple(first * growth**at for at in range(steps)))


def range_result(rates: Floats, losses: Floats) -> RangeDone:
    """Return the result of a test, with the last rate at which the loss falls clearly as peak.

    The rule is from Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch" (2020),
    chapter 5: "the last point where the loss was clearly decreasing". Clearly is here: at least
    a third as fast as at its steepest. Where the loss is lowest depends more on chance.

    Args:
        rates: of the whole test.
        losses: fewer, if the loss diverged.
    """
    # around each step: an average of the past would shift the curve to higher rates
    reach = max(1, len(rates) // WINDOW)
    smooth = _averaged(_averaged(losses, reach), reach)
    peak, reason = _suggestion(rates, losses, smooth)
    rates = rates[: len(losses)]
    return RangeDone(rates=rates, losses=losses, smoothed=smooth, suggestion=peak, reason=reason)


def _averaged(losses: Floats, reach: int) -> Floats:
    """Average each loss with its neighbours."""
    return tuple(fmean(losses[max(0, at - reach) : at + reach + 1]) for at in range(len(losses)))


def _suggestion(rates: Floats, losses: Floats, smooth: Floats) -> tuple[float | None, str]:
    """Return the peak and the reason."""
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    noise = median(abs(one - mean) for one, mean in zip(losses, smooth, strict=True)) * 1.5
    fall, rise = max(smooth[: lowest + 1]) - smooth[lowest], smooth[-1] - smooth[lowest]
    turn, last = scientific(rates[lowest]), scientific(rates[-1])
    if lowest < 2 or fall <= NOISE * noise:
        if len(losses) < len(rates) or rise > NOISE * noise:
            return None, f"the loss rises from {turn} on and never fell before: test smaller rates"
        return None, f"the loss hardly changes up to {last}: test larger rates"
    if len(rates) - lowest <= 1 + len(rates) // WINDOW:
        return None, f"the loss still falls at the last rate, {last}: test larger rates"
    best = list(accumulate(smooth, min))  # the way back from a jump is no fall
    falls = [(best[at - 1] - best[at + 1]) / 2 for at in range(1, lowest)]
    steepest = max(range(len(falls)), key=falls.__getitem__)
    slow = (at for at, fall in enumerate(falls) if at > steepest and fall < CLEAR * falls[steepest])
    peak = scientific(rates[next(slow, len(falls))])
    return float(peak), (
        f"the loss falls fastest at {scientific(rates[steepest + 1])}, at least a third as fast up"
        f" to {peak}, and rises from {turn} on: suggested peak {peak}, the last rate at which it"
        " falls clearly"
    )
