"""Which checkpoints are kept."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.store.retention import best_step, removable_steps, spare_valid
from tests.unit.store.rows import checkpoint_row

LOSSES: list[tuple[int, float | None]] = [
    (500, 5.0),
    (1000, 3.0),
    (1500, None),
    (2000, math.nan),
    (2500, 4.0),
    (3000, 3.0),
]


@pytest.mark.parametrize(
    ("keep", "removed"),
    [
        (2, [500, 1500, 2000]),
        (3, [500, 1500]),
        (5, [500]),
        (6, []),
        (9, []),
        (0, [500, 1500, 2000, 2500, 3000]),
    ],
)
def test_the_newest_and_the_best_are_kept_in_any_row_order(keep: int, removed: list[int]) -> None:
    rows = [checkpoint_row(step, validation_loss=loss) for step, loss in LOSSES]
    assert removable_steps(rows, keep) == removed
    assert removable_steps(rows[::-1], keep) == removed


def test_without_evaluations_only_the_newest_are_kept() -> None:
    assert removable_steps([checkpoint_row(step) for step in (1, 2, 3)], 2) == [1]
    assert removable_steps([], 2) == []


def test_the_best_is_finite_and_the_earliest_of_equals() -> None:
    assert best_step(LOSSES) == 1000
    assert best_step([(1, math.nan), (2, math.inf), (3, None)]) is None
    assert best_step([(1, -math.inf), (2, 1.0)]) == 2


def test_multiples_and_pinned_ones_are_never_removed() -> None:
    rows = [checkpoint_row(step) for step in range(100, 1_100, 100)]
    assert removable_steps(rows, 2, keep_every=300) == [100, 200, 400, 500, 700, 800]
    assert removable_steps(rows, 2, keep_every=300, pinned={100, 800, 7}) == [200, 400, 500, 700]
    assert removable_steps(rows, 2) == list(range(100, 900, 100))


@pytest.mark.parametrize(
    ("whole", "removed", "looked_at"),
    [
        ({300, 400}, [100, 200], [400, 300]),
        ({100, 200, 400}, [100], [400, 300, 200]),
        ({100, 200, 300}, [100], [400, 300, 200]),
        ({100, 200}, [], [400, 300, 200, 100]),
        (set(), [100, 200], [400, 300, 200, 100]),
        ({100}, [200], [400, 300, 200, 100]),
    ],
)
def test_two_valid_ones_are_kept_and_no_more_are_verified_than_needed(
    whole: set[int], removed: list[int], looked_at: list[int]
) -> None:
    seen: list[int] = []

    def is_valid(step: int) -> bool:
        seen.append(step)
        return step in whole

    assert spare_valid([100, 200], [400, 300], is_valid) == removed
    assert seen == looked_at
