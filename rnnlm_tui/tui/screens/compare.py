"""CompareScreen: curves of the marked runs, a line per run, and a line per setting in which they
differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from textual import getters
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.geometry import Region, Size

from rnnlm_tui.schema.formatting import NOTHING, counted
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.charts import ChartedScreen
from rnnlm_tui.tui.screens.pane import body_size
from rnnlm_tui.tui.text import line, safe_content
from rnnlm_tui.tui.views.charts import COMPARED_CHARTS, Runs
from rnnlm_tui.tui.views.compare import compared, comparison
from rnnlm_tui.tui.views.status import status_glyph
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.chart.scale import x_at
from rnnlm_tui.tui.widgets.panel import ScrolledPanel
from rnnlm_tui.tui.widgets.samples import hanging
from rnnlm_tui.tui.widgets.table import fitted
from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST, Placed, Places

if TYPE_CHECKING:
    from rnnlm_tui.client.comparison import Comparison, FigureRow
    from rnnlm_tui.client.monitor import RunSnapshot

BEST, FINAL = "best val ppl", "final val ppl"
HEADS = {
    BEST: "best ppl",
    "best at step": "at step",
    FINAL: "final",
    "bits per byte": "bits/byte",
    "scored": "scored",
    "unknown": "unknown",
    "tokens/s": "tok/s",
    "active time": "time",
    "train loss": "loss",
    "test ppl": "test ppl",
    "parameters": "params",
    "best after": "best after",
    "steps": "steps",
    "epochs": "epochs",
    "on disk": "checkpoints",
    "tokens": "tokens",
    "train ppl": "train ppl",
    "vocabulary": "vocab",
}
"""Figure names to column headings, most important first; those that fit become columns."""
LEAST_NAME, MOST_NAME = 12, 32
ROOM_OF_FIGURES = 56
"""Cells that a long name leaves to the figures."""
MOST_VALUE = 30
GAP = 2


Rows = Sequence[tuple[str, Sequence[str], int | None]]


class FigureColumn(NamedTuple):
    """One figure of all runs."""

    head: str
    cells: list[Content]

    @property
    def width(self) -> int:
        """Cells of the widest value."""
        return max(len(self.head), *(cell.cell_length for cell in self.cells))


def figure_columns(comparison: Comparison, room: int) -> tuple[list[FigureColumn], list[FigureRow]]:
    """Return the columns that fit, most important first, and the figures without a column."""
    rows = {row.name: row for row in comparison.figures}
    columns: list[tuple[str, FigureColumn]] = []
    for name, head in HEADS.items():
        if name in rows:
            row = rows[name]
            if name in (BEST, FINAL) and row.label not in ("", name):
                head = row.label.removesuffix(" ppl")
            columns.append((name, FigureColumn(head + (" " if name == BEST else ""), _cells(row))))
            if name == BEST and row.better:
                columns.append(("", _distance(row)))
    ends = accumulate(column.width + GAP for _, column in columns)
    shown = dict(columns[: sum(end <= room for end in ends)])
    return list(shown.values()), [row for row in comparison.figures if row.name not in shown]


def _cells(row: FigureRow) -> list[Content]:
    """Style the values: the best one bold, the best perplexity with a star."""
    cells, perplexity = [], row.name == BEST
    for index, words in enumerate(row.words):
        best = index == row.best and (row.better != "" or not perplexity)
        strong = f"bold {palette.VALIDATION if perplexity else palette.BRIGHT}"
        style = strong if best else palette.DIM if words == NOTHING else palette.TEXT
        sign = "" if not perplexity else "★" if best else " "
        cells.append(Content.styled(words + sign, style))
    return cells


def _distance(row: FigureRow) -> FigureColumn:
    """Return the column with each run's distance from the best."""
    known = [NOTHING if value is None else "0.0" for value in row.values]
    told = zip(row.differences, known, strict=True)
    return FigureColumn("Δ best", [line(words or level) for words, level in told])


