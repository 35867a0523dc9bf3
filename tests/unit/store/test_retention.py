"""Which checkpoints are kept, and which of them a worker doesn't verify again and again."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.store.checkpoints import best_step
from rnnlm_tui.store.retention import kept_steps, spare_valid
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
    ("keep", "kept"),
    [
        (2, [1000, 2500, 3000]),
        (3, [1000, 2000, 2500, 3000]),
        (5, [1000, 1500, 2000, 2500, 3000]),
        (6, [500, 1000, 1500, 2000, 2500, 3000]),
        (9, [500, 1000, 1500, 2000, 2500, 3000]),
        (0, [1000]),
    ],
)
def test_the_newest_and_the_best_are_kept_in_any_row_order(keep: int, kept: list[int]) -> None:
    rows = [checkpoint_row(step, validation_loss=loss) for step, loss in LOSSES]
    assert list(kept_steps(rows, keep)) == kept
    assert list(kept_steps(rows[::-1], keep)) == kept


def test_without_evaluations_only_the_newest_are_kept() -> None:
    assert list(kept_steps([checkpoint_row(step) for step in (1, 2, 3)], 2)) == [2, 3]
    assert kept_steps([], 2) == {}


def test_the_best_is_finite_and_the_earliest_of_equals() -> None:
    assert best_step(LOSSES) == 1000
    assert best_step([(1, math.nan), (2, math.inf), (3, None)]) is None
    assert best_step([(1, -math.inf), (2, 1.0)]) == 2


def test_multiples_and_pinned_ones_are_kept() -> None:
    rows = [checkpoint_row(step) for step in range(100, 1_100, 100)]
    assert kept_steps(rows, 2, keep_every=300, pinned={100, 900, 7}) == {
        100: "pinned",
        300: "every 300",
        600: "every 300",
        900: "pinned, newest, every 300",
        1_000: "newest",
    }


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
