"""The table of a run's checkpoints: step, epoch, validation perplexity, size, age and marks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from rnnlm_tui.contract import figures
from rnnlm_tui.contract.metrics import CheckpointRow, perplexity
from rnnlm_tui.tui.widgets.palette import BAD, BRIGHT, DIM, TEXT, TRAIN, VALIDATION

Cell = tuple[tuple[str, str], ...]
"""Texts, each with its style."""


@dataclass(frozen=True, slots=True)
class CheckpointColumn:
    """A column's heading, widths and alignment."""

    key: str
    head: str
    width: int
    wide: int
    """Cells on a wide terminal; 0 hides the column there."""
    left: bool = False


COLUMNS: tuple[CheckpointColumn, ...] = (
    CheckpointColumn("cursor", "", 2, 3, left=True), CheckpointColumn("step", "step", 10, 10), CheckpointColumn("epoch", "epoch", 7, 9), CheckpointColumn("val", "val ppl", 8, 11),
    CheckpointColumn("delta", "Δ best", 7, 10), CheckpointColumn("train", "train loss", 11, 12), CheckpointColumn("size", "MB", 6, 11), CheckpointColumn("age", "age", 6, 11), CheckpointColumn("mark", "   mark", 21, 34, left=True),
)  # fmt: skip


class CheckpointTable(DataTable[Text]):
    """A run's checkpoints, newest first; enter opens one for sampling."""

    DEFAULT_CSS = """
    CheckpointTable { height: 1fr; background: #121212; color: #d0d0d0; overflow-x: hidden; scrollbar-size-vertical: 1; }
    CheckpointTable:focus { background-tint: #121212 0%; }
    CheckpointTable > .datatable--header { background: #121212; color: #808080; text-style: none; }
    CheckpointTable > .datatable--cursor { background: #303030; text-style: bold; }
    CheckpointTable > .datatable--header-hover { background: #121212; }
    CheckpointTable > .datatable--hover { background: #121212; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.choose_checkpoint", show=False, id="choose_checkpoint"),
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    class Highlighted(Message):
        """The cursor moved to another checkpoint."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step
            """The checkpoint's step; None if the table is empty."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, cell_padding=0, cursor_foreground_priority="renderable")
        self._rows: tuple[CheckpointRow, ...] = ()
        self._shown: dict[int, tuple[Cell, ...]] = {}
        self._damaged: dict[int, str] = {}
        self._pinned: frozenset[int] = frozenset()
        self._wide = False
        self._marked: int | None = None

    def on_mount(self) -> None:
        self._make_columns()

    @property
    def step(self) -> int | None:
        """Step of the checkpoint under the cursor."""
        return self._rows[self.cursor_row].step if 0 <= self.cursor_row < len(self._rows) else None

    def set_wide(self, wide: bool) -> None:
        """Switch between the narrow and the wide columns."""
        if wide != self._wide:
            self._wide = wide
            step = self.step
            self.clear(columns=True)
            self._shown = {}
            self._make_columns()
            rows, self._rows = self._rows, ()
            self.show(rows, self._now, self._damaged, self._pinned)
            self.go_to(step)

    def show(self, rows: Sequence[CheckpointRow], now: float, damaged: dict[int, str] | None = None, pinned: Collection[int] = ()) -> None:
        """Show these checkpoints and redraw only the cells that changed.

        The cursor stays on its checkpoint, or on the newest if it was there.
        """
        self._now = now
        self._damaged, self._pinned = damaged or {}, frozenset(pinned)
        newest_first = tuple(sorted(rows, key=lambda row: row.step, reverse=True))
        best = min((row.validation_loss for row in newest_first if row.validation_loss is not None), default=None)
        texts = {row.step: self._cells(row, best, now) for row in newest_first}
        if [row.step for row in newest_first] != [row.step for row in self._rows]:
            step, at_top = self.step, self.cursor_row == 0
            self._rows, self._shown = newest_first, texts
            self._marked = None
            with self.prevent(DataTable.RowHighlighted):
                self.clear()
                for row in newest_first:
                    self.add_row(*(self._text(column, cell) for column, cell in zip(COLUMNS, texts[row.step], strict=True)), key=str(row.step))
            self.go_to(None if at_top else step)
            return
        self._rows = newest_first
        for index, (step, cells) in enumerate(texts.items()):
            for column, (column_spec, cell) in enumerate(zip(COLUMNS, cells, strict=True)):
                if column and cell != self._shown[step][column]:
                    self.update_cell_at((index, column), self._text(column_spec, cell))  # type: ignore[arg-type]
        self._shown = texts

    def go_to(self, step: int | None) -> None:
        """Move the cursor to this checkpoint, or to the newest if it is gone."""
        index = next((index for index, row in enumerate(self._rows) if row.step == step), 0)
        if self._rows:
            self.move_cursor(row=index, animate=False)
            self._mark(index)
        else:
            self.post_message(self.Highlighted(None))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._mark(event.cursor_row)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()

    def _mark(self, index: int) -> None:
        """Put `›` in front of the row under the cursor, and only there."""
        if not 0 <= index < len(self._rows):
            return
        if self._marked is not None and self._marked != index and self._marked < self.row_count:
            self.update_cell_at((self._marked, 0), Text(" "))  # type: ignore[arg-type]
        if self._marked != index:
            self.update_cell_at((index, 0), Text(" ›", style=f"bold {TRAIN}"))  # type: ignore[arg-type]
            self._marked = index
            self.post_message(self.Highlighted(self._rows[index].step))

    def _make_columns(self) -> None:
        for column in COLUMNS:
            width = column.wide if self._wide else column.width
            self.add_column(Text(column.head.rjust(width) if not column.left else column.head), width=width, key=column.key)

    def _text(self, column: CheckpointColumn, cell: Cell) -> Text:
        return Text.assemble(*cell, justify="left" if column.left else "right", no_wrap=True, overflow="ellipsis")

    def _cells(self, row: CheckpointRow, best: float | None, now: float) -> tuple[Cell, ...]:
        value = None if row.validation_loss is None else perplexity(row.validation_loss)
        delta = figures.NOTHING if value is None or best is None else _difference(value - perplexity(best))
        damaged = row.step in self._damaged
        known = (
            ("✗", "damaged", BAD, damaged),
            ("★", "best", VALIDATION, row.best),
            ("▸", "last", TRAIN, row.last),
            ("⚑", "pinned", BRIGHT, row.step in self._pinned),
        )
        column = COLUMNS[-1]
        marks = _marks([(glyph, word, colour) for glyph, word, colour, applies in known if applies], column.wide if self._wide else column.width)
        return (
            ((" ", TEXT),),
            ((f"{row.step:,}", DIM if damaged else TEXT),),
            ((f"{row.epoch:.1f}", DIM),),
            ((figures.figure(value), VALIDATION if row.best else DIM if damaged else TEXT),),
            ((delta, DIM),),
            ((f"{row.train_loss:.2f}", DIM if damaged else TEXT),),
            ((f"{row.bytes / 1e6:,.{0 if row.bytes >= 1e9 else 1}f}", DIM),),
            ((figures.age(now - row.time), DIM),),
            marks or ((" ", DIM),),
        )


def _marks(marks: Sequence[tuple[str, str, str]], width: int) -> Cell:
    """Return the marks with as many of their words as fit, first marks first."""
    fits: Cell = ()
    for words in range(len(marks) + 1):
        for gap in (2, 3):
            parts: list[tuple[str, str]] = []
            for index, (glyph, word, colour) in enumerate(marks):
                parts.append((" " * (gap if index else 3) + glyph, colour))
                if index < words:
                    parts.append((f" {word}", BAD if word == "damaged" else TEXT))
            if sum(len(text) for text, _ in parts) <= width:
                fits = tuple(parts)
    return fits


def _difference(value: float) -> str:
    return "0.0" if value == 0 else f"+{value:,.1f}" if value < 1e6 else figures.change(value)
