"""HelpScreen: keys and glyphs, from the action table with the user's keys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Key

from rnnlm_tui.schema.status import SLOW_STEPS, STALE_SECONDS
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.actions import PANE_TITLES, Action, Group, Pane, actions_for, key_rows
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, key_line
from rnnlm_tui.tui.text import line
from rnnlm_tui.tui.views.status import status_glyph
from rnnlm_tui.tui.widgets.frame import PanesLine
from rnnlm_tui.tui.widgets.panel import TitledContainer

TWO_COLUMNS = 74
"""Cells of the inside from which on groups are shown side by side."""
MOST_WIDTH, EDGES = 110, 4
"""The most cells of the inside; the cells of border and padding."""
RIGHT_SHARE = 34
"""The right column's share of TWO_COLUMNS cells."""
KEY = 10
"""Columns of a key."""
LEGEND_GAP = 6
"""Cells of the top edge that neither title nor legend may use."""
GROUP_TITLES: dict[Group, str] = {
    "screen": "This screen",
    "charts": "Charts",
    "everywhere": "Everywhere",
}
MARKS = {
    "c": "saved", "★": "best", "⚑": "pinned", "▸": "last", "↻": "resumed", "e": "evaluated",
    "Δ": "changed", "✗": "skipped", "↑": "spike", "▼": "beats",
}  # fmt: skip
MARK_COLOURS = {"★": palette.VALIDATION, "✗": palette.BAD, "↻": palette.WARN}
SIGN = 11
"""Columns of a status or a mark; a row has three."""


