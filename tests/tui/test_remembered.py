"""Any content of settings or keymap lets the app start, and what the user wrote is not lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.paths import history_file, keymap_file, state_file
from rnnlm_tui.store.state import load_state, read_history
from rnnlm_tui.tui.actions import ACTIONS
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.keymap import read_keymap
from rnnlm_tui.tui.settings import ChartView, last_session, save_settings, save_view, saved_view
from rnnlm_tui.tui.terminal import FULL
from rnnlm_tui.tui.theme import Appearance
from rnnlm_tui.tui.views.compare import Marks
from rnnlm_tui.tui.widgets.runs_table import (
    LAYOUT_SETTING,
    ORDER_SETTING,
    SORT_KEYS,
    RunLayout,
)
from rnnlm_tui.tui.widgets.table import saved_order
from tests.homes import trained
from tests.tui.support import at_home, until

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


DAMAGED = (
    b"", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5_000, b"\xef\xbb\xbf{}", b"\xff\xfe",
    b"pause = " + b"9" * 5_000, b"pause = " + b"[" * 3_000, json.dumps(STATE).encode()[:-9],
)  # fmt: skip
"""What no file of settings or keys has."""


def altered(value: object, by: object) -> Iterator[object]:
    """The value with something else in one place: in each of its places, one after the other."""
    yield by
    if isinstance(value, dict):
        for key, kept in value.items():
            yield from ({**value, key: other} for other in altered(kept, by))
    elif isinstance(value, list):
        for at, kept in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in altered(kept, by))


def kept_aside(path: Path) -> list[bytes]:
    """The files that were moved aside beside a file."""
    return [file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}.unusable*"))]


def test_any_settings_and_keys_are_read_with_defaults_for_what_is_damaged(home: Path) -> None:
    home.mkdir()
    for content in DAMAGED:
        for file in (state_file(), keymap_file()):
            file.write_bytes(content)
        assert not load_state()
        keymap = read_keymap(keymap_file())
        assert (keymap.actions, bool(keymap.problems)) == (ACTIONS, content != b"")
    for value in VALUES:
        for found in altered(STATE, value):
            if not isinstance(found, dict):
                continue
            settings = dict(found)
            last_session(settings)
            Marks.from_json(settings.get("marked"))
            RunLayout.from_setting(settings.get(LAYOUT_SETTING))
            Appearance(settings, FULL)
            saved_order(settings, ORDER_SETTING, SORT_KEYS)
            for run in ("plain-otter", "a", ""):
                view = saved_view(settings, run)
                save_view(settings, run, view)
                assert saved_view(settings, run) == view
        kept = {**STATE, "of another version": value}
        save_settings(kept)
        assert json.dumps(load_state()) == json.dumps(kept)


def test_a_damaged_view_is_the_default_and_a_new_one_has_the_axis_used_last() -> None:
    for damaged in (
        {"axis": 3}, {"smoothing": 0.5}, {"part": [20, 10]}, {"cursor": 10**400}, {"turned": [4]},
        {"cursor": float("inf")}, {"part": [1.0, float("inf")]},
    ):  # fmt: skip
        settings: dict[str, object] = {"views": {"a": {"chosen": "loss", **damaged}}}
        assert saved_view(settings, "a") == ChartView()
        assert saved_view({**settings, "axis": "tokens"}, "b") == ChartView(axis="tokens")


async def test_the_app_starts_with_damaged_files_and_reports_them() -> None:
    run = trained("plain-otter")
    view = {"cursor": 10**400, "part": [1, 10**400]}
    changes = {"marked": ["\ud800", "\0"], "views": {run.name: view}}
    state_file().write_text(json.dumps({**STATE, **changes}))
    keymap_file().write_text("no_such_action = 3\n")
    labels_file(run).path.write_bytes(b'{"tags": 3')
    history_file().write_bytes(b'{"prompt": "We must"}\n{"prom\n')
    settings, keymap = load_state(), read_keymap(keymap_file())
    app = RnnlmApp(*last_session(settings), settings=settings, keymap=keymap)
    assert app.ready_pane is None, "notices wait until there is a pane"
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is not None and app.machine is not None)
        for pane in ("runs", "train", "checkpoints", "prompt"):
            app.open_pane(pane)
            await until(pilot, lambda: app.current_mode == pane)  # noqa: B023
        await until(pilot, lambda: "the labels of plain-otter are damaged" in said(app))
        lost = "1 line of the prompt history can't be read: kept as prompt-history.jsonl.unusable"
        await until(pilot, lambda: lost in said(app))
        assert kept_aside(labels_file(run).path) == [b'{"tags": 3']
        assert kept_aside(history_file()) == [b'{"prom\n']
        assert read_history() == ["We must"]


def said(app: RnnlmApp) -> str:
    """The texts of all notifications."""
    return " ".join(notice.message for notice in app._notifications)


async def test_settings_that_cannot_be_saved_are_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[object] = []

    def save(settings: dict[str, object]) -> None:
        tried.append(settings["pane"])
        save_settings(settings)

    monkeypatch.setattr("rnnlm_tui.tui.app.save_settings", save)
    async with at_home(None, settings={}) as (app, pilot):
        state_file().mkdir(parents=True)
        for pane in ("config", "runs", "config", "runs"):
            app.open_pane(pane)
            await until(pilot, lambda: tried[-1:] == [pane] and "can't write" in said(app))  # noqa: B023
        assert said(app).count("can't write") == 1
