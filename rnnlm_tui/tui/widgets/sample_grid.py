"""The table of short samples: a checkpoint per row, a temperature per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.schema.formatting import figure
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, SELECTED, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.views.sample_grid import GRID_TOKENS, Grid
from rnnlm_tui.tui.views.versus import Side, SideText, letter
from rnnlm_tui.tui.widgets.panel import Panel, first_shown, segments_of

LABEL_CELLS = 12
LEAST_COLUMN, LEAST_ROW = 20, 3
GAP = 2
CELLS_PER_TOKEN = 6
"""A long text's cells per token, to make all rows of the grid high enough from the start."""


class SampleGrid(Panel, can_focus=True):
    """Short samples of the same prompt and seed."""

    LEFT_PADDING = 0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move_cell(-1, 0)", show=False),
        Binding("down", "move_cell(1, 0)", show=False),
        Binding("left", "move_cell(0, -1)", show=False),
        Binding("right", "move_cell(0, 1)", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoint × temperature", id=id)
        self.shown: Grid | None = None
        """None until one is sampled."""
        self._first = (0, 0)
        """The first visible row and column."""
        self._visible = (0, 0)
        """How many rows and columns are visible."""

    def show(self, grid: Grid | None) -> None:
        """Show a grid, or how to sample one."""
        self.shown = grid
        self.redraw()

    def action_move_cell(self, rows: int, columns: int) -> None:
        """Choose another cell."""
        if self.shown is not None:
            self.shown.move(rows, columns)
            self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible cells."""
        grid = self.shown
        if grid is None:
            self.lines = [Content.styled("  enter samples the grid", DIM)]
            return
        columns = max(1, min(len(grid.columns), (width - LABEL_CELLS) // LEAST_COLUMN))
        rows = max(1, min(len(grid.cells), (height - 1) // LEAST_ROW))
        self._visible = (rows, columns)
        self._first = (
            first_shown(self._first[0], grid.row, rows, len(grid.cells)),
            first_shown(self._first[1], grid.column, columns, len(grid.columns)),
        )
        cell = (width - LABEL_CELLS) // columns - GAP
        needed = max(LEAST_ROW + 1, GRID_TOKENS * CELLS_PER_TOKEN // cell + 2)
        tall = min((height - 1) // rows, needed)
        shown = range(self._first[1], self._first[1] + columns)
        self.lines = [self._head(grid, shown, cell)]
        for row in range(self._first[0], self._first[0] + rows):
            self.lines += self._row(grid, row, shown, cell, tall)

    def _head(self, grid: Grid, shown: range, cell: int) -> Content:
        line = Content.styled(" temperature".ljust(LABEL_CELLS), DIM)
        for column in shown:
            words = f"  {temperature_words(grid.columns[column])}".ljust(cell + GAP)
            line += Content.styled(words, f"bold {FOCUS if column == grid.column else TEXT}")
        return line

    def _row(self, grid: Grid, row: int, shown: range, cell: int, tall: int) -> list[Content]:
        named = len({side.run.path for side in grid.sides}) > 1
        labels = _labels(grid.sides[row], row, named=named)
        texts = [self._cell(grid.cells[row][column], cell, tall - 1) for column in shown]
        lines = []
        for y in range(tall):
            label = labels[y] if y < len(labels) else Content("")
            line = Content.assemble(" ", label, " " * (LABEL_CELLS - 1 - label.cell_length))
            for column, text in zip(shown, texts, strict=True):
                here = (row, column) == (grid.row, grid.column)
                part = text[y] if y < len(text) else Content("")
                sign = "› " if here and not y else "  "
                part = Content.assemble(
                    (sign, BRIGHT), part, " " * (cell + GAP - 2 - part.cell_length)
                )
                if here and y < tall - 1:
                    part = part.stylize(f"on {SELECTED}")
                line += part
            lines.append(line)
        return lines

    def _cell(self, cell: SideText, width: int, tall: int) -> list[Content]:
        """Return the lines of one cell, cut with `…` where there is no room for more."""
        if cell.error:
            text, style = safe_text(cell.error, newlines="space", limit=400), TEXT
            sign = Content.styled("✗ ", BAD)
        else:
            text, style, sign = safe_text(cell.text).strip("\n"), TEXT, Content("")
            if not text:
                ended = cell.over and cell.done and cell.done.reason != "cancelled"
                return [Content.styled("no text" if ended else "…", DIM)]
        wrapped = WrappedText(max(8, width - sign.cell_length), text.lstrip())
        lines = []
        for line in range(min(len(wrapped), tall)):
            words = wrapped.text[slice(*wrapped.span(line))]
            if line == tall - 1 and len(wrapped) > tall:
                words = safe_text(f"{words} …", limit=width)
            lines.append(Content.assemble(sign if not line else "", (words, style)))
        if cell.living and lines and len(wrapped) <= tall:
            lines[-1] += Content.styled("█", TRAIN)
        return lines

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return how many rows and columns are out of view."""
        if self.shown is None:
            return []
        below = len(self.shown.cells) - self._first[0] - self._visible[0]
        labels = self.hidden_labels(self._first[0], below)
        right = len(self.shown.columns) - self._first[1] - self._visible[1]
        sides = [
            f"{sign} {hidden} more"
            for sign, hidden in (("←", self._first[1]), ("→", right))
            if hidden > 0
        ]
        if sides:
            words = Content.styled("  ".join(sides), DIM)
            labels.append((width - 3 - words.cell_length, segments_of(words)))
        return labels


def temperature_words(value: float) -> str:
    """Return `0.8`, `1.0` or `0.25`."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def _labels(side: Side, row: int, *, named: bool) -> list[Content]:
    """Return a checkpoint's letter and step, its mark, perplexity and, if wanted, the run."""
    step = "now" if side.row is None else f"{side.row.step:,}"
    loss = side.row.validation_loss if side.row is not None else None
    words = [
        side.mark if side.row is not None else "",
        "" if loss is None else f"val {figure(perplexity(loss))}",
        side.run.name if named else "",
    ]
    return [
        Content.assemble(letter(row), " ", (step, f"bold {BRIGHT}")),
        *(
            Content.styled(safe_text(f"  {word}", limit=LABEL_CELLS - 2), DIM)
            for word in words
            if word
        ),
    ]
