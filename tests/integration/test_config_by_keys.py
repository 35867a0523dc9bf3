"""By keys alone, on the real services: a config is filled in, its run steered and forked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.steer import SteerScreen
from tests.integration.runs import wait_for_step
from tests.tui.panes.filling import edited, focused, pane
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import text_of, until

pytestmark = pytest.mark.usefixtures("warm")
RATE = "optimizer.learning_rate"
SMALL = {
    "training.batch_size": 4,
    "training.bptt": 16,
    "training.threads": 1,
    "schedule.warmup_steps": 7,
    "evaluation.every": 20,
    "checkpoint.every": 20,
}
"""What a draft changes in the demo, for short steps; the rest is filled in by keys."""


async def find(pilot: Pilot[int], key: str) -> None:
    """Go to a field by its key, as the search does."""
    assert isinstance(pilot.app, RnnlmApp)
    app = pilot.app
    await pilot.press("slash")
    await until_shown(pilot, "Find a field")
    await pilot.press(*key, "enter")
    await until(pilot, lambda: app.screen is app.pane_screen and focused(app) == key)


async def fill(pilot: Pilot[int], key: str, text: str) -> None:
    """Find a field and type its value."""
    await find(pilot, key)
    await pilot.press("enter", *text, "enter")
    assert isinstance(pilot.app, RnnlmApp)
    form = pane(pilot.app).form
    await until(pilot, lambda: form.path == key and not form.editing)


async def fill_in_and_start(pilot: Pilot[int], text: Path) -> RunDirectory:
    """Fill in a small config, meet an error, compare with the preset, and start the run."""
    app = pilot.app
    assert isinstance(app, RnnlmApp)
    await until_shown(pilot, "○ draft")
    # the text, by browsing
    await find(pilot, "corpus.source")
    await pilot.press("b")
    await until_shown(pilot, "Choose a text", text.name)
    await pilot.press(*text.name[:4])
    await until_shown(pilot, "first lines as")
    await pilot.press("enter")
    await until(pilot, lambda: edited(app).corpus.source == str(text))
    # a choice, by its list
    await find(pilot, "tokenizer.kind")
    await pilot.press("enter")
    await until_shown(pilot, "enter choose")
    await pilot.press("up", "up", "enter")
    await until(pilot, lambda: edited(app).tokenizer.kind == "character")
    await until_shown(pilot, "first lines as tokens")
    # an error appears, and the suggestion lets it go
    await fill(pilot, "model.hidden_size", "24")
    await until_shown(pilot, "✗ 1 problem", "set embedding = hidden size")
    await pilot.press("f5")
    await until_shown(pilot, "Fix 1 problem before starting")
    await pilot.press("A")
    await until(pilot, lambda: "✗ 1 problem" not in screen_text(app))
    assert (edited(app).model.embedding_dim, edited(app).model.hidden_size) == (24, 24)
    # switches by space, and an edit that is undone
    await find(pilot, "training.deterministic")
    await pilot.press("space")
    await until(pilot, lambda: edited(app).training.deterministic)
    await fill(pilot, "training.max_steps", "100000")
    await fill(pilot, "training.seed", "123")
    await pilot.press("f6")
    await until(pilot, lambda: edited(app).training.seed == 42)
    # only what differs from the preset
    await pilot.press("v")
    await until_shown(pilot, "Only what differs from preset demo", "demo 192", "demo bpe")
    assert "weight decay" not in screen_text(app)
    await pilot.press("f5")
    await until(pilot, lambda: app.current_mode == "train" and app.run_directory is not None)
    assert app.run_directory is not None
    return app.run_directory


async def change_rate_by_keys(
    app: RnnlmApp, pilot: Pilot[int], run: RunDirectory, rate: str
) -> None:
    """Change the peak learning rate of the live run on the Train or Runs pane, and see it
    requested, then confirmed. The form stays open.

    The worker is stopped by a signal in between, so that the request is seen for certain.
    """
    await pilot.press("E")
    await until(pilot, lambda: isinstance(app.screen, SteerScreen))
    await pilot.press("enter", "ctrl+u", *rate, "enter")
    await until(pilot, lambda: "was" in text_of(app))
    worker = read_lock(run.lock_path).pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    try:
        await pilot.press("f5")
        await until(pilot, lambda: f"requested: learning_rate {float(rate):g}" in text_of(app))
    finally:
        os.kill(worker, signal.SIGCONT)
    await until(pilot, lambda: "✓ confirmed at step" in text_of(app))


async def undo_by_keys(app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Undo the last change from the open form, and close the form."""
    await until(pilot, lambda: "F6" in text_of(app) or "confirmed" in text_of(app))
    await pilot.press("f6")
    await until(pilot, lambda: "✓ undone at step" in text_of(app))
    await pilot.press("escape")
    await until(pilot, lambda: not isinstance(app.screen, SteerScreen))


