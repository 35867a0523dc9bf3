"""Textual still has the private parts that `tui/_textual.py` uses, and nothing else uses any.

After an update of Textual, each failure names what has changed and the piece that depends on it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from functools import cache
from types import SimpleNamespace

import pytest
import textual
from rich.text import Text
from textual import _compositor, keys
from textual.app import App, ComposeResult
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

import rnnlm_tui.tui
from rnnlm_tui.tui import _textual
from tests.tui.support import at_home, until

MODULES_OF_TEXTUAL = {
    "keys": keys, "App": App, "Widget": Widget, "Screen": Screen, "LinuxDriver": LinuxDriver,
    "Compositor": _compositor.Compositor, "LayoutUpdate": _compositor.LayoutUpdate,
    "ChopsUpdate": _compositor.ChopsUpdate,
}  # fmt: skip
FUNCTIONS = """
key_of_character: keys._character_to_key(character)
OrderedKeys: App._check_bindings(self, key, priority)
OrderedKeys: Widget._forward_event(self, event)
OrderedKeys: Screen._forward_event(self, event)
terminal_size: LinuxDriver._get_terminal_size(self)
deliver_pending_resize: App._check_resize(self)
replace_crash_report: App._fatal_error(self)
replace_crash_report: App._close_messages_no_wait(self)
ChangedCellsCompositor: Compositor.render_full_update(self, simplify)
ChangedCellsCompositor: Compositor.render_partial_update(self)
ChangedCellsLayout: LayoutUpdate.__init__(self, strips, region)
ChangedCellsUpdate: ChopsUpdate.__init__(self, chops, spans, chop_ends)
ChangedCellsUpdate: ChopsUpdate.render_segments(self, console)
"""
"""The pieces of `_textual.py`, and the private functions that they use."""


def test_private_functions_and_attributes_are_still_there() -> None:
    for line in FUNCTIONS.strip().splitlines():
        piece, _, function = line.partition(": ")
        owner, _, name = function.partition("(")[0].partition(".")
        found = getattr(MODULES_OF_TEXTUAL[owner], name, None)
        assert callable(found), f"Textual {textual.__version__} lacks {owner}.{name}: see {piece}"
        arguments = ", ".join(inspect.signature(found).parameters)
        assert f"{owner}.{name}({arguments})" == function, (
            f"Textual {textual.__version__} changed {owner}.{name}: see {piece} in tui/_textual.py"
        )
    for name in ("_driver", "_resize_event", "_exception", "_exit_renderables", "_screen_stacks"):
        assert hasattr(App[None](), name), f"see App.{name} in tui/_textual.py"
    names = [_textual.key_of_character(character) for character in "?+a"]
    assert names == ["question_mark", "plus", "a"]


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
        content = _textual.screen_content(app.screen)
        cells = app.console.render(content, app.console.options)
        assert "rnnlm-tui" in "".join(segment.text for segment in cells)
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train")
        found = {type(screen).__name__ for screen in _textual.all_screens(app)}
        assert found >= {"RunsScreen", "TrainScreen"}


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


def private_names(owner: type) -> set[str]:
    """Private attributes that a class's source defines, sets or reads on itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_class_of_the_app_uses_or_overrides_a_private_name_of_its_textual_base() -> None:
    names = cache(private_names)
    offenders = {
        f"{module.__name__}.{owner.__name__}: {name} of {base.__name__}"
        for module in MODULES
        for owner in vars(module).values()
        if isinstance(owner, type) and owner.__module__ == module.__name__
        for base in owner.__mro__
        if base.__module__.partition(".")[0] in ("textual", "rich")
        for name in names(owner) & names(base)
    }
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(sorted(offenders))


def test_no_module_of_the_app_imports_a_private_module_or_name_of_textual() -> None:
    offenders = [
        f"{module.__name__}: {path}"
        for module in MODULES
        for node in ast.walk(ast.parse(inspect.getsource(module) or "0"))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        for path in (f"{getattr(node, 'module', None) or ''}.{alias.name}".lstrip("."),)
        if path.startswith(("textual", "rich")) and "._" in path
    ]
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(offenders)
