"""The keys of charts: zoom, pan, follow, reset, cursor, axis and CSV, and saved views."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace

import pytest
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from rnnlm_tui.schema.metrics import CheckpointRow, EventRow
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.views.chart_data import AXES
from rnnlm_tui.tui.views.train import EventEntry, nearest_entry
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.train import EventsPanel
from tests.tui.fakes import FakeServices, make_snapshot, preparing
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


def train(app: RnnlmApp) -> TrainScreen:
    assert isinstance(app.screen, TrainScreen)
    return app.screen


def shown(app: RnnlmApp) -> list[Chart]:
    return [chart for chart in train(app).charts() if chart.display]


def windows(app: RnnlmApp) -> set[tuple[float, float]]:
    return {chart.window for chart in shown(app)}


def width_of(app: RnnlmApp) -> float:
    ((start, end),) = windows(app)
    return end - start


async def test_up_and_down_zoom_all_charts_together_and_at_the_newest_step() -> None:
    async with running_app(size=(200, 60)) as (app, pilot):
        whole = windows(app)
        await pilot.press("up")
        assert width_of(app) == pytest.approx(4_754 / 2)
        ((start, end),) = windows(app)
        assert start < 3_751 <= end
        await pilot.press("up")
        assert width_of(app) == pytest.approx(4_754 / 4)
        await pilot.press("down", "down")
        assert windows(app) == whole


async def test_zoom_keeps_the_cursor_in_its_place() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("home", "right", "right", "up", "up")
        cursor = train(app).cursor
        ((start, end),) = windows(app)
        assert cursor is not None
        assert start <= cursor <= end


async def test_comma_and_full_stop_pan_and_f_follows_again() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("comma")
        assert "↑ zooms in" in lines_of(app)[-1]
        await pilot.press("up", "up", "up")
        ((start, _),) = windows(app)
        await pilot.press("comma")
        ((earlier, _),) = windows(app)
        assert earlier == pytest.approx(start - width_of(app) / 4, rel=0.05)
        assert not shown(app)[0].following
        await pilot.press("full_stop")
        ((later, _),) = windows(app)
        assert later == pytest.approx(start)
        await pilot.press("comma", "comma", "comma", "comma", "f")
        ((_, end),) = windows(app)
        assert end >= 3_751
        assert all(chart.following for chart in shown(app))


async def test_the_footer_shows_how_to_leave_a_zoomed_range() -> None:
    async with running_app() as (app, pilot):
        assert "Reset" not in lines_of(app)[-1]
        await pilot.press("up")
        assert "u Reset" in lines_of(app)[-1]
        assert "f Follow" not in lines_of(app)[-1]
        await pilot.press("comma")
        assert "f Follow" in lines_of(app)[-1]
        await pilot.press("u")
        assert "Reset" not in lines_of(app)[-1]


async def test_a_following_range_moves_with_the_run_on_all_charts() -> None:
    services = with_runs(make_snapshot(step=2_000))
    async with running_app(services, size=(200, 60)) as (app, pilot):
        await pilot.press("up", "up", "up", "up")
        services.snapshots["plain-otter"] = make_snapshot(step=3_000)
        await until(pilot, lambda: "3,000 /" in text_of(app))
        ((start, end),) = windows(app)
        assert start < 3_000 < end


async def test_a_zoomed_range_is_read_at_full_resolution_until_reset() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("up", "up")
        ((start, end),) = windows(app)

        def is_wanted() -> bool:
            first, last = (services.looked_at or [None])[-1] or (0, 0)
            return start - 1 <= first <= start and min(end, 3_751) <= last <= end + 1

        await until(pilot, is_wanted)
        await pilot.press("u")
        await until(pilot, lambda: services.looked_at[-1] is None)


async def test_u_resets_everything() -> None:
    async with running_app() as (app, pilot):
        whole = windows(app)
        await pilot.press("up", "x", "plus", "l", "a", "left", "left", "u")
        assert windows(app) == whole
        assert train(app).cursor is None
        assert lines_of(app)[15].split()[-2] == "step"
        assert {chart.smoothing for chart in shown(app)} == {0.9}
        assert "Perplexity, log" in text_of(app)
        assert "↑ from" in text_of(app)


@pytest.mark.parametrize("axis", AXES)
async def test_another_axis_shows_the_same_steps(axis: str) -> None:
    async with running_app() as (app, pilot):
        await pilot.press("up", "up", "left", "left", "left")
        screen = train(app)
        before = screen.cursor_step
        ((first, last),) = windows(app)
        while screen.view.axis != axis:
            await pilot.press("x")
        ((start, end),) = windows(app)
        assert screen.cursor_step == pytest.approx(before, abs=1)
        assert screen.step_of_x(start) == pytest.approx(first, abs=1)
        assert screen.step_of_x(end) == pytest.approx(min(last, screen.step_of_x(end)), abs=1)


async def test_shift_moves_ten_cells_and_home_and_end_go_to_the_ends() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("end")
        newest = train(app).cursor
        assert newest == pytest.approx(3_748, abs=5)
        cell = shown(app)[0].column_width
        await pilot.press("shift+left")
        assert train(app).cursor == pytest.approx((newest or 0) - 10 * cell)
        await pilot.press("shift+right")
        assert train(app).cursor == pytest.approx(newest)
        await pilot.press("home")
        assert train(app).cursor == 4


async def test_the_cursor_pans_a_zoomed_range() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("up", "up", "up", "home")
        ((start, end),) = windows(app)
        assert start <= (train(app).cursor or 0) <= end
        assert start < 10
        await pilot.press("end")
        ((start, end),) = windows(app)
        assert start <= (train(app).cursor or 0) <= end


async def test_j_and_k_step_through_the_evaluations() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("k")
        assert train(app).cursor_step == 3_700
        await pilot.press("k", "k")
        assert train(app).cursor_step == 3_500
        await pilot.press("j")
        assert train(app).cursor_step == 3_600
        await pilot.press("end", "j")
        assert "no evaluation after this one" in lines_of(app)[-1]


async def test_a_click_puts_the_cursor_there() -> None:
    async with running_app() as (app, pilot):
        await pilot.click("#perplexity", offset=(40, 5))
        cursor = train(app).cursor
        assert cursor is not None
        assert 2_000 < cursor < 3_000


async def test_the_cursor_picks_event_samples_and_checkpoint() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        assert "@3,700" in text_of(app)
        await pilot.press("left")
        while (train(app).cursor_step or 0) > 2_100:
            await pilot.press("left")
        shown_text = text_of(app)
        assert "@2,000" in shown_text
        assert "@3,700 The" not in shown_text
        (chosen,) = [line for line in lines_of(app) if "›" in line]
        assert "2,100" in chosen or "2,000" in chosen
        assert "Sample @2,000" in lines_of(app)[-1]
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")


async def test_enter_opens_the_prompt_with_the_checkpoint_at_the_cursor() -> None:
    taken: list[str] = []
    async with running_app() as (app, pilot):
        await pilot.press("enter")
        assert "sets a cursor" in lines_of(app)[-1]
        opened = app.open_pane

        def seen(pane: str) -> None:
            taken.append(f"{pane} {app.selected_checkpoint}")
            opened(pane)  # type: ignore[arg-type]

        app.open_pane = seen  # type: ignore[method-assign]
        await pilot.press("home", "enter")
        assert taken == ["prompt checkpoints/step-000001000"]


async def test_without_a_checkpoint_enter_shows_how_to_save_one() -> None:
    none: tuple[CheckpointRow, ...] = ()
    async with running_app(with_runs(replace(make_snapshot(), checkpoints=none))) as (app, pilot):
        await pilot.press("left")
        assert "Go to" not in lines_of(app)[-1]
        await pilot.press("enter")
        assert "press c to save one" in lines_of(app)[-1]


async def test_events_scroll_to_the_cursor_and_back() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        events = app.screen.query_one(EventsPanel)
        await pilot.press("home")
        assert events.top > 0
        assert any("started" in line for line in lines_of(app))
        await pilot.press("escape")
        assert events.top == 0


async def test_events_are_scrolled_by_page_keys() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        events = app.screen.query_one(EventsPanel)
        await pilot.press("pagedown")
        assert events.top > 0
        assert "newer" in text_of(app)
        await pilot.press("pageup")
        assert events.top == 0


async def test_events_are_scrolled_by_the_wheel() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        events = app.screen.query_one(EventsPanel)
        await pilot._post_mouse_events([MouseScrollDown], widget="#events")
        assert events.top == 3
        await pilot._post_mouse_events([MouseScrollUp], widget="#events")
        assert events.top == 0


async def test_every_chart_is_reached_by_tab_at_every_size() -> None:
    async with running_app() as (app, pilot):
        seen = []
        for _ in train(app).reachable_charts():
            seen.append(
                [chart.id for chart in shown(app)] if train(app).visiting else train(app).chosen
            )
            await pilot.press("tab")
        assert seen[:2] == ["perplexity", "speed"]
        assert seen[2:5] == [["loss"], ["gradient"], ["rate"]]
        assert [chart.id for chart in shown(app)] == ["perplexity", "speed"]


async def test_esc_leaves_a_chart_that_tab_came_to() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("tab", "tab")
        assert [chart.id for chart in shown(app)] == ["loss"]
        await pilot.press("escape")
        assert [chart.id for chart in shown(app)] == ["perplexity", "speed"]


async def test_a_chosen_chart_is_not_alone_in_a_smaller_terminal() -> None:
    async with running_app(size=(200, 60)) as (app, pilot):
        await pilot.press("tab")
        assert train(app).chosen == "loss"
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: [chart.id for chart in shown(app)] == ["perplexity", "speed"])


async def test_the_cursor_needs_points_and_so_does_zoom() -> None:
    async with running_app(with_runs(preparing())) as (app, pilot):
        await pilot.press("up", "end", "home", "f", "k", "h")
        assert train(app).cursor is None
        assert {chart.part for chart in shown(app)} == {None}


async def test_w_writes_the_shown_points() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("up", "up", "w")
        await until(pilot, lambda: services.saved)
        name, text = services.saved[0]
        assert name == "plain-otter-perplexity.csv"
        rows = list(csv.DictReader(io.StringIO(text)))
        ((start, end),) = windows(app)
        assert {row["series"] for row in rows} == {"train", "val"}
        assert all(start <= float(row["step"]) <= end for row in rows)
        assert all(
            float(row["lowest"]) <= float(row["value"]) <= float(row["highest"])
            for row in rows
            if row["series"] == "train"
        )
        await until(
            pilot,
            lambda: (
                f"{len(rows):,} points written to /home/plain-otter-perplexity.csv"
                in lines_of(app)[-1]
            ),
        )


async def test_sidebars_hide_and_come_back() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        await pilot.press("left_square_bracket")
        assert "Events" not in text_of(app)
        assert "Machine" in text_of(app)
        await pilot.press("right_square_bracket")
        assert "Machine" not in text_of(app)
        assert {chart.id for chart in shown(app)} == {"perplexity", "loss", "speed", "gradient"}
        await pilot.press("left_square_bracket", "right_square_bracket")
        assert "Events" in text_of(app)
        assert "Machine" in text_of(app)


async def test_a_missing_sidebar_of_a_small_terminal_is_reported() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("left_square_bracket")
        assert "too small for that sidebar" in lines_of(app)[-1]
        await pilot.press("right_square_bracket")
        assert "Machine" not in text_of(app)


async def test_trouble_is_shown_even_with_a_hidden_sidebar_or_one_chart_alone() -> None:
    why = "the loss is not a number at step 3,752"
    async with running_app(with_runs(make_snapshot("failed", message=why))) as (app, pilot):
        await pilot.press("right_square_bracket")
        assert why in text_of(app)
        await pilot.press("z")
        assert why in text_of(app)


async def look(pilot: Pilot[int]) -> None:
    await pilot.press("up", "x", "plus", "tab", "z", "l", "a")


async def test_each_run_keeps_its_own_view() -> None:
    services = FakeServices(make_snapshot(), make_snapshot(name="brisk-heron"))
    async with running_app(services) as (app, pilot):
        await look(pilot)
        screen = train(app)
        part, view = shown(app)[0].part, screen.view
        assert part is not None
        app.select_run(services.run("brisk-heron"))
        await until(
            pilot, lambda: app.snapshot is not None and app.snapshot.summary.run == "brisk-heron"
        )
        assert screen.view.part is None
        assert not screen.view.alone
        assert [chart.part for chart in shown(app)] == [None, None]
        app.select_run(services.run("plain-otter"))
        await until(
            pilot, lambda: app.snapshot is not None and app.snapshot.summary.run == "plain-otter"
        )
        assert screen.view == view
        assert shown(app)[0].part == part
        settings = dict(app.settings)
    async with running_app(services, settings=settings) as (app, pilot):
        assert train(app).view == view
        assert shown(app)[0].part == part
        assert [chart.id for chart in shown(app)] == ["speed"]
        assert shown(app)[0].show_all


async def test_zoom_around_an_old_step_stops_following() -> None:
    services = with_runs(make_snapshot(step=2_000))
    async with running_app(services) as (app, pilot):
        await pilot.press("home", "shift+right", "up", "up", "up", "up")
        cursor, part = train(app).cursor, shown(app)[0].part
        assert cursor is not None
        assert part is not None
        assert part[0] <= cursor <= part[1] < 2_000
        assert not shown(app)[0].following
        services.snapshots["plain-otter"] = make_snapshot(step=3_000)
        await until(pilot, lambda: "3,000 /" in text_of(app))
        assert shown(app)[0].part == part
        await pilot.press("f")
        ((start, end),) = windows(app)
        assert start < 3_000 <= end
        assert train(app).cursor is None


async def test_a_cursor_stops_following() -> None:
    services = with_runs(make_snapshot(step=2_000))
    async with running_app(services) as (app, pilot):
        await pilot.press("end", "up", "up", "up", "up", "up")
        part = shown(app)[0].part
        assert shown(app)[0].following
        services.snapshots["plain-otter"] = make_snapshot(step=3_000)
        await until(pilot, lambda: "3,000 /" in text_of(app))
        assert shown(app)[0].part == part
        services.snapshots["plain-otter"] = make_snapshot(step=3_004)
        await pilot.press("escape")
        await until(pilot, lambda: "3,004 /" in text_of(app))
        ((start, end),) = windows(app)
        assert start < 3_004 <= end


async def test_panning_moves_the_cursor() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("end", "shift+left", "up", "up", "up")
        for key in (
            "comma",
            "comma",
            "comma",
            "comma",
            "comma",
            "full_stop",
            "full_stop",
            "full_stop",
            "full_stop",
            "full_stop",
        ):
            await pilot.press(key)
            cursor = train(app).cursor
            ((start, end),) = windows(app)
            assert cursor is not None
            assert start <= cursor <= end


async def test_range_and_cursor_are_restored_after_another_screen_and_a_restart() -> None:
    services = with_runs(make_snapshot("finished", 4_754))
    async with running_app(services) as (app, pilot):
        await pilot.press("home", "shift+right", "up", "up", "up", "up")
        cursor, part = train(app).cursor, shown(app)[0].part
        await pilot.press("3")
        await pilot.press("2")
        assert (train(app).cursor, shown(app)[0].part) == (cursor, part)
        settings = dict(app.settings)
    async with running_app(services, settings=settings) as (app, pilot):
        assert (train(app).cursor, shown(app)[0].part) == (cursor, part)
        assert {chart.cursor for chart in shown(app)} == {cursor}
        assert not shown(app)[0].following
        await pilot.press("u")
        settings = dict(app.settings)
    async with running_app(services, settings=settings) as (app, _):
        assert train(app).cursor is None


@pytest.mark.parametrize("key", ["z", "u"])
async def test_a_chart_that_tab_came_to_goes_back_to_the_others(key: str) -> None:
    async with running_app() as (app, pilot):
        await pilot.press("tab", "tab", "tab")
        assert [chart.id for chart in shown(app)] == ["gradient"]
        await pilot.press(key)
        assert [chart.id for chart in shown(app)] == ["perplexity", "speed"]
        await pilot.press("tab")
        assert [chart.id for chart in shown(app)] == ["perplexity", "speed"]


async def test_the_footer_counts_charts_shown_alone_and_shows_the_way_back() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("tab", "tab", "tab")
        assert lines_of(app)[-1].startswith(" tab 4 of 8  esc Back")
        await pilot.press("escape", "z")
        assert lines_of(app)[-1].startswith(" tab 1 of 8  esc Back")


async def test_the_event_at_the_cursor_is_shown_in_full_until_the_next_key() -> None:
    snapshot = make_snapshot()
    text = "loss 9.298, usually 4.1 at this place of the run"
    snapshot = replace(
        snapshot, events=(EventRow(2, 1_200, "spike", text, snapshot.events[0].time),)
    )
    async with running_app(with_runs(snapshot)) as (app, pilot):
        train(app).move_cursor_to(1_210)
        await pilot.pause()
        assert f"1,200 ↑ {text}" in lines_of(app)[-1]
        await pilot.press("right", "right")
        assert "⇧← ⇧→" in lines_of(app)[-1]
        await pilot.press("left", "left")
        assert text in lines_of(app)[-1]


async def test_a_percentage_stays_linear_and_l_reports_it() -> None:
    async with running_app() as (app, pilot):
        while train(app).chosen != "gpu":
            await pilot.press("tab")
        await pilot.press("l")
        assert "GPU stays linear" in lines_of(app)[-1]
        assert not train(app).chart("gpu").log_y
        assert train(app).view.turned == frozenset()


def test_the_nearest_event_is_found_by_bisection() -> None:
    draw = random.Random(3)
    for _ in range(200):
        entries: list[EventEntry] = sorted(
            (
                EventEntry(draw.randrange(30), float(index), "e", "", "")
                for index in range(draw.randrange(1, 20))
            ),
            reverse=True,
        )
        for step in (-1.0, 0.0, 7.5, 12.0, draw.uniform(0, 30), 40.0):
            assert nearest_entry(entries, step) == min(
                range(len(entries)), key=lambda index: abs(entries[index][0] - step)
            )
