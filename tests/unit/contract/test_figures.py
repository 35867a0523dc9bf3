"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rnnlm_tui.contract import figures


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (figures.count, 3751, "3,751"),
        (figures.count, 0, "0"),
        (figures.short, 27_612, "27.6k"),
        (figures.short, 543_488, "543k"),
        (figures.short, 1_234_567, "1.2M"),
        (figures.short, 15_000, "15k"),
        (figures.short, 999_960, "1M"),
        (figures.short, 812, "812"),
        (figures.short, 9.96, "9.96"),
        (figures.short, 0, "0"),
        (figures.figure, 2003.4, "2,003"),
        (figures.figure, 443.2, "443"),
        (figures.figure, 58.12, "58.1"),
        (figures.figure, 3.934, "3.93"),
        (figures.figure, 0.41, "0.41"),
        (figures.figure, 8.1e-4, "8.1e-4"),
        (figures.figure, 99.97, "100"),
        (figures.figure, 9.996, "10.0"),
        (figures.figure, 0, "0.00"),
        (figures.figure, 3.2e9, "3.2e9"),
        (lambda value: figures.figure(value, 3), 1.201e36, "1.2e36"),
        (lambda value: figures.figure(value, 1), 1_234_567.8, "1,234,567.8"),
        (figures.short, 1.201e36, "1.2e36"),
        (figures.short, 1.24e12, "1.2T"),
        (figures.scientific, 4e-3, "4e-3"),
        (figures.scientific, 8.14e-4, "8.1e-4"),
        (figures.scientific, 0, "0"),
        (figures.percent, 0.789, "79 %"),
        (figures.percent, 0.999, "99 %"),
        (figures.percent, 1, "100 %"),
        (figures.share, 0.12, "12 %"),
        (figures.share, 0.002, "0.2 %"),
        (figures.share, 0.0094, "0.9 %"),
        (figures.share, 0.00004, "0.004 %"),
        (figures.share, 1e-9, "1e-7 %"),
        (figures.share, 0, "0 %"),
        (figures.change, -14.9, "−14.9"),
        (figures.change, 0.3, "+0.30"),
        (figures.duration, 0, "0 s"),
        (figures.duration, 0.42, "0.4 s"),
        (figures.duration, 24, "24 s"),
        (figures.duration, 59.7, "1 min 00 s"),
        (figures.duration, 99, "1 min 39 s"),
        (figures.duration, 7500, "2 h 05 min"),
        (figures.duration, 273_600, "3 d 04 h"),
        (figures.duration, -3, "0 s"),
        (figures.about, 125, "≈ 2 min 05 s"),
        (figures.age, 3, "now"),
        (figures.age, 40, "40 s"),
        (figures.age, 301, "5 min"),
        (figures.age, 7300, "2 h"),
        (figures.age, 90_000, "1 d"),
        (figures.gib, 23 * 2**30, "23"),
        (figures.memory, 0.6 * 2**30, "0.6 GiB"),
        (figures.memory, 50 * 2**20, "50 MiB"),
        (figures.disk, 39_200_000, "39 MB"),
        (figures.disk, 212e9, "212 GB"),
        (figures.disk, 1.24e12, "1.2 TB"),
        (figures.disk, 12, "12 B"),
        (figures.disk, 999_700, "1.0 MB"),
    ],
)
def test_figure_is_written_as_people_read_it(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text


def test_time_left_has_its_margin_apart() -> None:
    assert figures.time_left(24.2, 3.1) == ("24 s left", "±3")
    assert figures.time_left(24.2) == ("24 s left", "")
    assert figures.time_left(24.2, 0.2) == ("24 s left", "")
    assert figures.time_left(7500, 300) == ("2 h 05 min left", "±5")
    assert figures.time_left(None) == ("time left unknown", "")


def test_what_is_not_known_is_a_dash_and_infinity_a_sign() -> None:
    numbers: list[Callable[[float | None], str]] = [
        figures.count,
        figures.short,
        figures.figure,
        figures.scientific,
        figures.percent,
        figures.share,
        figures.change,
    ]
    sizes: list[Callable[[float | None], str]] = [figures.gib, figures.memory, figures.disk]
    times: list[Callable[[float | None], str]] = [figures.duration, figures.about, figures.age]
    assert {write(value) for write in (*numbers, *sizes, *times) for value in (None, math.nan)} == {"–"}
    assert {write(math.inf) for write in times} == {"–"}
    assert figures.figure(math.inf) == figures.short(math.inf) == figures.count(math.inf) == "∞"
    assert figures.figure(-math.inf) == "−∞"


def test_a_count_has_its_plural() -> None:
    assert [figures.counted(number, "step") for number in (0, 1, 2, 3_751)] == ["0 steps", "1 step", "2 steps", "3,751 steps"]
    assert [figures.counted(number, "corpus", "corpora") for number in (1, 2)] == ["1 corpus", "2 corpora"]


def test_a_long_list_shows_its_first_words_and_counts_the_rest() -> None:
    assert [figures.first_of(words, 2) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a, b", "a, b and 1 more"]


@pytest.mark.parametrize(
    ("bits", "unknown", "words"),
    [
        (1.537, None, "1.54 bits a byte"),
        (1.537, 0.0, "1.54 bits a byte"),
        (1.537, 0.0004, "1.54 bits a byte, 0.04 % unknown"),
        (None, 0.042, "no bits a byte: 4 % unknown"),
        (None, 0.413, "no bits a byte: 41 % unknown"),
        (None, None, ""),
    ],
)
def test_the_share_of_unknown_tokens_stands_beside_bits_a_byte_or_in_their_place(bits: float | None, unknown: float | None, words: str) -> None:
    assert figures.bits_per_byte_text(bits, unknown) == words


@pytest.mark.parametrize(
    ("epoch", "epochs", "written"),
    [(6.312, 8.0, ("6.3", "8")), (1.8575, 1.8575, ("1.86", "1.86")), (0.5, 1.8575, ("0.50", "1.86")), (1.86, 1.5, ("1.5", "1.5")), (2.04, None, ("2.0", ""))],
)
def test_an_epoch_is_never_written_as_more_than_there_are(epoch: float, epochs: float | None, written: tuple[str, str]) -> None:
    assert figures.epoch_of(epoch, epochs) == written


@pytest.mark.parametrize(
    ("epoch", "epochs", "written"),
    [
        (0.0002314, 0.000463, ("0.00023", "0.00046")),
        (0.0, 0.000463, ("0.00000", "0.00046")),
        (0.000463, 0.000463, ("0.00046", "0.00046")),
        (0.004, 0.0096, ("0.0040", "0.0096")),
        (0.003, 0.01, ("0.00", "0.01")),
    ],
)
def test_a_run_of_far_less_than_an_epoch_has_two_digits_that_count(epoch: float, epochs: float, written: tuple[str, str]) -> None:
    assert figures.epoch_of(epoch, epochs) == written
