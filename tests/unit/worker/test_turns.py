"""Who was served how often lately, with a clock that only the test turns."""

from __future__ import annotations

from rnnlm_tui.worker.turns import MEMORY_SECONDS, Turns


def test_turns_are_counted_by_process_and_forgotten_after_a_while() -> None:
    seconds = 0.0
    turns = Turns(now=lambda: seconds)
    for _ in range(3):
        turns.count(7)
    turns.count(8)
    assert [turns.of(peer) for peer in (7, 8, 9)] == [3, 1, 0]
    seconds = MEMORY_SECONDS
    turns.count(8)
    assert [turns.of(peer) for peer in (7, 8, 9)] == [0, 1, 0]
