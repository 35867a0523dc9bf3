"""The three panes cell for cell at 80x24 and 120x40."""

from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens import checkpoints
from rnnlm_tui.tui.screens.config import ConfigScreen
from tests.tui.panes.fakes import NOW, FakeSampler, FakeServices, make_snapshot
from tests.tui.panes.seeing import assert_looks_like, opened, until, until_shown

SIZES = [(80, 24), (120, 40)]
TEXT = " is strong, and the Congress must act on the program of the American people. We have a great responsibility to the free nations of the world."


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages that stand still."""
    monkeypatch.setattr(checkpoints, "time", lambda: NOW)


async def settled(pilot: Pilot[int]) -> None:
    """Everything that was on its way is drawn."""
    for _ in range(3):
        await pilot.pause()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_config_with_changes_and_a_problem(size: tuple[int, int]) -> None:
    async with opened(FakeServices(), "config", size=size, run=None) as (app, pilot):
        screen = app.pane_screen
        assert isinstance(screen, ConfigScreen)
        await until_shown(pilot, "calm-badger", "543,104")
        for path, value in (("model.dropout", 0.1), ("schedule.warmup_steps", 6000), ("optimizer.learning_rate", 5e-3)):
            screen.form.set_value(path, value)
        screen.form.go_to("schedule.warmup_steps")
        await until_shown(pilot, "3 changed from preset demo", "✗ must be below 4,752 steps", "is 6,000, must be below 4,752 steps")
        await settled(pilot)
        assert_looks_like(app, f"config-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_config_of_a_run(size: tuple[int, int]) -> None:
    async with opened(FakeServices(make_snapshot()), "config", size=size) as (app, pilot):
        await until_shown(pilot, "frozen", "543,104")
        await pilot.press("tab", "tab")
        await until_shown(pilot, "h_t = tanh")
        await settled(pilot)
        assert_looks_like(app, f"config-of-run-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_checkpoints(size: tuple[int, int]) -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints", size=size) as (app, pilot):
        await pilot.press("down")
        await until_shown(pilot, "Step 3,700", "9f3c…a71e")
        await settled(pilot)
        assert_looks_like(app, f"checkpoints-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_prompt_with_a_history(size: tuple[int, int]) -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=[TEXT]))
    async with opened(services, "prompt", size=size) as (app, pilot):
        assert isinstance(app, RnnlmApp)
        for prompt in ("We must", "The state of the Union"):
            await pilot.press("ctrl+u", *prompt, "enter")
            await until_shown(pilot, f"{prompt} is strong", "✓ 1 of 100 tokens")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        await settled(pilot)
        assert_looks_like(app, f"prompt-{size[0]}x{size[1]}")
