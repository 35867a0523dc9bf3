"""Every action of the table has a visible effect, by its key or by the palette."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.actions import ACTIONS, Action, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.compare import Marks
from tests.homes import three_runs_at_home
from tests.tui import fakes
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.panes import fakes as pane_fakes
from tests.tui.panes.seeing import opened
from tests.tui.panes.test_checkpoints_pane import five_checkpoints
from tests.tui.panes.test_inspect_pane import sampled
from tests.tui.pictures import cells_on
from tests.tui.support import at_home, running_app, text_of, until, with_runs

OTHER = parse_config(
    merge(
        DEMO,
        {
            "model.cell_type": "gru",
            "model.dropout": 0.3,
            "optimizer.learning_rate": 1e-3,
            "training.seed": 3,
            "schedule.warmup_steps": 50,
        },
    )
)
FIRST: dict[str, tuple[str, ...]] = {
    "open_selected": ("down",),
    "undo_delete": ("down", "d"),
    "delete_run": ("down",),
    "undo_delete_checkpoint": ("end", "d"),
    "delete_checkpoint": ("end",),
    "open_nearest": ("left",),
    "rougher": ("0", "plus"),
    "raw": ("plus",),
    "zoom_out": ("up",),
    "pan_left": ("up", "up"),
    "pan_right": ("up", "up", "comma"),
    "follow": ("up", "up", "comma"),
    "reset_view": ("up",),
    "cursor_right": ("left", "left", "left"),
    "cursor_far_right": ("left", "shift+left"),
    "cursor_far_left": ("left",),
    "cursor_end": ("left", "left"),
    "cursor_home": ("left",),
    "next_evaluation": ("left", "home"),
    "previous_evaluation": ("left",),
    "newer_events": ("pagedown",),
    "table_up": ("pagedown",),
    "reset_field": ("tab", "tab", "right"),
    "previous_field": ("down",),
    "next_choice": ("tab", "tab"),
    "toggle_field": ("slash", *"lower case", "enter"),
    "undo_edit": ("tab", "tab", "right"),
    "redo_edit": ("tab", "tab", "right", "f6"),
    "previous_choice": ("tab", "tab"),
    "leave_field": ("left",),
    "continue_text": (*"We", "enter"),
    "edit_text": (*"We", "enter"),
    "undo_branch": (*"We", "enter", "f3"),
    "redo_branch": (*"We", "enter", "f3", "f6"),
    "later_branch": (*"We", "enter", "ctrl+r", "escape"),
    "earlier_branch": (*"We", "enter", "ctrl+r", "escape"),
    "side_by_side": (*["tab"] * 7, "3", "enter", *"We", "enter"),
    "save_text": (*"We", "enter"),
    "copy_text": (*"We", "enter"),
    "older_text": (*"We the people " * 20, "enter"),
    "newer_text": (*"We the people " * 20, "enter", *["pageup"] * 3),
    "alone": ("tab",),
    "previous_line": ("down",),
    "page_up": ("pagedown",),
    "previous_surprise": ("end",),
    "show_train": ("3",),
    "next_side": ("escape",),
    "previous_side": ("escape",),
    "next_difference": (*"We", "enter", "escape"),
    "previous_difference": (*"We", "enter", "escape"),
    "differences": tuple("We"),
    "fold_runs": ("V", "V"),
    "unfold_runs": ("V", "V", "home", "left"),
    "remove_side": ("escape", "ctrl+n"),
}
"""Keys pressed before the action's key, so that it has something to do."""
ELSEWHERE: dict[str, Pane] = {"leave_field": "train", "new_run": "runs", "new_from_run": "config"}
"""The screens of actions whose screen isn't their first."""
SIZES = {
    "table_down": (60, 15),
    "table_up": (60, 15),
    "older_text": (60, 15),
    "newer_text": (60, 15),
}
"""A small terminal for actions that only scroll."""
LARGE = ("inspect", "versus")
"""Screens whose actions need a large terminal; the others' tests take half the time in a small one.
"""
DRAFTED = (
    "next_choice",
    "previous_choice",
    "edit_field",
    "start_draft",
    "reset_field",
    "choose_preset",
    "save_draft",
    "next_problem",
    "adjust_field",
    "queue_draft",
    "toggle_field",
    "undo_edit",
    "redo_edit",
    "edit_toml",
    "browse_files",
    "open_config",
    "write_config",
    "find_field",
    "next_comparison",
)
"""Actions of a config that is being edited."""


