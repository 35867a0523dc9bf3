"""Overlay: a box over a pane whose cells are drawn in grey."""

from __future__ import annotations

from typing import TypeVar, cast

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize, screen_content
from rnnlm_tui.tui.context import AppContext
from rnnlm_tui.tui.widgets.frame import FooterLine
from rnnlm_tui.tui.widgets.palette import BACKGROUND, GREY, ink

ResultT = TypeVar("ResultT")


class GreyScreen:
    """Another screen in grey, without its footer's keys, which don't work under an overlay."""

    def __init__(self, screen: Screen[object]) -> None:
        self._screen = screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grey, bare = ink(GREY, background=BACKGROUND), ink(GREY, background=BACKGROUND)
        underlined = grey + Style(underline=True)
        footer = next(iter(self._screen.query(FooterLine)), None)
        keys = footer.region.y if footer is not None and not footer.has_notice else None
        for y, line in enumerate(Segment.split_lines(console.render(screen_content(self._screen), options))):
            if y:
                yield Segment.line()
            if y == keys:
                yield Segment(" " * sum(segment.cell_length for segment in line), bare)
                continue
            for text, style, control in line:
                yield Segment(text, underlined if style is not None and style.underline else bare, control)


class Overlay(ChangedCellsScreen, CurrentSize, ModalScreen[ResultT]):
    """A modal screen over greyed-out cells.

    `q` closes it as `esc` does, because escape is delayed.
    """

    DEFAULT_CSS = """
    Overlay { align: center middle; background: #121212 50%; }
    """

    @property
    def context(self) -> AppContext:
        """The app."""
        return cast(AppContext, self.app)

    def render(self) -> RenderableType:
        stack = self.app.screen_stack
        below = stack[: stack.index(self)] if self in stack else []
        return GreyScreen(below[-1]) if below else super().render()


class OverlayText(Static):
    """The lines of an overlay."""
