"""The learning-rate range test: its options, and the peak read from a curve of losses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import OptimizerConfig, RunConfig
from rnnlm_tui.schema.formatting import scientific
from rnnlm_tui.schema.tuning import RangeDone, range_request, range_result

SGD = RunConfig(optimizer=OptimizerConfig(algorithm="sgd"))
RATES = range_request(RunConfig()).rates


def read(loss_at: Callable[[float], float], noise: float = 0.0, seed: int = 0) -> RangeDone:
    """What is read from the losses at 1e-5 to 1."""
    chance = random.Random(seed)
    losses = (loss_at(math.log10(rate)) + chance.gauss(0, noise) for rate in RATES)
    return range_result(RATES, tuple(losses))


def valley(place: float) -> float:
    """A fall from 8 to 6 that is steepest at 1e-3 and a third as steep at 1.9e-3."""
    return 8 - 2 / (1 + math.exp(-8 * (place + 3))) + 40 * max(0.0, place + 2) ** 2


def jumping(place: float) -> float:
    """The valley, with a jump before it."""
    return valley(place) + (5 if -4.2 < place < -4 else 0)


@pytest.mark.parametrize(("curve", "noise"), [(valley, 0.0), (valley, 0.1), (jumping, 0.0)])
def test_the_suggestion_is_where_the_clear_fall_into_a_valley_ends(
    curve: Callable[[float], float], noise: float
) -> None:
    for seed in range(20 if noise else 1):
        found = read(curve, noise, seed)
        assert found.suggestion == pytest.approx(1.9e-3, rel=0.6 if noise else 0.15), found
        assert f"suggested peak {scientific(found.suggestion)}," in found.reason


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (lambda _: 7.6, "hardly changes up to 1e0"),
        (lambda place: 8 + 30 * (place + 5), "and never fell before: test smaller rates"),
        (lambda place: 8 - (place + 5) / 2, "still falls at the last rate, 1e0: test larger rates"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_curve_without_a_valley_has_a_reason_in_place_of_a_suggestion(
    curve: Callable[[float], float], words: str, noise: float
) -> None:
    for seed in range(20 if noise else 1):
        found = read(curve, noise, seed)
        assert (found.suggestion, words in found.reason) == (None, True), found
    assert "test smaller rates" in range_result(RATES, (8.0, 40.0)).reason


def test_rates_grow_by_a_constant_factor_in_the_range_of_the_algorithm() -> None:
    for config, options, first, last in (
        (RunConfig(), (), 1e-5, 1.0),
        (SGD, (), 1e-3, 100.0),
        (SGD, (1e-4, 50.0, 20), 1e-4, 50.0),
    ):
        rates = range_request(config, *options).rates
        assert [rates[0], rates[-1]] == pytest.approx([first, last])
        factors = [after / before for before, after in pairwise(rates)]
        assert factors == pytest.approx([factors[0]] * (len(rates) - 1))


def test_all_problems_of_the_range_are_named() -> None:
    with pytest.raises(InputError) as caught:
        range_request(RunConfig(), 0.1, -math.inf, 3)
    assert str(caught.value) == (
        "--to is -inf, must be above 0 and at most 1; --from is 0.1, must be below --to (-inf);"
        " --steps is 3, must be 20 … 10,000"
    )
