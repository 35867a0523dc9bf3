"""Fill in the config form of a test's app with the keyboard."""

from __future__ import annotations

from textual.pilot import Pilot

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.widgets.form import FieldEditor
from tests.tui.support import until


def pane(app: RnnlmApp) -> ConfigScreen:
    """Return the config pane, which must be the visible one."""
    screen = app.pane_screen
    assert isinstance(screen, ConfigScreen)
    return screen


def edited(app: RnnlmApp) -> RunConfig:
    """Return the config that the pane shows, without its invalid values."""
    shown = pane(app).shown
    assert shown is not None
    return shown.nearest_config()


def focused(app: RnnlmApp) -> str:
    """Return the path of the focused field; empty if there is none."""
    return pane(app).form.path


def rows(app: RnnlmApp) -> list[str]:
    """Return the paths of the fields that the cursor visits, and the sections with a fold."""
    return [row.key for row in pane(app).form.rows]


async def go(pilot: Pilot[int], path: str) -> None:
    """Go to a field, as `g` and the arrow keys do."""
    assert isinstance(pilot.app, RnnlmApp)
    form = pane(pilot.app).form
    form.go_to(path)
    await until(pilot, lambda: form.path == path)


async def edit(pilot: Pilot[int], path: str) -> FieldEditor:
    """Open a field's editor."""
    await go(pilot, path)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.focused, FieldEditor))
    assert isinstance(pilot.app.focused, FieldEditor)
    return pilot.app.focused


async def write(pilot: Pilot[int], path: str, text: str) -> None:
    """Edit a field and keep the text."""
    editor = await edit(pilot, path)
    await pilot.press(*text, "enter")
    await until(pilot, lambda: not editor.is_attached)