def journal_of(run: RunDirectory) -> list[tuple[int, str, object, object, int]]:
    """Step, key, old and new value and what it undoes, for each recorded change."""
    with RunReader(run) as reader:
        return [
            (change.step, one.path, one.old, one.new, change.undoes)
            for change in reader.changes()
            for one in change.settings
        ]


async def fork_by_keys(pilot: Pilot[int], parent: RunDirectory) -> RunDirectory:
    """Fork the selected checkpoint of the checkpoints pane with another seed; the new run."""
    app = pilot.app
    assert isinstance(app, RnnlmApp)
    await pilot.press("F")
    await until_shown(pilot, f"fork of {parent.name}@")
    await pilot.press("slash", *"training.seed")
    await until_shown(pilot, "training.seed")
    await pilot.press("enter")
    await until(pilot, lambda: focused(app) == "training.seed")
    await pilot.press("enter", "ctrl+u", *"43", "enter")
    await until_shown(pilot, "was 42")
    await pilot.press("f5")
    await until(pilot, lambda: app.current_mode == "train")
    return next(run for run in list_runs() if run.name != parent.name)


async def test_a_run_is_configured_steered_and_forked_by_keys(
    home: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    app = RnnlmApp(create_run(parse_config(merge(DEMO, SMALL))), "config")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        run = await fill_in_and_start(pilot, text)
        wait_for_step(run, 21)
        await until_shown(pilot, "running")
        assert [found.name for found in list_runs()] == [run.name]
        config = run.read_config()
        assert (config.preset, config.corpus.source) == ("demo", str(text))
        assert config.tokenizer.kind == "character"
        assert (config.model.embedding_dim, config.model.hidden_size) == (24, 24)
        assert config.training.deterministic
        assert (config.training.max_steps, config.training.batch_size) == (100_000, 4)
        assert config.training.seed == 42
        await change_rate_by_keys(app, pilot, run, "0.001")
        await undo_by_keys(app, pilot)
        rate = config.optimizer.learning_rate
        assert [change[1:] for change in journal_of(run)] == [
            (RATE, rate, 0.001, 0),
            (RATE, 0.001, rate, 1),
        ]
        await stop_by_keys(pilot, run)
        await pilot.press("3")
        await until_shown(pilot, "★ best")
        child = await fork_by_keys(pilot, run)
        found = read_parent(child)
        assert found is not None
        assert (found.run, found.changed) == (run.name, {"training.seed": (42, 43)})
        wait_for_step(child, 1)
        await until_shown(pilot, "● running")
        await stop_by_keys(pilot, child)


async def stop_by_keys(pilot: Pilot[int], run: RunDirectory) -> None:
    """Stop the run on the Train pane."""
    await pilot.press("S")
    await until_shown(pilot, f"Stop {run.name}?")
    await pilot.press("enter")
    await until(pilot, lambda: not read_lock(run.lock_path).held)
