"""Fills in the config form of a test's app, by keys as a person does."""

from __future__ import annotations

from textual.pilot import Pilot

from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.widgets.form_row import FieldEditor
from tests.tui.panes.seeing import until


def pane(app: RnnlmApp) -> ConfigScreen:
    """The pane, which must be the one that shows."""
    screen = app.pane_screen
    assert isinstance(screen, ConfigScreen)
    return screen


def focused(app: RnnlmApp) -> str:
    """The path of the field that has the focus; empty where none has."""
    row = pane(app).form.current
    return row.field.path if row is not None else ""


async def go(pilot: Pilot[int], path: str) -> None:
    """To a field, as `g` and the arrows do."""
    assert isinstance(pilot.app, RnnlmApp)
    form = pane(pilot.app).form
    form.go_to(path)
    await until(pilot, lambda: form.current is not None and form.current.field.path == path)


async def edit(pilot: Pilot[int], path: str) -> FieldEditor:
    """Open a field's editor."""
    await go(pilot, path)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.focused, FieldEditor))
    assert isinstance(pilot.app.focused, FieldEditor)
    return pilot.app.focused


async def write(pilot: Pilot[int], path: str, text: str) -> None:
    """Edit a field and keep what was written."""
    await go(pilot, path)
    await pilot.press("enter", *text, "enter")
    assert isinstance(pilot.app, RnnlmApp)
    row = pane(pilot.app).form.row(path)
    await until(pilot, lambda: not row.editing)
