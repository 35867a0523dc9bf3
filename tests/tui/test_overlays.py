"""Overlays: help, leaving, lists and the palette."""

from __future__ import annotations

from itertools import groupby
from typing import cast

import pytest
from textual.containers import VerticalScroll
from textual.widgets import OptionList

from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.protocol import CommandResult, Verb
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.actions import ACTIONS, PANE_TITLES, PANES, actions_for, key_rows
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.commands import PaletteScreen, commands
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.pick import PickItem
from rnnlm_tui.tui.screens.quit import FACTS, LEAVE, STOPS, QuitScreen
from tests.tui.fakes import make_snapshot, make_summary
from tests.tui.panes.seeing import press, until_shown
from tests.tui.support import at_home, lines_of, show_run, shows, text_of, until


@pytest.mark.usefixtures("three_at_home")
async def test_help_and_palette_list_every_action_of_every_pane() -> None:
    async with at_home() as (app, pilot):
        for pane in PANES:
            entries = [row[0] for row in key_rows(actions_for(pane))]
            app.push_screen(HelpScreen(pane, ACTIONS, ()))
            await pilot.resize_terminal(80, 24)
            await until_shown(pilot, "esc close")
            if not any(entry.group == "charts" for entry in entries):
                assert "↑ ↓ more" not in text_of(app), "it is whole"
                assert "e evaluated" in text_of(app), "no sign is cut"
            await pilot.resize_terminal(60, 100)
            await until_shown(pilot, "1 2 3 4   screens of the run", "degraded: its disk is full")
            assert max(len(line) for line in lines_of(app)) <= 60
            shown = text_of(app)
            for entry in entries:
                if entry.label not in tuple("1234"):
                    assert entry.help in shown or entry.short_help in shown, entry.id
                    has_own_row = entry.keys and entry.group != "everywhere"
                    assert not has_own_row or f"{entry.all_keys} " in shown, entry.id
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.pane_screen)
        for pane in ("runs", "train"):  # the palette begins with those of the pane
            await pilot.press("r" if pane == "runs" else "2")
            await until(pilot, lambda: app.ready_pane is not None)
            assert isinstance(app.screen, PaneScreen)
            items = list(commands(app.screen))
            titles = [item.name for item in items]
            assert {entry.palette for entry in ACTIONS if entry.palette} <= set(titles)
            assert len(titles) == len(set(titles))
            groups = [group for group, _ in groupby(item.group for item in items)]
            assert groups[0] == PANE_TITLES[pane]
            assert len(groups) == len(set(groups))
            assert groups[-1] == "Open a run"


@pytest.mark.usefixtures("three_at_home")
async def test_help_scrolls_searches_and_begins_with_the_focused_widgets_keys() -> None:
    async with at_home(pane="train", size=(60, 15)) as (app, pilot):
        await pilot.press("question_mark")
        assert "↑ ↓ more" in lines_of(app)[0]
        assert "This screen" in text_of(app)
        assert "Charts" not in text_of(app)
        await pilot.press("end", "a")
        assert "↑ ↓ more" in lines_of(app)[0]
        assert app.screen.query_one(VerticalScroll).scroll_y == 0, "the first finds are in sight"
        await pilot.resize_terminal(200, 60)
        await pilot.press("escape")
        assert "↑ ↓ more" not in text_of(app)
        assert sum(line.count("^p ") for line in lines_of(app)[2:-1]) <= 3, "once a group"
        # typing searches, q too; esc ends the search first
        await pilot.press(*"eval")
        assert sum("previous evaluation" in line for line in lines_of(app)) == 1
        await press(pilot, ("escape", *"check"), "save a checkpoint now")
        assert "evaluate now" not in text_of(app)
        await press(pilot, "q", "no key found")
        await press(pilot, "backspace", "save a checkpoint now")
        await press(pilot, "escape", "evaluate now")
        await pilot.press("q")
        assert not isinstance(app.screen, HelpScreen)
        # of a text box
        await pilot.resize_terminal(80, 24)
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "prompt")
        await pilot.press("f1")
        lines = lines_of(app)
        first = next(number for number, line in enumerate(lines) if "This screen" in line)
        assert "the next checkpoint" in lines[first + 1]


