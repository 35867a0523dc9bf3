"""Overlays: help, leaving, lists and the palette."""

from __future__ import annotations

from itertools import groupby

from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import OptionList

from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.tui.actions import ACTIONS, PANE_TITLES, PANES, action, actions_for
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.commands import PaletteScreen, commands, description
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.pick import PickItem
from rnnlm_tui.tui.screens.quit import QuitScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.views.compare import Marks
from tests.homes import trained
from tests.tui.fakes import FakeServices, make_snapshot, make_summary
from tests.tui.support import at_home, lines_of, running_app, shows, text_of, until


async def whole_help(app: RnnlmApp, pilot: Pilot[int]) -> str:
    """The whole help, scrolled to its end."""
    await pilot.press("home")
    await until(pilot, lambda: isinstance(app.screen, HelpScreen) and "esc close" in text_of(app))
    shown, before = text_of(app), ""
    while before != text_of(app):
        before = text_of(app)
        await pilot.press("pagedown")
        shown += text_of(app)
    return shown


async def test_help_lists_every_action_in_every_size() -> None:
    services = FakeServices(make_snapshot(), make_snapshot(name="brisk-heron"))
    async with running_app(services, size=(60, 15)) as (app, pilot):
        app.set_marks(Marks(("plain-otter", "brisk-heron")))
        for pane in PANES:
            app.open_pane(pane)
            await until(pilot, lambda: app.pane_screen is not None and app.pane_screen.is_ready)
            app.action_keys()
            entries = [entry for entry in actions_for(pane) if not entry.covered]
            charts = any(entry.group == "charts" for entry in entries)
            for size in ((60, 15), (80, 24), (120, 40)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
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
                if (pane, size) == ("train", (80, 24)):
                    for words in (
                        "reset zoom, axis, cursor", "x: step, tokens, time …", "▼ beats",
                        "PgDn PgUp older or newer events", "↑ spike",
                        "nor in the time of 20 steps",
                    ):  # fmt: skip
                        assert words in shown
            await pilot.press("escape")
            await pilot.resize_terminal(60, 15)


async def test_help_scrolls_searches_and_begins_with_the_focused_widgets_keys() -> None:
    async with running_app(pane="train", size=(60, 15)) as (app, pilot):
        await pilot.press("question_mark")
        assert "↑ ↓ more" in lines_of(app)[0]
        assert "This screen" in text_of(app)
        assert "Charts" not in text_of(app)
        await pilot.press("end")
        assert "degraded: its disk is full" in text_of(app)
        await pilot.press("a")
        assert "↑ ↓ more" in lines_of(app)[0]
        assert app.screen.query_one(VerticalScroll).scroll_y == 0, "the first finds are in sight"
        await pilot.press("escape", "end", "home")
        assert "This screen" in text_of(app)
        await pilot.resize_terminal(200, 60)
        await pilot.pause()
        assert "↑ ↓ more" not in text_of(app)
        assert "degraded: its disk is full" in text_of(app)
        assert sum(line.count("^p ") for line in lines_of(app)[2:-1]) <= 3, "once a group"
        # typing searches, q too; esc ends the search first
        await pilot.press(*"eval")
        assert sum("previous evaluation" in line for line in lines_of(app)) == 1
        await pilot.press("escape", *"check")
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
        await pilot.resize_terminal(60, 15)
        await pilot.press("left", "question_mark")
        assert "Charts" in text_of(app)
        await pilot.press("escape")
        await pilot.resize_terminal(80, 24)
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "prompt")
        await pilot.press("f1")
        lines = lines_of(app)
        first = next(number for number, line in enumerate(lines) if "This screen" in line)
        assert "the next checkpoint" in lines[first + 1]


async def test_under_an_overlay_the_pane_is_grey_and_only_its_own_keys_are_shown() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        for key in ("question_mark", "q", "ctrl+p", "h", "L"):
            assert "space Pause" in lines_of(app)[-1]
            await pilot.press(key)
            await until(pilot, lambda: "esc" in text_of(app) and "space Pause" not in text_of(app))
            assert not lines_of(app)[-1].strip(" ╰─╯") or "esc" in lines_of(app)[-1]
            if key == "question_mark":
                first = app.screen._compositor.render_strips()[0]
                colours = {
                    segment.style.color.name
                    for segment in first
                    if segment.style and segment.style.color and segment.text.strip()
                }
                assert colours == {"#4e4e4e"}
            await pilot.press("escape")
            await until(pilot, lambda: "space Pause" in lines_of(app)[-1])
        for pane in ("train", "prompt"):
            app.action_open_pane(pane)
            app.screen.set_focus(None)
            await pilot.press("ctrl+c")
            await until(pilot, lambda: "press ^q to leave: runs keep training" in lines_of(app)[-1])
        assert app.return_value is None


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


