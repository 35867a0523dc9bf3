"""Overlays: help, leaving, and the palette."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.tui.actions import (
    ACTIONS,
    PANE_TITLES,
    PANES,
    WITH_TEXT_BOX,
    Pane,
    action,
    actions_for,
)
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.commands import PaletteScreen, commands, description
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.pick import PickItem
from rnnlm_tui.tui.screens.quit import QuitScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from tests.tui.fakes import FakeServices, make_snapshot, make_summary, trashed_run
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


async def whole_help(app: RnnlmApp, pilot: Pilot[int]) -> str:
    """The whole help, scrolled to its end."""
    await until(pilot, lambda: isinstance(app.screen, HelpScreen) and "esc close" in text_of(app))
    shown, before = text_of(app), ""
    while before != text_of(app):
        before = text_of(app)
        await pilot.press("down")
        shown += text_of(app)
    return shown


@pytest.mark.parametrize("pane", PANES)
async def test_help_lists_every_action_in_every_size(pane: Pane) -> None:
    async with running_app(pane=pane, size=(60, 15)) as (app, pilot):
        app.action_keys()
        entries = [entry for entry in actions_for(pane) if not entry.covered]
        charts = any(entry.group == "charts" for entry in entries)
        for size in ((60, 15), (80, 24), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.press("home")
            if size == (80, 24) and not charts:
                assert "↑ ↓ more" not in text_of(app), "it is whole"
                assert "e evaluated" in text_of(app), "no sign is cut"
            shown = await whole_help(app, pilot)
            assert [
                entry.id
                for entry in entries
                if entry.label not in tuple("1234")
                and (
                    (entry.help not in shown and entry.short_help not in shown)
                    or (
                        entry.keys
                        and entry.group != "everywhere"
                        and f"{entry.all_keys} " not in shown
                    )
                )
            ] == []
            assert "1 2 3 4   screens of the run" in shown
            assert "degraded: its disk is full" in shown
            assert max(len(line) for line in lines_of(app)) <= size[0]


async def test_help_scrolls_if_it_does_not_fit() -> None:
    async with running_app(pane="train", size=(60, 15)) as (app, pilot):
        await pilot.press("question_mark")
        assert "↑ ↓ more" in lines_of(app)[0]
        assert "This screen" in text_of(app)
        await pilot.press("end")
        assert "degraded: its disk is full" in text_of(app)
        await pilot.press("home")
        assert "This screen" in text_of(app)
        await pilot.resize_terminal(200, 60)
        await pilot.pause()
        assert "↑ ↓ more" not in text_of(app)
        assert "degraded: its disk is full" in text_of(app)


async def test_help_lists_the_focused_widgets_keys_first() -> None:
    async with running_app(pane="prompt") as (app, pilot):
        await pilot.press("f1")
        lines = lines_of(app)
        first = next(number for number, line in enumerate(lines) if "This screen" in line)
        assert "the next checkpoint" in lines[first + 1]
    async with running_app(pane="train", size=(60, 15)) as (app, pilot):
        await pilot.press("question_mark")
        assert "Charts" not in text_of(app)
        await pilot.press("escape", "left", "question_mark")
        assert "Charts" in text_of(app)


async def test_help_searches_typed_text_and_esc_ends_the_search_first() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("question_mark", *"check")
        assert "save a checkpoint now" in text_of(app)
        assert "evaluate now" not in text_of(app)
        await pilot.press("q")
        assert "no key found" in text_of(app)
        await pilot.press("backspace")
        assert "save a checkpoint now" in text_of(app)
        await pilot.press("escape")
        assert "evaluate now" in text_of(app)
        await pilot.press("q")
        assert not isinstance(app.screen, HelpScreen)


async def test_the_pane_below_an_overlay_is_grey() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        await pilot.press("question_mark")
        first = app.screen._compositor.render_strips()[0]
        colours = {
            segment.style.color.name
            for segment in first
            if segment.style and segment.style.color and segment.text.strip()
        }
        assert colours == {"#4e4e4e"}


async def test_under_an_overlay_only_its_own_keys_are_shown() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        for key in ("question_mark", "q", "ctrl+p", "h", "L"):
            assert "space Pause" in lines_of(app)[-1]
            await pilot.press(key)
            await until(pilot, lambda: "esc" in text_of(app) and "space Pause" not in text_of(app))
            assert not lines_of(app)[-1].strip(" ╰─╯") or "esc" in lines_of(app)[-1]
            await pilot.press("escape")
            await until(pilot, lambda: "space Pause" in lines_of(app)[-1])


async def test_on_q_escape_stays_and_enter_leaves_a_run_that_trains() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("q")
        assert "plain-otter ● running, 24 s left" in text_of(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, QuitScreen)
        await pilot.press("q", "enter")
        await until(pilot, lambda: app.return_value == 0)


LEAVING: dict[RunStatus, tuple[str, str, str]] = {
    "running": (
        "Training continues without this terminal.",
        "leave, keep training",
        "stop training at a checkpoint, then leave",
    ),
    "preparing": (
        "Preparation continues, then training starts.",
        "leave, keep preparing",
        "stop it before its first step, then leave",
    ),
    "paused": (
        "It stays paused, in memory, until you resume it.",
        "leave, keep it paused",
        "stop it at a checkpoint, then leave",
    ),
    "stalled": (
        "It is stalled; its worker keeps running.",
        "leave",
        "ask it to stop at a checkpoint, then leave",
    ),
    "degraded": (
        "Training continues, unsaved until its disk has room.",
        "leave, keep training",
        "stop it once a checkpoint has room, then leave",
    ),
}


@pytest.mark.parametrize("size", [(60, 15), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("status", LEAVING)
async def test_the_quit_question_fits_each_status(status: RunStatus, size: tuple[int, int]) -> None:
    assert set(LEAVING) == LIVING
    fact, leave, stop = LEAVING[status]
    async with running_app(with_runs(make_snapshot(status)), size=size) as (app, pilot):
        await pilot.press("q")
        await until(pilot, lambda: "Leave rnnlm-tui?" in text_of(app))
        text = text_of(app)
        assert fact in text
        assert f"› enter  {leave} " in text
        assert stop in text
        assert "esc    stay" in text


async def test_the_quit_question_has_one_fact_for_all_runs_or_one_for_each_status() -> None:
    services = with_runs(make_snapshot("paused"))
    services.runs += [make_summary("brisk-heron", "paused")]
    async with running_app(services) as (app, pilot):
        await pilot.press("q")
        assert "They stay paused, in memory, until you resume them." in text_of(app)
        assert "leave, keep them paused" in text_of(app)
    services.runs[-1:] = [make_summary("brisk-heron"), make_summary("calm-crow", "preparing")]
    async with running_app(services, size=(60, 15)) as (app, pilot):
        await pilot.press("q")
        await until(pilot, lambda: "Leave rnnlm-tui?" in text_of(app))
        text = text_of(app)
        assert "plain-otter ‖ paused, stays paused" in text
        assert "brisk-heron ● running, 24 s left" in text
        assert "calm-crow ◐ preparing, then trains" in text
        assert "Each run is left as it is." in text
        assert "leave, keep training" in text
        assert "stop plain-otter at a checkpoint, then leave" in text


async def test_capital_s_stops_the_open_run_and_leaves() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("q", "S")
        await until(pilot, lambda: app.return_value == 0)
        assert services.sent == [("plain-otter", "stop", {})]


async def test_another_training_run_is_named_and_cannot_be_stopped_here() -> None:
    services = with_runs(make_snapshot("finished", 4_754))
    services.runs += [
        make_summary("brisk-heron"),
        make_summary("calm-crow"),
        make_summary("dusk-dove"),
        make_summary("even-eel"),
    ]
    async with running_app(services) as (app, pilot):
        await pilot.press("q")
        text = text_of(app)
        assert "brisk-heron ● running" in text
        assert "and 1 more" in text
        assert "stop training" not in text
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)


async def test_the_palette_runs_actions_of_the_table_and_opens_runs() -> None:
    services = with_runs(make_snapshot(), make_snapshot("finished", 4_754, name="brisk-heron"))
    async with running_app(services) as (app, pilot):
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, PaletteScreen)
        await pilot.press(*"evaluate")
        await until(pilot, lambda: "Evaluate now" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: services.sent == [("plain-otter", "evaluate", {})])
        await pilot.press("ctrl+p", *"brisk")
        await until(pilot, lambda: "Open brisk-heron" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])


@pytest.mark.parametrize("pane", PANES)
async def test_the_palette_has_every_action_and_begins_with_those_of_the_pane(pane: Pane) -> None:
    async with running_app(pane=pane) as (app, pilot):
        await until(pilot, lambda: app.pane_screen is not None and app.pane_screen.is_ready)
        assert isinstance(app.screen, PaneScreen)
        items = list(commands(app.screen))
        titles = [item.name for item in items]
        assert {entry.palette for entry in ACTIONS if entry.palette} <= set(titles)
        assert len(titles) == len(set(titles))
        groups = [group for group, _ in groupby(item.group for item in items)]
        assert groups[0] == PANE_TITLES[pane] or not any(
            entry.panes and entry.panes[0] == pane for entry in ACTIONS if entry.palette
        )
        assert len(groups) == len(set(groups))
        assert groups[-1] == "Open a run"


async def test_the_palette_goes_to_the_screen_of_an_action_first() -> None:
    async with running_app(pane="runs") as (app, pilot):
        await pilot.press("ctrl+p", *"log or linear")
        await until(pilot, lambda: under_head(app, "Charts", "Log or linear y"))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and "Perplexity ─" in text_of(app))


async def test_without_a_run_the_palette_reports_why_a_chart_cannot_be_shown() -> None:
    async with running_app(FakeServices(), run=None, pane="runs") as (app, pilot):
        await pilot.press("ctrl+p", *"log or linear")
        await until(pilot, lambda: under_head(app, "Charts", "Log or linear y"))
        await pilot.press("enter")
        await until(pilot, lambda: "No run open" in text_of(app))
        assert app.current_mode == "runs"


@pytest.mark.parametrize("pane", ["train", *WITH_TEXT_BOX])
async def test_ctrl_c_tells_how_to_leave_and_ends_nothing(pane: Pane) -> None:
    services = with_runs(make_snapshot())
    async with running_app(services, pane=pane) as (app, pilot):
        app.screen.set_focus(None)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "press ^q to leave: runs keep training" in lines_of(app)[-1])
        assert app.return_value is None
        assert services.sent == []


def with_trash(*names: str) -> FakeServices:
    """A run that trains, and deleted ones, the last deleted last."""
    services = with_runs(make_snapshot())
    for name in names:
        trashed = trashed_run(name, 0.0, 4_096_000_000)
        services.in_trash[trashed.path] = (trashed, make_summary(name, "finished", 4_754))
    return services


LISTS: dict[str, tuple[Callable[[RnnlmApp], object], str]] = {
    "palette": (lambda app: app.action_command_palette(), "Sample now"),
    "choice": (
        lambda app: app.push_screen(
            ChooseScreen("Cell", [("lstm", "long short-term memory"), ("gru", "gated")], "gru")
        ),
        "long short-term",
    ),
    "trash": (lambda app: app.push_screen(TrashScreen()), "old-otter"),
}
"""Overlays with a list, by name: how each opens, and a word in it."""


@pytest.mark.parametrize("name", LISTS)
async def test_overlays_with_lists_fit_every_width(name: str) -> None:
    opens, word = LISTS[name]
    async with running_app(with_trash("old-otter"), size=(120, 40)) as (app, pilot):
        opens(app)
        await until(pilot, lambda: word in text_of(app))
        for width in (*range(24, 0, -1), 120):
            await pilot.resize_terminal(width, 12)
            await pilot.pause()
        await until(pilot, lambda: word in text_of(app))


async def test_a_run_that_ends_changes_the_quit_question_and_the_next_q_leaves_at_once() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("q")
        assert "24 s left" in text_of(app)
        services.snapshots["plain-otter"] = make_snapshot("finished", 4_754)
        await until(pilot, lambda: "plain-otter ✓ finished" in text_of(app))
        assert "No run is training any more." in text_of(app)
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)
        await pilot.press("escape", "q")
        await until(pilot, lambda: app.return_value == 0)


async def test_help_is_short_in_a_narrow_column_and_names_the_palette_once_a_group() -> None:
    async with running_app(pane="train") as (app, pilot):
        app.action_keys()
        shown = await whole_help(app, pilot)
        for words in (
            "reset zoom, axis, cursor",
            "x: step, tokens, time …",
            "PgDn PgUp older or newer events",
            "▼ beats",
            "↑ spike",
            "nor in the time of 20 steps",
        ):
            assert words in shown
    async with running_app(pane="train", size=(200, 60)) as (app, pilot):
        await pilot.press("question_mark")
        assert sum(line.count("^p ") for line in lines_of(app)[2:-1]) <= 3
        await pilot.press(*"eval")
        assert sum("previous evaluation" in line for line in lines_of(app)) == 1


def test_the_palette_repeats_nothing() -> None:
    assert description(action("sample")) == ""
    assert description(action("smoother")) == "", "its help describes the two other keys too"
    assert (
        description(action("delete_run"))
        == "move the run, or all marked ones, to the trash: u undoes it"
    )
    assert description(action("pause")) == "also a stopped run"
    assert description(action("checkpoint")) == ""


def under_head(app: RnnlmApp, head: str, command: str) -> bool:
    """Whether the palette lists the command alone, right below the head of its group."""
    rows = [row.strip() for row in palette_rows(app)]
    return len(rows) == 2 and rows[0] == head and rows[1].startswith(command)


def palette_rows(app: RnnlmApp) -> list[str]:
    """The rows of the palette's list, without its edges and its scroll bar."""
    region = app.screen.query_one(OptionList).scrollable_content_region
    return [
        strip.crop(region.x, region.right).text
        for strip in app.screen._compositor.render_strips()[region.y : region.bottom]
    ]


