"""The table of runs: name, status, how far, how good, how fast, how old; it draws only the rows that are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import Literal

from rich.segment import Segment
from textual.binding import Binding
from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.contract.figures import NOTHING, age, change, duration, figure, percent, short
from rnnlm_tui.contract.status import LIVING, RunSummary
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.bars import bar
from rnnlm_tui.tui.widgets.comparable import best_of_comparable
from rnnlm_tui.tui.widgets.content import from_outside
from rnnlm_tui.tui.widgets.identity import model_name
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.status_line import progress_colour, run_status

SortKey = Literal["age", "perplexity", "name", "status"]
SORT_KEYS: tuple[SortKey, ...] = ("age", "perplexity", "name", "status")
STATUS_ORDER = ("running", "preparing", "paused", "stalled", "degraded", "lost", "crashed", "failed", "stopped", "draft", "finished")
STATUS_WIDTH = 15
WIDE = 100
"""Cells of the inside from which all columns are shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    head: str
    width: int
    cell: Callable[[RunSummary, int], Content]
    """The content for a run in so many cells."""
    left: bool = False


def sorted_runs(runs: Sequence[RunSummary], key: SortKey) -> tuple[RunSummary, ...]:
    """Living runs first where age decides; a run without the figure last."""
    if key == "perplexity":
        return tuple(sorted(runs, key=lambda run: (run.validation.best_perplexity is None, run.validation.best_perplexity or 0.0)))
    if key == "name":
        return tuple(sorted(runs, key=lambda run: run.run))
    if key == "status":
        return tuple(sorted(runs, key=lambda run: STATUS_ORDER.index(run.status)))
    return tuple(sorted(runs, key=lambda run: (run.status not in LIVING, -(run.updated or 0.0))))