async def test_the_quit_question_has_a_fact_and_fits_for_each_status_and_for_several_runs() -> None:
    assert set(LEAVING) == LIVING
    services = FakeServices(make_snapshot())
    async with running_app(services) as (app, pilot):

        async def asked() -> str:
            app.watcher.poll_now()
            await until(
                pilot,
                lambda: (
                    {summary.run: summary.status for summary in app.current_summaries()}
                    == {summary.run: summary.status for summary in services.runs}
                ),
            )
            await pilot.press("q")
            await until(pilot, lambda: shows(app, "Leave rnnlm-tui?"))
            return text_of(app)

        for status, (fact, leave, stop) in LEAVING.items():
            become(services, status)
            for size in ((60, 15), (80, 24)):
                await pilot.resize_terminal(*size)
                text = await asked()
                assert fact in text
                assert f"› enter  {leave} " in text
                assert stop in text
                assert "esc    stay" in text
                await pilot.press("escape")
                assert not isinstance(app.screen, QuitScreen)
        become(services, "paused")
        services.runs[1:] = [make_summary("brisk-heron", "paused")]
        text = await asked()
        assert "They stay paused, in memory, until you resume them." in text
        assert "leave, keep them paused" in text
        await pilot.press("escape")
        services.runs[1:] = [make_summary("brisk-heron"), make_summary("calm-crow", "preparing")]
        text = await asked()
        assert "plain-otter ‖ paused, stays paused" in text
        assert "brisk-heron ● running, 24 s left" in text
        assert "calm-crow ◐ preparing, then trains" in text
        assert "Each run is left as it is." in text
        assert "leave, keep training" in text
        assert "stop plain-otter at a checkpoint, then leave" in text
        await pilot.press("escape")
        # runs that aren't open are named, and can't be stopped here
        become(services, "finished")
        services.runs[1:] = [
            make_summary(name) for name in ("brisk-heron", "calm-crow", "dusk-dove", "even-eel")
        ]
        text = await asked()
        assert "brisk-heron ● running" in text
        assert "and 1 more" in text
        assert "stop training" not in text
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)
        await pilot.press("enter")
        await until(pilot, lambda: app.return_value == 0)


def become(services: FakeServices, status: RunStatus) -> None:
    """Let the open run have this status."""
    services.snapshots["plain-otter"] = snapshot = make_snapshot(status)
    services.runs[0] = snapshot.summary


async def test_a_run_that_ends_changes_the_quit_question_and_capital_s_stops_one() -> None:
    services = FakeServices(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("q")
        assert "plain-otter ● running, 24 s left" in text_of(app)
        services.snapshots["plain-otter"] = make_snapshot("finished", 4_754)
        await until(pilot, lambda: "plain-otter ✓ finished" in text_of(app))
        assert "No run is training any more." in text_of(app)
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)
        await pilot.press("escape", "q")
        await until(pilot, lambda: app.return_value == 0)
    services = FakeServices(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("q", "S")
        await until(pilot, lambda: app.return_value == 0)
        assert services.sent == [("plain-otter", "stop", {})]


async def test_lists_fit_every_width_and_take_one_line_each() -> None:
    for name in ("a-run-with-a-name-of-forty-characters-or", "old-otter"):
        delete_run(trained(name))
    async with at_home(None, size=(120, 40)) as (app, pilot):
        choices = [(name, PRESET_SUMMARIES[name]) for name in PRESETS]
        for overlay, word in (
            (ChooseScreen("Preset", choices, "gru"), "ptb-large"),
            (TrashScreen(), "old-otter"),
            (None, "Start demo"),
        ):
            if overlay is None:
                app.action_command_palette()
            else:
                app.push_screen(overlay)
            for size in ((60, 15), (80, 24), (120, 40)):
                await pilot.resize_terminal(*size)
                await until(pilot, lambda: shows(app, word))  # noqa: B023  awaited here
                lines = lines_of(app)
                presets = [line for line in lines if any(f" {name} " in line for name in PRESETS)]
                assert word != "ptb-large" or len(presets) == len(PRESETS)
                deleted = [line for line in lines if "deleted just now" in line and " kB" in line]
                assert word != "old-otter" or len(deleted) == 2
            for width in range(24, 0, -1):
                await pilot.resize_terminal(width, 12)
                await pilot.pause()
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: shows(app, word))  # noqa: B023  awaited here
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.pane_screen)
        await pilot.press("ctrl+p", *"log or linear", "enter")
        await until(pilot, lambda: "No run open" in text_of(app))
        assert app.current_mode == "runs"


