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


@pytest.fixture
def used() -> Clock:
    return Clock()


@pytest.fixture
def now() -> Clock:
    return Clock()


def test_a_burst_within_the_saved_time_does_not_wait(used: Clock, now: Clock) -> None:
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    used.seconds = 0.05
    assert limit.rest_seconds() == 0.0


def test_a_thread_that_used_more_rests_until_its_share_is_earned(used: Clock, now: Clock) -> None:
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    used.seconds = 0.054
    assert limit.rest_seconds() == pytest.approx(0.4)
    now.seconds = 0.2
    assert limit.rest_seconds() == pytest.approx(0.2)
    now.seconds = 0.4
    assert limit.rest_seconds() == pytest.approx(0.0)


def test_a_flood_gets_no_more_than_its_share(used: Clock, now: Clock) -> None:
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    while now.seconds < 1_000.0:
        used.seconds += 0.0005
        now.seconds += 0.0005 + limit.rest_seconds()
    assert used.seconds == pytest.approx(0.01 * 1_000.0 + 0.05, rel=0.01)


def test_a_long_silence_saves_up_no_more_than_the_burst(used: Clock, now: Clock) -> None:
    limit = RateLimit(0.01, 0.05, used=used, now=now)
    now.seconds = 1e6
    assert limit.rest_seconds() == 0.0
    used.seconds = 0.054
    assert limit.rest_seconds() == pytest.approx(0.4)


def test_a_garbage_collection_in_the_thread_does_not_silence_it_for_long(
    used: Clock, now: Clock
) -> None:
    limit = RateLimit(0.005, 0.05, used=used, now=now)
    used.seconds = 0.3  # as a garbage collection in this thread
    assert limit.rest_seconds() == MAX_REST_SECONDS
    now.seconds = MAX_REST_SECONDS
    assert limit.rest_seconds() == pytest.approx(0.0)
