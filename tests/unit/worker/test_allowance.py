"""The time that a thread beside the training may take, with clocks that only the test turns."""

from __future__ import annotations

import pytest

from rnnlm_tui.worker.allowance import LONGEST_REST, Allowance


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


def test_a_burst_within_what_was_saved_up_waits_for_nothing(used: Clock, now: Clock) -> None:
    allowance = Allowance(0.01, 0.05, used=used, now=now)
    used.seconds = 0.05
    assert allowance.rest() == 0.0


def test_whoever_used_more_rests_until_its_share_has_come_in_again(used: Clock, now: Clock) -> None:
    allowance = Allowance(0.01, 0.05, used=used, now=now)
    used.seconds = 0.054
    assert allowance.rest() == pytest.approx(0.4)
    now.seconds = 0.2
    assert allowance.rest() == pytest.approx(0.2)
    now.seconds = 0.4
    assert allowance.rest() == pytest.approx(0.0)


def test_a_flood_gets_its_share_and_no_more(used: Clock, now: Clock) -> None:
    allowance = Allowance(0.01, 0.05, used=used, now=now)
    while now.seconds < 1_000.0:
        used.seconds += 0.0005
        now.seconds += 0.0005 + allowance.rest()
    assert used.seconds == pytest.approx(0.01 * 1_000.0 + 0.05, rel=0.01)


def test_a_long_silence_saves_up_no_more_than_the_most(used: Clock, now: Clock) -> None:
    allowance = Allowance(0.01, 0.05, used=used, now=now)
    now.seconds = 1e6
    assert allowance.rest() == 0.0
    used.seconds = 0.054
    assert allowance.rest() == pytest.approx(0.4)


def test_work_of_a_moment_that_is_not_its_own_does_not_silence_it(used: Clock, now: Clock) -> None:
    allowance = Allowance(0.005, 0.05, used=used, now=now)
    used.seconds = 0.3  # as when all of the process's objects are cleaned up in this thread
    assert allowance.rest() == LONGEST_REST
    now.seconds = LONGEST_REST
    assert allowance.rest() == pytest.approx(0.0)
