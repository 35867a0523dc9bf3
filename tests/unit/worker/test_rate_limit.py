"""The CPU time that the control thread may use, with clocks that the test sets."""

from __future__ import annotations

import pytest

from rnnlm_tui.worker.control import MAX_REST_SECONDS, RateLimit


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_thread_that_used_more_than_its_burst_rests_until_its_share_is_earned() -> None:
    used, now = Clock(), Clock()
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    for used.seconds, now.seconds, rests in (
        (0.05, 0.0, 0.0),
        (0.054, 0.0, 0.4),
        (0.054, 0.2, 0.2),
        (0.054, 0.4, 0.0),
        (0.354, 0.4, MAX_REST_SECONDS),  # a garbage collection in this thread
        (0.354, 0.4 + MAX_REST_SECONDS, 0.0),
    ):
        assert limit.rest_seconds() == pytest.approx(rests)


def test_a_flood_gets_no_more_than_its_share_and_a_silence_saves_up_only_the_burst() -> None:
    used, now = Clock(), Clock()
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    while now.seconds < 1_000.0:
        used.seconds += 0.0005
        now.seconds += 0.0005 + limit.rest_seconds()
    assert used.seconds == pytest.approx(0.01 * 1_000.0 + 0.05, rel=0.01)
    now.seconds += 1e6
    assert limit.rest_seconds() == 0.0
    used.seconds += 0.054
    assert limit.rest_seconds() == pytest.approx(0.4)
