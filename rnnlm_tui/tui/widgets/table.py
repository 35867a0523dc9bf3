"""ListPanel: rows in columns under headings, with a cursor; keys, wheel and clicks move and sort.

The lists of runs and of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from textual.binding import BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message

from rnnlm_tui.tui.palette import DIM, FOCUS, TEXT
from rnnlm_tui.tui.text import selected
from rnnlm_tui.tui.widgets.panel import Label, WheelScrolled, first_shown

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

KeyT = TypeVar("KeyT", bound=str)
RowT = TypeVar("RowT")
BesideT = TypeVar("BesideT")


LEAST_LINES, FRAME = 5, 3
"""The fewest lines of a list, and its lines around the rows, headings included."""


@dataclass(frozen=True)  # with slots, Python 3.11 can't make one of a generic alias
class Column(Generic[KeyT, RowT, BesideT]):
    """A column of a list."""

    key: KeyT | None
    """The order that its heading selects."""
    head: str
    """The heading. One that ends in a blank has its arrow there."""
    width: int
    cell: Callable[[RowT, int, BesideT], Content]
    """Return a row's content for this many cells, given what the list shows besides the rows."""
    left: bool = False
    """Whether heading and cells are at the left."""
    least: int = 0
    """The fewest cells that it is of use with; 0: the width."""


ColumnT = TypeVar("ColumnT", bound=Column[Any, Any, Any])


def fit_columns(columns: Sequence[ColumnT], room: int) -> tuple[list[ColumnT], int]:
    """Return the columns that fit, the first ones first, and the cells that are left."""
    kept = []
    for column in columns:
        taken = min(column.width, room)
        if taken >= (column.least or column.width):
            kept.append(replace(column, width=taken))
            room -= taken
    return kept, room


def row_of(columns: Sequence[Column[KeyT, RowT, BesideT]], row: RowT, beside: BesideT) -> Content:
    """Join a row's cells."""
    return Content("").join(
        fitted(column.cell(row, column.width, beside), column.width, left=column.left)
        for column in columns
    )


def fitted(content: Content, width: int, *, left: bool) -> Content:
    """Fit the content into exactly `width` cells, aligned left or right."""
    if content.cell_length > width:
        return content.truncate(width, ellipsis=True)
    space = width - content.cell_length
    return content.pad_right(space) if left else content.pad_left(space)


def saved_order(
    settings: Mapping[str, object], name: str, keys: Sequence[KeyT]
) -> tuple[KeyT, bool]:
    """Return the order saved under a name, and whether it is reversed; the first key if none is."""
    saved = settings.get(name)
    found = ((key, turned) for key in keys for turned in (False, True) if saved == [key, turned])
    return next(found, (keys[0], False))


