"""A run's checkpoints: their table, and panels for one checkpoint's facts and samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.binding import Binding
from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.client.checkpoint_detail import CheckpointDetail, FoundSamples
from rnnlm_tui.client.checkpoints import (
    CHECKPOINT_KEYS,
    CheckpointKey,
    ListedCheckpoint,
    is_average_path,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT
from rnnlm_tui.tui.text import Newlines, safe_content, safe_text
from rnnlm_tui.tui.views.checkpoints import (
    CheckpointColumn,
    LayerChange,
    columns_for,
    detail_lines,
    row_of,
)
from rnnlm_tui.tui.views.runs import fitted
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import cut_lines

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import SampleRow


class CheckpointPanel(Panel):
    """The files and facts of the chosen checkpoint."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Step", id=id)
        self._detail: CheckpointDetail | None = None
        self._layers: Sequence[LayerChange] | str = ""

    def show(
        self,
        detail: CheckpointDetail | None,
        now: float,
        layers: Sequence[LayerChange] | str = "",
    ) -> None:
        """Show a checkpoint, or new facts about it.

        Args:
            layers: how much the weights changed, or why that isn't known.
        """
        self._detail, self._layers = detail, layers
        kind = "Average of step" if detail and is_average_path(detail.path) else "Step"
        self.panel_title = "Step" if detail is None else f"{kind} {detail.step:,}"
        if detail is None:
            self.legend = ""
        elif detail.damage:
            self.legend = Content.styled("✗ damaged", BAD)
        elif detail.verified is not None:
            self.legend = Content.assemble(
                ("✓ ", GOOD), ("verified ", TEXT), (_ago(now - detail.verified), DIM)
            )
        else:
            self.legend = ""
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out all lines."""
        self.lines = (
            [Content.styled("no checkpoint yet", DIM)]
            if self._detail is None
            else detail_lines(self._detail, self._layers, width, height, ascii_only=self.ascii_only)
        )


class CheckpointSamples(Panel):
    """The samples written at one step, as many as fit, and an earlier one for contrast."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples", id=id)
        self._found = FoundSamples()
        self._newlines: Newlines = "space"
        self._note = ""

    def show(
        self,
        found: FoundSamples,
        note: str,
        legend: Content | str = "",
        newlines: Newlines = "space",
    ) -> None:
        """Show the samples of one step below `note`, with their line breaks as `newlines` says."""
        self._found, self._note, self._newlines = found, note, newlines
        self.legend = legend
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Give each prompt an equal share of the lines; the contrast comes if there is room."""
        rows = [Content.styled(safe_text(self._note, limit=width), DIM)] if self._note else []
        samples, earlier = self._found.samples, self._found.earlier
        roomy = height > 14
        contrast: list[Content] = []
        if earlier is not None and roomy and samples:
            old = self._text(earlier, width)
            head = Content.styled(f"the same prompt at step {earlier.step:,}", DIM)
            contrast = [Content(""), head.truncate(width, ellipsis=True)]
            contrast += [
                Content.styled(line.plain, DIM)
                for line in cut_lines(old, width, max(2, height // 5))
            ]
        count = len(samples)
        for index, sample in enumerate(samples):
            gap = 1 if roomy and index < count - 1 else 0
            left = height - len(rows) - len(contrast)
            share = max(1, left // (count - index)) - gap
            if left <= 0:
                break
            rows += [*cut_lines(self._text(sample, width), width, share), *[Content("")] * gap]
        self.lines = [*rows, *contrast]

    def _text(self, sample: SampleRow, width: int) -> list[Content]:
        prompt = safe_content(sample.prompt, newlines=self._newlines, limit=2_000)
        text = safe_content(sample.text, newlines=self._newlines, limit=4_000)
        return list((prompt.stylize(f"bold {BRIGHT}") + text.stylize(TEXT)).wrap(width))


def _ago(seconds: float) -> str:
    word = formatting.age(seconds)
    return "just now" if word == "now" else f"{word} ago"


class CheckpointTable(Panel, can_focus=True):
    """A run's checkpoints with a cursor: enter opens one for sampling, a click on a heading
    sorts."""

    LEFT_PADDING = 0
    BINDINGS = [  # noqa: RUF012 (Textual declares it so)
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(0)", show=False),
        Binding("end", "end(1)", show=False),
    ]

    class Highlighted(Message):
        """The cursor moved to another checkpoint, or the table became empty."""

    class Opened(Message):
        """The checkpoint under the cursor was double-clicked."""

    class Sorted(Message):
        """The order changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoints", id=id)
        self._items: tuple[ListedCheckpoint, ...] = ()
        self._chosen: frozenset[str] = frozenset()
        self._row = 0
        self._top = 0
        self._now = 0.0
        self.order: CheckpointKey = "step"
        """The column that the checkpoints are sorted by."""
        self.backwards = False
        """Whether the order is reversed."""
        self._columns: list[CheckpointColumn] = []

    @property
    def items(self) -> Sequence[ListedCheckpoint]:
        """The listed checkpoints in order."""
        return self._items

    @property
    def item(self) -> ListedCheckpoint | None:
        """The checkpoint under the cursor."""
        return self._items[self._row] if self._row < len(self._items) else None

    @property
    def path(self) -> str:
        """Directory of the checkpoint under the cursor; empty if there is none."""
        return "" if self.item is None else self.item.row.path

    @property
    def step(self) -> int | None:
        """Step of the checkpoint under the cursor."""
        return None if self.item is None else self.item.row.step

    def show(
        self, items: Sequence[ListedCheckpoint], now: float, chosen: Collection[str] = ()
    ) -> None:
        """Show these checkpoints.

        The cursor stays on its checkpoint, or at the top if it was there.

        Args:
            chosen: directories of those marked for the next action.
        """
        before, at_top = self.path, self._row == 0 and self.order == "step"
        self._now, self._chosen = now, frozenset(chosen)
        self._put_in_order(items, "" if at_top else before)
        if self.path != before:
            self.post_message(self.Highlighted())

    def _put_in_order(self, items: Sequence[ListedCheckpoint], path: str) -> None:
        self._items = sorted_checkpoints(items, self.order, backwards=self.backwards)
        found = (index for index, item in enumerate(self._items) if item.row.path == path)
        self._row = next(found, 0)
        self._scroll()
        self.redraw()

    def sort_by(self, order: CheckpointKey, *, backwards: bool = False) -> None:
        """Sort by a column; the cursor stays on its checkpoint."""
        self.order, self.backwards = order, backwards
        self._put_in_order(self._items, self.path)
        self.post_message(self.Sorted())

    def next_sort(self) -> None:
        """Sort by the next visible column."""
        shown = {column.key for column in self._columns}
        keys = [key for key in CHECKPOINT_KEYS if key in shown or key == self.order]
        self.sort_by(keys[(keys.index(self.order) + 1) % len(keys)])

    def turn_around(self) -> None:
        """Reverse the order."""
        self.sort_by(self.order, backwards=not self.backwards)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Choose the columns for this width."""
        self._columns = columns_for(width, self._items)

    def legend_within(self, room: int) -> Label:
        """Return the order if no visible heading shows it."""
        if all(column.key != self.order for column in self._columns):
            order = f"sorted by {self.order} {self._arrow}"
            if len(order) <= room:
                return Content.styled(order, DIM)
        return super().legend_within(room)

    def content_line(self, y: int, width: int) -> Strip:
        """Return the headings, or a checkpoint's row."""
        if y == 0:
            heads = Content("").join(self._head(column) for column in self._columns)
            return padded(segments_of(heads, DIM), width)
        index = self._top + y - 1
        if index >= len(self._items):
            words = "    no checkpoint yet" if y == 1 and not self._items else ""
            return padded(segments_of(words, DIM), width)
        item = self._items[index]
        line = row_of(self._columns, item, self._now)
        under_cursor = index == self._row
        cursor = (">" if self.ascii_only else "›") if under_cursor else " "
        mark = "+" if item.row.path in self._chosen else " "
        line = Content.assemble(
            (cursor, f"bold {palette.FOCUS}"), (mark, f"bold {palette.THIRD}"), line[2:]
        )
        if under_cursor:
            line = line.pad_right(max(0, width - line.cell_length)).stylize_before(
                f"bold on {palette.SELECTED}"
            )
        return padded(segments_of(line, TEXT), width)

    def _head(self, column: CheckpointColumn) -> Content:
        if column.key != self.order:
            return fitted(Content.styled(column.head, DIM), column.width, left=column.left)
        arrow, head = self._arrow, column.head
        if column.left:
            name = f"{head} {arrow}"
        else:
            name = f"{arrow} {head}" if len(head) + 2 < column.width else f"{arrow}{head}"
        return fitted(Content.styled(name, TEXT), column.width, left=column.left)

    @property
    def _arrow(self) -> str:
        """The arrow points up if values increase from row to row."""
        up = rises(self.order, backwards=self.backwards)
        return ("^" if up else "v") if self.ascii_only else ("▴" if up else "▾")

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002 (the panel's)
        """Return how many checkpoints are hidden above and below."""
        return self.hidden_labels(self._top, len(self._items) - self._top - self._visible)

    def action_move(self, by: int) -> None:
        """Move one checkpoint up or down."""
        self._go(self._row + by)

    def action_page(self, by: int) -> None:
        """Move a page up or down."""
        self._go(self._row + by * max(1, self._visible - 1))

    def action_end(self, last: int) -> None:
        """Move to the first or the last checkpoint."""
        self._go(len(self._items) - 1 if last else 0)

    def on_click(self, event: Click) -> None:
        """Choose the clicked checkpoint; a double click opens it."""
        index = self._top + event.y - 2
        if event.y == 1:
            self._sort_by_head(event.x - 1)
        elif event.y >= 2 and index < len(self._items):
            if index == self._row and event.chain > 1:
                self.post_message(self.Opened())
            self._go(index)

    def _sort_by_head(self, at: int) -> None:
        """Sort by the clicked heading; reverse if it is already the order."""
        end = 0
        for column in self._columns:
            end += column.width
            if at < end:
                again = column.key == self.order
                self.sort_by(column.key, backwards=again and not self.backwards)
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

    def _go(self, row: int) -> None:
        row = min(max(row, 0), len(self._items) - 1)
        if row != self._row and row >= 0:
            self._row = row
            self._scroll()
            self.redraw()
            self.post_message(self.Highlighted())

    def _scroll(self) -> None:
        most = max(0, len(self._items) - self._visible)
        self._top = max(min(self._top, self._row, most), self._row - self._visible + 1, 0)