def test_the_palette_repeats_nothing() -> None:
    assert description(action("sample")) == ""
    assert description(action("smoother")) == "", "its help describes the two other keys too"
    assert (
        description(action("delete_run"))
        == "move the run, or all marked ones, to the trash: u undoes it"
    )
    assert description(action("pause")) == "also a stopped run"
    assert description(action("checkpoint")) == ""


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


async def test_the_palette_lists_finds_and_runs_commands_and_opens_runs() -> None:
    services = FakeServices(make_snapshot(), make_snapshot("finished", 4_754, name="brisk-heron"))
    keys = {
        "Pause or resume": "space",
        "Resume on another device": "R",
        "Sample now": "s",
        "Save checkpoint now": "c",
        "Evaluate now": "e",
        "Edit settings of the live run": "E",
        "Undo change of settings": "F6",
    }
    async with running_app(services, size=(60, 15)) as (app, pilot):
        await pilot.press("ctrl+p")
        for size in ((80, 24), (120, 40), (60, 15)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: "Sample now" in text_of(app))
            rows = palette_rows(app)
            assert rows[0].strip() == "Train"
            for row, (title, key) in zip(rows[1:], keys.items(), strict=False):
                assert row.startswith(f"  {title}")
                assert row.endswith(f" {key} "), "at the right edge"
        # the cursor passes headings and goes round
        assert isinstance(app.screen, PaletteScreen)
        names = []
        for key in ("down", "up", "up", "down", "ctrl+end", "ctrl+home", "pagedown", "pageup"):
            await pilot.press(key)
            assert app.screen.current is not None
            names.append(app.screen.current.name)
        first, last = "Pause or resume", "Open brisk-heron"
        assert names[0] == "Resume on another device"
        assert names[1:6] == [first, last, first, last, first]
        assert names[6] not in (first, last)
        assert names[7] == first
        # typed words are found in what a command does, else their letters in its title
        await pilot.press(*"samples step")
        await until(pilot, lambda: under_head(app, "Train", "Sample history"))
        assert "step by step" in text_of(app), "the description is cut around the found words"
        await pilot.press("ctrl+u", *"evalnow")
        await until(pilot, lambda: under_head(app, "Train", "Evaluate now"))
        await pilot.press("ctrl+u", *"zzz")
        await until(pilot, lambda: "No matches found" in text_of(app))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: palette_rows(app)[0].strip() == "Train")
        await pilot.resize_terminal(120, 40)
        await pilot.click(offset=(0, 20))
        await until(pilot, lambda: app.screen is app.pane_screen)
        # a command runs on its pane, a run is opened
        await pilot.press("ctrl+p", *"evaluate", "enter")
        await until(pilot, lambda: services.sent == [("plain-otter", "evaluate", {})])
        await pilot.press("r", "ctrl+p", *"log or linear")
        await until(pilot, lambda: under_head(app, "Charts", "Log or linear y"))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and "Perplexity ─" in text_of(app))
        await pilot.press("ctrl+p", *"brisk")
        await until(pilot, lambda: "Open brisk-heron" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])


async def test_the_palette_has_every_action_and_begins_with_those_of_the_pane() -> None:
    services = FakeServices(make_snapshot(), make_snapshot(name="brisk-heron"))
    async with running_app(services) as (app, pilot):
        app.set_marks(Marks(("plain-otter", "brisk-heron")))
        for pane in PANES:
            app.open_pane(pane)
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
