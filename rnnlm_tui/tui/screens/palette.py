"""The command palette in the app's own colours: a box over grey cells, no icon that half of the terminals lack, a cursor that stands still."""

from __future__ import annotations

from rich.console import RenderableType
from textual.app import ComposeResult
from textual.command import CommandInput, CommandList, CommandPalette
from textual.containers import Horizontal, Vertical
from textual.widgets import LoadingIndicator

from rnnlm_tui.tui.narrow_updates import NarrowScreen
from rnnlm_tui.tui.newest_size import NewestSize
from rnnlm_tui.tui.screens.overlay import GreyScreen
from rnnlm_tui.tui.widgets.safe_text import OneLine


class PaletteInput(OneLine, CommandInput):
    """Where commands are searched."""


class PaletteScreen(NarrowScreen, NewestSize, CommandPalette):
    """Textual's palette; what it lists comes from `commands.py`."""

    def compose(self) -> ComposeResult:
        with Vertical(id="--container"):
            with Horizontal(id="--input"):
                yield PaletteInput(placeholder=self._placeholder, select_on_focus=False)
            with Vertical(id="--results"):
                yield CommandList()
                yield LoadingIndicator()

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False

    def render(self) -> RenderableType:
        below = [screen for screen in self.app.screen_stack if screen is not self]
        return GreyScreen(below[-1]) if below else super().render()
