"""Dots become the right characters."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.tui.widgets.chart.raster import (
    BLOCKS,
    BRAILLE,
    Bin,
    Raster,
    Scale,
    band_layer,
    curve_layer,
    dotted_layer,
    run,
)

NAN = math.nan
THREE = Scale(0, 2, False, 3)


def lines(raster: Raster) -> list[str]:
    return ["".join(row) for row in raster.signs]


def test_each_dot_is_its_braille_bit_and_each_quadrant_its_block() -> None:
    assert [BRAILLE[1 << bit] for bit in range(8)] == list("⠁⠂⠄⡀⠈⠐⠠⢀")
    assert BRAILLE[0b1111_1111] == "⣿"
    assert [BLOCKS[1 << bit] for bit in range(4)] == list("▘▖▝▗")
    assert BLOCKS[0b1111] == "█"
    raster = Raster(2, 2)
    raster.paint([0b0000_0001, 0, 0, 0b1000_0000], 1)
    assert lines(raster) == ["⠁ ", " ⢀"]


def test_run_is_clipped_to_the_rows_and_takes_either_order() -> None:
    assert run(1, 3, 8) == run(3, 1, 8) == 0b1110
    assert run(-5, 1, 8) == 0b11
    assert run(6, 99, 8) == 0b1100_0000
    assert run(8, 12, 8) == run(-3, -1, 8) == 0


def test_scale_puts_high_at_the_top_and_low_at_the_bottom() -> None:
    linear, log = Scale(0, 10, False, 11), Scale(1, 100, True, 11)
    assert [linear.row(value) for value in (10, 5, 0)] == [0, 5, 10]
    assert [round(log.row(value), 9) for value in (100, 10, 1)] == [0, 5, 10]
    assert log.row(0) > 11
    assert log.row(-1) > 11


@pytest.mark.parametrize(
    ("curve", "scale", "layer"),
    [
        ([(0, 1.0), (3, 1.0)], THREE, [0b010] * 4),
        ([(-10, 1.0), (10, 1.0)], THREE, [0b010] * 4),  # from outside
        ([(0, 50.0), (3, 60.0)], THREE, [0] * 4),  # above the limits
        ([(0, 7.0), (1, 0.0)], Scale(0, 7, False, 8), [0b0000_1111, 0b1111_0000]),
        ([(0, 0.0), (1, 7.0)], Scale(0, 7, False, 8), [0b1111_1000, 0b0000_1111]),
        (
            [(0, 1.0), (1, NAN), (3, 1.0), (4, NAN), (5, 1.0), (6, 1.0)],  # a single point is a dot
            THREE,
            [2, 0, 0, 2, 0, 2, 2, 0],
        ),
    ],
)
def test_a_curve_is_connected_from_point_to_point_without_gaps_but_those_of_nan(
    curve: list[tuple[int, float]], scale: Scale, layer: list[int]
) -> None:
    assert curve_layer(curve, scale, len(layer)) == layer


def test_band_covers_lowest_to_highest_and_a_level_has_one_dot_a_cell() -> None:
    bins = [Bin(1, 2.0, 1.0, 3.0, 5, 0), Bin(2, NAN, NAN, NAN, 1, 5)]
    assert band_layer(bins, Scale(0, 4, False, 5), 3) == [0, 0b01110, 0]
    assert dotted_layer(1.0, THREE, 4, 2) == [0b010, 0, 0b010, 0]


def test_curves_in_one_cell_take_turns_and_have_their_own_characters_in_ascii() -> None:
    raster = Raster(4, 1)
    raster.paint_curves([([1] * 8, 1, "*"), ([8] * 8, 2, "o")])
    assert list(raster.inks[0]) == [1, 2, 1, 2]
    assert lines(raster) == ["⠉⣀⠉⣀"]
    raster = Raster(3, 2, "ascii")
    raster.paint([0b11, 0, 0], 1)
    raster.paint_curves([([0, 0b01, 0], 2, "*"), ([0, 0, 0b10], 3, "o")])
    assert lines(raster) == [":* ", ": o"]


def test_text_outside_is_cut_and_runs_join_equal_inks_over_empty_cells() -> None:
    raster = Raster(8, 1)
    for column, text, style in ((1, "ab", 1), (5, "c", 1), (7, "d", 2)):
        raster.write(0, column, text, style)
    assert raster.runs(0) == [(" ", 0), ("ab  c ", 1), ("d", 2)]
    raster = Raster(3, 1)
    raster.write(0, 2, "xyz", 1)
    raster.write(5, 0, "never", 1)
    assert lines(raster) == ["  x"]
    assert [raster.free(0, first, last) for first, last in ((0, 1), (1, 2), (1, 3))] == [
        True, False, False,
    ]  # fmt: skip
