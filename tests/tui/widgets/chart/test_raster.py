"""Dots become the right characters."""

from __future__ import annotations

import math

from rnnlm_tui.tui.widgets.chart.raster import BLOCKS, BRAILLE, Raster, Scale, curve_layer, run

NAN = math.nan
THREE = Scale(0, 2, 3)


def lines(raster: Raster) -> list[str]:
    return ["".join(row) for row in raster.signs]


def test_each_dot_is_its_braille_bit_and_each_quadrant_its_block() -> None:
    assert [BRAILLE[1 << bit] for bit in range(8)] == list("⠁⠂⠄⡀⠈⠐⠠⢀")
    assert [BLOCKS[1 << bit] for bit in range(4)] == list("▘▖▝▗")
    raster = Raster(2, 2)
    raster.paint([0b0000_0001, 0, 0, 0b1000_0000], 1)
    assert lines(raster) == ["⠁ ", " ⢀"]
    assert [run(*ends, 8) for ends in ((3, 1), (-5, 1), (6, 99), (8, 12), (-3, -1))] == [
        0b1110, 0b11, 0b1100_0000, 0, 0,
    ]  # fmt: skip


def test_a_curve_is_connected_from_point_to_point_without_gaps_but_those_of_nan() -> None:
    for curve, scale, layer in (
        ([(-10, 1.0), (10, 1.0)], THREE, [0b010] * 4),  # from outside
        ([(0, 50.0), (3, 60.0)], THREE, [0] * 4),  # above the limits
        ([(0, 7.0), (1, 0.0)], Scale(0, 7, 8), [0b0000_1111, 0b1111_0000]),
        ([(0, 0.0), (1, 7.0)], Scale(0, 7, 8), [0b1111_1000, 0b0000_1111]),
        (
            [(0, 1.0), (1, NAN), (3, 1.0), (4, NAN), (5, 1.0), (6, 1.0)],  # a single point is a dot
            THREE,
            [2, 0, 0, 2, 0, 2, 2, 0],
        ),
    ):
        assert curve_layer(curve, scale, len(layer)) == layer


def test_curves_in_one_cell_take_turns_and_have_their_own_characters_in_ascii() -> None:
    raster = Raster(4, 1)
    raster.paint_curves([([1] * 8, 1, "*"), ([8] * 8, 2, "o")])
    assert list(raster.inks[0]) == [1, 2, 1, 2]
    assert lines(raster) == ["⠉⣀⠉⣀"]
    raster = Raster(3, 2, "ascii")
    raster.paint([0b11, 0, 0], 1)
    raster.paint_curves([([0, 0b01, 0], 2, "*"), ([0, 0, 0b10], 3, "o")])
    assert lines(raster) == [":* ", ": o"]
