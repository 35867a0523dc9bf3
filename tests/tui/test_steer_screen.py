"""The form that changes a live run: fields, problems, planned rates, requested and confirmed."""

from __future__ import annotations

import threading

import pytest
from textual.events import Key
from textual.pilot import Pilot

from rnnlm_tui.errors import ConfigError, Problem, RunStateError
from rnnlm_tui.schema.config import CheckpointConfig
from rnnlm_tui.schema.protocol import CommandResult, Setting, SettingsChange
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.messages import outcome
from rnnlm_tui.tui.screens.steer import SteerScreen
from rnnlm_tui.tui.views.steer import STEER_FIELDS, checked, confirmed_text, plan_chart
from rnnlm_tui.tui.widgets.form_row import FieldRow
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, shows, text_of, until

RATE = "optimizer.learning_rate"


async def opened(app: RnnlmApp, pilot: Pilot[int]) -> SteerScreen:
    """Press the key, and wait for the form."""
    await pilot.press("E")
    await until(pilot, lambda: isinstance(app.screen, SteerScreen))
    assert isinstance(app.screen, SteerScreen)
    return app.screen


async def type_value(pilot: Pilot[int], text: str) -> None:
    """Replace the focused field's value."""
    await pilot.press("enter", "ctrl+u", *text, "enter")


async def test_a_change_is_checked_requested_confirmed_and_undone_in_the_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = FakeServices(make_snapshot())
    services.slow_worker = threading.Event()
    async with running_app(services) as (app, pilot):
        # values that were not sent are dropped only by a second escape
        screen = await opened(app, pilot)
        for value in ("0.001", "0.002"):
            await type_value(pilot, value)
            await pilot.press("escape")
            await until(pilot, lambda: shows(app, "1 change not sent: F5 sends, esc again drops"))
            assert app.screen is screen, "another value asks again"
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)

        # a problem is beside its field, and nothing is sent
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

        # what the worker refuses is shown, and nothing typed is lost
        services.slow_worker.set()
        await pilot.press("down")
        await type_value(pilot, "4000")
        reason = "is 4,000, must be above step 4,100"
        for error, words in (
            (RunStateError("the run has just finished", hint="press n"), "✗ the run has just"),
            (ConfigError([Problem("training.max_steps", reason)]), f"✗ {reason}"),
        ):
            services.refuse = error
            await pilot.press("f5")
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
            assert dict(screen.draft.changes) == {"training.max_steps": 4000}
        await pilot.press("u")

        # prompts are edited one a line
        at = next(i for i, field in enumerate(STEER_FIELDS) if field.path == "evaluation.prompts")
        await pilot.press(*["up"] * 9, *["down"] * at, "enter")
        await until(pilot, lambda: "one per line" in text_of(app))
        await pilot.press("enter", *"She", "ctrl+s")
        await until(pilot, lambda: app.screen is screen)
        prompts = screen.draft.changes["evaluation.prompts"]
        assert isinstance(prompts, list)
        assert prompts[-1] == "She"
        await pilot.press("u", *["up"] * 9)
        assert screen.draft.changes == {}

        # a change from another terminal is seen in the open form
        services.refuse, services.slow_worker = None, None
        await type_value(pilot, "0.001")
        assert "was 3e-3" in text_of(app)
        assert "→" in text_of(app)
        services.steer(services.run("plain-otter"), {"model.dropout": 0.5})
        await until(pilot, lambda: screen.draft.state.config.model.dropout == 0.5)
        assert "0.5" in text_of(app)
        assert dict(screen.draft.changes) == {RATE: 0.001}

        services.slow_worker = threading.Event()
        await pilot.press("f5")
        await until(pilot, lambda: "requested: learning_rate 0.001 …" in text_of(app))
        await pilot.press("f5")
        await until(pilot, lambda: "requested already" in text_of(app))
        await pilot.press("down")
        await type_value(pilot, "2.5")
        noted: list[tuple[str, dict[str, object]]] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                screen, "note", lambda text, _: noted.append((text, dict(screen.draft.changes)))
            )
            services.slow_worker.set()
            await until(pilot, lambda: noted)
        # once it is confirmed, only what wasn't sent is left, and F6 undoes the change at once
        ((words, left),) = noted
        assert words.startswith("✓ confirmed at step 3,752")
        assert left == {"optimizer.max_grad_norm": 2.5}
        await pilot.press("u")
        for _ in range(2):  # at once: the second comes before the first is sent
            app.post_message(Key("f6", None))
        await until(pilot, lambda: "✓ undone at step 3,752" in text_of(app))
        assert [(one.settings, one.undoes) for one in services.changes[1:]] == [
            ((Setting(path=RATE, old=0.003, new=0.001),), 0),
            ((Setting(path=RATE, old=0.001, new=0.003),), 2),
        ]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SteerScreen))


