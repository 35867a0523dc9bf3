"""The keys of charts on a run that trains: range, cursor, axes, charts alone, saved views, CSV."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import MouseScrollDown, MouseScrollUp

from rnnlm_tui.schema.formatting import figure
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.views.chart_data import AXES
from rnnlm_tui.tui.views.charts import CHARTS
from rnnlm_tui.tui.widgets.chart import Chart
from tests.homes import trained, training
from tests.tui.fakes import make_snapshot, preparing
from tests.tui.support import at_home, lines_of, show, shows, text_of, until

NARROW, WIDE = (80, 24), (120, 40)


@pytest.fixture
def train_to() -> Iterator[Callable[[int], None]]:
    with training() as go_on:
        yield go_on


def train(app: RnnlmApp) -> TrainScreen:
    assert isinstance(app.screen, TrainScreen)
    return app.screen


def shown(app: RnnlmApp) -> list[Chart]:
    return [chart for chart in train(app).charts() if chart.display]


def ids(app: RnnlmApp) -> list[str | None]:
    return [chart.id for chart in shown(app)]


def window(app: RnnlmApp) -> tuple[float, float]:
    """The x range that all shown charts share."""
    (found,) = {chart.range.shown for chart in shown(app)}
    return found


def cursor(app: RnnlmApp) -> float:
    """The x of the cursor that all charts share."""
    (found,) = {chart.range.cursor for chart in shown(app)}
    assert found is not None
    return found


def footer(app: RnnlmApp) -> str:
    return lines_of(app)[-1]


async def test_the_range_is_zoomed_panned_followed_reset_and_kept(
    train_to: Callable[[int], None],
) -> None:
    async with at_home(pane="train") as (app, pilot):
        whole = window(app)
        assert "Reset" not in footer(app)
        await pilot.press("comma")
        assert "↑ zooms in" in footer(app)
        await pilot.press("up")
        start, end = window(app)
        assert end - start == pytest.approx(4_754 / 2)
        assert start < 2_400 <= end
        assert "u Reset" in footer(app)
        assert "f Follow" not in footer(app)
        await pilot.press("down")
        assert window(app) == whole
        await pilot.press("up", "up", "up")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.detail is not None)
        start, end = window(app)
        assert end - start == pytest.approx(4_754 / 8)
        await pilot.press("comma")
        assert window(app)[0] == pytest.approx(start - (end - start) / 4, rel=0.05)
        assert "f Follow" in footer(app)
        await pilot.press("full_stop")
        assert window(app)[0] == pytest.approx(start)
        await pilot.press(*["comma"] * 4, "f")
        assert window(app)[1] >= 2_400
        train_to(2_600)  # a following range moves with the run
        await until(pilot, lambda: shows(app, "2,600 /"))
        start, end = window(app)
        assert start < 2_600 < end
        await pilot.press("x", "plus", "l", "a", "left", "left", "u")
        assert window(app) == whole
        assert train(app).cursor is None
        assert lines_of(app)[15].split()[-2] == "step"
        assert {chart.smoothing for chart in shown(app)} == {0.9}
        assert shows(app, "Perplexity, log")
        assert shows(app, "↑ from")
        assert "Reset" not in footer(app)
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.detail is None)
        # a range around an old step stays while the run trains on
        await pilot.press("home", "shift+right", *["up"] * 4)
        old = window(app)
        assert old[0] <= cursor(app) <= old[1] < 2_400
        train_to(2_800)
        await until(pilot, lambda: shows(app, "2,800 /"))
        assert window(app) == old
        await pilot.press("f")
        assert window(app)[0] < 2_800 <= window(app)[1]
        assert train(app).cursor is None
        await pilot.press("end", *["up"] * 5)  # a cursor stops following
        old = window(app)
        assert train(app).window.following
        train_to(3_000)
        await until(pilot, lambda: shows(app, "3,000 /"))
        assert window(app) == old
        await pilot.press("escape")
        train_to(3_001)
        await until(pilot, lambda: shows(app, "3,001 /"))
        assert window(app)[0] < 3_001 <= window(app)[1]


async def test_the_cursor_goes_by_cells_evaluations_ends_and_clicks(
    train_to: Callable[[int], None],
) -> None:
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("enter")
        assert "sets a cursor" in footer(app)
        await pilot.press("right")
        newest, cell = cursor(app), shown(app)[0].column_width
        assert newest == 2_400
        assert shows(app, "at step 2,400")
        assert "Close cursor" in footer(app)
        await pilot.press("left")
        assert cursor(app) == pytest.approx(newest - cell)
        await pilot.press("end", "shift+left")
        assert cursor(app) == pytest.approx(newest - 10 * cell)
        await pilot.press("shift+right")
        assert cursor(app) == pytest.approx(newest)
        await pilot.press("home")
        assert cursor(app) <= 4
        await until(pilot, lambda: shows(app, "no samples up to here: first at step"))
        for keys, step in (("escape k", 2_400), ("k k", 2_200), ("j", 2_300)):
            await pilot.press(*keys.split())
            assert cursor(app) == step
        await pilot.press("end", "j")
        assert "no evaluation after this one" in footer(app)
        last = cursor(app)
        await pilot.click("#perplexity", offset=(30, 0))  # its title is no place
        assert cursor(app) == last
        await pilot.click("#perplexity", offset=(30, 5))
        assert 1_000 < cursor(app) < 2_400
        train(app).move_cursor_to(1_210)  # what happened there is said in full
        await pilot.pause()
        assert "1,200 ↑ loss 9.298, usually 4.1" in footer(app)
        await pilot.press("right", "right")
        assert "⇧← ⇧→" in footer(app)
        await pilot.press("home", "up", "up", "up")  # it keeps its place in a zoomed range
        for key in ("end", "home", "end", "shift+left", *["comma"] * 5, *["full_stop"] * 5):
            await pilot.press(key)
            start, end = window(app)
            assert start <= cursor(app) <= end
        await pilot.press("escape")
        assert {chart.range.cursor for chart in train(app).charts()} == {None}
        assert "Close cursor" not in footer(app)


async def test_enter_samples_from_the_nearest_checkpoint_events_scroll_and_sidebars_hide(
    train_to: Callable[[int], None],
) -> None:
    async with at_home(pane="train", size=WIDE) as (app, pilot):
        assert shows(app, "@2,000 The state")
        await pilot.press("right", *["left"] * 25)
        await until(pilot, lambda: "Sample @1,000" in footer(app))
        await until(pilot, lambda: shows(app, "@1,000 The state"))
        assert not shows(app, "@2,000 The state")
        (chosen,) = [line for line in lines_of(app) if "›" in line]
        assert f"{round(cursor(app), -2):,.0f}" in chosen
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt" and shows(app, "step 1,000"))
        # events scroll by page keys, the wheel and the cursor, and sidebars hide
        app.open_pane("train")
        await until(pilot, lambda: "Close cursor" in footer(app))
        await pilot.press("escape")
        await until(pilot, lambda: shows(app, "@2,000 The state"))
        await pilot.press("pagedown")
        assert shows(app, "newer")
        await pilot.press("pageup")
        assert not shows(app, "newer")
        await pilot._post_mouse_events([MouseScrollDown], widget="#events")
        assert shows(app, "3 newer")
        await pilot._post_mouse_events([MouseScrollUp], widget="#events")
        assert not shows(app, "newer")
        await pilot.press("home")
        assert shows(app, "started")
        assert shows(app, "newer")
        await pilot.press("escape")
        assert not shows(app, "newer")
        await pilot.press("left_square_bracket")
        assert (shows(app, "Events"), shows(app, "Machine")) == (False, True)
        await pilot.press("right_square_bracket")
        assert not shows(app, "Machine")
        assert len(shown(app)) == 4
        await pilot.press("left_square_bracket", "right_square_bracket")
        assert shows(app, "Events")
        assert shows(app, "Machine")
        await pilot.resize_terminal(*NARROW)
        await until(pilot, lambda: len(shown(app)) == 2)
        await pilot.press("left_square_bracket")
        assert "too small for that sidebar" in footer(app)
        await pilot.press("right_square_bracket")
        assert not shows(app, "Machine")


async def test_axes_scales_smoothing_and_the_shown_charts_change_by_keys(
    train_to: Callable[[int], None],
) -> None:
    async with at_home(pane="train") as (app, pilot):
        # another axis shows the same steps with its unit
        await pilot.press("up", "up", "left", "left", "left")
        screen = train(app)
        step, (first, last) = screen.cursor_step, window(app)
        for unit in ("step", "tokens", "epoch", "active time", "time of day", "step"):
            assert {chart.data.x_label for chart in shown(app)} == {unit}
            start, end = window(app)
            assert screen.cursor_step == pytest.approx(step, abs=2)
            (run,) = screen.runs
            assert run.step_of_x(start) == pytest.approx(first, abs=2)
            assert run.step_of_x(end) == pytest.approx(min(last, run.step_of_x(end)), abs=2)
            await pilot.press("x")
        assert set(AXES) == {"step", "tokens", "epoch", "active", "wall"}
        await pilot.press("u")
        for key, log in (("l", False), ("y", True)):
            await pilot.press(key)
            assert shows(app, "Perplexity, log") == log
        await pilot.press("tab", "l")
        assert shows(app, "Tokens/s, log")
        assert shows(app, "Perplexity, log")
        while train(app).chosen != "gpu":
            await pilot.press("tab")
        await pilot.press("l")
        assert "stays linear" in footer(app)
        assert not train(app).chart("gpu").data.log_y
        await pilot.press("u")
        assert shows(app, "↑ from")
        await pilot.press("a")
        assert not shows(app, "↑ from")
        smooth = lines_of(app)[3].split("train ")[1].split()[0]
        assert f"train {smooth}" in lines_of(app)[5]
        for keys, smoothing in (("", 0.9), ("+++", 0.99), ("--", 0.6), ("0", 0.0), ("-", 0.0)):
            await pilot.press(*({"+": "plus", "-": "minus"}.get(key, key) for key in keys))
            assert {chart.smoothing for chart in shown(app)} == {smoothing}
        assert "no smoothing" in footer(app)
        assert app.snapshot is not None  # without smoothing, the legend shows the newest value
        raw = figure(math.exp(app.snapshot.series.columns["loss"].mean[-1]))
        await until(pilot, lambda: f"train {raw}" in lines_of(app)[5])
        assert f"train {smooth}" in lines_of(app)[3]
        # tab goes through all charts, and z shows one alone
        await pilot.press("u")
        both, seen = ["perplexity", "speed"], []
        for _ in CHARTS:
            assert ids(app) == ([train(app).chosen] if train(app).visiting else both)
            seen.append(train(app).chosen)
            await pilot.press("tab")
        assert seen == [*both, *(name for name in CHARTS if name not in both)]
        assert ids(app) == both
        for key in ("escape", "z", "u"):
            await pilot.press("tab", "tab", "tab")
            assert ids(app) == ["gradient"]
            assert footer(app).startswith(f" tab 4 of {len(CHARTS)}  esc Back")
            await pilot.press(key)
            assert ids(app) == both
        await pilot.press("tab", "z")
        assert ids(app) == ["speed"]
        await pilot.press("shift+tab")
        assert ids(app) == ["perplexity"]
        assert footer(app).startswith(" tab 1 of 8  esc Back")
        await pilot.press("escape")
        assert ids(app) == both
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: len(shown(app)) == 4)
        chosen = []
        for _ in range(4):
            chosen += [chart.id for chart in shown(app) if chart.highlighted]
            await pilot.press("tab")
        assert chosen == ["perplexity", "loss", "speed", "gradient"]
        await pilot.press("u", "tab")
        assert train(app).chosen == "loss"
        await pilot.resize_terminal(*NARROW)  # where it has no place and isn't alone
        await until(pilot, lambda: ids(app) == both)


async def test_each_run_keeps_its_view_for_other_panes_and_the_next_start(
    train_to: Callable[[int], None],
) -> None:
    trained("brisk-heron")
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("home", "shift+right", *["up"] * 4)
        place, part = cursor(app), train(app).window.part
        await pilot.press("3", "2")
        assert (cursor(app), train(app).window.part) == (place, part)
        await pilot.press("x", "plus", "tab", "z", "l", "a")
        view = train(app).view
        await pilot.press("J")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])
        assert train(app).view.part is None
        assert not train(app).view.alone
        assert train(app).window.part is None
        await pilot.press("K")
        await until(pilot, lambda: "plain-otter" in lines_of(app)[0])
        assert train(app).view == view
        settings = dict(app.settings)
    async with at_home(pane="train", settings=settings) as (app, pilot):
        assert train(app).view == view
        assert ids(app) == ["speed"]
        assert train(app).window.part == view.part
        assert not train(app).window.following
        assert shown(app)[0].show_all
        assert cursor(app) == view.cursor
        await pilot.press("u")
        settings = dict(app.settings)
    async with at_home(pane="train", settings=settings) as (app, pilot):
        assert train(app).cursor is None
        assert train(app).window.part is None


async def test_w_writes_the_shown_points_of_every_curve(
    train_to: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def written(name: str) -> list[dict[str, str]]:
        (file,) = tmp_path.rglob(f"plain-otter-{name}.csv")
        return list(csv.DictReader(file.read_text().splitlines()))

    async with at_home(pane="train") as (app, pilot):
        await pilot.press("up", "up", "w")
        await until(pilot, lambda: "points written to" in text_of(app).replace("\n", ""))
        start, end = window(app)
        await pilot.press("u", *"xxx", "tab", "w")
        await until(pilot, lambda: list(tmp_path.rglob("plain-otter-speed.csv")))
    rows = written("perplexity")
    assert {row["series"] for row in rows} == {"train", "val"}
    assert all(start <= float(row["step"]) <= end for row in rows)
    sided = [row for row in rows if row["lowest"]]
    assert all(
        float(row["lowest"]) <= float(row["value"]) <= float(row["highest"]) for row in sided
    )
    assert 0 < len(sided) < len(rows), "a judged point has no sides"
    rows = written("speed")
    assert {row["series"] for row in rows} == {"tokens/s"}, "an unnamed curve has the title"
    assert max(float(row["active_time"]) for row in rows) == pytest.approx(2_400 * 0.0264)


async def test_without_steps_keys_do_nothing_and_another_axis_or_a_reset_finds_its_end() -> None:
    trained("plain-otter", "failed")
    known = make_snapshot()
    tokens = array("d", (1.004 * step for step in known.series.step))  # almost the same x
    async with at_home(pane="train") as (app, pilot):
        await show(app, pilot, preparing())
        await pilot.press("up", "end", "home", "f", "k", "h", "right", "left")
        assert {chart.range.cursor for chart in train(app).charts()} == {None}
        assert train(app).window.part is None
        await show(app, pilot, known._replace(series=replace(known.series, tokens=tokens)))
        for key, end in (("x", 1.004 * 4_754), ("u", 4_754.0)):
            await pilot.press(key)
            assert window(app)[1] == pytest.approx(end)
