"""The table of short samples: a checkpoint per row, a temperature per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, SELECTED, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_content, safe_text
from rnnlm_tui.tui.views.versus import SampleRound, Side, SideText, letter
from rnnlm_tui.tui.widgets.panel import Panel, first_shown

TEMPERATURES = (0.4, 0.7, 1.0, 1.3)
GRID_TOKENS = 60
"""Most tokens of a cell."""
LABEL_CELLS = 12
LEAST_COLUMN, LEAST_ROW = 20, 3
GAP = 2
CELLS_PER_TOKEN = 6
"""A long text's cells per token, to make all rows of the grid high enough from the start."""


def grid_columns(settings: SamplingConfig) -> list[SamplingConfig]:
    """Return the settings of the columns; the chosen temperature replaces the nearest."""
    values, chosen = set(TEMPERATURES), settings.temperature
    if not settings.is_greedy:
        values = values - {min(values, key=lambda one: abs(one - chosen))} | {chosen}
    most = min(settings.max_new_tokens, GRID_TOKENS)
    short = {"greedy": False, "max_new_tokens": most}
    return [settings.model_copy(update={**short, "temperature": one}) for one in sorted(values)]


class SampleGrid(Panel, can_focus=True):
    """Short samples of the same prompt and seed."""

    LEFT_PADDING = 0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"move_cell({by})", show=False)
        for key, by in (("up", "-1, 0"), ("down", "1, 0"), ("left", "0, -1"), ("right", "0, 1"))
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoint × temperature", id=id)
        self.shown: SampleRound | None = None
        """None until one is sampled."""
        self.row, self.column = 0, 0
        """The chosen cell."""
        self._rows, self._columns = range(0), range(0)
        """The visible ones."""

    def show(self, grid: SampleRound | None, temperature: float = 0.0) -> None:
        """Show a grid with the cell of this temperature chosen, or how to sample one."""
        self.shown = grid
        if grid is not None:
            values = [one.temperature for one in grid.columns]
            here = values.index(temperature) if temperature in values else len(values) // 2
            self.row, self.column = 0, here
        self.redraw()

    def action_move_cell(self, rows: int, columns: int) -> None:
        """Choose another cell, up to the edges."""
        if self.shown is not None:
            self.row = max(0, min(len(self.shown.texts) - 1, self.row + rows))
            self.column = max(0, min(len(self.shown.columns) - 1, self.column + columns))
            self.redraw()

    @property
    def cell(self) -> SideText | None:
        """The chosen cell's text."""
        return None if self.shown is None else [*self.shown.texts.values()][self.row][self.column]

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible cells."""
        grid = self.shown
        if grid is None:
            self.hidden, self.bottom_right = (0, 0), ""
            self.lines = [Content.styled("  enter samples the grid", DIM)]
            return
        count = len(grid.columns), len(grid.texts)
        columns = max(1, min(count[0], (width - LABEL_CELLS) // LEAST_COLUMN))
        rows = max(1, min(count[1], (height - 1) // LEAST_ROW))
        left = first_shown(self._columns.start, self.column, columns, count[0])
        top = first_shown(self._rows.start, self.row, rows, count[1])
        self._columns, self._rows = range(left, left + columns), range(top, top + rows)
        self.hidden, right = (top, count[1] - top - rows), count[0] - left - columns
        sides = [f"{sign} {hidden} more" for sign, hidden in (("←", left), ("→", right)) if hidden]
        self.bottom_right = "  ".join(sides)
        cells = (width - LABEL_CELLS) // columns - GAP
        needed = max(LEAST_ROW + 1, GRID_TOKENS * CELLS_PER_TOKEN // cells + 2)
        tall = min((height - 1) // rows, needed)
        head = Content.styled(" temperature".ljust(LABEL_CELLS), DIM)
        for column in self._columns:
            value = grid.columns[column].temperature
            words = f"  {value:.1f}" if round(value, 1) == value else f"  {value:g}"
            colour = FOCUS if column == self.column else TEXT
            head += Content.styled(words.ljust(cells + GAP), f"bold {colour}")
        lines = [head]
        named = len({side.run.path for side in grid.texts}) > 1
        texts = list(grid.texts.items())
        for row in self._rows:
            side, of_row = texts[row]
            parts = [_block(_labels(side, row, named=named), LABEL_CELLS, tall)]
            for column in self._columns:
                here = (row, column) == (self.row, self.column)
                cell = _block(_cell(of_row[column], cells, tall - 1), cells + GAP, tall)
                if here:
                    cell = [line.stylize(f"on {SELECTED}") for line in cell[:-1]] + cell[-1:]
                    cell[0] = Content.styled("› ", f"{BRIGHT} on {SELECTED}") + cell[0][2:]
                parts.append(cell)
            lines += [Content("").join(line) for line in zip(*parts, strict=True)]
        self.lines = lines


def _block(lines: Sequence[Content], width: int, tall: int) -> list[Content]:
    """Return as many lines as high and as wide as a cell is."""
    filled = [*lines, *[Content("")] * tall][:tall]
    return [line.pad_right(max(0, width - line.cell_length)) for line in filled]


def _labels(side: Side, row: int, *, named: bool) -> list[Content]:
    """Return a checkpoint's letter and step, its mark, perplexity and, if wanted, the run."""
    step = "now" if side.row is None else f"{side.row.step:,}"
    words = [
        side.mark if side.row is not None else "",
        f"val {side.perplexity}" if side.perplexity else "",
        side.run.name if named else "",
    ]
    return [
        Content.assemble(" ", letter(row), " ", (step, f"bold {BRIGHT}")),
        *(safe_content(f"   {word}", limit=LABEL_CELLS - 1).stylize(DIM) for word in words if word),
    ]


def _cell(cell: SideText, width: int, tall: int) -> list[Content]:
    """Return the lines of one cell, cut with `…` where there is no room for more."""
    error = safe_text(cell.error, newlines="space", limit=400)
    sign, text = "✗ " if error else "", error or cell.shown.strip("\n")
    if not text:
        ended = cell.over and cell.done and cell.done.reason != "cancelled"
        return [Content.styled("  no text" if ended else "  …", DIM)]
    wrapped = WrappedText(max(8, width - len(sign)), text.lstrip())
    lines = []
    for at in range(min(len(wrapped), tall)):
        words = wrapped.text[slice(*wrapped.span(at))]
        if at == tall - 1 and len(wrapped) > tall:
            words = safe_text(f"{words} …", limit=width)
        lines.append(Content.assemble("  ", ("" if at else sign, BAD), (words, TEXT)))
    if cell.living and len(wrapped) <= tall:
        lines[-1] += Content.styled("█", TRAIN)
    return lines
