"""The figures of a net's health: ranges, words and rows of other versions."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.schema.health import FIGURES, Figure, readings, values_of
from rnnlm_tui.schema.metrics import HealthRow
from rnnlm_tui.store.log import decode, encode


def row(step: int, **figures: object) -> HealthRow:
    return HealthRow(1, step, {"layer 1": figures}, 0.0)


def test_a_row_comes_back_from_the_log_with_values_that_are_not_finite() -> None:
    one = row(5, memory=math.inf, gradient=math.nan, dead=0.0)
    read = decode(encode(one), 1)
    assert isinstance(read, HealthRow)
    found = {name: value for (_, name), value in values_of(read).items()}
    assert (found["memory"], found["dead"]) == (math.inf, 0.0)
    assert math.isnan(found["gradient"])


def test_figures_of_a_later_version_and_damaged_ones_are_left_out() -> None:
    odd = HealthRow(
        1, 5, {"layer 1": {"dead": 0.5, "karma": 1.0, "memory": "long", "reach": []}, "x": 3}, 0.0
    )
    assert values_of(odd) == {("layer 1", "dead"): 0.5}


def test_readings_have_their_past_and_the_order_of_the_table() -> None:
    found = readings([row(1, dead=0.0), row(2, saturated=0.8, dead=0.25)])
    assert [(one.place[1], one.values) for one in found] == [
        ("saturated", (0.8,)),
        ("dead", (0.0, 0.25)),
    ]
    assert found[0].words == (
        "layer 1: saturated units 80 %: lower the learning rate or init_scale"
    )
    assert not readings([])


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
def test_advice_is_given_outside_of_the_range_alone(entry: Figure) -> None:
    limits = (entry.low, 0.99, entry.below), (entry.high, 1.01, entry.above)
    for limit, factor, words in limits:
        assert math.isinf(limit) == (not words)
        if words:
            assert entry.advice(limit) == ""
            assert entry.advice(limit * factor) == words
            assert len(words) <= 72, "a line of 80 columns has room for it"
    assert entry.advice(math.nan) == ""
