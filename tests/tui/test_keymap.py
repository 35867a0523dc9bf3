"""The user's keys: what the file may contain, its problems, and where the keys are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.binding import Binding
from textual.widgets import TextArea

from rnnlm_tui.schema.protocol import CommandResult, Verb
from rnnlm_tui.schema.queue import QueueListing
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.actions import ACTIONS, action
from rnnlm_tui.tui.keymap import FIXED, WIDGETS_KEYS, Keymap, key_name, parse_keymap, read_keymap
from tests.homes import three_runs_at_home
from tests.tui.fakes import make_snapshot
from tests.tui.panes.seeing import press, until_shown
from tests.tui.support import at_home, lines_of, show_run, text_of, until


def test_an_action_gets_the_keys_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keymap.toml"
    assert read_keymap(file) == Keymap()
    assert Keymap().actions == ACTIONS
    file.write_bytes(b"\xff\xfe\x00")
    assert read_keymap(file).problems == ("keymap.toml can't be read: not UTF-8",)
    keymap = parse_keymap('pause = "P"\nlog_scale = ["f10", "^t"]\nnext_theme = "f12"\n')
    assert keymap.problems == ()
    assert action("pause", keymap.actions).keys == ("P",)
    assert action("log_scale", keymap.actions).keys == ("f10", "ctrl+t")
    assert action("next_theme", keymap.actions).label == "F12"
    assert action("evaluate", keymap.actions) == action("evaluate")
    assert keymap.changed == {"pause": "P", "log_scale": "f10,ctrl+t", "next_theme": "f12"}
    row = action("smoother", parse_keymap('rougher = "f9"').actions)
    assert row.label == "+ F9 0", "the key of each action"
    assert parse_keymap('next_checkpoint = ["ctrl+k", "f12"]').problems == (), "its own key"
    swapped = parse_keymap('sample = "e"\nevaluate = "s"\n')
    assert swapped.problems == ()
    keys = {name: action(name, swapped.actions).keys for name in ("sample", "evaluate")}
    assert keys == {"sample": ("e",), "evaluate": ("s",)}


INVALID = {
    '\npausse = "P"': "line 2: “pausse” is not an action; did you mean pause?",
    'fly_to_the_moon = "m"': "line 1: “fly_to_the_moon” is not an action",
    'pause = "ctrl+m"': "line 1: pause: a terminal sends ^m as enter",
    'pause = "shift+enter"': "line 1: pause: a terminal sends ⇧enter as enter",
    'pause = "ctrl+q"': "line 1: pause: ^q can't be changed: it always leaves the app",
    'pause = "hyper+x"': "line 1: pause: “hyper+x” is not a key; keys are single characters, f1"
    " … f12, ctrl+ and a letter, enter, home and the like",
    'new_seed = "ctrl+a"': "line 1: new_seed: ^a is used by the list or text field of Prompt",
    'show_runs = "f7"': "line 1: show_runs: F7 is the key of kept_samples on Prompt; change",
    '[pause]\nkey = "P"': 'pause: expected a key such as "P", or several such as ["P", "f6"]',
    "pause = 3": 'line 1: pause: expected a key such as "P", or several such as ["P", "f6"]',
    'pause = "s"': "line 1: pause: s is the key of sample on Train; change that one's key too",
    'new_run = "j"': "line 1: new_run: j is used by the list or text field of Runs",
    'grid = "G"': "line 1: grid: G is typed into the text box of Side by side: choose a function"
    " key, or ctrl+ and a letter",
    'pause = "P': "",
}
"""Files, and how the one problem with each begins."""


def test_invalid_lines_are_reported_and_ignored_alone() -> None:
    for text, problem in INVALID.items():
        keymap = parse_keymap(text)
        (found,) = keymap.problems
        assert found.removeprefix("keymap.toml").lstrip(": ").startswith(problem)
        assert keymap.actions == ACTIONS
        assert not keymap.changed
    keymap = parse_keymap('pause = "P"\nsample = "\\u001b]0;x"\n"\\u001b[2J" = "x"\n')
    assert action("pause", keymap.actions).keys == ("P",)
    assert len(keymap.problems) == 2
    assert "\x1b" not in "".join(keymap.problems)


def test_keys_can_be_written_as_shown() -> None:
    written = {
        "P": "P", "?": "question_mark", ",": "comma", "+": "plus", "←": "left", "^s": "ctrl+s",
        "Ctrl+S": "ctrl+s", "F5": "f5", "esc": "escape", "space": "space", " ": "space",
        "pgup": "pageup", "shift+p": "P", "question_mark": "question_mark", "ctrl+": None,
        "\x01": None, "flurp": None, "ctrl+flurp": None,
    }  # fmt: skip
    assert {text: key_name(text) for text in written} == written


def test_keys_of_the_prompts_text_field_cannot_be_used() -> None:
    bindings = (one for one in TextArea.BINDINGS if isinstance(one, Binding))
    keys = {key for binding in bindings for key in binding.key.split(",")}
    told_apart = {key for key in keys if "super+" not in key and "ctrl+shift+" not in key}
    assert told_apart <= {*WIDGETS_KEYS["prompt"], *FIXED}


KEYS = {
    "pausse": "x", "pause": "P", "stop": "Z", "new_run": "H", "show_runs": "f12",
    "show_prompt": "5", "show_queue": "B", "show_trash": "U", "start_draft": "f9",
    "undo_delete": "f4", "pin_checkpoint": "i", "command_palette": "f10", "next_layout": "Y",
    "group_runs": "y", "leave_field": "f11",
}  # fmt: skip


async def test_changed_keys_work_and_every_text_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(run: RunDirectory, verb: Verb) -> CommandResult:
        sent.append((run.name, verb))
        return CommandResult(id="1", ok=True, status="running", step=3)

    sent: list[tuple[str, Verb]] = []
    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    keymap = "".join(f'{name} = "{key}"\n' for name, key in KEYS.items())
    async with at_home(None, keymap=keymap) as (app, pilot):
        await until_shown(pilot, "“pausse” is not an action")
        assert text_of(app).count("pausse") == 1, "on the one line, and over nothing"
        await press(pilot, "x", "H      configure a new run")  # also ends the notice
        await press(pilot, "2", "Press enter to start the demo, H to conf")
        await pilot.press("H")
        await until(pilot, lambda: app.current_mode == "config")
        await press(pilot, "2", "No run open: F12 lists the runs.")
        show_run(app, make_snapshot("crashed", name="dusk-dove"))
        await press(pilot, "f12 2 s", "the run has crashed: P resumes it")
        app.report("{key:pause} and {key:no_action}")
        await until_shown(pilot, "P and {key:no_action}")
        show_run(app, make_snapshot(name="dusk-dove"))
        await press(pilot, "R", "the device can't change while the run has a worker: Z stops it")
        app.queue = QueueListing(paused=True, reason="disk is full")
        await until_shown(pilot, "queue paused: disk is full  B shows it")
        with three_runs_at_home():
            app.watcher.poll_now()
            await press(pilot, "f12", "3 runs")
            await press(pilot, "home enter", "P Pause")
            assert "5 Prompt" in lines_of(app)[1]
            await pilot.press("space", "P")
            await until(pilot, lambda: sent == [("plain-otter", "pause")])
            await press(pilot, "c", "exist: i on Checkpoints pins")
            await press(pilot, "question_mark", "P         pause or resume")
            await press(pilot, ("escape", "f10", *"pause"), "Pause or resume")
            row = next(line for line in lines_of(app) if "Pause or resume" in line)
            assert row.rstrip("│ ").endswith(" P")
            await pilot.press("escape", "5")
            await until(pilot, lambda: app.current_mode == "prompt")
            await press(pilot, "f12 home d", "is running: stop it first, on its train pane with Z")
            await press(pilot, "left", "Y lays the runs out as a tree or in groups")
            await press(pilot, "Y Y", "grouped by corpus, cell: y changes the keys")
            for key, title in (("f1", "─ Keys: "), ("B", "─ Queue "), ("U", "─ Trash ")):
                await press(pilot, key, title)
                await pilot.press(key)  # closes it
                await until(pilot, lambda: app.screen is app.pane_screen)
            await press(pilot, ("Y", "slash", *"zebra"), "no run matches: F11 shows them all")
            await press(pilot, "f11 f4", "nothing to undo: U shows the trash")
            await press(pilot, ("question_mark", *"trash"), "to the trash: F4 undoes it")
            await press(pilot, "escape escape end p", "amber-vole ⚑")
            await press(pilot, "d", "Move the pinned run to the trash?", "  F4 undoes it.")
            await press(pilot, "D", "moved to the trash, F4 undoes it")
