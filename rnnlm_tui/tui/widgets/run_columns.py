"""The columns of the list of runs: what stands in each, and which of them there is room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time

from textual.content import Content

from rnnlm_tui.contract.figures import NOTHING, age, change, duration, figure, percent, short
from rnnlm_tui.contract.summary import RunSummary
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.bars import bar
from rnnlm_tui.tui.widgets.content import from_outside
from rnnlm_tui.tui.widgets.identity import model_name
from rnnlm_tui.tui.widgets.marks import Marks
from rnnlm_tui.tui.widgets.run_order import SortKey, behind_best
from rnnlm_tui.tui.widgets.status_line import progress_colour, run_status

WIDE = 100
"""Cells of the table from which all columns are shown, but for the time, which comes with WHOLE."""
WHOLE = 117
WITH_BARS = 125
"""Cells from which the bars of progress are long: before that, tags have their room."""
WITH_NOTES = 160
STATUS_WIDTH = 15
LEAD = 4
"""The cursor's sign, a mark's letter and the blanks behind each."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a row shows and a run's own figures don't tell."""

    marks: Marks = field(default_factory=Marks)
    best: Mapping[str, float] = field(default_factory=dict)
    """By a run's name the best perplexity among the runs that it compares with."""
    ascii_only: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    head: str
    width: int
    cell: Callable[[RunSummary, int, Beside], Content]
    """The content for a run in so many cells."""
    key: SortKey | None = None
    """The order that its head stands for."""
    left: bool = False


def columns_for(width: int, status_width: int) -> list[Column]:
    """All that has room in `width` cells, the first columns first."""
    return _wide_columns(width, status_width) if width >= WIDE else _narrow_columns(width, status_width)


def _narrow_columns(width: int, status_width: int) -> list[Column]:
    speeds = [Column("tok/s", 6, _speed, "tok/s")] if width >= 64 else []
    figures = [Column("val ppl ", 9, _perplexity, "perplexity"), *speeds, Column("age", 7, _age, "age")]
    bars = 6 if speeds else 4
    room = width - LEAD - status_width - (bars + 6) - sum(column.width for column in figures)
    name = max(9, room if room < 22 else 14 + max(0, room - 24) // 2)
    columns = [*_first_columns(name, status_width, bars), *figures]
    return [*columns, Column("  tags", room - name, _tags, "tags", left=True)] if room - name >= 7 else columns


def _wide_columns(width: int, status_width: int) -> list[Column]:
    more = max(0, width - WHOLE)
    name, bars, model = 14 + min(16, more // 3), 10 if width >= WITH_BARS else 6, 13 if width < 140 else 20
    times = [Column("time", 12, _duration, "time")] if width >= WHOLE else []
    columns = [
        *_first_columns(name + STATUS_WIDTH - status_width, status_width, bars), Column("val ppl ", 9, _perplexity, "perplexity"), Column("Δ best", 9, _behind, "Δ best"),
        Column("tok/s", 7, _speed, "tok/s"), *times, Column("age", 8, _age, "age"), Column("  model", model, _model, "model", left=True),
    ]  # fmt: skip
    room = width - sum(column.width for column in columns)
    if width < WITH_NOTES:
        return [*columns, Column("  tags", room, _tags, "tags", left=True)] if room >= 6 else columns
    return [*columns, Column("  tags", 22, _tags, "tags", left=True), Column("  note", room - 22, _note, left=True)]


def _first_columns(name: int, status_width: int, bars: int) -> list[Column]:
    return [
        Column("    name", LEAD + name, _name, "name", left=True),
        Column("status", status_width, lambda run, _room, beside: run_status(run, ascii_only=beside.ascii_only), "status", left=True),
        Column("progress", bars + 6, _progress, "progress", left=True),
    ]


def row_of(columns: Sequence[Column], run: RunSummary, beside: Beside) -> Content:
    """The cells of a run side by side."""
    return Content("").join(fitted(column.cell(run, column.width, beside), column.width, left=column.left) for column in columns)


def fitted(content: Content, width: int, *, left: bool) -> Content:
    """The content in exactly `width` cells, at their left or right side."""
    if content.cell_length > width:
        return content.truncate(width, ellipsis=True)
    space = " " * (width - content.cell_length)
    return Content.assemble(content, space) if left else Content.assemble(space, content)


def _name(run: RunSummary, room: int, beside: Beside) -> Content:
    letter = beside.marks.letter(run.run)
    pin = " ⚑" if run.pinned else ""
    name = from_outside(run.run, newlines="show", limit=room - LEAD - 1 - len(pin))
    return Content.assemble("  ", (letter or " ", f"bold {beside.marks.colour(run.run) or palette.TEXT}"), " ", name, (pin, palette.VALIDATION))


def _progress(run: RunSummary, room: int, beside: Beside) -> Content:
    fraction = run.step / run.max_steps if run.max_steps else None
    number, _, sign = percent(fraction).partition(" ")
    colour = progress_colour(run.status) if run.status in ("running", "stalled", "degraded") else palette.BASELINE
    return Content.assemble(bar(room - 6, fraction, colour=colour, ascii=beside.ascii_only), (number.rjust(4), palette.TEXT), (f" {sign}", palette.DIM))


def _perplexity(run: RunSummary, _room: int, beside: Beside) -> Content:
    value = run.validation.best_perplexity
    if value is not None and value == beside.best.get(run.run):
        return Content.styled(f"{figure(value)}{'*' if beside.ascii_only else '★'}", f"bold {palette.VALIDATION}")
    return Content.styled(f"{figure(value)} ", palette.TEXT if value is not None else palette.DIM)


def _behind(run: RunSummary, _room: int, beside: Beside) -> Content:
    value = behind_best(run, beside.best)
    return Content.styled("0.0" if value == 0 else change(value), palette.DIM)


def _speed(run: RunSummary, _room: int, _beside: Beside) -> Content:
    return Content.styled(short(run.tokens_per_second), palette.WARN if run.status in ("stalled", "degraded") else palette.TEXT)


def _age(run: RunSummary, _room: int, _beside: Beside) -> Content:
    return Content.styled(age_of(run), palette.DIM)


def age_of(run: RunSummary) -> str:
    """How long ago anything happened in it; `now` while it lives."""
    living = run.status in ("running", "preparing", "degraded")
    return "now" if living else age(None if run.updated is None else time() - run.updated)


def _duration(run: RunSummary, _room: int, _beside: Beside) -> Content:
    return Content.styled(duration(run.active_seconds) if run.active_seconds else NOTHING, palette.DIM)


def _model(run: RunSummary, room: int, _beside: Beside) -> Content:
    return _words(model_name(run), room, palette.TEXT)


def _tags(run: RunSummary, room: int, _beside: Beside) -> Content:
    return _words(" ".join(run.tags), room, palette.DIM)


def _note(run: RunSummary, room: int, _beside: Beside) -> Content:
    return _words(run.note, room, palette.DIM)


def _words(text: str, room: int, colour: str) -> Content:
    """After two blanks that keep it from the column before."""
    return Content.assemble("  ", from_outside(text, newlines="show", limit=max(0, room - 2)).stylize(colour))