OF_RUNS = ("delete_run", "undo_delete", "tag_run", "note_run", "pin_run", "rename_run")
"""Actions that change what is stored of a run."""
OF_CHECKPOINTS = (
    "pin_checkpoint",
    "note_checkpoint",
    "delete_checkpoint",
    "undo_delete_checkpoint",
)
"""Actions that change what is stored of a checkpoint."""


def size_for(entry: Action) -> tuple[int, int]:
    """The size of the terminal in which the action is tried."""
    return SIZES.get(entry.id, (120, 40) if pane_of(entry) in LARGE else (80, 24))


def pane_of(entry: Action) -> Pane:
    """A screen on which the action works."""
    return ELSEWHERE.get(entry.id) or (entry.panes or ("train",))[0]


async def has_an_effect(entry: Action, app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Press the key and check that the screen has changed or the app has ended."""
    await pilot.press(*FIRST.get(entry.id, ()))
    for _ in range(3):
        await pilot.pause()
    app.pane_screen.end_notice() if app.pane_screen is not None else None
    await pilot.pause()
    before = cells_on(app)
    if entry.keys:
        await pilot.press(entry.keys[0])
    else:
        await pilot.press("ctrl+p", *entry.palette)
        await until(pilot, lambda: entry.help[:20] in text_of(app))
        await pilot.press("enter")
    await until(pilot, lambda: app.return_value is not None or cells_on(app) != before)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the action changes the screen."""
    for module in ("views.status", "views.runs", "screens.trash"):
        monkeypatch.setattr(f"rnnlm_tui.tui.{module}.time", lambda: fakes.START + 99)
    monkeypatch.setattr("rnnlm_tui.tui.screens.checkpoints.time", lambda: pane_fakes.NOW)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in ACTIONS if pane_of(entry) in ("runs", "train", "compare")],
    ids=lambda entry: entry.id,
)
async def test_every_action_of_runs_charts_and_everywhere_has_an_effect(entry: Action) -> None:
    if entry.id in OF_RUNS:
        with three_runs_at_home():
            async with at_home(size=size_for(entry)) as (app, pilot):
                await has_an_effect(entry, app, pilot)
                work = [worker for worker in app.workers if worker.group == "threads"]
                await until(pilot, lambda: all(worker.is_finished for worker in work))
        return
    services: FakeServices = with_runs(
        make_snapshot(), make_snapshot("finished", 4_754, name="brisk-heron", config=OTHER)
    )
    async with running_app(services, pane=pane_of(entry), size=size_for(entry)) as (
        app,
        pilot,
    ):
        if pane_of(entry) == "compare" or entry.id == "compare_runs":
            app.set_marks(Marks(("plain-otter", "brisk-heron")))
            app.watcher.poll_now()
        if pane_of(entry) == "compare":
            app.open_pane("compare")
            await until(pilot, lambda: "differs in" in text_of(app))
        await has_an_effect(entry, app, pilot)


@pytest.mark.parametrize(
    "entry",
    [
        entry
        for entry in ACTIONS
        if pane_of(entry) in ("config", "checkpoints", "prompt", "inspect", "versus")
    ],
    ids=lambda entry: entry.id,
)
async def test_every_action_of_config_checkpoints_and_the_prompts_modes_has_an_effect(
    entry: Action,
) -> None:
    if entry.id in OF_CHECKPOINTS:
        five_checkpoints()
        async with at_home(pane="checkpoints") as (app, pilot):
            await until(pilot, lambda: "★ best" in text_of(app))
            await has_an_effect(entry, app, pilot)
        return
    services = FakeServices(pane_fakes.make_snapshot())
    async with opened(services, pane_of(entry), size=size_for(entry)) as (
        app,
        pilot,
    ):
        if entry.id in DRAFTED:
            await pilot.press("n")
            await until(pilot, lambda: "calm-badger" in text_of(app))
        if pane_of(entry) == "inspect":
            app.prompt_session.tree.add(sampled())
            assert app.pane_screen is not None
            app.pane_screen.refresh_all()
            await until(pilot, lambda: "Instead of “is”" in text_of(app))
            await until(pilot, lambda: "State, layer 2" in text_of(app))
        await has_an_effect(entry, app, pilot)
