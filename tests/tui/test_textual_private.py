"""Textual still has the private parts that `tui/_textual.py` uses, and nothing else uses any.

After an update of Textual, each failure names what has changed and the piece that depends on it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pkgutil
import sys
from functools import cache
from types import SimpleNamespace

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key, MouseDown
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Input
from textual.widgets._toast import Toast

import rnnlm_tui.tui
from rnnlm_tui.tui import _textual
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.support import at_home, shows, until


def test_keys_still_have_names_by_their_characters() -> None:
    names = [_textual.key_of_character(character) for character in "?+a"]
    assert names == ["question_mark", "plus", "a"], "see key_of_character in tui/_textual.py"


def test_a_style_sheet_is_parsed_once_for_all_apps() -> None:
    sheets = [_textual.ParsedOnce(variables={"gap": "7"}) for _ in range(2)]
    for sheet in sheets:
        sheet.add_source("Label { width: $gap; }", read_from=("once", ""))
        sheet.set_variables({"gap": "7"})
        sheet.reparse()
    assert sheets[0].rules[0] is sheets[1].rules[0], "see ParsedOnce in tui/_textual.py"


async def test_a_toast_that_is_mounted_after_its_time_goes_and_stops_nothing() -> None:
    late = _textual.ShownNotification("late", timeout=-1.0)
    assert late.has_expired
    async with TwoInputs().run_test() as pilot:
        await pilot.app.mount(Toast(late))
        while pilot.app.screen.query(Toast):
            await pilot.pause()


class OrderedInput(_textual.OrderedKeys, Input, can_focus=True):
    """An input whose keys act in order."""

    BINDINGS = [("enter", "screen.focus_next", "Next")]  # noqa: RUF012 (declared so by Textual)


class TwoInputs(App[None]):
    """An app with two inputs."""

    def compose(self) -> ComposeResult:
        yield OrderedInput(id="first")
        yield OrderedInput(id="second")


async def test_keys_sent_in_one_go_act_in_their_order() -> None:
    async with TwoInputs().run_test() as pilot:
        first, second = pilot.app.query_one("#first", Input), pilot.app.query_one("#second", Input)
        first.focus()
        await pilot.pause()
        for key, character in (("a", "a"), ("tab", None), ("b", "b")):
            first.post_message(Key(key, character))
        for _ in range(10):
            await pilot.pause()
        assert (first.value, second.value) == ("a", "b"), "see OrderedKeys in tui/_textual.py"


def test_a_driver_still_reads_the_terminals_size() -> None:
    app = App[None]()
    assert hasattr(LinuxDriver, "_get_terminal_size"), "see terminal_size in tui/_textual.py"
    assert _textual.terminal_size(app) is None, "before an app runs it has no driver"
    app._driver = SimpleNamespace(_get_terminal_size=lambda: (91, 33))  # type: ignore[assignment]
    assert _textual.terminal_size(app) == Size(91, 33), "see terminal_size in tui/_textual.py"


@pytest.mark.usefixtures("three_at_home")
async def test_screens_are_found_drawn_elsewhere_and_send_only_changed_cells() -> None:
    async with at_home() as (app, pilot):
        compositor = app.screen._compositor
        assert isinstance(compositor, _textual.ChangedCellsCompositor), (
            "Textual no longer takes a screen's own _compositor: see ChangedCellsScreen in"
            " tui/_textual.py"
        )
        whole = compositor.render_full_update().render_segments(app.console)
        assert "rnnlm-tui" in whole or not whole, "a row that was sent before is not sent again"
        assert compositor.render_full_update().render_segments(app.console) == ""
        compositor.sent.forget()
        assert "rnnlm-tui" in compositor.render_full_update().render_segments(app.console)
        assert "rnnlm-tui" in _textual.screen_rows(app.screen)[0].text
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train")
        found = {type(screen).__name__ for screen in _textual.all_screens(app)}
        assert found >= {"RunsScreen", "TrainScreen"}


@pytest.mark.usefixtures("three_at_home")
@pytest.mark.parametrize("reads", [True, False])
async def test_nothing_is_drawn_before_the_first_reading_nor_during_a_batch(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    drawn, refresh = set[tuple[int, bool]](), Screen._compositor_refresh

    def draw(screen: Screen[None]) -> None:
        drawn.add((screen.app._batch_count, shows(screen.app, "plain-otter")))
        refresh(screen)

    monkeypatch.setattr(Screen, "_compositor_refresh", draw)
    monkeypatch.setattr("rnnlm_tui.tui.app.HELD_SECONDS", 60 if reads else 0.1)
    if not reads:
        monkeypatch.setattr("rnnlm_tui.tui.poller.Watcher.loop", lambda _: None)
    async with RnnlmApp().run_test() as pilot:
        await until(pilot, lambda: drawn)
    assert drawn == {(0, reads)}, "see RnnlmApp._held and ChangedCellsScreen"


async def test_a_new_screen_waits_for_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fresh(_textual.ChangedCellsScreen, Screen[None]):
        """A screen of the app's kind."""

    updated = list[Screen[None]]()
    monkeypatch.setattr("textual.screen.UPDATE_PERIOD", 0.05)
    monkeypatch.setattr(Screen, "_on_timer_update", lambda screen: updated.append(screen))
    async with App[None]().run_test() as pilot:
        screen = Fresh()
        with pilot.app.batch_update():
            await pilot.app.push_screen(screen)
            await asyncio.sleep(0.1)
        screen.refresh()
        for _ in range(20):
            await asyncio.sleep(0)
        assert screen in updated, "see ChangedCellsScreen.on_mount in tui/_textual.py"


