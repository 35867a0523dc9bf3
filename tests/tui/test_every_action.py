"""Every action of the table has a visible effect, by its key or by the palette."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.actions import ACTIONS, PANES, Action, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.compare import Marks
from tests.tui.demo_run import demo_run
from tests.tui.panes.test_inspect_pane import sampled, weights
from tests.tui.support import at_home, text_of, until

CHANGES = {
    "model.cell_type": "gru", "model.dropout": 0.3, "optimizer.learning_rate": 1e-3,
    "training.seed": 3, "schedule.warmup_steps": 50,
}  # fmt: skip
OTHER = parse_config(merge(DEMO, CHANGES))
LONG = "We the people " * 20
FIRST = {
    "down": "open_selected delete_run previous_field previous_line",
    "down d": "undo_delete",
    "end": "delete_checkpoint previous_surprise",
    "end d": "undo_delete_checkpoint",
    "left": "open_nearest cursor_far_left cursor_home previous_evaluation leave_field",
    "left left": "cursor_end",
    "left left left": "cursor_right",
    "left shift+left": "cursor_far_right",
    "left home": "next_evaluation",
    "plus": "raw",
    "0 plus": "rougher",
    "up": "zoom_out reset_view",
    "up up": "pan_left",
    "up up comma": "pan_right follow",
    "pagedown": "newer_events table_up page_up",
    "tab": "alone",
    "tab tab": "next_choice previous_choice",
    "tab tab right": "reset_field undo_edit",
    "tab tab right f6": "redo_edit",
    "slash 'lower case' enter": "toggle_field",
    "'We the' enter": "continue_text edit_text save_text copy_text",
    "'We the' enter f3": "undo_branch",
    "'We the' enter f3 f6": "redo_branch",
    "'We the' enter ctrl+r escape": "later_branch earlier_branch",
    "tab tab tab tab tab tab tab 3 enter 'We the' enter": "side_by_side",
    f"'{LONG}' enter": "older_text",
    f"'{LONG}' enter pageup pageup pageup": "newer_text",
    "3": "show_train",
    "escape": "next_side previous_side next_difference previous_difference",
    "'We the'": "differences",
    "V V": "fold_runs",
    "V V home left": "unfold_runs",
    "escape ctrl+n": "remove_side",
}
"""Keys pressed before those of actions, so that these have something to do; texts are pasted."""
ELSEWHERE: dict[str, Pane] = {"leave_field": "train", "new_run": "runs", "new_from_run": "config"}
"""The screens of actions whose screen isn't their first."""
SIZES: dict[Pane, tuple[int, int]] = {
    "compare": (60, 15), "inspect": (120, 40), "prompt": (60, 15), "versus": (120, 40),
}  # fmt: skip
"""Terminals of other sizes: small ones for actions that scroll, large ones for the others."""
SHOWS: dict[Pane, str] = {"compare": "differs in", "train": "val 55.3"}
"""Texts of panes whose keys need what is read of the run."""
LEAVING = ("leave", "leave_now")
"""Actions that end the app."""


def pane_of(entry: Action) -> Pane:
    """A screen on which the action works."""
    return ELSEWHERE.get(entry.id) or (entry.panes or ("train",))[0]


def is_drafted(entry: Action) -> bool:
    """Whether it is an action of a config that is being edited."""
    return pane_of(entry) == "config" and entry.id != "new_from_run"


async def has_an_effect(
    entry: Action, app: RnnlmApp, pilot: Pilot[int], *, patiently: bool
) -> bool:
    """Press the key; whether the screen has changed or the app has ended."""
    first = next((keys for keys, names in FIRST.items() if entry.id in names.split()), "")
    for key in shlex.split(first):
        if " " in key:
            app.post_message(Paste(key))
            await pilot.pause()
        else:
            await pilot.press(key)
        if getattr(app.pane_screen, "sampling", False):
            await until(pilot, lambda: not getattr(app.pane_screen, "sampling", False))
    if app.pane_screen is not None:
        app.pane_screen.end_notice()
    await pilot.pause()
    before = app.screen._compositor.render_strips()

    def changed() -> bool:
        ended = app.return_value is not None
        return ended or app.screen._compositor.render_strips() != before

    if entry.keys:
        await pilot.press(entry.keys[0])
    else:
        await pilot.press("ctrl+p")
        app.post_message(Paste(entry.palette))
        await until(pilot, lambda: text_of(app).count(entry.palette) > 1)
        await pilot.press("enter")
    if patiently:
        await until(pilot, changed)
    return changed()


async def begin_again(app: RnnlmApp, pilot: Pilot[int], pane: Pane, run: RunDirectory) -> None:
    """Close overlays, forget choices, and open the pane on the run with a new screen."""
    while app.screen is not app.pane_screen:
        await pilot.press("escape")
    app.workers.cancel_group(app, "threads")
    app.workers.cancel_node(app.screen)
    app.open_run(run, "train" if pane == "runs" else "runs")
    await app.remove_mode(pane)
    app.add_mode(pane, RnnlmApp.MODES[pane])
    app.draft = None
    app.settings.clear()
    vars(app).pop("prompt_session", None)
    app.marks = Marks(("plain-otter", "brisk-heron") if pane == "compare" else ())
    app.watcher.poll_now()
    app.open_pane(pane)
    await until(pilot, lambda: app.snapshot is not None and app.summaries)
    await until(pilot, lambda: SHOWS.get(pane, "") in text_of(app))


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("panes", [PANES[:4], PANES[4:]])
async def test_every_action_has_an_effect(
    panes: tuple[Pane, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setattr("rnnlm_tui.store.runs.suggest_name", lambda: "calm-badger")
    entries = [entry for entry in ACTIONS if pane_of(entry) in panes]
    order = {entry.id: (panes.index(pane_of(entry)), is_drafted(entry)) for entry in entries}
    entries.sort(key=lambda entry: (entry.id in LEAVING, order[entry.id]))
    other = demo_run("finished", 4_754, name="brisk-heron", config=OTHER)
    with other, demo_run() as run:
        async with at_home(pane=panes[0]) as (app, pilot):
            begun = None
            for entry in entries:
                # most actions have an effect wherever the one before has led to
                pane, is_draft = pane_of(entry), is_drafted(entry)
                while app.screen is not app.pane_screen:
                    await pilot.press("escape")
                if begun == (pane, is_draft):
                    if app.current_mode != pane:
                        app.open_run(run, pane)
                        await pilot.pause()
                    if await has_an_effect(entry, app, pilot, patiently=False):
                        continue
                await pilot.resize_terminal(*SIZES.get(pane, (80, 24)))
                await begin_again(app, pilot, pane, run)
                if entry.id == "compare_runs":
                    app.marks = Marks(("plain-otter", "brisk-heron"))
                if is_draft:
                    await pilot.press("n")
                    await until(pilot, lambda: "calm-badger" in text_of(app))
                if pane == "inspect":
                    app.prompt_session.tree.add(sampled(weights=weights(run, 3_700)))
                    assert app.pane_screen is not None
                    app.pane_screen.refresh_all()
                    await until(pilot, lambda: "Instead of “is”" in text_of(app))
                    await until(pilot, lambda: "State, layer 2" in text_of(app))
                begun = pane, is_draft
                assert await has_an_effect(entry, app, pilot, patiently=True), entry.id