class RunsTable(Panel, can_focus=True):
    """Up and down choose, enter opens."""

    BINDINGS = [  # noqa: RUF012 (Textual declares it so)
        Binding("up,k", "move(-1)", show=False), Binding("down,j", "move(1)", show=False), Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False), Binding("home", "end(0)", show=False), Binding("end", "end(1)", show=False),
    ]  # fmt: skip

    class Chosen(Message):
        """Another run stands under the cursor."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name
            """The run."""

    class Opened(Message):
        """The run under the cursor was clicked again."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", id=id)
        self._runs: tuple[RunSummary, ...] = ()
        self._row = 0
        self._top = 0
        self._sort: SortKey = "age"
        self._columns: list[Column] = []
        self._best: dict[str, float] = {}
        """By a run's name the best perplexity among the runs that it compares with."""

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._runs[self._row] if self._row < len(self._runs) else None

    def show(self, runs: Sequence[RunSummary], *, choose: str | None = None) -> None:
        """Show these runs; the cursor stays on its run, or goes to `choose`."""
        name = choose or (self.chosen.run if self.chosen else None)
        self._runs = sorted_runs(runs, self._sort)
        self._row = next((index for index, run in enumerate(self._runs) if run.run == name), min(self._row, max(0, len(self._runs) - 1)))
        self._best = best_of_comparable(runs)
        self._scroll()
        sign = "v" if self.ascii_only else "▾"
        self.set_reactive(Panel.legend, Content.styled(f"sorted by {self._sort} {sign}", palette.DIM))
        self.redraw()

    def next_sort(self) -> None:
        """Another order."""
        self._sort = SORT_KEYS[(SORT_KEYS.index(self._sort) + 1) % len(SORT_KEYS)]
        self.show(self._runs)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Columns for this width."""
        self._columns = self._wide_columns(width) if width >= WIDE else self._narrow_columns(width)

    def content_line(self, y: int, width: int) -> Strip:
        """The heads, then a run a row."""
        if y == 0:
            heads = Content("").join(_fitted(Content.styled(column.head, palette.DIM), column.width, left=column.left) for column in self._columns)
            return padded(segments_of(heads, palette.DIM), width)
        index = self._top + y - 1
        if index >= len(self._runs):
            return padded([], width)
        run = self._runs[index]
        line = Content("").join(_fitted(column.cell(run, column.width), column.width, left=column.left) for column in self._columns)
        if index != self._row:
            return padded(segments_of(line, palette.TEXT), width)
        cursor = Content.styled(">" if self.ascii_only else "›", f"bold {palette.FOCUS}")
        line = Content.assemble(cursor, line[1:])
        line = line.pad_right(max(0, width - line.cell_length)).stylize_before(f"bold on {palette.SELECTED}")
        return padded(segments_of(line, palette.TEXT), width)

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002 (the panel's)
        """How many runs lie above and below what is seen."""
        below = len(self._runs) - self._top - self._visible
        signs = [f"{sign} {hidden} more" for sign, hidden in (("↑", self._top), ("↓", below)) if hidden > 0]
        return [(3, segments_of("  ".join(signs), palette.DIM))] if signs else []

    def action_move(self, by: int) -> None:
        """One run up or down."""
        self._go(self._row + by)

    def action_page(self, by: int) -> None:
        """A panel's height up or down."""
        self._go(self._row + by * max(1, self._visible - 1))

    def action_end(self, last: int) -> None:
        """The first run or the last."""
        self._go(len(self._runs) - 1 if last else 0)

    def on_click(self, event: Click) -> None:
        """A click chooses, on the chosen run it opens."""
        index = self._top + event.y - 2
        if event.y >= 2 and index < len(self._runs):
            if index == self._row and event.chain > 1:
                self.post_message(self.Opened())
            self._go(index)

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

    def _narrow_columns(self, width: int) -> list[Column]:
        preset = 9 if width >= 74 else 0
        speeds = [Column("tok/s", 7, _speed)] if width >= 64 else []
        figures = [Column("val ppl ", 10, self._perplexity), *speeds, Column("age", 8, _age)]
        bars = 6 if speeds else 4
        name = max(9, width - 2 - self._status_width - (bars + 6) - sum(column.width for column in figures) - preset)
        columns = [*self._first_columns(name, bars), *figures]
        return [*columns, Column("  preset", preset, _preset, left=True)] if preset else columns

    def _wide_columns(self, width: int) -> list[Column]:
        columns = [
            *self._first_columns(14 + STATUS_WIDTH - self._status_width + max(0, width - 116) // 2, 10 if width < 120 else 12), Column("val ppl ", 10, self._perplexity), Column("Δ best", 9, self._behind),
            Column("tok/s", 7, _speed), Column("time", 13, _duration), Column("age", 8, _age), Column("  model", 14 if width < 140 else 20, _model, left=True),
        ]  # fmt: skip
        return [*columns, Column("  preset", max(0, width - sum(column.width for column in columns)), _preset, left=True)]

    def _first_columns(self, name: int, bars: int) -> list[Column]:
        return [
            Column("  name", 2 + name, lambda run, room: Content.assemble("  ", from_outside(run.run, newlines="show", limit=room - 3)), left=True),
            Column("status", self._status_width, lambda run, _room: run_status(run, ascii_only=self.ascii_only), left=True),
            Column("progress", bars + 6, self._progress, left=True),
        ]

    def _progress(self, run: RunSummary, room: int) -> Content:
        fraction = run.step / run.max_steps if run.max_steps else None
        number, _, sign = percent(fraction).partition(" ")
        line = bar(
            room - 6,
            fraction,
            colour=progress_colour(run.status) if run.status in ("running", "stalled", "degraded") else palette.BASELINE,
            ascii=self.ascii_only,
        )
        return Content.assemble(line, (number.rjust(4), palette.TEXT), (f" {sign}", palette.DIM))

    def _perplexity(self, run: RunSummary, _room: int) -> Content:
        value = run.validation.best_perplexity
        if value is not None and value == self._best.get(run.run):
            return Content.styled(f"{figure(value)}{'*' if self.ascii_only else '★'}", f"bold {palette.VALIDATION}")
        return Content.styled(f"{figure(value)} ", palette.TEXT if value is not None else palette.DIM)

    def _behind(self, run: RunSummary, _room: int) -> Content:
        value = run.validation.best_perplexity
        best = self._best.get(run.run)
        shown = NOTHING if value is None or best is None else "0.0" if value == best else change(value - best)
        return Content.styled(shown, palette.DIM)


def _fitted(content: Content, width: int, *, left: bool) -> Content:
    if content.cell_length > width:
        return content.truncate(width, ellipsis=True)
    space = " " * (width - content.cell_length)
    return Content.assemble(content, space) if left else Content.assemble(space, content)


def _short(text: str, room: int) -> str:
    return from_outside(text, newlines="show", limit=max(0, room)).plain


def _speed(run: RunSummary, _room: int) -> Content:
    return Content.styled(short(run.tokens_per_second), palette.WARN if run.status in ("stalled", "degraded") else palette.TEXT)


def _age(run: RunSummary, _room: int) -> Content:
    living = run.status in ("running", "preparing", "degraded")
    return Content.styled("now" if living else age(None if run.updated is None else time() - run.updated), palette.DIM)


def _duration(run: RunSummary, _room: int) -> Content:
    return Content.styled(duration(run.active_seconds) if run.active_seconds else NOTHING, palette.DIM)


def _model(run: RunSummary, room: int) -> Content:
    return Content.styled(f"  {_short(model_name(run), room - 3)}", palette.TEXT)


def _preset(run: RunSummary, room: int) -> Content:
    return Content.styled(f"  {_short(run.preset, room - 2)}", palette.DIM)
