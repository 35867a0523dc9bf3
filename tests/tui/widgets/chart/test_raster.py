"""Dots become the right characters."""

from __future__ import annotations

import math

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


def lines(raster: Raster) -> list[str]:
    return ["".join(row) for row in raster.signs]


def test_each_dot_is_its_braille_bit() -> None:
    assert [BRAILLE[1 << bit] for bit in range(8)] == list("⠁⠂⠄⡀⠈⠐⠠⢀")
    assert BRAILLE[0b1111_1111] == "⣿"


def test_each_quadrant_is_its_block() -> None:
    assert [BLOCKS[1 << bit] for bit in range(4)] == list("▘▖▝▗")
    assert BLOCKS[0b1111] == "█"


def test_dots_in_corners_land_in_the_right_cells() -> None:
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


def test_flat_curve_is_one_row() -> None:
    layer = curve_layer([(0, 1.0), (3, 1.0)], Scale(0, 2, False, 3), 4)
    assert layer == [0b010] * 4


def test_steep_curve_is_connected_without_a_gap() -> None:
    layer = curve_layer([(0, 7.0), (1, 0.0)], Scale(0, 7, False, 8), 2)
    assert layer == [0b0000_1111, 0b1111_0000]


def test_rising_steep_curve_is_connected_without_a_gap() -> None:
    layer = curve_layer([(0, 0.0), (1, 7.0)], Scale(0, 7, False, 8), 2)
    assert layer[0] | layer[1] == 0b1111_1111
    assert layer[0] & 0b1000_0000
    assert layer[1] & 1


def test_nan_breaks_the_curve_and_a_single_point_is_a_dot() -> None:
    layer = curve_layer(
        [(0, 1.0), (1, math.nan), (3, 1.0), (4, math.nan), (5, 1.0), (6, 1.0)],
        Scale(0, 2, False, 3),
        8,
    )
    assert [bool(bits) for bits in layer] == [True, False, False, True, False, True, True, False]


def test_a_curve_from_outside_enters_at_the_edge() -> None:
    layer = curve_layer([(-10, 1.0), (10, 1.0)], Scale(0, 2, False, 3), 4)
    assert layer == [0b010] * 4


def test_curve_above_the_limits_is_not_drawn_at_the_edge() -> None:
    assert curve_layer([(0, 50.0), (3, 60.0)], Scale(0, 2, False, 3), 4) == [0, 0, 0, 0]


def test_band_covers_lowest_to_highest() -> None:
    bins = [Bin(1, 2.0, 1.0, 3.0, 5, 0), Bin(2, math.nan, math.nan, math.nan, 1, 5)]
    assert band_layer(bins, Scale(0, 4, False, 5), 3) == [0, 0b01110, 0]


def test_dotted_layer_has_one_dot_a_cell() -> None:
    assert dotted_layer(1.0, Scale(0, 2, False, 3), 4, 2) == [0b010, 0, 0b010, 0]


def test_curves_in_one_cell_take_turns_by_column() -> None:
    raster = Raster(4, 1)
    raster.paint_curves([([1] * 8, 1, "*"), ([8] * 8, 2, "o")])
    assert list(raster.inks[0]) == [1, 2, 1, 2]
    assert lines(raster) == ["⠉⣀⠉⣀"]


def test_ascii_draws_each_series_with_its_own_character() -> None:
    raster = Raster(3, 2, "ascii")
    raster.paint([0b11, 0, 0], 1)
    raster.paint_curves([([0, 0b01, 0], 2, "*"), ([0, 0, 0b10], 3, "o")])
    assert lines(raster) == [":* ", ": o"]


def test_runs_join_equal_inks_over_empty_cells() -> None:
    raster = Raster(8, 1)
    raster.write(0, 1, "ab", 1)
    raster.write(0, 5, "c", 1)
    raster.write(0, 7, "d", 2)
    assert raster.runs(0) == [(" ", 0), ("ab  c ", 1), ("d", 2)]


def test_text_outside_is_cut() -> None:
    raster = Raster(3, 1)
    raster.write(0, 2, "xyz", 1)
    raster.write(5, 0, "never", 1)
    assert lines(raster) == ["  x"]
    assert raster.free(0, 0, 1)
    assert not raster.free(0, 1, 2)
    assert not raster.free(0, 1, 3)