class ListPanel(WheelScrolled, Generic[KeyT, RowT], can_focus=True):
    """A subclass arranges the rows, chooses their columns, and draws each row."""

    LEFT_PADDING = 0
    WHEEL_LINES = 1
    OPENS: ClassVar[str]
    """The action of a double click on a row."""
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up,k", "move(-1)"), ("down,j", "move(1)"), ("pageup", "page(-1)"),
        ("pagedown", "page(1)"), ("home", "move(-1000000)"), ("end", "move(1000000)"),
    ]  # fmt: skip

    class Highlighted(Message):
        """The cursor moved to another row, or the list became empty."""

    def __init__(self, *, title: str, keys: Sequence[KeyT], setting: str, id: str | None) -> None:
        """A list.

        Args:
            keys: the orders that `next_sort` goes through, from the first on.
            setting: the name under which the order is saved.
        """
        super().__init__(title=title, id=id)
        self.rows: Sequence[RowT] = ()
        """In order."""
        self.columns: Sequence[Column[KeyT, Any, Any]] = ()
        self.order: KeyT = keys[0]
        """The column that the rows are sorted by."""
        self.backwards = False
        """Whether the order is reversed."""
        self.empty = ""
        """Shown if there are no rows."""
        self._keys, self._setting = keys, setting
        self._at = self._top = 0

    def on_mount(self) -> None:
        """Take the saved order."""
        self.order, self.backwards = saved_order(self.context.settings, self._setting, self._keys)

    @property
    def context(self) -> RnnlmApp:
        """The app."""
        return cast("RnnlmApp", self.app)

    # what a subclass says

    def name_of(self, row: RowT) -> str:
        """Return what a row is found by when the list has changed."""
        return str(row)

    def arranged(self) -> Sequence[RowT]:
        """Return the rows in order."""
        return self.rows

    def rises(self) -> bool:
        """Whether values increase from row to row."""
        return not self.backwards

    def columns_in(self, width: int) -> Sequence[Column[KeyT, Any, Any]]:  # noqa: ARG002
        """Return the columns for this width."""
        return self.columns

    def line_of(self, row: RowT, width: int) -> Content:  # noqa: ARG002
        """Return a row; its first cell is the cursor's."""
        return row_of(self.columns, row, None)

    # the rows

    @property
    def row(self) -> RowT | None:
        """The row under the cursor."""
        return self.rows[self._at] if self._at < len(self.rows) else None

    @property
    def name_at(self) -> str:
        """The name of the row under the cursor; empty if there is none."""
        return "" if self.row is None else self.name_of(self.row)

    def put_in_order(self, name: str | None = None) -> None:
        """Arrange the rows again; the cursor goes to the one with this name, or stays on its own.

        If that is gone, it goes to the one in its place.
        """
        name = name if name is not None else self.name_at
        self.rows = self.arranged()
        nearest = min(self._at, max(0, len(self.rows) - 1))
        names = (self.name_of(row) for row in self.rows)
        self._at = next((at for at, other in enumerate(names) if other == name), nearest)
        self._scroll()
        self.redraw()

    def fit(self, rows: int, most: int) -> None:
        """Take as many lines as so many rows need, but at most `most`."""
        self.styles.height = max(LEAST_LINES, min(rows + FRAME, most))

    def sort_by(self, order: KeyT, *, backwards: bool = False) -> None:
        """Sort by a column, and save the order; the cursor stays on its row."""
        self.order, self.backwards = order, backwards
        self.put_in_order()
        self.context.settings[self._setting] = [order, backwards]
        self.context.save_settings()

    def next_sort(self) -> None:
        """Sort by the next visible column."""
        shown = {column.key for column in self.columns}
        keys = [key for key in self._keys if key in shown or key == self.order]
        self.sort_by(keys[(keys.index(self.order) + 1) % len(keys)])

    def turn_around(self) -> None:
        """Reverse the order."""
        self.sort_by(self.order, backwards=not self.backwards)

    # the lines

    def legend_words(self) -> str:
        """Return the order if no visible heading shows it, `sorted by size ▾`: it goes before the
        legend, where there is room for it."""
        if any(column.key == self.order for column in self.columns):
            return ""
        return f"sorted by {self.order} {self._arrow}"

    def legends(self) -> Iterable[Label]:
        return filter(None, (self.legend_words(), self.legend))

    def prepare(self, width: int, height: int) -> None:
        """Lay out the headings and the rows in view."""
        self.columns = self.columns_in(width)
        heads = Content("").join(self._head(column) for column in self.columns)
        shown = range(self._top, min(self._top + height - 1, len(self.rows)))
        rows = [self.line_of(self.rows[index], width) for index in shown]
        if self._top <= self._at < self._top + len(rows):
            at = self._at - self._top
            line = Content.assemble(("›", f"bold {FOCUS}"), rows[at][1:])
            rows[at] = selected(line, width).stylize_before("bold")
        empty = [] if self.rows else [Content(f"    {self.empty}").stylize(DIM)]
        self.lines = [heads.stylize_before(DIM), *rows, *empty]
        self.hidden = self._top, len(self.rows) - self._top - self._visible

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

    # the cursor

    def action_move(self, by: int) -> None:
        """Move some rows up or down."""
        self.go(self._at + by)

    def action_page(self, by: int) -> None:
        """Move a page up or down."""
        self.go(self._at + by * max(1, self._visible - 1))

    scroll_lines = action_move

    def go(self, at: int) -> None:
        """Move the cursor to a row, or as near as there are rows."""
        at = min(max(at, 0), len(self.rows) - 1)
        if at != self._at and at >= 0:
            self._at = at
            self._scroll()
            self.redraw()
            self.post_message(self.Highlighted())

    async def on_click(self, event: Click) -> None:
        """Choose the clicked row; a double click opens it."""
        index = self._top + event.y - 2
        if event.y == 1:
            self._sort_by_head(event.x - 1)
        elif event.y >= 2 and index < len(self.rows):
            if index == self._at and event.chain > 1:
                await self.run_action(self.OPENS)
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

    def on_resize(self) -> None:
        self._scroll()
        self.redraw()

    @property
    def _visible(self) -> int:
        return max(1, self.inner_size.height - 1)

    def _scroll(self) -> None:
        self._top = first_shown(self._top, self._at, self._visible, len(self.rows))
