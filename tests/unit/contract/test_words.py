"""Figures and texts as people read them."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.contract.words import age, duration, figure, file_size, memory_size, short_count, visible


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (950, "950"), (3_751, "3,751"), (27_612, "27.6k"), (1_234_567, "1.2M"), (8.29e9, "8.3G")])
def test_counts_are_short_where_space_is_scarce(value: float, words: str) -> None:
    assert short_count(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (4.4, "4 s"), (59.6, "1 min 00 s"), (99, "1 min 39 s"), (7_500, "2 h 05 min"), (273_600, "3 d 04 h"), (-1, "0 s"), (math.inf, "0 s")],
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "now"), (5, "5 s"), (140, "2 min"), (11_000, "3 h"), (400_000, "4 d")])
def test_ages_have_one_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_sizes_are_decimal_on_disk_and_binary_in_memory() -> None:
    assert [file_size(count) for count in (12, 3_000, 6.5e6, 39e6, 212e9)] == ["12 B", "3.0 KB", "6.5 MB", "39 MB", "212 GB"]
    assert [memory_size(count) for count in (12, 2**20 * 81, 2**30 * 0.6, 2**30 * 23)] == ["12 B", "81 MiB", "0.6 GiB", "23 GiB"]


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (None, 1, "–"),
        (58.08, 1, "58.1"),
        (27_612.4, 1, "27,612"),
        (8.1e-4, 1, "8.1e-4"),
        (0.0, 2, "0.00"),
        (math.nan, 1, "nan"),
        (-math.inf, 1, "-inf"),
        (4.057, 3, "4.057"),
    ],
)
def test_figures_never_lose_their_value_to_rounding(value: float | None, digits: int, words: str) -> None:
    assert figure(value, digits) == words


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\r", "\x7f", "\x9b", "\x85", "\u202e", "\u2066", "\u200b", "\u2028", "\ud800", "\ufeff"])
def test_what_could_steer_a_terminal_is_shown_instead(character: str) -> None:
    shown = visible(f"a{character}b")
    assert character not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert shown.isascii()


def test_text_that_steers_nothing_is_left_alone() -> None:
    text = "[red] [/ [@click=app.quit] “Grüße” 日本語 🙂\nnext"
    assert visible(text) == text
