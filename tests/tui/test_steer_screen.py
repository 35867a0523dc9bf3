"""The form that changes a live run: fields, problems, planned rates, requested and confirmed."""

from __future__ import annotations

import threading

import pytest
from textual.pilot import Pilot

from rnnlm_tui.errors import ConfigError, Problem, RunStateError
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.steering import JournalledChange
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.steer import SteerScreen
from rnnlm_tui.tui.views.steer import STEER_FIELDS, checked, plan_chart
from rnnlm_tui.tui.widgets.form_row import FieldRow
from tests.tui.fakes import make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


async def opened(app: RnnlmApp, pilot: Pilot[int]) -> SteerScreen:
    """Press the key, and wait for the form."""
    await pilot.press("E")
    await until(pilot, lambda: isinstance(app.screen, SteerScreen))
    assert isinstance(app.screen, SteerScreen)
    return app.screen


async def type_value(pilot: Pilot[int], text: str) -> None:
    """Replace the focused field's value."""
    await pilot.press("enter", "ctrl+u", *text, "enter")


@pytest.mark.parametrize("pane", ["train", "runs"])
async def test_a_change_is_requested_then_confirmed_and_can_be_undone(pane: Pane) -> None:
    services = with_runs(make_snapshot())
    services.slow_worker = threading.Event()
    async with running_app(services, pane=pane) as (app, pilot):
        screen = await opened(app, pilot)
        await type_value(pilot, "0.001")
        assert "was 3e-3" in text_of(app)
        assert "→" in text_of(app)
        await pilot.press("f5")
        await until(pilot, lambda: "requested: learning_rate 0.001 …" in text_of(app))
        await pilot.press("f5")
        await until(pilot, lambda: "requested already" in text_of(app))
        services.slow_worker.set()
        await until(pilot, lambda: "✓ confirmed at step 3,752" in text_of(app))
        await until(pilot, lambda: not screen.draft.changes and screen.draft.can_undo)
        await pilot.press("f6")
        await until(pilot, lambda: "✓ undone at step 3,752" in text_of(app))
        assert [(one.settings, one.undoes) for one in services.changes] == [
            ((Setting(path="optimizer.learning_rate", old=0.003, new=0.001),), 0),
            ((Setting(path="optimizer.learning_rate", old=0.001, new=0.003),), 1),
        ]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SteerScreen))


async def test_values_that_were_not_sent_are_dropped_only_by_a_second_escape() -> None:
    async with running_app(with_runs(make_snapshot())) as (app, pilot):
        screen = await opened(app, pilot)
        await type_value(pilot, "0.001")
        await pilot.press("escape")
        await until(pilot, lambda: "1 change not sent: F5 sends, esc again drops" in text_of(app))
        assert app.screen is screen
        await type_value(pilot, "0.002")
        await pilot.press("escape")
        assert app.screen is screen, "another value asks again"
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)


async def test_a_problem_is_beside_its_field_and_nothing_is_sent() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("down", "down")
        await type_value(pilot, "2")
        await pilot.press("up")
        assert "✗ must be at most 0.99" in text_of(app)
        assert "1 problem to fix first" in text_of(app)
        await pilot.press("f5")
        await until(pilot, lambda: "✗ not sent" in text_of(app))
        assert isinstance(app.focused, FieldRow)
        assert app.focused.field.path == "model.dropout"
        await pilot.press("u")
        assert screen.draft.problems == ()
        await pilot.press("f5")
        await until(pilot, lambda: "nothing is changed yet" in text_of(app))
        assert services.changes == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ConfigError([Problem("training.max_steps", "is 4,000, must be above step 4,100")]),
            "✗ is 4,000, must be above step 4,100",
        ),
        (RunStateError("the run has just finished", hint="press n"), "✗ the run has just finished"),
    ],
)
async def test_what_the_worker_refuses_is_shown(error: ConfigError, words: str) -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("down", "down", "down")
        await type_value(pilot, "4000")
        services.refuse = error
        await pilot.press("f5")
        await until(pilot, lambda: words in text_of(app))
        assert dict(screen.draft.changes) == {"training.max_steps": 4000}, "nothing typed is lost"


async def test_prompts_are_edited_one_a_line() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        screen = await opened(app, pilot)
        at = next(i for i, field in enumerate(STEER_FIELDS) if field.path == "evaluation.prompts")
        await pilot.press(*["down"] * at, "enter")
        await until(pilot, lambda: "one per line" in text_of(app))
        await pilot.press("enter", *"She", "ctrl+s")
        await until(pilot, lambda: app.screen is screen)
        prompts = screen.draft.changes["evaluation.prompts"]
        assert isinstance(prompts, list)
        assert prompts[-1] == "She"


async def test_a_change_from_another_terminal_is_seen_in_the_open_form() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        screen = await opened(app, pilot)
        await type_value(pilot, "0.002")
        services.steer(services.run("plain-otter"), {"model.dropout": 0.5})
        await until(pilot, lambda: screen.draft.state.config.model.dropout == 0.5)
        assert "0.5" in text_of(app)
        assert dict(screen.draft.changes) == {"optimizer.learning_rate": 0.002}


@pytest.mark.parametrize(
    ("status", "words"), [("finished", "is finished"), ("stopped", "it is stopped")]
)
async def test_an_ended_run_is_not_changed(status: str, words: str) -> None:
    services = with_runs(make_snapshot(status))  # type: ignore[arg-type]
    async with running_app(services, size=(120, 40)) as (app, pilot):
        await pilot.press("E")
        await until(pilot, lambda: words in text_of(app))
        assert not isinstance(app.screen, SteerScreen)


async def test_the_last_change_is_undone_from_the_pane() -> None:
    services = with_runs(make_snapshot())
    setting = Setting(path="optimizer.learning_rate", old=0.004, new=0.003)
    services.changes = [JournalledChange(1, 3_000, 0.0, "alex, pts/3", (setting,))]
    async with running_app(services, size=(120, 40)) as (app, pilot):
        await pilot.press("f6")
        await until(pilot, lambda: "undone at step 3,752" in lines_of(app)[-1])
        assert services.changes[-1].undoes == 1


def test_the_planned_rates_are_drawn_old_and_new() -> None:
    services = with_runs(make_snapshot())
    state = services.steering(services.run("plain-otter"))
    before = plan_chart(checked(state, {}))
    assert [series.name for series in before.series] == ["now"]
    after = plan_chart(
        checked(state, {"optimizer.learning_rate": 0.001, "training.max_steps": 9_000})
    )
    (new,), (now,) = after.series, after.guides
    assert (new.x[0], new.x[-1], now.x[-1]) == (3_752, 9_000, 4_750)
    assert after.x_end == 9_000
    assert new.mean[-1] == pytest.approx(0.001 * state.config.schedule.final_fraction)
