"""Textual still has the private parts that `tui/_textual.py` uses, and nothing else uses any.

After an update of Textual, each failure names what has changed and the piece that depends on it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import textual
from rich.text import Text
from textual import _compositor, keys
from textual.app import App, ComposeResult
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key, Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

import rnnlm_tui.tui
from rnnlm_tui.tui import _textual
from tests.tui.support import running_app, until


def parameters(function: object) -> list[str]:
    """The names of a function's parameters."""
    assert callable(function)
    return list(inspect.signature(function).parameters)


def expect(owner: object, name: str, arguments: list[str], piece: str) -> None:
    """Fail with the piece of `_textual.py` if a private function is gone or takes other
    arguments."""
    found = getattr(owner, name, None)
    label = f"{getattr(owner, '__name__', owner)}.{name}"
    assert found is not None, (
        f"Textual {textual.__version__} has no {label} any more: see {piece} in tui/_textual.py"
    )
    assert parameters(found) == arguments, (
        f"Textual {textual.__version__} changed the arguments of {label}: see {piece} in"
        " tui/_textual.py"
    )


@pytest.mark.parametrize(
    ("owner", "name", "arguments", "piece"),
    [
        (keys, "_character_to_key", ["character"], "key_of_character"),
        (App, "_check_bindings", ["self", "key", "priority"], "OrderedKeys"),
        (Widget, "_forward_event", ["self", "event"], "OrderedKeys"),
        (Screen, "_forward_event", ["self", "event"], "OrderedKeys"),
        (LinuxDriver, "_get_terminal_size", ["self"], "terminal_size"),
        (App, "_check_resize", ["self"], "deliver_pending_resize"),
        (App, "_fatal_error", ["self"], "replace_crash_report"),
        (App, "_close_messages_no_wait", ["self"], "replace_crash_report"),
        (
            _compositor.Compositor,
            "render_full_update",
            ["self", "simplify"],
            "ChangedCellsCompositor",
        ),
        (_compositor.Compositor, "render_partial_update", ["self"], "ChangedCellsCompositor"),
        (_compositor.LayoutUpdate, "__init__", ["self", "strips", "region"], "ChangedCellsLayout"),
        (
            _compositor.ChopsUpdate,
            "__init__",
            ["self", "chops", "spans", "chop_ends"],
            "ChangedCellsUpdate",
        ),
        (_compositor.ChopsUpdate, "render_segments", ["self", "console"], "ChangedCellsUpdate"),
    ],
)
def test_private_function_still_takes_the_same_arguments(
    owner: object, name: str, arguments: list[str], piece: str
) -> None:
    expect(owner, name, arguments, piece)


def test_private_attributes_of_an_app_still_exist() -> None:
    app = App[None]()
    for name, piece in {
        "_driver": "terminal_size and write_to_terminal",
        "_resize_event": "deliver_pending_resize",
        "_exception": "replace_crash_report",
        "_exit_renderables": "replace_crash_report",
        "_screen_stacks": "all_screens",
    }.items():
        assert hasattr(app, name), (
            f"Textual {textual.__version__} has no App.{name} any more: see {piece} in"
            " tui/_textual.py"
        )


@pytest.mark.parametrize(("character", "key"), [("?", "question_mark"), ("+", "plus"), ("a", "a")])
def test_characters_still_have_their_key_names(character: str, key: str) -> None:
    assert _textual.key_of_character(character) == key


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


async def test_a_pending_resize_is_delivered() -> None:
    async with App[None]().run_test(size=(80, 24)) as pilot:
        app = pilot.app
        app._size, app._resize_event = Size(70, 20), Resize(Size(70, 20), Size(70, 20))
        _textual.deliver_pending_resize(app)
        assert app._resize_event is None, "see deliver_pending_resize in tui/_textual.py"


async def test_screens_of_all_panes_are_found() -> None:
    async with running_app(pane="runs") as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train")
        assert {type(screen).__name__ for screen in _textual.all_screens(app)} >= {
            "RunsScreen",
            "TrainScreen",
        }


async def test_a_screen_sends_only_changed_cells() -> None:
    async with running_app(pane="runs") as (app, _pilot):
        compositor = app.screen._compositor
        assert isinstance(compositor, _textual.ChangedCellsCompositor), (
            "Textual no longer takes a screen's own _compositor: see ChangedCellsScreen in"
            " tui/_textual.py"
        )
        update = compositor.render_full_update()
        whole = update.render_segments(app.console)
        assert "rnnlm-tui" in whole or not whole, "a row that was sent before is not sent again"
        assert compositor.render_full_update().render_segments(app.console) == ""
        compositor.sent.forget()
        assert "rnnlm-tui" in compositor.render_full_update().render_segments(app.console)


async def test_a_screens_cells_are_a_renderable() -> None:
    async with running_app(pane="runs") as (app, _pilot):
        text = Text.assemble(
            *(
                segment.text
                for segment in app.console.render(
                    _textual.screen_content(app.screen), app.console.options
                )
            )
        )
        assert "rnnlm-tui" in text.plain


async def test_the_palette_lists_its_matches_through_the_replaced_function() -> None:
    async with running_app(pane="runs") as (app, pilot):
        await pilot.press("ctrl+p")
        await until(
            pilot,
            lambda: any(
                "Open run" in line.text or "Filter runs" in line.text for line in lines(app.screen)
            ),
        )


def lines(screen: Screen[object]) -> list[Strip]:
    """The rows of a screen."""
    return screen._compositor.render_strips()


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

MODULES = sorted(
    found.name for found in pkgutil.walk_packages(rnnlm_tui.tui.__path__, "rnnlm_tui.tui.")
)


def app_classes() -> Iterator[type]:
    """The classes of the app's modules, without those of `_textual.py`."""
    for name in MODULES:
        if name != _textual.__name__:
            module = importlib.import_module(name)
            yield from (
                value
                for value in vars(module).values()
                if inspect.isclass(value) and value.__module__ == name
            )


def foreign(owner: type) -> bool:
    """Whether a class is one of Textual's or Rich's."""
    return owner.__module__.partition(".")[0] in ("textual", "rich")


def private_names(owner: type) -> set[str]:
    """Private attributes that a class's source defines, sets or reads on itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_class_of_the_app_uses_or_overrides_a_private_name_of_its_textual_base() -> None:
    inherited: dict[type, set[str]] = {}
    offenders = []
    for owner in app_classes():
        for base in owner.__mro__:
            if foreign(base):
                names = inherited.get(base)
                if names is None:
                    names = inherited[base] = private_names(base)
                mine = private_names(owner) & names
                offenders += [
                    f"{owner.__module__}.{owner.__name__}: {name} of {base.__name__}"
                    for name in sorted(mine)
                ]
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(sorted(set(offenders)))


def test_no_module_of_the_app_imports_a_private_module_or_name_of_textual() -> None:
    offenders = []
    for name in MODULES:
        if name == _textual.__name__:
            continue
        path = Path(str(importlib.import_module(name).__file__))
        for node in ast.walk(ast.parse(path.read_text())):
            imported = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if isinstance(node, ast.ImportFrom) and node.module
                else []
            )
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            offenders += [
                f"{path.name}: {path_of}"
                for path_of in imported
                if path_of.startswith(("textual", "rich")) and "._" in path_of
            ]
    assert not offenders, "use tui/_textual.py:\n" + "\n".join(offenders)
