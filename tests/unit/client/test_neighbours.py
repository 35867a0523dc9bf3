"""Cores used by other processes, reported if a run's threads lack them."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.store.summary import LOAD_READINGS, others_cores


def reading(busy: float, own: float) -> HardwareRow:
    return HardwareRow(0.0, busy, own, 1, 2, 1, 1)


@pytest.mark.parametrize(
    ("busy", "own", "cores", "threads", "held"),
    [
        (100.0, 50.0, 2, 2, 1.0),
        (100.0, 98.0, 2, 2, None),
        (100.0, 86.0, 2, 2, None),  # 0.28 of a core
        (100.0, 80.0, 2, 2, 0.4),
        (100.0, 50.0, 2, 1, None),  # the other core is free for others
        (60.0, 55.0, 16, 16, 0.8),
        (100.0, 120.0, 2, 2, None),
    ],
)
def test_more_than_a_third_of_a_core_is_reported(
    busy: float, own: float, cores: int, threads: int, held: float | None
) -> None:
    assert others_cores([reading(busy, own)] * LOAD_READINGS, cores=cores, threads=threads) == held


def test_only_the_last_ten_seconds_count() -> None:
    assert (
        others_cores(
            [reading(100, 10)] * 20 + [reading(100, 99)] * LOAD_READINGS, cores=2, threads=2
        )
        is None
    )
    assert (
        others_cores(
            [reading(100, 99)] * 20 + [reading(100, 50)] * LOAD_READINGS, cores=2, threads=2
        )
        == 1.0
    )


def test_a_single_peak_is_not_reported() -> None:
    assert others_cores([reading(100, 99)] * 4 + [reading(100, 60)], cores=2, threads=2) is None


def test_nothing_is_reported_right_after_the_start() -> None:
    assert others_cores([reading(100, 0)] * 2, cores=2, threads=2) is None
    assert others_cores([], cores=2, threads=2) is None