class ComparedRunsPanel(ScrolledPanel):
    """Figures, settings, and figures without a column; the heading stays when scrolling."""

    WHEEL_LINES = 1

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", id=id)
        self._runs: Runs = ()
        self._comparison: Comparison | None = None
        self._at: FigureColumn | None = None
        self._tables: dict[int, list[list[Content]]] = {}
        """The tables by the width that they are laid out for."""

    def lines_in(self, width: int) -> int:
        """Return the lines it needs at this width, without the figures that have no column."""
        return sum(map(len, self._parts(max(0, width - 3 - self.LEFT_PADDING))[:2]))

    def show(self, runs: Runs, comparison: Comparison | None) -> None:
        """Show these runs in the order of their letters, with their comparison."""
        if len(runs) != len(self._runs):
            self._at = None
        self._runs, self._comparison, self._tables = runs, comparison, {}
        self.redraw()

    def show_at(self, head: str, values: Sequence[str]) -> None:
        """Show the runs' values at the cursor in a first column; an empty heading removes it."""
        at = None
        if head and len(values) == len(self._runs):
            at = FigureColumn(head, [Content.styled(value, palette.BRIGHT) for value in values])
        if at != self._at:
            self._at, self._tables = at, {}
            self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Put the tables below each other; the first line is always a heading."""
        parts = self._parts(width)
        rows = [row for part in parts for row in part]
        heads = list(accumulate(map(len, parts[:-1]), initial=0))
        top = self.top = max(0, min(self.top, len(rows) - height))
        self.row_count, self.hidden = len(rows), (top, len(rows) - top - height)
        if top and height:
            rows[top] = rows[max(head for head in heads if head <= top)]
        self.lines = rows[top:]

    def _parts(self, width: int) -> list[list[Content]]:
        """Return the tables, each with its heading, laid out once for each width."""
        found = self._comparison
        if found is not None and width not in self._tables:
            remark = Content.styled(found.remark, palette.WARN)
            figures, more = self._figures(found, width)
            figures += hanging(Content("    "), remark, width) if found.remark else []
            none = [Content.styled("    no setting differs", palette.DIM)]
            settings = [(row.key, row.values, None) for row in found.settings]
            equal = Content.styled(f"    {found.equal_words}", palette.DIM)
            others = [(row.label or row.name, row.words, row.best) for row in more]
            self._tables[width] = [
                figures,
                self._by_run("differs in", settings, width) or none,
                [*self._by_run("more figures", others, width), equal],
            ]
        return self._tables.get(width, [])

    def _figures(self, comparison: Comparison, width: int) -> tuple[list[Content], list[FigureRow]]:
        """Return the runs' lines, and the figures without a column."""
        longest = max(len(run.snapshot.summary.run) for run in self._runs)
        name = min(max(LEAST_NAME, longest), MOST_NAME, max(LEAST_NAME, width - ROOM_OF_FIGURES))
        first = [] if self._at is None else [self._at]
        fitting, more = figure_columns(
            comparison, width - name - 4 - sum(column.width + GAP for column in first)
        )
        columns = [*first, *fitting]
        heads = "".join(column.head.rjust(GAP + column.width) for column in columns)
        lines = [Content.styled(" " * (name + 4) + heads, palette.DIM)]
        for index, run in enumerate(self._runs):
            summary = run.snapshot.summary
            shown = safe_content(summary.run, newlines="show", limit=name).stylize(palette.BRIGHT)
            letter, sign = (run.letter, f"bold {run.colour}"), status_glyph(summary.status)
            cells = (
                fitted(column.cells[index], GAP + column.width, left=False) for column in columns
            )
            lines.append(
                Content.assemble(letter, " ", sign, " ", fitted(shown, name, left=True), *cells)
            )
        return lines, more

    def _by_run(self, title: str, rows: Rows, width: int) -> list[Content]:
        """Return a heading with the letters, and a line per (name, values, index of the best)."""
        if not rows:
            return []
        key_width = min(max(len(title), *(len(name) for name, _, _ in rows)), max(12, width // 3))
        longest = max(len(value) for _, values, _ in rows for value in values)
        room = max(4, min(MOST_VALUE, longest, (width - 4 - key_width) // len(self._runs) - GAP))
        head = Content.styled("    " + title.ljust(key_width), palette.DIM)
        for run in self._runs:
            head += Content.styled(" " * (GAP + room - 1) + run.letter, f"bold {run.colour}")
        lines = [head]
        for name, values, best in rows:
            label = "    " + safe_content(name, limit=key_width).plain.ljust(key_width)
            cells = []
            for index, value in enumerate(values):
                style = f"bold {palette.BRIGHT}" if index == best else palette.TEXT
                shown = safe_content(value, newlines="show", limit=room).stylize(style)
                cells.append(fitted(shown, GAP + room, left=False))
            lines.append(Content.assemble((label, palette.TEXT), *cells))
        return lines


CHART_SHARE = 3 / 7
"""Share of the rows that the tables leave to the chart at least."""
TABLE_LEAST = 4
"""Fewest rows of a useful table."""


class CompareScreen(ChartedScreen):
    """The marked runs side by side."""

    PANE = "compare"
    BINDINGS = bindings_for("compare")
    CHARTS = COMPARED_CHARTS
    table = getters.query_one(ComparedRunsPanel)

    def compose_body(self) -> ComposeResult:
        yield Placed(
            *(Chart(id=name) for name in COMPARED_CHARTS),
            ComparedRunsPanel(id="compared-runs"),
            places=self._places(self.app.size),
            id="placed",
        )

    def action_test_runs(self) -> None:
        """Test whether the marked runs differ on the same test text."""
        from rnnlm_tui.tui.screens.significance import SignificanceScreen

        self.app.push_screen(SignificanceScreen(self.context.marks))

    def on_resize(self, event: Resize) -> None:
        self.query_one(Placed).place(self._places(event.size))
        self.refresh_all()

    # what is shown

    def watch_snapshot(self) -> None:
        """Ignore the open run: if it is compared, it comes with the others."""

    def show_compared(self) -> None:
        self.refresh_all()

    show_marks = show_compared

    def charted_runs(self) -> Runs:
        return compared(self.context.marks, self.context.compared, self.axis)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002
        placed, runs = self.query_one(Placed), self.charted_runs()
        if runs or not self.context.marks.names:
            placed.visible = True
        self.load_view()
        self.table.show(runs, comparison(runs) if runs else None)
        places = self._places(self.app.size)
        placed.place(places)
        note = "{key:mark_run} on the runs marks them, {key:compare_runs} compares them"
        self.show_charts(places, ChartData("", (), note=self.context.with_keys(note)))
        self.cursor_changed()

    def _places(self, size: Size) -> Places:
        """Place the chosen chart, and below it the tables as far as they need room."""
        width, height = body_size(size)
        lines = self.table.lines_in(width) if self.is_ready else 0
        tables = min(lines + 2, height - max(CHART_LEAST, round(height * CHART_SHARE)))
        if tables < TABLE_LEAST or self.shows_one_chart():
            return {self.chosen: Region(0, 0, width, height)}
        return {
            self.chosen: Region(0, 0, width, height - tables),
            "compared-runs": Region(0, height - tables, width, tables),
        }

    def identity(self, width: int) -> Content:
        """Return `comparing A plain-otter  B brisk-heron`."""
        runs = self.charted_runs()
        names = [line("{} {}", (run.letter, f"bold {run.colour}"), run.name) for run in runs]
        whole = Content("  ").join([line("comparing"), *names])
        if whole.cell_length <= width:
            return whole
        return line("comparing {}", counted(len(names), "run"))

    def footer_entries(self) -> dict[str, str]:
        alone = self.chart_position()
        order = (
            "next_chart", "leave_field", "test_runs", "log_scale", "next_axis", "smoother",
            "zoom_in", "cursor_right", "alone", "leave",
        )  # fmt: skip
        back = "Close cursor" if self.cursor is not None else "Back" if alone else "Runs"
        verbs = {"next_chart": f"Figure {alone}".rstrip(), "leave_field": back}
        return {name: verbs.get(name, "") for name in order}

    # the charts

    def cursor_changed(self) -> None:
        """Show all values in the table: the legend has no room for many runs."""
        self._show_values()
        if self.cursor is not None:
            # a chart that was just placed has its values only after its next paint
            self.call_after_refresh(self._show_values)

    def _show_values(self) -> None:
        """Show the values at the cursor, once the chart has them."""
        chart = self.chart(self.chosen)
        head = "" if self.cursor is None else f"at {x_at(self.cursor, chart.data.x_format)}"
        values = chart.values if head else []
        if head and chart.data.series and not values:
            return
        if self.cursor is not None and values:
            # a run that had ended before the cursor has no value there
            place = self.cursor - chart.column_width / 2
            ends = [run.places[-1] if len(run.places) else -math.inf for run in self.runs]
            pairs = zip(values, ends, strict=True)
            values = [value if place <= end else NOTHING for value, end in pairs]
        self.table.show_at(head, values)

    def view_key(self) -> str:
        return "=compare"  # no run can have this name

    def csv_name(self) -> str:
        return self.chosen

    def action_leave_field(self) -> None:
        """Remove the cursor, stop showing a chart alone, then go back to the runs."""
        if self.cursor is None and not self.shows_one_chart():
            self.context.open_pane("runs")
        else:
            super().action_leave_field()