async def test_a_live_run_is_changed_from_the_list_and_an_ended_one_is_not() -> None:
    services = FakeServices(make_snapshot())
    services.slow_worker = threading.Event()
    async with running_app(services, pane="runs", size=(120, 40)) as (app, pilot):
        screen = await opened(app, pilot)
        await type_value(pilot, "0.001")
        await pilot.press("f5", "escape")  # the request stays, and is answered on the pane
        await until(pilot, lambda: app.screen is not screen)
        services.slow_worker.set()
        await until(pilot, lambda: "confirmed at step 3,752" in lines_of(app)[-1])
        await pilot.press("f6")
        await until(pilot, lambda: "undone at step 3,752" in lines_of(app)[-1])
        assert services.changes[-1].undoes == 1
        for status, words in (("finished", "is finished"), ("stopped", "it is stopped")):
            services.snapshots["plain-otter"] = make_snapshot(status)  # type: ignore[arg-type]
            await pilot.press("E")
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
            assert not isinstance(app.screen, SteerScreen)


def test_the_planned_rates_are_drawn_old_and_new() -> None:
    services = FakeServices(make_snapshot())
    state = services.steering(services.run("plain-otter"))
    before = plan_chart(checked(state, {}))
    assert [series.name for series in before.series] == ["now"]
    after = plan_chart(checked(state, {RATE: 0.001, "training.max_steps": 9_000}))
    (new,), (now,) = after.series, after.guides
    assert (new.x[0], new.x[-1], now.x[-1]) == (3_752, 9_000, 4_750)
    assert after.x_end == 9_000
    assert new.mean[-1] == pytest.approx(0.001 * state.config.schedule.final_fraction)


def test_a_saved_checkpoint_says_how_long_it_stays_and_what_pins_it() -> None:
    saved = CommandResult(id="a", ok=True, step=1500, checkpoint="checkpoints/step-000001500")
    for kept, words in (
        (CheckpointConfig(), " until 2 newer ones exist: {key:pin_checkpoint} on Checkpoints"),
        (CheckpointConfig(keep_last=5, keep_every=1000), " until 5 newer ones exist: {key:"),
        (CheckpointConfig(keep_every=500), ""),
    ):
        text = outcome("checkpoint", saved, kept.stays(1500)).text
        assert text.startswith(f"checkpoint saved at step 1,500{words}")
        assert words or text.endswith("1,500")
        change = SettingsChange(number=1, step=1500, settings=())
        changed = confirmed_text(saved.model_copy(update={"change": change}), kept)
        assert (f"; saved before it{words}" in changed) == bool(words)


def test_a_stop_reports_a_checkpoint_only_if_there_is_one() -> None:
    saved = CommandResult(id="a", ok=True, step=12, checkpoint="checkpoints/step-000000012")
    assert outcome("stop", saved).text == "stopped at step 12, checkpoint saved"
    assert outcome("stop", CommandResult(id="a", ok=True)).text == "stopped before its first step"
