"""The figures of a net's health: ranges, words and rows of other versions."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.schema.health import FIGURES, Figure, HealthRow, readings
from rnnlm_tui.store.log import decode, encode


def row(step: int, **figures: object) -> HealthRow:
    return HealthRow(1, step, {"layer 1": figures}, 0.0)


def test_figures_of_a_later_version_and_damaged_ones_are_left_out_of_a_log() -> None:
    odd = {"layer 1": {"dead": 0.5, "karma": 1.0, "memory": "long", "reach": []}, "x": 3}
    read = decode(encode(HealthRow(1, 5, {**odd}, 0.0)), 1)
    assert isinstance(read, HealthRow)
    assert [(*one[:2], one.values) for one in readings([read])] == [("layer 1", "dead", (0.5,))]


def test_readings_have_their_past() -> None:
    found = readings([row(1, dead=0.0), row(2, saturated=0.9, dead=0.25)])
    assert [one.values for one in found] == [(0.9,), (0.0, 0.25)]
    assert found[0].words == "layer 1: saturated units 90 %: lower the learning rate or init_scale"


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
