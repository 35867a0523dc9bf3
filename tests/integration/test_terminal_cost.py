"""The app's cost, printed and checked against its budgets with room for a busy machine.

`python -m tests.benchmarks.terminal_cost` measures longer.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.terminal_cost import LINK, Costs, measure, most_behind, p95, report

STEPS = 1_000_000
SECONDS = 2.0
KEYS = 12
RUNS = 30
SLOW = 12
"""Factor for a machine that runs other tests at the same time."""


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """Everything, measured once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(tmp_path_factory.mktemp("home")))
        return measure(STEPS, SECONDS, KEYS, lambda _text: None, RUNS)


def test_costs_are_printed(costs: Costs, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{report(costs)}")  # noqa: T201
    assert "dashboard" in report(costs)


def test_an_idle_app_sends_nothing(costs: Costs) -> None:
    assert costs.idle.rate == 0


def test_a_first_paint_is_small(costs: Costs) -> None:
    assert costs.paint.size <= LINK
    assert costs.live_paint.size <= LINK


def test_the_dashboard_of_a_training_run_sends_less_than_2_kib_a_second(costs: Costs) -> None:
    assert 0 < costs.live.rate <= 2_048 * 2


def test_a_watching_app_leaves_the_cores_to_the_run(costs: Costs) -> None:
    assert costs.live.processor <= 3 * 4


def test_a_run_of_a_million_steps_opens_and_zooms_without_delay(costs: Costs) -> None:
    assert costs.paint.usable <= 500 * SLOW
    assert costs.opened <= 300 * SLOW
    assert costs.zoomed.last <= 50 * SLOW


def test_keys_are_answered_at_once_with_free_and_busy_cores(costs: Costs) -> None:
    assert p95(costs.keys) <= 30 * SLOW
    assert p95(costs.busy_keys) <= 50 * SLOW
    assert p95(costs.live_keys) <= 50 * SLOW


def test_a_slow_terminal_gets_the_newest_picture(costs: Costs) -> None:
    assert costs.live.behind <= 0.5 * 4
    assert costs.behind <= 0.5 * 4


def test_a_slow_link_buffers_output() -> None:
    assert most_behind([(0.0, LINK), (0.5, LINK // 2)]) == pytest.approx(1.0)
    assert most_behind([(0.0, LINK // 4), (2.0, LINK // 8)]) == pytest.approx(0.25)


def test_the_list_of_runs_is_painted_without_reading_them(costs: Costs) -> None:
    assert costs.listed.verb <= 400 * SLOW
    assert costs.listed.paint.usable <= 500 * SLOW


def test_a_cursor_move_in_the_list_sends_two_rows_and_changed_details(costs: Costs) -> None:
    assert max(move.size for move in costs.listed.moves) <= 3_000
    assert p95(costs.listed.moves) <= 20 * SLOW
