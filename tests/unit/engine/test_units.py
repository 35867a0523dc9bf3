"""Units: how long they remember, and the text features they can be searched by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.units import (
    FEATURES,
    highest_first,
    memory_lengths,
    parse_query,
    search,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.tui.screens.inspect import UNIT_SEARCHES

PIECES = ["The ", "“", "O", "ld", "”", " (7)", "\n", "Ab", "", "c, ", "d"]
nan = math.nan


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("space", [1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("newline", [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("uppercase", [1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]),
        ("digit", [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
        ("punctuation", [0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0]),
        ("quotes", [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("position in line", [4, 5, 6, 8, 9, 13, 0, 2, 2, 5, 6]),
        ("position in word", [0, 0, 1, 3, 0, 0, 0, 2, 2, 0, 1]),
        ("d", [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]),
        (",", [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        (" ", [1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("since d", [nan, nan, nan, 0, 1, 2, 3, 4, 5, 6, 0]),
        ("since D", [nan] * 11),
        ("since  ", [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1]),
        ("since newline", [nan, nan, nan, nan, nan, nan, 0, 1, 2, 3, 4]),
        ("Since upper-case", [0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3]),
        ("\n", [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("Line_break", [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("  POSITION  in line", [4, 5, 6, 8, 9, 13, 0, 2, 2, 5, 6]),
    ],
)
def test_a_feature_has_a_value_after_each_token(query: str, wanted: list[float]) -> None:
    assert parse_query(query).values(PIECES) == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize(
    ("query", "text", "wanted"),
    [
        ("brackets", "a(b[c]d)e)f{g", "0111111000011"),
        ("quotes", 'a"b"c', "01100"),
        ("quotes", "a„b“c“d”e", "011001100"),
        ("quotes", "«b»c", "1100"),
        ("quotes", 'a"b\nc\n\nd"e', "01111100 11".replace(" ", "")),
    ],
)
def test_brackets_nest_and_quotations_end(query: str, text: str, wanted: str) -> None:
    assert parse_query(query).values(list(text)) == [float(value) for value in wanted]


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_can_be_searched_by_its_name(name: str) -> None:
    feature = parse_query(name)
    assert feature.name == name
    assert len(feature.values(PIECES)) == len(PIECES)
    assert feature.is_count == name.startswith("position")


@pytest.mark.parametrize("query", UNIT_SEARCHES)
def test_every_example_of_the_apps_search_is_accepted(query: str) -> None:
    assert len(parse_query(query).values(PIECES)) == len(PIECES)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the search is empty"),
        ("the", 'cannot search for "the"'),
        ("qoutes", 'did you mean "quotes"'),
        ("the", "search for space, newline, .*, one character, or since X"),
        ("since", 'cannot search for "since"'),
        ("since the", "after since comes one character or one of space, newline"),
        ("since quotes", "after since comes one character"),
        ("since newlin", 'did you mean "newline"'),
    ],
)
def test_an_unknown_query_says_what_is_allowed(query: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_query(query)
    assert caught.value.message


def columns(*units: Sequence[float]) -> Tensor:
    return torch.tensor(units, dtype=torch.float32).t()


def test_a_unit_that_is_on_inside_quotes_matches_fully() -> None:
    text = list('a "bcd" ef "g" h')
    inside = parse_query("quotes").values(text)
    noise = np.random.default_rng(0).normal(size=len(text))
    outputs = columns(inside, [3 - 0.1 * value for value in inside], noise.tolist(), [0.5] * 16)
    match = search(outputs, text, "quotes").tolist()
    assert match[:2] == pytest.approx([1, 1], abs=1e-6)
    assert match[2] < 0.7
    assert match[3] == 0


def test_a_unit_that_jumps_at_each_space_is_found_by_its_change() -> None:
    text = list("ab cd efg hi j klm")
    level, levels = 1.0, list[float]()
    for char in text:
        level = -level if char == " " else level
        levels.append(level)
    assert float(search(columns(levels), text, "space")[0]) == pytest.approx(1)


def test_a_unit_that_counts_and_saturates_matches_fully() -> None:
    text = list("xbaaaaaabaaabaaaaa")
    counts = parse_query("since b").values(text)
    assert math.isnan(counts[0])
    counting = [9.0, *(math.tanh(-0.5 - 0.5 * count) for count in counts[1:])]
    flickering = [1 - 1e-7 * (char == "b") for char in text]
    match = search(columns(counting, [0.1] * len(text), flickering), text, "since b")
    assert match.tolist() == pytest.approx([1, 0, 0])


def test_match_is_the_correlation_or_the_rank_correlation() -> None:
    generator = np.random.default_rng(5)
    text = [str(char) for char in generator.choice(list("ab c\n"), 300)]
    unit = generator.normal(size=300).round(1)  # with ties

    def rank(numbers: Sequence[float]) -> list[float]:
        return [
            float(
                np.mean([index for index, other in enumerate(sorted(numbers)) if other == number])
            )
            for number in numbers
        ]

    space = np.array(parse_query("space").values(text))
    wanted = max(
        abs(np.corrcoef(unit, space)[0, 1]),
        abs(np.corrcoef(np.abs(np.diff(unit)), space[1:])[0, 1]),
    )
    outputs = columns(unit.tolist())
    assert float(search(outputs, text, "space")[0]) == pytest.approx(wanted, abs=1e-6)
    place = parse_query("position in line").values(text)
    wanted = abs(np.corrcoef(rank(outputs[:, 0].tolist()), rank(place))[0, 1])
    assert float(search(outputs, text, "position in line")[0]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("text", "query"), [("abcabc", "digit"), ("xxb", "since b"), ("", "a")])
def test_a_feature_that_does_not_change_in_the_text_is_refused(text: str, query: str) -> None:
    with pytest.raises(InputError, match=f'"{query}" is the same at every token'):
        search(torch.randn(len(text), 4), list(text), query)


def test_memory_is_where_the_autocorrelation_falls_below_one_in_e() -> None:
    time = np.arange(20_000)
    period, correlation = 100, 0.9
    generator = np.random.default_rng(1)
    remembering = np.zeros(20_000)
    for step in range(1, 20_000):
        remembering[step] = correlation * remembering[step - 1] + generator.normal()
    found = memory_lengths(
        columns(
            np.sin(2 * np.pi * time / period).tolist(),  # cos(2 pi k / period) = 1/e
            remembering.tolist(),  # 0.9^k = 1/e
            generator.normal(size=20_000).tolist(),
            ((-1.0) ** time).tolist(),
            [0.3] * 20_000,
        )
    ).tolist()
    assert found[0] == pytest.approx(period * math.acos(1 / math.e) / (2 * math.pi), rel=0.01)
    assert found[1] == pytest.approx(-1 / math.log(correlation), rel=0.1)
    assert 0 < found[3] < found[2] < 1
    assert found[4] == 0


@pytest.mark.parametrize("tokens", [0, 1, 2, 3])
def test_memory_of_a_short_text_is_finite(tokens: int) -> None:
    found = memory_lengths(torch.randn(tokens, 70, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (70,)
    assert bool(found.isfinite().all())


def test_units_are_ordered_by_figure_and_then_by_index() -> None:
    assert highest_first(torch.tensor([0.5, 0.9, 0.5, 0.0, 0.9])) == [1, 4, 0, 2, 3]