async def test_the_quit_question_fits_each_status_and_several_runs_and_changes_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[str, Verb]] = []

    def send(run: RunDirectory, verb: Verb) -> CommandResult:
        sent.append((run.name, verb))
        return CommandResult(id="1", ok=True, status="stopped", step=3_752)

    async def asks(status: RunStatus, *words: str, **others: RunStatus) -> None:
        """Ask with these runs, the open one first."""
        show_run(app, make_snapshot(status))
        app.summaries = tuple(make_summary(name, other) for name, other in others.items())
        await press(pilot, "q", "Leave rnnlm-tui?", *words)

    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    assert set(FACTS) == LIVING
    async with at_home(None, "train", size=(60, 15)) as (app, pilot):
        await until(pilot, lambda: app.summaries is not None)  # the real ones, none
        for status, fact in FACTS.items():
            leave = LEAVE.get(status, "leave").replace("{it}", "it")
            stop = STOPS.get(status, "stop {run} at a checkpoint")
            stop = stop.replace("{run}", "training" if status == "running" else "it")
            keys = f"› enter  {leave} ", f"{stop}, then leave ", "esc    stay "
            await asks(status, f"  {fact} ", *keys)
            await pilot.press("escape")
            assert not isinstance(app.screen, QuitScreen)
        await asks("paused", FACTS["paused"], "leave, keep them paused", heron="paused")
        await pilot.press("escape")
        await asks(
            "paused",
            "plain-otter ‖ paused, stays paused",
            "heron ● running, 24 s left",
            "crow ◐ preparing, then trains",
            "Each run is left as it is.",
            "leave, keep training",
            "stop plain-otter at a checkpoint, then leave",
            heron="running",
            crow="preparing",
        )
        await pilot.press("escape")
        # runs that aren't open are named, and can't be stopped here
        runs = dict.fromkeys(("heron", "crow", "dove", "eel"), "running")
        await asks("finished", "heron ● running", "and 1 more", **runs)  # type: ignore[arg-type]
        assert "stop training" not in text_of(app)
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)
        await pilot.press("escape")
        # a run may end meanwhile
        await asks("running", "plain-otter ● running, 24 s left")
        show_run(app, make_snapshot("finished", 4_754))
        await until_shown(pilot, "plain-otter ✓ finished", "No run is training any more.")
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)
        await pilot.press("escape")
        await asks("running")
        await pilot.press("S")
        await until(pilot, lambda: app.return_value == 0)
        assert sent == [("plain-otter", "stop")]


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


def palette_rows(app: RnnlmApp) -> list[str]:
    """The rows of the palette's list, without its edges and its scroll bar."""
    region = app.screen.query_one(OptionList).scrollable_content_region
    return [
        strip.crop(region.x, region.right).text
        for strip in app.screen._compositor.render_strips()[region.y : region.bottom]
    ]


@pytest.mark.usefixtures("three_at_home")
async def test_the_palette_lists_finds_and_runs_commands_and_opens_runs() -> None:
    def lists_alone(head: str, command: str) -> bool:
        rows = [row.strip() for row in palette_rows(app)]
        return len(rows) == 2 and rows[0] == head and rows[1].startswith(command)

    async with at_home(pane="train", size=(60, 15)) as (app, pilot):
        await press(pilot, "ctrl+p", "Sample now")
        rows = palette_rows(app)
        assert rows[0].strip() == "Train"
        entries = [entry for entry in ACTIONS if entry.panes[:1] == ("train",)]
        for row, entry in zip(rows[1:8], entries, strict=False):
            assert row.startswith(f"  {entry.palette}")
            assert row.endswith(f" {entry.label} "), "at the right edge"
        # the cursor passes headings and goes round
        assert isinstance(app.screen, PaletteScreen)
        names = []
        for key in ("down", "up", "up", "down", "ctrl+end", "ctrl+home", "pagedown", "pageup"):
            await pilot.press(key)
            assert app.screen.current is not None
            names.append(app.screen.current.name)
        first, last = "Pause or resume", "Open amber-vole"
        assert names[0] == "Resume on another device"
        assert names[1:6] == [first, last, first, last, first]
        assert names[6] not in (first, last)
        assert names[7] == first
        # typed words are found in what a command does, else their letters in its title
        await pilot.press(*"samples step")
        await until(pilot, lambda: lists_alone("Train", "Sample history"))
        assert "step by step" in text_of(app), "the description is cut around the found words"
        await pilot.press("ctrl+u", *"evalnow")
        await until(pilot, lambda: lists_alone("Train", "Evaluate now"))
        await press(pilot, ("ctrl+u", *"zzz"), "No matches found")
        await pilot.press("ctrl+u")
        await until(pilot, lambda: palette_rows(app)[0].strip() == "Train")
        await pilot.resize_terminal(120, 40)
        await pilot.click(offset=(0, 20))
        await until(pilot, lambda: app.screen is app.pane_screen)
        # lists fit every width, a line an item
        for overlay, words in (
            (ChooseScreen("Preset", list(PRESET_SUMMARIES.items()), "gru"), PRESETS),
            (PaletteScreen(cast(PaneScreen, app.screen)), ("Sample now",)),
        ):
            app.push_screen(overlay)
            for size in ((60, 17), (24, 12), (13, 12), (5, 12), (1, 12), (120, 40)):
                await pilot.resize_terminal(*size)
                if size >= (60, 17):
                    await until_shown(pilot, *words)
                    lines = [line for line in lines_of(app) if any(f" {w} " in line for w in words)]
                    assert len(lines) == len(words)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.pane_screen)
        # a command runs, on its pane; a run is opened
        await pilot.press("r", "ctrl+p", *"log or linear")
        await until(pilot, lambda: lists_alone("Charts", "Log or linear y"))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and shows(app, "Perplexity ─"))
        await press(pilot, ("ctrl+p", *"brisk"), "Open brisk-heron")
        await pilot.press("enter")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])