async def test_a_press_on_a_notice_that_was_just_removed_changes_nothing() -> None:
    async with at_home(None) as (app, pilot):
        app.show_notification("a notice")
        await until(pilot, lambda: [*app.screen.query(Toast)])
        toast = app.screen.query_one(Toast)
        place, holder = toast.region.offset, toast.parent
        toast._detach()  # its cells stay on the screen until it is drawn again
        press = MouseDown(app.screen, *place, 0, 0, 1, False, False, False, *place)
        app.screen._forward_event(press)
        assert app.screen.get_widget_and_offset_at(*place) == (None, None)
        assert holder is not None
        toast._attach(holder)


def test_a_crash_prints_the_apps_own_report(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(App[None]):
        def on_mount(self) -> None:
            raise ZeroDivisionError("of a test")

    app = Failing()
    _textual.replace_crash_report(app, lambda error: Text(f"failed: {type(error).__name__}"))
    app.run(headless=True)
    printed = capsys.readouterr()
    assert "failed: ZeroDivisionError" in printed.out + printed.err, (
        "see replace_crash_report in tui/_textual.py"
    )
    assert "Traceback" not in printed.out + printed.err


# nothing else uses private parts

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(rnnlm_tui.tui.__path__, "rnnlm_tui.tui.")
    if found.name != _textual.__name__
]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]) or "0")


@cache
def classes_of(module: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ClassDef)}


@cache
def private_names(owner: type) -> set[str]:
    """Private attributes that a class's source defines, sets or reads on itself."""
    names: set[str] = set()
    for node in ast.walk(classes_of(owner.__module__)[owner.__name__]):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                names.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_class_of_the_app_uses_or_overrides_a_private_name_of_its_textual_base() -> None:
    offenders = {
        f"{module.__name__}.{owner.__name__}: {name} of {base.__name__}"
        for module in MODULES
        for owner in vars(module).values()
        if isinstance(owner, type) and owner.__module__ == module.__name__
        for base in owner.__mro__
        if base.__module__.partition(".")[0] in ("textual", "rich")
        for name in private_names(owner) & private_names(base)
    }
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(sorted(offenders))


def test_no_module_of_the_app_imports_a_private_module_or_name_of_textual() -> None:
    offenders = [
        f"{module.__name__}: {path}"
        for module in MODULES
        for node in ast.walk(tree_of(module.__name__))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        for path in (f"{getattr(node, 'module', None) or ''}.{alias.name}".lstrip("."),)
        if path.startswith(("textual", "rich")) and "._" in path
    ]
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(offenders)
