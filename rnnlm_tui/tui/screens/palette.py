"""PaletteScreen: the command palette in the app's own colours, as an overlay over greyed-out cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rich.console import RenderableType
from textual.app import ComposeResult
from textual.command import Command, CommandInput, CommandList, CommandPalette
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import LoadingIndicator
from textual.widgets.option_list import Option

from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize, replace_command_list
from rnnlm_tui.tui.commands import PaletteHit
from rnnlm_tui.tui.screens.overlay import GreyScreen
from rnnlm_tui.tui.widgets.palette import BRIGHT
from rnnlm_tui.tui.widgets.safe_text import OneLine

MOST_WIDTH, MARGIN = 104, 8
"""The most cells of the box, and its margin in a wide terminal."""
NARROW = 72
"""Up to this many columns, the box is as wide as the terminal."""
EDGES = 6
"""Cells of the list's border, padding, scroll bar and the gap before it."""
ABOVE = 5
"""Rows above the list: the margin and the search field."""
INDENT = "  "
"""Indentation of a command under its heading."""


class PaletteInput(OneLine, CommandInput):
    """The search field."""


class PaletteScreen(ChangedCellsScreen, CurrentSize, CommandPalette):
    """Textual's palette with one line for each command of `commands.py`, under headings."""

    def __init__(self, *, placeholder: str, id: str) -> None:
        super().__init__(placeholder=placeholder, id=id)
        self._hint = placeholder
        replace_command_list(self, self._show_matches)
        self._shown: dict[str, list[PaletteHit]] = {}
        """The listed commands, by heading."""

    def compose(self) -> ComposeResult:
        with Vertical(id="--container"):
            with Horizontal(id="--input"):
                yield PaletteInput(placeholder=self._hint, select_on_focus=False)
            with Vertical(id="--results"):
                commands = CommandList()
                commands.border_subtitle = "↑ ↓ choose  enter run  esc close"
                yield commands
                yield LoadingIndicator()

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False

    def on_resize(self) -> None:
        rows = self.app.size.height
        for box in (self.query_one("#--container"), self.query_one("#--results")):
            box.styles.width = self._width
        self.query_one(CommandList).styles.max_height = max(3, rows - ABOVE)
        at = self.query_one(CommandList).highlighted
        self._list(self._shown)
        self.query_one(CommandList).highlighted = at

    @property
    def _width(self) -> int:
        columns = self.app.size.width
        return columns if columns <= NARROW else min(columns - MARGIN, MOST_WIDTH)

    def _show_matches(self, commands: Sequence[Command]) -> None:
        """List the matches, best first, under their headings."""
        groups: dict[str, list[PaletteHit]] = {}
        for hit in sorted((cast(PaletteHit, command.hit) for command in commands), key=lambda hit: -hit.score):
            groups.setdefault(hit.group, []).append(hit)
        self._list(groups)

    def _list(self, groups: dict[str, list[PaletteHit]]) -> None:
        """List one line for each command, with the cursor on the first."""
        self._shown = groups
        width = max(1, self._width - EDGES - len(INDENT))
        options: list[Option] = []
        for title, hits in groups.items():
            options.append(Option(Content.styled(title, f"bold {BRIGHT}"), disabled=True))
            options += [Command(Content.assemble(INDENT, hit.line(width)), hit) for hit in hits]
        commands = self.query_one(CommandList)
        commands.clear_options().add_options(options)
        commands.highlighted = 1 if options else None

    def render(self) -> RenderableType:
        below = [screen for screen in self.app.screen_stack if screen is not self]
        return GreyScreen(below[-1]) if below else super().render()
