"""The table of runs; draws only the visible rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.binding import Binding
from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.comparable import best_of_comparable
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of
from rnnlm_tui.tui.widgets.run_columns import STATUS_WIDTH, RowContext, RunColumn, TextWidths, age_of, columns_for, fitted, row_of, text_widths
from rnnlm_tui.tui.widgets.run_order import SORT_KEYS, SortKey, rises, sorted_runs

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.tui.widgets.marks import Marks

    Drawn = tuple[RunSummary, str, str, float | None, bool]
    """What a drawn row depends on: the run, its letter, its age, the best that it compares with, the cursor."""


class RunsTable(Panel, can_focus=True):
    """Runs with a cursor: enter opens, a click on a heading sorts."""

    LEFT_PADDING = 0
    BINDINGS = [  # noqa: RUF012 (Textual declares it so)
        Binding("up,k", "move(-1)", show=False), Binding("down,j", "move(1)", show=False), Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False), Binding("home", "end(0)", show=False), Binding("end", "end(1)", show=False),
    ]  # fmt: skip

    class Chosen(Message):
        """The cursor moved to another run."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name
            """The run's name."""

    class Opened(Message):
        """The run under the cursor was double-clicked."""

    class Sorted(Message):
        """The order changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", id=id)
        self._runs: tuple[RunSummary, ...] = ()
        self._row = 0
        self._top = 0
        self.order: SortKey = "age"
        """The column that the runs are sorted by."""
        self.backwards = False
        """Whether the order is reversed."""
        self._columns: list[RunColumn] = []
        self._beside = RowContext()
        self._empty = ""
        self._strips: dict[str, tuple[Drawn, Strip]] = {}
        """Drawn rows by run: most stay the same between polls and keys."""
        self._words = TextWidths()
        self._strips_for: tuple[int, int, TextWidths] = (0, 0, self._words)
        """What the columns were chosen for: table width, status width, text widths."""

    @property
    def runs(self) -> Sequence[RunSummary]:
        """The listed runs in order."""
        return self._runs

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._runs[self._row] if self._row < len(self._runs) else None

    def show(
        self, runs: Sequence[RunSummary], *, among: Sequence[RunSummary] | None = None, marks: Marks | None = None, choose: str | None = None, empty: str = ""
    ) -> None:
        """Show these runs; the cursor stays on its run, or moves to `choose`.

        Args:
            among: all runs, to find the best ones; None means `runs`.
            marks: the marked runs; None keeps them.
            empty: text shown if there are no runs.
        """
        name = choose or (self.chosen.run if self.chosen else None)
        everyone = runs if among is None else among
        best = best_of_comparable(everyone)
        self._words = text_widths(everyone)
        self._beside = RowContext(self._beside.marks if marks is None else marks, best, self.ascii_only)
        self._empty = empty
        self._put_in_order(runs, name)

    def _put_in_order(self, runs: Sequence[RunSummary], name: str | None) -> None:
        self._runs = sorted_runs(runs, self.order, backwards=self.backwards, best=self._beside.best)
        self._row = next((index for index, run in enumerate(self._runs) if run.run == name), min(self._row, max(0, len(self._runs) - 1)))
        self._scroll()
        self.redraw()

    def sort_by(self, order: SortKey, *, backwards: bool = False) -> None:
        """Sort by a column; the cursor stays on its run."""
        self.order, self.backwards = order, backwards
        self._put_in_order(self._runs, self.chosen.run if self.chosen else None)
        self.post_message(self.Sorted())

    def next_sort(self) -> None:
        """Sort by the next visible column."""
        shown = {column.key for column in self._columns}
        keys = [key for key in SORT_KEYS if key in shown or key == self.order]
        self.sort_by(keys[(keys.index(self.order) + 1) % len(keys)])

    def turn_around(self) -> None:
        """Reverse the order."""
        self.sort_by(self.order, backwards=not self.backwards)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Choose the columns for this width."""
        place = (width, self._status_width, self._words)
        if self._strips_for != place:
            self._strips, self._strips_for, self._columns = {}, place, columns_for(*place)

    def legend_within(self, room: int) -> Label:
        """Return the order if no visible heading shows it."""
        order = f"sorted by {self.order} {self._arrow}"
        return Content.styled(order, palette.DIM) if len(order) <= room and all(column.key != self.order for column in self._columns) else ""

    def content_line(self, y: int, width: int) -> Strip:
        """Return the headings, or a run's row."""
        if y == 0:
            return padded(segments_of(Content("").join(self._head(column) for column in self._columns), palette.DIM), width)
        index = self._top + y - 1
        if index >= len(self._runs):
            return padded(segments_of(f"    {self._empty}", palette.DIM) if self._empty and y == 1 else [], width)
        run = self._runs[index]
        drawn = (run, self._beside.marks.letter(run.run), age_of(run), self._beside.best.get(run.run), index == self._row)
        before = self._strips.get(run.run)
        if before is not None and before[0][0] is run and before[0][1:] == drawn[1:]:
            return before[1]
        strip = self._row_strip(run, width, under_cursor=index == self._row)
        self._strips[run.run] = (drawn, strip)
        return strip

    def _row_strip(self, run: RunSummary, width: int, *, under_cursor: bool) -> Strip:
        line = row_of(self._columns, run, self._beside)
        if not under_cursor:
            return padded(segments_of(line, palette.TEXT), width)
        cursor = Content.styled(">" if self.ascii_only else "›", f"bold {palette.FOCUS}")
        line = Content.assemble(cursor, line[1:])
        line = line.pad_right(max(0, width - line.cell_length)).stylize_before(f"bold on {palette.SELECTED}")
        return padded(segments_of(line, palette.TEXT), width)

    def _head(self, column: RunColumn) -> Content:
        if column.key != self.order:
            return fitted(Content.styled(column.head, palette.DIM), column.width, left=column.left)
        arrow, head = self._arrow, column.head
        if column.left:
            name = f"{head} {arrow}"
        elif head.endswith(" "):  # where values have room for their ★
            name = f"{head[:-1]}{arrow}"
        else:
            name = f"{arrow} {head}" if len(head) + 2 < column.width else f"{arrow}{head}"
        return fitted(Content.styled(name, palette.TEXT), column.width, left=column.left)

    @property
    def _arrow(self) -> str:
        """The arrow points up if values increase from row to row."""
        up = rises(self.order, backwards=self.backwards)
        return ("^" if up else "v") if self.ascii_only else ("▴" if up else "▾")

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002 (the panel's)
        """Return how many runs are hidden above and below."""
        below = len(self._runs) - self._top - self._visible
        signs = [f"{sign} {hidden} more" for sign, hidden in (("↑", self._top), ("↓", below)) if hidden > 0]
        return [(3, segments_of("  ".join(signs), palette.DIM))] if signs else []

    def action_move(self, by: int) -> None:
        """Move one run up or down."""
        self._go(self._row + by)

    def action_page(self, by: int) -> None:
        """Move a page up or down."""
        self._go(self._row + by * max(1, self._visible - 1))

    def action_end(self, last: int) -> None:
        """Move to the first or the last run."""
        self._go(len(self._runs) - 1 if last else 0)

    def on_click(self, event: Click) -> None:
        """Choose the clicked run; a double click opens it."""
        index = self._top + event.y - 2
        if event.y == 1:
            self._sort_by_head(event.x - 1)
        elif event.y >= 2 and index < len(self._runs):
            if index == self._row and event.chain > 1:
                self.post_message(self.Opened())
            self._go(index)

    def _sort_by_head(self, at: int) -> None:
        """Sort by the clicked heading; reverse if it is already the order."""
        end = 0
        for column in self._columns:
            end += column.width
            if at < end:
                if column.key is not None:
                    self.sort_by(column.key, backwards=column.key == self.order and not self.backwards)
                return

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self._go(self._row + 1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self._go(self._row - 1)

    def on_resize(self) -> None:
        self._scroll()
        self.redraw()

    @property
    def _visible(self) -> int:
        return max(1, self.inner_size.height - 1)

    @property
    def _status_width(self) -> int:
        return max([STATUS_WIDTH, *(len(run.unreadable) + 3 for run in self._runs if run.unreadable)])

    def _go(self, row: int) -> None:
        row = min(max(row, 0), len(self._runs) - 1)
        if row != self._row and row >= 0:
            self._row = row
            self._scroll()
            self.redraw()
            self.post_message(self.Chosen(self._runs[row].run))

    def _scroll(self) -> None:
        most = max(0, len(self._runs) - self._visible)
        self._top = min(max(self._top, self._row - self._visible + 1), self._row, most) if self._row >= self._top else self._row
        self._top = min(max(self._top, self._row - self._visible + 1), max(most, 0))
