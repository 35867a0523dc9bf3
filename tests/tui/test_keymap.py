"""The user's keys: what the file may contain, its problems, and where the keys are shown."""

from __future__ import annotations

from pathlib import Path

from textual.binding import Binding
from textual.widgets import TextArea

from rnnlm_tui.tui.actions import ACTIONS, action
from rnnlm_tui.tui.keymap import FIXED, WIDGETS_KEYS, Keymap, key_name, parse_keymap, read_keymap
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until


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


async def test_changed_keys_work_and_are_shown_everywhere() -> None:
    services = FakeServices(make_snapshot())
    keymap = 'pause = "P"\nshow_prompt = "5"\ncommand_palette = "f10"\nnext_theme = "f12"\n'
    async with running_app(services, size=(120, 40), keymap=keymap) as (app, pilot):
        assert "P Pause" in lines_of(app)[-1]
        assert "5 Prompt" in lines_of(app)[1]
        assert "F10 Palette" in lines_of(app)[1]
        await pilot.press("space")
        await pilot.press("P")
        await until(pilot, lambda: services.sent == [("plain-otter", "pause", {})])
        await pilot.press("f12")
        assert app.appearance.colours == "light"
        await pilot.press("question_mark")
        assert "P         pause or resume" in text_of(app)
        await pilot.press("escape", "f10", *"pause")
        await until(
            pilot,
            lambda: any(
                row.rstrip("│ ").endswith(" P") and "Pause or resume" in row
                for row in lines_of(app)
            ),
        )
        await pilot.press("escape", "5")
        await until(pilot, lambda: app.current_mode == "prompt")


async def test_a_bad_line_is_reported_at_the_start() -> None:
    services = FakeServices(make_snapshot())
    async with running_app(services, size=(120, 40), keymap='pausse = "P"') as (app, pilot):
        await until(pilot, lambda: "“pausse” is not an action" in lines_of(app)[-1])
        assert text_of(app).count("pausse") == 1, "on the one line, and over nothing"
        await pilot.press("space")
        await until(pilot, lambda: services.sent == [("plain-otter", "pause", {})])
