"""SortedTable: rows under headings, with a cursor; keys, the wheel and clicks move it and sort."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from rich.segment import Segment
from textual.binding import Binding
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.tui.palette import DIM, FOCUS, SELECTED, TEXT
from rnnlm_tui.tui.views.table import Column, fitted
from rnnlm_tui.tui.widgets.panel import Label, WheelScrolled, first_shown, padded, segments_of

KeyT = TypeVar("KeyT", bound=str)
RowT = TypeVar("RowT")


LEAST_LINES, FRAME = 5, 3
"""The fewest lines of a table, and its lines around the rows, heads included."""


class SortedTable(WheelScrolled, Generic[KeyT, RowT], can_focus=True):
    """A subclass sets `columns` in `prepare`, and `rows` in `put_in_order`; it draws each row."""

    LEFT_PADDING = 0
    WHEEL_LINES = 1
    BINDINGS = [  # noqa: RUF012 (Textual declares it so)
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(0)", show=False),
        Binding("end", "end(1)", show=False),
    ]

    class Highlighted(Message):
        """The cursor moved to another row, or the table became empty."""

    class Opened(Message):
        """The row under the cursor was double-clicked."""

    class Sorted(Message):
        """The order changed."""

    def __init__(self, *, title: str, keys: Sequence[KeyT], order: KeyT, id: str | None) -> None:
        """A table.

        Args:
            keys: the orders that `next_sort` goes through.
            order: the first.
        """
        super().__init__(title=title, id=id)
        self.rows: Sequence[RowT] = ()
        """In order."""
        self.columns: Sequence[Column[KeyT, Any, Any]] = ()
        self.order: KeyT = order
        """The column that the rows are sorted by."""
        self.backwards = False
        """Whether the order is reversed."""
        self.empty = ""
        """Shown if there are no rows."""
        self._keys = keys
        self._at = self._top = 0

    @abstractmethod
    def put_in_order(self) -> None:
        """Sort the rows again; the cursor stays on its row."""

    @abstractmethod
    def rises(self) -> bool:
        """Whether values increase from row to row."""

    @abstractmethod
    def row_strip(self, index: int, width: int) -> Strip:
        """Return a row, drawn with `with_cursor`."""

    @property
    def row(self) -> RowT | None:
        """The row under the cursor."""
        return self.rows[self._at] if self._at < len(self.rows) else None

    def show_rows(self, rows: Sequence[RowT], at: int) -> None:
        """Show these rows, with the cursor on this one."""
        self.rows, self._at = rows, at
        self._scroll()
        self.redraw()

    def fit(self, rows: int, most: int) -> None:
        """Take as many lines as so many rows need, but at most `most`."""
        self.styles.height = max(LEAST_LINES, min(rows + FRAME, most))

    def sort_by(self, order: KeyT, *, backwards: bool = False) -> None:
        """Sort by a column; the cursor stays on its row."""
        self.order, self.backwards = order, backwards
        self.put_in_order()
        self.post_message(self.Sorted())

    def next_sort(self) -> None:
        """Sort by the next visible column."""
        shown = {column.key for column in self.columns}
        keys = [key for key in self._keys if key in shown or key == self.order]
        self.sort_by(keys[(keys.index(self.order) + 1) % len(keys)])

    def turn_around(self) -> None:
        """Reverse the order."""
        self.sort_by(self.order, backwards=not self.backwards)

    @property
    def hidden_order(self) -> str:
        """The order, if no visible heading shows it: `sorted by size ▾`."""
        if any(column.key == self.order for column in self.columns):
            return ""
        return f"sorted by {self.order} {self._arrow}"

    def legend_words(self) -> str:
        """Return what the legend says in place of the usual one, where there is room for it."""
        return self.hidden_order

    def legend_within(self, room: int) -> Label:
        words = self.legend_words()
        fits = words and len(words) <= room
        return Content.styled(words, DIM) if fits else super().legend_within(room)

    def content_line(self, y: int, width: int) -> Strip:
        """Return the headings, or a row."""
        if y == 0:
            heads = Content("").join(self._head(column) for column in self.columns)
            return padded(segments_of(heads, DIM), width)
        index = self._top + y - 1
        if index < len(self.rows):
            return self.row_strip(index, width)
        words = f"    {self.empty}" if self.empty and y == 1 else ""
        return padded(segments_of(words, DIM), width)

    def with_cursor(self, line: Content, index: int, width: int) -> Strip:
        """Return the line of a row; its first cell is the cursor's."""
        if index == self._at:
            cursor = Content.styled("›", f"bold {FOCUS}")
            line = Content.assemble(cursor, line[1:])
            line = line.pad_right(max(0, width - line.cell_length)).stylize_before(
                f"bold on {SELECTED}"
            )
        return padded(segments_of(line, TEXT), width)

    def _head(self, column: Column[KeyT, Any, Any]) -> Content:
        if column.key != self.order:
            return fitted(Content.styled(column.head, DIM), column.width, left=column.left)
        arrow, head = self._arrow, column.head
        if column.left:
            name = f"{head} {arrow}"
        elif head.endswith(" "):  # where values have room for their ★
            name = f"{head[:-1]}{arrow}"
        else:
            name = f"{arrow} {head}" if len(head) + 2 < column.width else f"{arrow}{head}"
        return fitted(Content.styled(name, TEXT), column.width, left=column.left)

    @property
    def _arrow(self) -> str:
        """The arrow points up if values increase from row to row."""
        return "▴" if self.rises() else "▾"

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002 (the panel's)
        """Return how many rows are hidden above and below."""
        return self.hidden_labels(self._top, len(self.rows) - self._top - self._visible)

    def action_move(self, by: int) -> None:
        """Move some rows up or down."""
        self.go(self._at + by)

    def action_page(self, by: int) -> None:
        """Move a page up or down."""
        self.go(self._at + by * max(1, self._visible - 1))

    def action_end(self, last: int) -> None:
        """Move to the first or the last row."""
        self.go(len(self.rows) - 1 if last else 0)

    def on_click(self, event: Click) -> None:
        """Choose the clicked row; a double click opens it."""
        index = self._top + event.y - 2
        if event.y == 1:
            self._sort_by_head(event.x - 1)
        elif event.y >= 2 and index < len(self.rows):
            if index == self._at and event.chain > 1:
                self.post_message(self.Opened())
            self.go(index)

    def _sort_by_head(self, at: int) -> None:
        """Sort by the clicked heading; reverse if it is already the order."""
        end = 0
        for column in self.columns:
            end += column.width
            if at < end:
                if column.key is not None:
                    again = column.key == self.order
                    self.sort_by(column.key, backwards=again and not self.backwards)
                return

    def scroll_lines(self, by: int) -> None:
        self.go(self._at + by)

    def on_resize(self) -> None:
        self._scroll()
        self.redraw()

    @property
    def _visible(self) -> int:
        return max(1, self.inner_size.height - 1)

    def go(self, at: int) -> None:
        """Move the cursor to a row, or as near as there are rows."""
        at = min(max(at, 0), len(self.rows) - 1)
        if at != self._at and at >= 0:
            self._at = at
            self._scroll()
            self.redraw()
            self.post_message(self.Highlighted())

    def _scroll(self) -> None:
        self._top = first_shown(self._top, self._at, self._visible, len(self.rows))
