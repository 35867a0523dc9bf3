"""Any content of settings or keymap lets the app start, and what the user wrote is not lost."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.paths import history_file, keymap_file, state_file
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.state import load_state, read_history
from rnnlm_tui.tui import app as app_module
from rnnlm_tui.tui.actions import ACTIONS
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.keymap import read_keymap
from rnnlm_tui.tui.settings import ChartView, last_session, save_settings, save_view, saved_view
from rnnlm_tui.tui.theme import Appearance, Display
from rnnlm_tui.tui.views.compare import Marks
from rnnlm_tui.tui.views.runs import LAYOUT_SETTING, RunLayout, saved_order
from tests.homes import trained
from tests.tui.support import at_home, until

TIMES = 1_000
STATE: dict[str, object] = {
    "run": "plain-otter", "pane": "config", "marked": ["plain-otter", "", "brisk-heron"],
    "dots": "block", "colours": "dark", "colours hinted": True, "alerts": False,
    "runs order": ["perplexity", True], "axis": "tokens", "smoothing": 0.6,
    "of another version": {"a": [1, None]},
    "views": {
        "plain-otter": {
            "axis": "step", "smoothing": 0.9, "chosen": "loss", "alone": True, "following": False,
            "part": [10.0, 200.0], "turned": ["loss"], "whole_range": True, "hidden": ["left"],
            "cursor": 120.0,
        }
    },
}  # fmt: skip
"""All settings that the app saves."""
VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 7, 2**63, 10**400, 1e308, float("inf"), float("-inf"),
    float("nan"), 0.5, "", "a", "train", "config", "../../etc/passwd", "\0", "\ud800", "\x1b[2J",
    "‮", "é" * 300, "x" * 5_000, "[@click=app.quit]x[/]", [], [[]], ["a", "a"], [None] * 9,
    list("abcdefghij"), {}, {"": ""}, {"a": {"a": {}}},
)  # fmt: skip


@pytest.fixture(autouse=True)
def disk_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the syncs: the test writes thousands of files."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def any_value(chance: random.Random, depth: int = 0) -> object:
    """A JSON value of any kind."""
    kind = chance.randrange(6 if depth < 4 else 4)
    if kind == 4:
        return [any_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {
            str(chance.choice(VALUES))[:40]: any_value(chance, depth + 1)
            for _ in range(chance.randrange(4))
        }
    return chance.choice(VALUES)


def altered(chance: random.Random, value: object) -> object:
    """A JSON value that has something else in one place, or lacks it, or has it twice."""
    if chance.random() < 0.03 or not isinstance(value, (dict, list)) or not value:
        return any_value(chance)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], altered(chance, value[at]), *value[at + chance.choice((0, 1, 1, 2)) :]]
    key = chance.choice(list(value))
    others = {name: kept for name, kept in value.items() if name != key}
    return others if chance.random() < 0.1 else {**others, key: altered(chance, value[key])}


def damaged(chance: random.Random, value: object) -> bytes:
    """A file of that value, with other content, cut, or with other bytes in it."""
    kind = chance.randrange(12)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    for _ in range(chance.choice((0, 1, 1, 4, 12, 30))):
        value = altered(chance, value)
    text = json.dumps(value).encode("ascii")
    if kind == 1:
        return text[: chance.randrange(len(text) + 1)]
    if kind == 2:
        at = chance.randrange(len(text) + 1)
        return text[:at] + chance.randbytes(chance.randrange(1, 4)) + text[at:]
    return (
        chance.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5_000, b"\xef\xbb\xbf" + text, b"", text)
        )
        if kind == 3
        else text
    )


def kept_aside(path: Path) -> list[bytes]:
    """The files that were moved aside beside a file."""
    return [file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}.unusable*"))]


def same(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_any_state_file_is_read_with_defaults_for_what_is_damaged(home: Path) -> None:
    chance = random.Random(11)
    home.mkdir()
    for _ in range(TIMES):
        state_file().write_bytes(damaged(chance, STATE))
        settings = load_state()
        last_session(settings)
        Marks.from_json(settings.get("marked"))
        RunLayout.from_setting(settings.get(LAYOUT_SETTING))
        Appearance(Display(), settings)
        saved_order(settings)
        for run in ("plain-otter", "a", ""):
            view = saved_view(settings, run)
            save_view(settings, run, view)
            assert saved_view(settings, run) == view
        save_settings({**settings, "run": "plain-otter"})
        assert same(load_state(), {**settings, "run": "plain-otter"})


def test_a_damaged_part_of_a_view_takes_its_default_and_the_rest_stays() -> None:
    entry = {"axis": 3, "smoothing": 0.5, "part": [20, 10], "cursor": 10**400, "alone": 1}
    kept = {"chosen": "loss", "hidden": ["left", 4], "following": False}
    settings: dict[str, object] = {"views": {"a": {**entry, **kept}}, "axis": "tokens"}
    view = ChartView(chosen="loss", hidden=frozenset({"left"}), following=False)
    assert saved_view(settings, "a") == view
    assert saved_view(settings, "b") == ChartView(axis="tokens"), "the axis used last"
    endless = {"views": {"a": {"cursor": float("inf"), "part": [1.0, float("inf")]}}}
    assert saved_view(endless, "a") == ChartView()


@pytest.mark.parametrize(
    "state",
    [
        {**STATE, "run": "\0", "views": {"plain-otter": {"cursor": 10**400, "part": [1, 10**400]}}},
        {**STATE, "marked": ["\ud800", "\0"]},
        altered(random.Random(1), STATE),
    ],
)
async def test_the_app_starts_with_any_settings(state: object) -> None:
    trained("plain-otter")
    state_file().write_bytes(json.dumps(state).encode("ascii"))
    keymap_file().write_bytes(any_keymap(random.Random(len(repr(state)))))
    settings = load_state()
    app = RnnlmApp(*last_session(settings), settings=settings, keymap=read_keymap(keymap_file()))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.machine is not None)
        for pane in ("runs", "config", "train", "checkpoints", "prompt"):
            app.open_pane(pane)
            await pilot.pause()
        assert app.is_running


def any_keymap(chance: random.Random) -> bytes:
    """A keymap of valid and invalid actions and keys, with any bytes in it."""
    names = [*(entry.id for entry in ACTIONS), "no_such_action", '"', "", "a.b", "[table]"]
    keys = [
        '"P"', '["l", "f6"]', '"^s"', '","', '"ctrl+shift+x"', '""', "[]", "3", "inf", "1979-05-27",
        "{a = 1}", '["", 3]', '"\\u0000"', '"\\u001b"', '"é"', '"shift+é"', "'''a\nb'''",
        "9" * 5_000, "[" * 3_000, '"ctrl+ctrl+a"', '"+"', '"ctrl++"', '"  "', '"👩‍💻"', '"f99"',
        '"comma"',
    ]  # fmt: skip
    text = "\n".join(
        f"{chance.choice(names)} = {chance.choice(keys)}" for _ in range(chance.randrange(6))
    ).encode()
    if chance.random() < 0.25:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.randbytes(chance.randrange(6)) + text[at:]
    return text


def test_any_keymap_is_read_or_reported_and_never_changed(home: Path) -> None:
    chance = random.Random(12)
    home.mkdir()
    for _ in range(TIMES):
        content = any_keymap(chance)
        keymap_file().write_bytes(content)
        keymap = read_keymap(keymap_file())
        assert not any(UNSAFE.search(problem) for problem in keymap.problems)
        assert len(keymap.actions) == len(ACTIONS)
        assert keymap_file().read_bytes() == content


async def test_damaged_labels_and_prompts_are_moved_aside_and_reported(
    home: Path,
) -> None:
    run = create_run(RunConfig(), "plain-otter")
    labels_file(run).path.write_bytes(b'{"tags": 3')
    history_file().write_bytes(b'{"prompt": "We must"}\n{"prom\n')
    app = RnnlmApp(None, "runs", settings={})
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: "the labels of plain-otter are damaged" in said(app))
        assert kept_aside(labels_file(run).path) == [b'{"tags": 3']
        app.open_pane("prompt")
        await until(
            pilot,
            lambda: (
                "1 line of the prompt history can't be read: kept as prompt-history.jsonl.unusable"
                in said(app)
            ),
        )
        assert kept_aside(history_file()) == [b'{"prom\n']
        assert read_history() == ["We must"]


def said(app: RnnlmApp) -> str:
    """The texts of all notifications."""
    return " ".join(notice.message for notice in app._notifications)


async def test_settings_that_cannot_be_saved_are_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []

    def refuse(_: dict[str, object]) -> None:
        tries.append(1)
        raise StorageError("the disk is read-only")

    monkeypatch.setattr(app_module, "save_settings", refuse)
    async with at_home(None, settings={}) as (app, pilot):
        for pane in ("config", "runs", "config"):
            before = len(tries)
            app.open_pane(pane)
            await until(pilot, lambda before=before: len(tries) > before)  # type: ignore[misc]
        await until(pilot, lambda: not app._saving)
        assert said(app) == "the disk is read-only"
