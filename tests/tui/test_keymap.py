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
from tests.tui.support import at_home, lines_of, show_run, shows, text_of, until


def test_without_a_file_the_default_keys_are_used(tmp_path: Path) -> None:
    assert read_keymap(tmp_path / "keymap.toml") == Keymap()
    assert Keymap().actions == ACTIONS


def test_an_action_gets_the_keys_of_the_file() -> None:
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


def test_two_actions_can_swap_keys() -> None:
    keymap = parse_keymap('sample = "e"\nevaluate = "s"\n')
    assert keymap.problems == ()
    assert (action("sample", keymap.actions).keys, action("evaluate", keymap.actions).keys) == (
        ("e",),
        ("s",),
    )


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
    'pause = "P': "",
}
"""Files, and how the one problem with each begins."""


def test_invalid_lines_are_reported_and_ignored() -> None:
    for text, problem in INVALID.items():
        keymap = parse_keymap(text)
        (found,) = keymap.problems
        assert found.removeprefix("keymap.toml").lstrip(": ").startswith(problem)
        assert keymap.actions == ACTIONS
        assert not keymap.changed


def test_one_bad_line_leaves_the_others_and_control_characters_are_escaped() -> None:
    keymap = parse_keymap('pause = "P"\nsample = "\\u001b]0;x"\n"\\u001b[2J" = "x"\n')
    assert action("pause", keymap.actions).keys == ("P",)
    assert len(keymap.problems) == 2
    assert not [problem for problem in keymap.problems if "\x1b" in problem]


def test_a_file_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "keymap.toml").write_bytes(b"\xff\xfe\x00")
    assert read_keymap(tmp_path / "keymap.toml").problems == (
        "keymap.toml can't be read: not UTF-8",
    )


def test_keys_can_be_written_as_shown() -> None:
    written = {
        "P": "P", "?": "question_mark", ",": "comma", "+": "plus", "←": "left", "^s": "ctrl+s",
        "Ctrl+S": "ctrl+s", "F5": "f5", "esc": "escape", "space": "space", " ": "space",
        "pgup": "pageup", "shift+p": "P", "question_mark": "question_mark", "ctrl+": None,
        "\x01": None, "flurp": None, "ctrl+flurp": None,
    }  # fmt: skip
    assert {text: key_name(text) for text in written} == written


def test_keys_of_the_prompts_text_field_cannot_be_used() -> None:
    keys = {
        key
        for binding in TextArea.BINDINGS
        if isinstance(binding, Binding)
        for key in binding.key.split(",")
    }
    told_apart = {key for key in keys if "super+" not in key and "ctrl+shift+" not in key}
    assert told_apart <= {*WIDGETS_KEYS["prompt"], *FIXED}


KEYMAP = """
pausse = "x"
pause = "P"
stop = "Z"
new_run = "H"
show_runs = ["r", "f12"]
show_prompt = "5"
show_queue = "B"
show_trash = "U"
start_draft = "f9"
undo_delete = "f4"
pin_checkpoint = "i"
command_palette = "f10"
next_layout = "Y"
group_runs = "y"
leave_field = "f11"
"""


async def test_changed_keys_work_and_every_text_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def says(words: str, *keys: str) -> None:
        await pilot.press(*keys)
        await until(pilot, lambda: shows(app, words))

    def send(run: RunDirectory, verb: Verb) -> CommandResult:
        sent.append((run.name, verb))
        return CommandResult(id="1", ok=True, status="running", step=3)

    sent: list[tuple[str, Verb]] = []
    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    async with at_home(None, keymap=KEYMAP) as (app, pilot):
        await says("“pausse” is not an action")
        assert text_of(app).count("pausse") == 1, "on the one line, and over nothing"
        await says("H      configure a new run", "x")  # also ends the notice
        await says("Press enter to start the demo, H to conf", "2")
        await pilot.press("H")
        await until(pilot, lambda: app.current_mode == "config")
        await says("No run open: F12 lists the runs.", "2")
        show_run(app, make_snapshot("crashed", name="dusk-dove"))
        await says("the run has crashed: P resumes it", "r", "2", "s")
        app.report("{key:pause} and {key:no_action}")
        await says("P and {key:no_action}")
        show_run(app, make_snapshot(name="dusk-dove"))
        await says("the device can't change while the run has a worker: Z stops it", "R")
        app.queue = QueueListing(paused=True, reason="disk is full")
        await says("queue paused: disk is full  B shows it")
        with three_runs_at_home():
            app.watcher.poll_now()
            await says("3 runs", "r")
            await says("P Pause", "home", "enter")
            assert "5 Prompt" in lines_of(app)[1]
            await pilot.press("space", "P")
            await until(pilot, lambda: sent == [("plain-otter", "pause")])
            await says("exist: i on Checkpoints pins", "c")
            await says("P         pause or resume", "question_mark")
            await says("Pause or resume", "escape", "f10", *"pause")
            row = next(line for line in lines_of(app) if "Pause or resume" in line)
            assert row.rstrip("│ ").endswith(" P")
            await pilot.press("escape", "5")
            await until(pilot, lambda: app.current_mode == "prompt")
            await says("is running: stop it first, on its train pane with Z", "f12", "home", "d")
            await says("Y lays the runs out as a tree or in groups", "left")
            await says("grouped by corpus, cell: y changes the keys", "Y", "Y")
            await says("no run matches: F11 shows them all", "Y", "slash", *"zebra")
            await says("nothing to undo: U shows the trash", "f11", "f4")
            await says("to the trash: F4 undoes it", "question_mark", *"trash")
            await says("moved to the trash, F4 undoes it", "escape", "escape", "end", "d")
