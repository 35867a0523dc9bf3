"""The keys of the screen, of everywhere, and what the signs mean: made from the action table."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Key

from rnnlm_tui.contract.status import STALE_SECONDS, RunStatus
from rnnlm_tui.tui.actions import PANE_TITLES, Action, Group, Pane, actions_for
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.status_line import status_glyph

LEFT, RIGHT = 42, 26
"""Columns of the two halves."""
KEY, NARROW_KEY = 9, 6
"""Columns of a key at the left and at the right."""
MARKS = (("c", "saved"), ("★", "best"), ("⚑", "pinned"), ("▸", "last"), ("↻", "resumed"), ("e", "eval"))


class HelpScreen(Overlay[None]):
    """Keys in two columns; typing searches, esc or q closes."""

    BINDINGS = [Binding("escape,q,question_mark,f1", "close", show=False)]  # noqa: RUF012 (Textual declares it so)

    def __init__(self, pane: Pane, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._pane = pane
        self._ascii = ascii_only
        self._search = ""

    def compose(self) -> ComposeResult:
        with TitledContainer(title=f"Keys: {PANE_TITLES[self._pane]}", id="help-box", classes="-highlighted"):
            yield OverlayText(id="help-text")

    def on_mount(self) -> None:
        self._draw()

    def on_key(self, event: Key) -> None:
        """Letters search; q closes as long as nothing is searched."""
        if event.key == "backspace":
            self._search = self._search[:-1]
        elif event.is_printable and event.character and (self._search or event.character not in "q?"):
            self._search += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self._draw()

    def action_close(self) -> None:
        """Back to the pane; a search ends first."""
        if self._search:
            self._search = ""
            self._draw()
        else:
            self.dismiss(None)

    def _draw(self) -> None:
        box = self.query_one("#help-box", TitledContainer)
        typed = Content.assemble((self._search, f"bold {palette.BRIGHT}"), "  ") if self._search else Content.styled("type to search  ", palette.DIM)
        box.legend = Content.assemble(typed, ("esc", f"bold {palette.TEXT}"), (" close", palette.DIM))
        self.query_one("#help-text", OverlayText).update(self._found() if self._search else self._all())

    def _all(self) -> Content:
        left = [*self._group("screen", "This screen", KEY, LEFT - 1), Content(""), *self._group("everywhere", "Everywhere", KEY, LEFT - 1)]
        charts = self._group("charts", "Charts", NARROW_KEY, RIGHT)
        right = [*charts, *([Content("")] if charts else []), *self._signs()]
        height = max(len(left), len(right))
        left += [Content("")] * (height - len(left))
        right += [Content("")] * (height - len(right))
        rows = [Content.assemble(one.truncate(LEFT, pad=True), other.truncate(RIGHT)) for one, other in zip(left, right, strict=True)]
        rows = [Content(""), *rows]
        stalled = Content.styled(f"stalled = lives, no step for {STALE_SECONDS:.0f} s   ", palette.DIM)
        degraded = Content.styled(f" {palette.STATUS_WORDS['degraded']} = its disk is full", palette.DIM)
        rows.append(Content.assemble(stalled, status_glyph("degraded", ascii_only=self._ascii), degraded))
        return Content("\n").join(rows)

    def _group(self, group: Group, title: str, width: int, room: int) -> list[Content]:
        entries = [entry for entry in actions_for(self._pane) if entry.group == group and entry.help]
        if group == "everywhere":
            digits = [entry for entry in entries if entry.keys[0].isdigit()]
            entries = [entry for entry in entries if entry not in digits]
            first = [self._row(" ".join(entry.label for entry in digits), " ".join(entry.verb for entry in digits), width, room)]
        else:
            first = []
        entries = [entry for entry in entries if not entry.covered]
        rows = [*first, *(self._row(entry.all_keys, entry.help, width, room) for entry in entries)]
        return [Content.styled(title, f"bold {palette.BRIGHT}"), *rows] if rows else []

    @staticmethod
    def _row(keys: str, help: str, width: int, room: int) -> Content:
        if width + len(help) > room:
            help = help.partition(":")[0]
        return Content.assemble((keys.ljust(width - 1) + " ", f"bold {palette.FOCUS}"), (help, palette.TEXT))

    def _found(self) -> Content:
        words = self._search.lower().split()

        def fits(entry: Action) -> bool:
            text = f"{entry.all_keys} {entry.verb} {entry.help} {entry.palette}".lower()
            return all(word in text for word in words)

        rows = [self._row(entry.all_keys, entry.help, KEY, LEFT + RIGHT) for entry in actions_for(self._pane) if fits(entry)]
        return Content("\n").join([Content(""), *(rows or [Content.styled("nothing of that name on this screen", palette.DIM)])])

    def _signs(self) -> list[Content]:
        pairs: list[tuple[RunStatus, ...]] = [("running", "paused"), ("finished", "failed"), ("crashed", "stalled"), ("stopped", "lost")]
        rows = [Content.styled("Status and marks", f"bold {palette.BRIGHT}")]
        for pair in pairs:
            cells = [Content.assemble(status_glyph(status, ascii_only=self._ascii), (f" {palette.STATUS_WORDS[status]}", palette.DIM)) for status in pair]
            rows.append(Content.assemble(cells[0].truncate(12, pad=True), cells[1]))
        marks = [Content.assemble((sign, palette.VALIDATION if sign == "★" else palette.TEXT), (f" {word}", palette.DIM)) for sign, word in MARKS]
        rows.append(Content("  ").join(marks[:3]))
        rows.append(Content("  ").join(marks[3:]))
        return rows