class HelpScreen(Overlay[None]):
    """The keys of a pane, with a search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "close"),
        Binding("question_mark,f1", "close", id="keys"),
    ]

    def __init__(self, pane: Pane, actions: Sequence[Action], focused: Sequence[str]) -> None:
        """`focused` are the focused widget's own action ids."""
        super().__init__()
        self._title = PANE_TITLES[pane]
        self._entries = actions_for(pane, actions)
        self._focused = frozenset(focused)
        self._search = ""

    def compose(self) -> ComposeResult:
        box = TitledContainer(title=f"Keys: {self._title}", id="help-box", classes="-highlighted")
        with box, VerticalScroll():
            yield OverlayText(id="help-text")

    def on_key(self, event: Key) -> None:
        """Search on letters; q closes while nothing is searched."""
        typed, character = self._search, event.character or ""
        if event.key == "backspace":
            typed = typed[:-1]
        elif event.is_printable and character and (typed or character not in "q?"):
            typed += character
        else:
            return
        event.stop()
        event.prevent_default()
        self._search_for(typed)

    def action_close(self) -> None:
        """End the search, or close."""
        if self._search:
            self._search_for("")
        else:
            self.dismiss(None)

    def _search_for(self, text: str) -> None:
        self._search = text
        self._draw()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def _draw(self) -> None:
        size = self.app.size
        width, height = max(1, min(size.width - EDGES, MOST_WIDTH)), max(1, size.height - 2)
        lines = self._found(width) if self._search else self._all(width)
        if len(lines) == height + 1:
            del lines[0]  # the blank line below the border
        box = self.query_one("#help-box", TitledContainer)
        box.styles.width, box.styles.height = width + EDGES, min(len(lines), height) + 2
        style = f"bold {palette.BRIGHT}" if self._search else palette.DIM
        typed = Content.styled(f"{self._search or 'type to search'}  ", style)
        room = width - len(self._title) - len("Keys: ") - LEGEND_GAP
        more = [("↑ ↓", "more")] if len(lines) > height else []
        keys = key_line([*more, ("esc", "close")], room + LEGEND_GAP, self.app)
        legend = Content.assemble(typed, keys)
        box.legend = legend if legend.cell_length <= room else keys
        self.query_one("#help-text", OverlayText).update(Content("\n").join(lines))

    on_resize = _draw

    def _all(self, width: int) -> list[Content]:
        """Return all lines, in one column or two."""
        charts = {entry.group for entry in self._entries} - {"screen", "everywhere"}
        if width < TWO_COLUMNS:
            groups = self._groups(["screen", *charts, "everywhere"], width)
            return [*groups, Content(""), *self._signs(), *self._notes()]
        second = (width - 2) * RIGHT_SHARE // TWO_COLUMNS
        first = width - 2 - second
        left = self._groups(["screen", "everywhere"] if charts else ["screen"], first)
        right = self._groups([*charts] or ["everywhere"], second)
        right += [Content(""), *self._signs()]
        shorter = left if len(left) < len(right) else right
        shorter += [*([Content("")] if shorter is left else []), *self._notes()]
        return [
            Content.assemble(one.truncate(first, pad=True), "  ", other.truncate(second))
            for one, other in zip_longest(left, right, fillvalue=Content(""))
        ]

    def _groups(self, groups: Sequence[Group], room: int) -> list[Content]:
        """Return the rows of groups, each after a blank line."""
        return [row for group in groups for row in (Content(""), *self._group(group, room))]

    def _group(self, group: Group, room: int) -> list[Content]:
        """Return heading and rows; what has no key is below the palette's, or at the end."""
        entries = [row[0] for row in key_rows(self._entries) if row[0].group == group]
        entries.sort(key=lambda entry: entry.id not in self._focused)
        of_run = {f"show_{pane}" for pane in PanesLine.LEFT}
        panes = [entry for entry in entries if entry.id in of_run]
        bare = [entry for entry in entries if not entry.keys]
        rows: list[Content] = []
        if panes:
            brief, names = "screens of the run", " ".join(entry.verb for entry in panes)
            keys = " ".join(entry.label for entry in panes)
            rows = [self._line(keys, f"{brief}: {names}", brief, room)]
        for entry in entries:
            if entry.keys and entry not in panes:
                rows.append(self._row(entry, entry.all_keys, room))
            if entry.id == "command_palette":
                rows += [self._row(one, "", room) for one in bare]
        if group != "everywhere":
            rows += [self._row(entry, entry.all_keys, room) for entry in bare]
        return [Content.styled(GROUP_TITLES[group], f"bold {palette.BRIGHT}"), *rows]

    def _row(self, entry: Action, keys: str, room: int) -> Content:
        return self._line(keys, entry.help, entry.short_help, room)

    @staticmethod
    def _line(keys: str, help: str, brief: str, room: int) -> Content:
        """Return keys and help, or the short help if there is less room."""
        width = max(KEY, len(keys) + 1)
        text = help if width + len(help) <= room else brief
        return Content.assemble((keys.ljust(width), f"bold {palette.FOCUS}"), (text, palette.TEXT))

    def _found(self, width: int) -> list[Content]:
        words = self._search.lower().split()

        def fits(entry: Action) -> bool:
            text = f"{entry.all_keys} {entry.verb} {entry.help} {entry.palette}".lower()
            return all(word in text for word in words)

        found = [row[0] for row in key_rows(self._entries) if any(map(fits, row))]
        rows = [self._row(entry, entry.all_keys, width) for entry in found]
        return [Content(""), *(rows or [line("no key found on this screen")])]

    def _signs(self) -> list[Content]:
        """Return the glyphs of statuses and chart marks, three in a row."""
        statuses = [(status_glyph(one), word) for one, word in palette.STATUS_WORDS.items()]
        marks = [
            (Content.styled(sign, MARK_COLOURS.get(sign, palette.TEXT)), word)
            for sign, word in MARKS.items()
        ]
        rows = [Content.styled("Status and marks", f"bold {palette.BRIGHT}")]
        for signs in (statuses, marks):
            cells = [Content.assemble(glyph, (f" {word}", palette.DIM)) for glyph, word in signs]
            cells = [cell.pad_right(max(0, SIGN - cell.cell_length)) for cell in cells]
            rows += [Content("").join(cells[at : at + 3]) for at in range(0, len(cells), 3)]
        return rows

    @staticmethod
    def _notes() -> list[Content]:
        """Explain the statuses whose words don't say enough."""
        return [
            line(f"stalled: no step for {STALE_SECONDS:.0f} s,"),
            line(f"  nor in the time of {SLOW_STEPS:.0f} steps"),
            line("degraded: its disk is full"),
        ]
