"""Random numbers by position: uniform, independent, and the same in a table and one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rnnlm_tui.engine.random_numbers import RandomNumbers

from .chi_square import chi_square


def uniform(seed: int, position: int, draw: int = 0) -> float:
    return RandomNumbers(seed, 1).again(0, position, draw)


@pytest.mark.parametrize(
    "number",
    [
        lambda index: uniform(index, 7, 0),
        lambda index: uniform(7, index, 0),
        lambda index: uniform(2**63 - 1 - index, 0, 0),
        lambda index: uniform(7, 7, index),
        lambda index: uniform(index, 100_000 - index, 0),
    ],
)
def test_random_numbers_are_uniform_and_independent_over_seeds_positions_and_draws(
    number: Callable[[int], float],
) -> None:
    numbers = torch.tensor([number(index) for index in range(4_000)], dtype=torch.float64)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert chi_square((numbers * 40).long().tolist(), torch.full((40,), 1 / 40)) < 1
    pairs = (numbers[:-1] * 6).long() * 6 + (numbers[1:] * 6).long()
    assert chi_square(pairs.tolist(), torch.full((36,), 1 / 36)) < 1


def test_the_table_equals_single_numbers_for_any_seed_and_position() -> None:
    seed = 2**63 - 2
    numbers = RandomNumbers(seed, 3)
    for position in (0, 1, 5_000, 2**40):
        wanted = [[uniform((seed + row) % 2**63, position)] for row in range(3)]
        assert numbers.at(position).tolist() == wanted
        assert numbers.again(1, position, 2) == uniform(2**63 - 1, position, 2)
    numbers.keep([2])
    assert numbers.at(1).tolist() == [[uniform(0, 1)]]
