"""The form that changes a live run: fields, problems, planned rates, requested and confirmed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import time
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot

from rnnlm_tui.client.steering import read_steering, steer
from rnnlm_tui.errors import ConfigError, Problem, RnnlmError, RunStateError
from rnnlm_tui.schema.config import CheckpointConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import CommandRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.protocol import CommandResult, Setting, SettingsChange
from rnnlm_tui.schema.steering import next_to_undo, settings_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.messages import outcome
from rnnlm_tui.tui.screens.steer import SteerScreen, confirmed_text
from tests.homes import trained, training
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, text_of, until

RATE = "optimizer.learning_rate"


class Worker:
    """Takes changes into the log of the run that trains, once it may answer."""

    def __init__(self, train_to: Callable[..., None]) -> None:
        self.may_answer = threading.Event()
        self.refusal: RnnlmError | None = None
        self.changes: list[SettingsChange] = []
        self._train_to = train_to
        self.write()

    def send(self, run: RunDirectory, verb: str, *, changes: Any = None) -> CommandResult:
        assert self.may_answer.wait(60)
        if self.refusal is not None:
            raise self.refusal
        state = read_steering(run)
        undone = next_to_undo(state.journal) if verb == "undo" else None
        if undone is not None:
            changes = {one.path: one.old for one in undone.settings}
        change = SettingsChange(
            number=len(self.changes) + 1,
            step=state.summary.step,
            settings=settings_of(state.config, state.changed(changes)),
            undoes=0 if undone is None else undone.number,
        )
        self.changes.append(change)
        result = CommandResult(id="1", ok=True, step=change.step, change=change, checkpoint="saved")
        answer = result.model_dump(mode="json")
        self.write(CommandRow(1, str(change.number), verb, {}, answer, time()))
        return result

    def write(self, *rows: CommandRow) -> None:
        """Append rows, and the settings that are in effect."""
        settings = {one.path: one.new for change in self.changes for one in change.settings}
        facts = Facts(max_steps=2_970, steps_per_epoch=594, settings=settings)
        self._train_to(0, *rows, facts)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The worker of a run that trains."""
    with training(config=DEMO) as go_on:
        found = Worker(go_on)
        for place in ("control", "steering"):
            monkeypatch.setattr(f"rnnlm_tui.client.{place}.send", found.send)
        yield found


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
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("brisk-heron")
    async with at_home(pane="train") as (app, pilot):
        # values that were not sent are dropped only by a second escape
        screen = await opened(app, pilot)
        for value in ("0.001", "0.002"):
            await type_value(pilot, value)
            await press(pilot, "escape", "1 change not sent: F5 sends, esc again drops")
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
        await press(pilot, "f5", "✗ not sent")
        assert screen.form.path == "model.dropout"
        await pilot.press("u")
        assert screen.problems == ()
        await press(pilot, "f5", "nothing is changed yet")
        assert worker.changes == []

        # what the worker refuses is shown, and nothing typed is lost
        worker.may_answer.set()
        await pilot.press("down")
        await type_value(pilot, "4000")
        reason = "is 4,000, must be above step 4,100"
        for error, words in (
            (RunStateError("the run has just finished", hint="press n"), "✗ the run has just"),
            (ConfigError([Problem("training.max_steps", reason)]), f"✗ {reason}"),
        ):
            worker.refusal = error
            await pilot.press("f5")
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
            assert dict(screen.draft.changes) == {"training.max_steps": 4000}
        await pilot.press("u")

        # prompts are edited one a line
        screen.form.go_to("evaluation.prompts")
        await press(pilot, "enter", "one per line")
        await pilot.press("enter", *"She", "ctrl+s")
        await until(pilot, lambda: app.screen is screen)
        assert screen.draft.changes["evaluation.prompts"][-1] == "She"
        await pilot.press("u", *["up"] * 9)
        assert screen.draft.changes == {}

        # a change from another terminal is seen in the open form
        worker.refusal = None
        await type_value(pilot, "0.001")
        assert "was 3e-3" in text_of(app)
        assert "→" in text_of(app)
        steer(find_run("plain-otter"), {"model.dropout": 0.5})
        await until(pilot, lambda: screen.state.config.model.dropout == 0.5)
        assert "0.5" in text_of(app)
        assert dict(screen.draft.changes) == {RATE: 0.001}

        worker.may_answer.clear()
        await press(pilot, "f5", "requested: learning_rate 0.001 …")
        await press(pilot, "f5", "requested already")
        await pilot.press("down")
        await type_value(pilot, "2.5")
        noted: list[tuple[str, dict[str, object]]] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                screen, "note", lambda text, _: noted.append((text, dict(screen.draft.changes)))
            )
            worker.may_answer.set()
            await until(pilot, lambda: noted)
        # once it is confirmed, only what wasn't sent is left, and F6 undoes the change at once
        ((words, left),) = noted
        assert words.startswith("✓ confirmed at step 2,400")
        assert words.endswith("newer ones exist: p on Checkpoints pins it")
        assert left == {"optimizer.max_grad_norm": 2.5}
        await pilot.press("u")
        for _ in range(2):  # at once: the second comes before the first is sent
            app.post_message(Key("f6", None))
        await until(pilot, lambda: "✓ undone at step 2,400" in text_of(app))
        assert [(one.settings, one.undoes) for one in worker.changes[1:]] == [
            ((Setting(path=RATE, old=0.003, new=0.001),), 0),
            ((Setting(path=RATE, old=0.001, new=0.003),), 2),
        ]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SteerScreen))

        # from the list a live run is changed too, and an ended one is not
        await press(pilot, "r", "brisk-heron")
        screen = await opened(app, pilot)
        await type_value(pilot, "0.001")
        worker.may_answer.clear()
        await pilot.press("f5", "escape")  # the request stays, and is answered on the pane
        await until(pilot, lambda: app.screen is not screen)
        worker.may_answer.set()
        await until(pilot, lambda: "confirmed at step 2,400" in lines_of(app)[-1])
        await pilot.press("f6")
        await until(pilot, lambda: "undone at step 2,400" in lines_of(app)[-1])
        assert worker.changes[-1].undoes == 4
        await press(pilot, "down E", "is finished")
        assert not isinstance(app.screen, SteerScreen)


def test_a_saved_checkpoint_says_how_long_it_stays_and_a_stop_only_if_there_is_one() -> None:
    saved = CommandResult(id="a", ok=True, step=1500, checkpoint="checkpoints/step-000001500")
    change = SettingsChange(number=1, step=1500, settings=())
    for kept, words in (
        (CheckpointConfig(), " until 2 newer ones exist: {key:pin_checkpoint} on Checkpoints pins"),
        (CheckpointConfig(keep_last=5, keep_every=1000), " until 5 newer ones exist: {key:pin"),
        (CheckpointConfig(keep_every=500), ""),
    ):
        text = outcome("checkpoint", saved, kept.stays(1500)).text
        assert text.startswith(f"checkpoint saved at step 1,500{words}")
        assert words or text.endswith("1,500")
        changed = confirmed_text(saved.model_copy(update={"change": change}), kept)
        assert (f"; saved before it{words}" in changed) == bool(words)
    assert outcome("stop", saved).text == "stopped at step 1,500, checkpoint saved"
    assert outcome("stop", CommandResult(id="a", ok=True)).text == "stopped before its first step"