async def test_the_palette_has_one_line_a_command_with_its_key_at_the_right_edge() -> None:
    keys = {
        "Pause or resume": "space",
        "Resume on another device": "R",
        "Sample now": "s",
        "Save checkpoint now": "c",
        "Evaluate now": "e",
        "Edit settings of the live run": "E",
        "Undo change of settings": "F6",
    }
    async with running_app(size=(60, 15)) as (app, pilot):
        await pilot.press("ctrl+p")
        for size in ((80, 24), (120, 40), (60, 15)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: "Sample now" in text_of(app))
            rows = palette_rows(app)
            assert rows[0].strip() == "Train"
            for row, (title, key) in zip(rows[1:], keys.items(), strict=False):
                assert row.startswith(f"  {title}")
                assert row.endswith(f" {key} "), "at the right edge"


async def test_the_palette_finds_what_a_command_does_or_else_its_letters() -> None:
    async with running_app(size=(60, 15)) as (app, pilot):
        await pilot.press("ctrl+p", *"samples step")
        await until(pilot, lambda: under_head(app, "Train", "Sample history"))
        assert "step by step" in text_of(app), "the description is cut around the found words"
        await pilot.press("ctrl+u", *"evalnow")
        await until(pilot, lambda: under_head(app, "Train", "Evaluate now"))
        await pilot.press("ctrl+u", *"zzz")
        await until(pilot, lambda: "No matches found" in text_of(app))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: palette_rows(app)[0].strip() == "Train")


