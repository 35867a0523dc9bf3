"""The prompt's three modes by keys alone, with a real run, its sampler and the files on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.states import list_states
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.inspect import InspectScreen
from rnnlm_tui.tui.views.sample_tree import Sample, SampleTree
from tests.integration.runs import start, tiny_config, wait_until_ended
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import until

pytestmark = pytest.mark.usefixtures("warm")

LONG = 200_000
"""Tokens that take longer than a test waits: such a sample has to be stopped."""


@pytest.fixture
def run(text: Path) -> RunDirectory:
    """A finished run with three checkpoints."""
    run = start(tiny_config(text, {"sampling.max_new_tokens": 40}), "calm-otter")
    wait_until_ended(run)
    return run


@asynccontextmanager
async def prompting(run: RunDirectory) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app on the prompt of the run, with its checkpoints read."""
    app = RnnlmApp(run, "prompt")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await until_shown(pilot, "@best")
        yield app, pilot


def tree(app: RnnlmApp) -> SampleTree:
    return app.prompt_session.tree


def branch(app: RnnlmApp) -> Sample:
    current = tree(app).current
    assert current is not None
    return current


async def sampled(app: RnnlmApp, pilot: Pilot[int], branches: int) -> Sample:
    """Wait for a number of branches; the newest one."""
    await until(pilot, lambda: len(tree(app).branches) == branches)
    return branch(app)


async def test_sample_stop_continue_inspect_branch_undo_keep_a_state_search_and_export(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with prompting(run) as (app, pilot):
        # sample, and stop a long one
        await pilot.press(*"The cat", "enter")
        first = await sampled(app, pilot, 1)
        assert (first.prompt, len(first.ids)) == ("The cat", 40)
        await pilot.press("tab", "tab", "tab", "tab", "tab")
        await until(pilot, lambda: getattr(app.focused, "id", "") == "setting-max_new_tokens")
        await pilot.press("end", "ctrl+u", *str(LONG), "enter")
        await pilot.press("f3")
        await until_shown(pilot, f"of {LONG:,} tokens", "esc Stop")
        await pilot.press("escape")
        stopped = await sampled(app, pilot, 2)
        assert stopped.text.startswith(first.text)
        assert 40 <= len(stopped.ids) < LONG

        # undo, and continue by as much as a text sampled in one go
        await pilot.press("f6")
        assert branch(app) is first
        await pilot.press("tab", "tab", "tab", "tab", "tab")
        await pilot.press("end", "ctrl+u", *"20", "enter", "f3")
        longer = await sampled(app, pilot, 3)
        assert (longer.parent, len(longer.ids)) == (first.number, 60)
        assert longer.ids[:40] == first.ids

        # inspect a token, and take its most likely alternative
        await pilot.press("f2")
        screen = app.pane_screen
        assert isinstance(screen, InspectScreen)
        await until(pilot, lambda: screen.scored is not None and bool(screen.choices.rows))
        await until_shown(pilot, "Instead of", "State", "longest memory first")
        await pilot.press(*["right"] * 5)
        position = screen.cursor
        await until(
            pilot,
            lambda: (
                screen.choices.answer is not None and screen.choices.answer.position == position
            ),
        )
        await pilot.press("enter", "enter")
        other = await sampled(app, pilot, 4)
        kept = other.shared
        assert other.ids[:kept] == longer.ids[:kept]
        await pilot.press("u")
        assert branch(app) is longer

        # keep the state after this token
        await pilot.press("p")
        await until_shown(pilot, "Keep")
        await pilot.press("end", "ctrl+u", *"after-five", "enter")
        await until(pilot, lambda: [state.name for state in list_states()] == ["after-five"])

        # start another sample from the state
        await pilot.press("escape", "f8")
        await until_shown(pilot, "after-five")
        await pilot.press("down", "enter")
        await until_shown(pilot, "from state after-five")
        await pilot.press("escape", "enter", "ctrl+u", "enter")
        await until(
            pilot,
            lambda: (
                bool(tree(app).branches) and branch(app).state.endswith("after-five.safetensors")
            ),
        )

        # compare two checkpoints
        await pilot.press("f2", "f2")
        await until_shown(pilot, "A calm-otter", "B calm-otter", "val ppl")
        await pilot.press("end", "ctrl+u", *"The dog", "enter")
        await until(
            pilot,
            lambda: (
                (text := screen_text(app)).count("The dog") >= 3
                and "A scores B’s text" in text
                and "20 tokens" in text
            ),
        )
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "prompt")

        # search what was sampled, and export it
        await pilot.press("f7")
        await until_shown(pilot, "samples")
        await pilot.press("slash", *"the cat", "enter", "w")
        await until_shown(pilot, "markdown")
        await pilot.press("end", "enter")
        await until(pilot, lambda: bool(list(tmp_path.glob("*.md"))))
        await until_shown(pilot, ".md")
    exported = next(iter(tmp_path.glob("*.md"))).read_text(encoding="utf-8")
    assert "The cat" in exported
    assert len(search(run="calm-otter")) >= 5
