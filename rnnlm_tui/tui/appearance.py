"""How the app looks on this terminal: colours and ASCII, chosen at the start and changed while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from textual.app import App
from textual.filter import LineFilter

from rnnlm_tui.tui._textual import all_screens
from rnnlm_tui.tui.colours import TABLES, Paint, colour_name
from rnnlm_tui.tui.terminal_kind import ColourName, TerminalKind
from rnnlm_tui.tui.widgets.ascii_marks import AsciiMarks
from rnnlm_tui.tui.widgets.panel import Panel

COLOURS_SETTING = "colours"
"""Key of the setting with the chosen colours."""
HINT_SETTING = "colours hinted"
"""Key of the setting that the hint about more colours has been shown."""


@dataclass(frozen=True, slots=True)
class Display:
    """What the terminal can show, and what was asked for at this start."""

    kind: TerminalKind = field(default_factory=lambda: TerminalKind("16 million", light=False, braille=True))
    colours: ColourName | None = None
    """Requested colours; None: those of the last session, or by the terminal."""
    ascii_only: bool = False
    """Draw marks, panels and charts in ASCII."""


class Appearance:
    """The line filters that everything passes on its way to the terminal."""

    def __init__(self, display: Display, settings: dict[str, object]) -> None:
        """`settings` holds the choice of the last session, and takes the next one."""
        self._display, self._settings = display, settings
        self.colours: ColourName = display.kind.colours(display.colours, colour_name(settings.get(COLOURS_SETTING)))
        """The colours in use."""
        self._ascii: list[LineFilter] = [AsciiMarks()] if display.ascii_only else []
        self._paint = self._paint_filters()

    @property
    def filters(self) -> Sequence[LineFilter]:
        """The filters that every line of every widget passes, in this order."""
        return [*self._paint, *self._ascii]

    def next(self) -> ColourName:
        """Return the next colours that this terminal can show, and save the choice in the settings."""
        choices = [name for name in TABLES if self._display.kind.colours(name) == name]
        chosen = choices[(choices.index(self.colours) + 1) % len(choices)]
        self._settings[COLOURS_SETTING] = chosen
        return chosen

    def use(self, colours: ColourName) -> None:
        """Use these colours from now on."""
        self.colours = colours
        self._paint = self._paint_filters()

    def _paint_filters(self) -> list[LineFilter]:
        """Return no filter if the terminal shows every value of the palette as it is."""
        if self.colours == "dark" and self._display.kind.depth == "16 million":
            return []
        return [Paint(TABLES[self.colours], numbers=self._display.kind.depth == "256")]

    def hint(self) -> str:
        """Return a hint for a terminal that shows 16 colours and could have more; only once, then an empty text."""
        if not self._display.kind.hint or self._display.colours is not None or self._settings.get(HINT_SETTING) or self._settings.get(COLOURS_SETTING):
            return ""
        self._settings[HINT_SETTING] = True
        return f"this terminal shows 16 colours, the app is drawn in 256\n{self._display.kind.hint}"


def repaint(app: App[int]) -> None:
    """Repaint all screens after a change of colours."""
    for screen in all_screens(app):
        for node in screen.walk_children(with_self=True):
            if isinstance(node, Panel):
                node.redraw()  # without colour, some draw more glyphs
            node.refresh()
