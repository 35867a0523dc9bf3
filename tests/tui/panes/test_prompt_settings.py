"""The prompt pane's settings: reached with tab, edited in place, used by the next sample."""

from __future__ import annotations

import pytest

from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.widgets.prompt import PromptBox
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from tests.tui.fakes import FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_settings_are_reached_with_tab_edited_in_place_and_used() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, SettingInput))
        await pilot.press(*"1.2", "tab", *"0.5", "tab", *"40", "tab", *"0.05", "tab", *"12")
        await pilot.press("tab", *"99", "tab", *"3", "tab", *"0.9", "tab", *"1.1", "tab", *"64")
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        settings = last_request(services).settings
        assert (
            settings.temperature,
            settings.top_p,
            settings.top_k,
            settings.min_p,
            settings.max_new_tokens,
            settings.seed,
            settings.typical_p,
            settings.repetition_penalty,
            settings.penalty_window,
        ) == (1.2, 0.5, 40, 0.05, 12, 99, 0.9, 1.1, 64)
        assert last_request(services).count == 3


async def test_a_stop_string_keeps_its_spaces_and_line_breaks() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 9, *"1.1", "tab", "tab", *"\\n| The end", "enter")
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        settings = last_request(services).settings
        assert (settings.repetition_penalty, settings.stop) == (1.1, ("\n", " The end"))
        await pilot.press(*["tab"] * 9, *"off", "tab", "tab", "delete", "enter")
        pane(app).box.text = "y"
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press("enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        settings = last_request(services).settings
        assert (settings.repetition_penalty, settings.stop) == (1.0, ())


async def test_settings_that_are_off_take_no_row_of_a_narrow_terminal() -> None:
    def row(app: RnnlmApp) -> str:
        return next((line for line in screen_text(app).splitlines() if "typical-p" in line), "")

    services = FakeServices(make_snapshot())
    async with opened(services, "prompt", size=(80, 24)) as (app, pilot):
        assert row(app) == ""
        await pilot.press("tab")
        await until(pilot, lambda: "stop  off" in row(app))
        await pilot.press("shift+tab")
        await until(pilot, lambda: row(app) == "")
        await pilot.press(*["tab"] * 8, *"0.1", "enter")
        await until(pilot, lambda: "0.1" in row(app))
        assert app.focused is pane(app).box
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "temperature" in row(app))


async def test_the_stop_box_explains_its_format_and_its_limit() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt", size=(80, 24)) as (app, pilot):
        await pilot.press(*["tab"] * 11)
        await until_shown(pilot, "\\n is a line break, | between several")
        app.query_one("#setting-stop", SettingInput).value = "x" * 101
        await until_shown(pilot, "✗ stop has 101 characters, must have at most 100")


async def test_tab_after_the_last_setting_returns_to_the_prompt() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        for _ in range(12):
            await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, PromptBox))


async def test_an_invalid_setting_shows_what_is_allowed_and_samples_nothing() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("tab", "tab", *"1.5")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("enter", *"x", "enter")
        await pilot.pause()
        assert not services.fake_sampler.requests
        await pilot.press("tab", "tab", *"off", "enter", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.top_p == 1.0


async def test_the_number_of_samples_and_the_seed_are_checked() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press(*["tab"] * 7, *"65")
        await until_shown(pilot, "✗ samples must be 1 to 64")
        await pilot.press("enter", *"x", "enter")
        await until_shown(pilot, "✗ samples must be 1 to 64")
        await pilot.press(*["tab"] * 7, *"64", "shift+tab", *"rand")
        await until_shown(pilot, "✗ seed")
        await pilot.press(*"om", "enter", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).count == 64


async def test_a_temperature_of_zero_is_shown_as_greedy() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("tab", "0", "enter", *"x", "enter")
        await until_shown(pilot, "greedy")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.greedy


async def test_a_setting_shows_its_value_from_the_start_after_editing() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 12)
        await pilot.pause()
        assert app.focused is pane(app).box
        await until_shown(pilot, "top-p  0.95")


async def test_enter_keeps_and_esc_cancels_a_setting() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press("tab", "tab", *"0.5")
        await until_shown(pilot, "enter Keep", "esc Cancel", "tab Next")
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is pane(app).box)
        assert pane(app).settings_row.settings.sampling.top_p == 0.95
        await until_shown(pilot, "top-p  0.95", "enter Generate")
        await pilot.press("tab", "tab", *"1.5")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("escape")
        await until_shown(pilot, "top-p  0.95")
        assert pane(app).settings_row.problem == ""
        await pilot.press("tab", *"0", "escape", "tab", "tab", *"0.7", "enter")
        await until(pilot, lambda: app.focused is pane(app).box)
        settings = pane(app).settings_row.settings.sampling
        assert (settings.greedy, settings.top_p) == (False, 0.7)


@pytest.mark.parametrize("columns", [60, 64, 70, 76, 77, 80, 100, 119, 120, 200])
async def test_every_setting_is_visible_at_every_width(columns: int) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt", size=(columns, 24)) as (app, pilot):
        await pilot.press("tab")
        await until(
            pilot, lambda: isinstance(app.focused, SettingInput) and "penalty" in screen_text(app)
        )
        await pilot.pause()
        boxes = list(app.query(SettingInput))
        assert [
            box.name for box in boxes if box.region.right > columns - 2 or box.region.x < 1
        ] == []
        assert [box.name for box in boxes if box.region.width < len(box.value) + 2] == []
        screen = screen_text(app)
        assert all(
            f"{name}  " in screen
            for name in (
                *("temperature", "top-p", "top-k", "min-p", "max", "seed", "samples"),
                *("typical-p", "penalty", "window", "stop"),
            )
        )
