"""How the app looks on this terminal: colours and signs, chosen at the start and changed while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.filter import LineFilter

from rnnlm_tui.tui.colours import TABLES, Paint, colour_name
from rnnlm_tui.tui.terminal_kind import ColourName, TerminalKind
from rnnlm_tui.tui.widgets.ascii_marks import AsciiMarks
from rnnlm_tui.tui.widgets.panel import Panel

KEPT = "colours"
"""Under this name the choice is kept for the next start."""
HINTED = "colours hinted"
"""Under this one, that a person has been told of more colours."""


class Appearance:
    """The filters that everything passes on its way to the terminal."""

    def __init__(self, kind: TerminalKind, settings: dict[str, object], *, colours: ColourName | None, ascii_only: bool) -> None:
        """`colours` were asked for at this start; `settings` is what was kept, and will be."""
        self._kind, self._settings = kind, settings
        self.colours: ColourName = kind.colours(colours, colour_name(settings.get(KEPT)))
        """What is drawn in."""
        self._asked = colours is not None
        self._signs: list[LineFilter] = [AsciiMarks()] if ascii_only else []
        self._paint = self._painted()

    @property
    def filters(self) -> Sequence[LineFilter]:
        """Every line of every widget passes these, in this order."""
        return [*self._paint, *self._signs]

    def next(self) -> ColourName:
        """The colours after these that this terminal can show; kept for the next start."""
        choices = [name for name in TABLES if self._kind.colours(name) == name]
        chosen = choices[(choices.index(self.colours) + 1) % len(choices)]
        self._settings[KEPT] = chosen
        return chosen

    def use(self, colours: ColourName) -> None:
        """Everything that is drawn from now on has these."""
        self.colours = colours
        self._paint = self._painted()

    def _painted(self) -> list[LineFilter]:
        """No filter where the terminal takes every value of the palette as it is."""
        if self.colours == "dark" and self._kind.depth == "16 million":
            return []
        return [Paint(TABLES[self.colours], numbers=self._kind.depth == "256")]

    def hint(self) -> str:
        """What to say at the start of a terminal that shows 16 colours and could have more; once for all, empty after."""
        if not self._kind.hint or self._asked or self._settings.get(HINTED) or self._settings.get(KEPT):
            return ""
        self._settings[HINTED] = True
        return f"this terminal shows 16 colours, the app is drawn in 256\n{self._kind.hint}"


def repaint(app: App[int]) -> None:
    """Everything of every screen, for what was drawn is in the colours of before."""
    for stack in app._screen_stacks.values():
        for screen in stack:
            for node in screen.walk_children(with_self=True):
                if isinstance(node, Panel):
                    node.redraw()  # without colour, some draw more signs
                node.refresh()