async def test_in_a_list_the_cursor_passes_headings_and_goes_round() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, PaletteScreen)
        names = []
        for key in ("down", "up", "up", "down", "ctrl+end", "ctrl+home", "pagedown", "pageup"):
            await pilot.press(key)
            assert app.screen.current is not None
            names.append(app.screen.current.name)
        first, last = "Pause or resume", "Open plain-otter"
        assert names[0] == "Resume on another device"
        assert names[1:6] == [first, last, first, last, first]
        assert names[6] not in (first, last)
        assert names[7] == first
        await pilot.click(offset=(0, 20))
        await until(pilot, lambda: app.screen is app.pane_screen)


def test_a_find_in_the_name_ranks_above_one_in_the_heading_and_that_above_other_texts() -> None:
    items = [
        PickItem("", "scale", "of the loss"),
        PickItem("", "scale", also="loss"),
        PickItem("", "scale", group="Loss"),
        PickItem("", "the loss"),
        PickItem("", "loss scale"),
        PickItem("", "loss"),
    ]
    assert [item.score(["loss"]) for item in items] == [1, 2, 3, 4, 5, 6]
    assert PickItem("", "loss", "of a run").score(["run", "loss"]) == 1
    assert PickItem("", "loss").score(["run", "loss"]) == 0


def test_short_help_fits_its_column() -> None:
    assert [
        entry.id
        for entry in ACTIONS
        if not entry.covered and len(entry.short_help) > (24 if entry.group == "charts" else 30)
    ] == []


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}"
)
async def test_a_choice_and_a_run_of_the_trash_take_one_line_each(size: tuple[int, int]) -> None:
    services = with_trash("a-run-with-a-name-of-forty-characters-or", "old-otter")
    async with running_app(services, size=size) as (app, pilot):
        app.push_screen(
            ChooseScreen("Preset", [(name, PRESET_SUMMARIES[name]) for name in PRESETS])
        )
        await until(pilot, lambda: "Preset" in text_of(app) and "ptb-large" in text_of(app))
        shown = [line for line in lines_of(app) if any(f" {name} " in line for name in PRESETS)]
        assert len(shown) == len(PRESETS)
        await pilot.press("escape")
        app.push_screen(TrashScreen())
        await until(pilot, lambda: "old-otter" in text_of(app))
        rows = [line for line in lines_of(app) if "4.1 GB" in line and "ago" in line]
        assert len(rows) == 2
        assert "old-otter" in rows[0]
