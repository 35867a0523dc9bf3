"""The learning-rate range test: its options, and the peak read from a curve of losses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import OptimizerConfig, RunConfig
from rnnlm_tui.schema.tuning import (
    DIVERGED,
    LEAST_STEPS,
    Suggestion,
    range_request,
    smoothed,
    suggestion,
)

SGD = RunConfig(optimizer=OptimizerConfig(algorithm="sgd"))


def read(loss_at: Callable[[float], float], noise: float = 0.0, seed: int = 0) -> Suggestion:
    """What is read from the losses at 1e-5 to 1, up to the one that ends the test."""
    chance, losses = random.Random(seed), list[float]()
    rates = range_request(RunConfig()).rates
    for rate in rates:
        losses.append(loss_at(math.log10(rate)) + chance.gauss(0, noise))
        if losses[-1] > DIVERGED * min(losses):
            break
    smooth = smoothed(losses, len(rates))
    diverged = losses[-1] > DIVERGED * min(losses)
    return suggestion(rates[: len(losses)], losses, smooth, diverged=diverged)


def valley(place: float) -> float:
    """A fall from 8 to 6 that is steepest at 1e-3, and a rise from 1e-2 on."""
    return 8 - 2 / (1 + math.exp(-8 * (place + 3))) + 40 * max(0.0, place + 2) ** 2


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_a_valleys_suggestion_is_where_its_clear_fall_ends(noise: float) -> None:
    """The valley's own slope is a third of its steepest at 1.9e-3."""
    for seed in range(20 if noise else 1):
        found = read(valley, noise, seed)
        assert found.peak == pytest.approx(1.9e-3, rel=0.6 if noise else 0.15), found
        assert f"suggested peak {found.peak * 1000:.1f}".rstrip("0.") in found.reason


def test_a_jump_and_the_way_back_are_no_fall() -> None:
    def jumping(place: float) -> float:
        return valley(place) + (10 if -4.2 < place < -4 else 0)

    found = read(jumping)
    assert found.peak == pytest.approx(1.9e-3, rel=0.15), found


@pytest.mark.parametrize(
    ("loss_at", "words", "advice"),
    [
        (lambda _: 7.6, "hardly changes between 1e-5 and 1e0", "larger rates"),
        (lambda place: 8 + 30 * (place + 5), "rises from 1e-5 on and never fell", "smaller rates"),
        (lambda place: 8 - (place + 5) / 2, "still falls at the last rate, 1e0", "larger rates"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_curve_without_a_valley_has_a_reason_and_advice_in_place_of_a_suggestion(
    loss_at: Callable[[float], float], words: str, advice: str, noise: float
) -> None:
    for seed in range(20 if noise else 1):
        found = read(loss_at, noise, seed)
        assert found.peak is None, found
        assert (words in found.reason, advice in found.hint) == (True, True), found


def test_a_test_that_ends_at_its_first_rates_suggests_nothing() -> None:
    for losses in ([8.0], [8.0, 40.0]):
        rates = range_request(RunConfig()).rates[: len(losses)]
        found = suggestion(rates, losses, smoothed(losses, 100), diverged=True)
        assert (found.peak, found.hint) == (None, "test smaller rates with --from")


def test_rates_grow_by_a_constant_factor_in_the_range_of_the_algorithm() -> None:
    for request, first, last in (
        (range_request(RunConfig()), 1e-5, 1.0),
        (range_request(SGD), 1e-3, 100.0),
        (range_request(RunConfig(), 1e-4, 1e-1, LEAST_STEPS), 1e-4, 1e-1),
    ):
        rates = request.rates
        assert (rates[0], rates[-1], len(rates)) == (first, pytest.approx(last), request.steps)
        growth = (last / first) ** (1 / (request.steps - 1))
        assert all(
            after / before == pytest.approx(growth)
            for before, after in zip(rates, rates[1:], strict=False)
        )


def test_all_problems_of_the_range_are_named() -> None:
    with pytest.raises(InputError) as caught:
        range_request(RunConfig(), -1.0, math.nan, 3)
    assert str(caught.value) == (
        "--from is -1, must be above 0 and below 1; --to is nan, must be above 0 and at most 1;"
        " --steps is 3, must be 20 … 10,000"
    )
    with pytest.raises(InputError, match=r"--from is 0.1, must be below --to \(0.01\)"):
        range_request(RunConfig(), 0.1, 0.01)
    assert range_request(SGD, 0.1, 50.0).last == 50.0
