"""Details of the run under the cursor: a small curve, its figures and its newest sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.schema.formatting import (
    change,
    count,
    counted,
    disk,
    figure,
    memory,
    share,
    short,
    time_left,
)
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.chart_data import ChartData
from rnnlm_tui.tui.views.charts import (
    held_out,
    held_out_name,
    level_name,
    level_to_beat,
    perplexity_data,
)
from rnnlm_tui.tui.views.status import model_name
from rnnlm_tui.tui.views.train import TREND_SIGNS, trend
from rnnlm_tui.tui.widgets.chart.plot import Plot, PlotOptions, PlotState, draw
from rnnlm_tui.tui.widgets.chart.widget import level_words
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import cut_lines, sample_lines, trouble_lines

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary

FACTS = 24
"""Columns of the figures at the right."""
CURVE_LEAST = 5
"""Rows kept for the curve and its heading when trouble takes many lines."""
NOTE = "note  "
MOST_NOTE_LINES, NOTE_ROOM = 3, 16
"""Most lines of a note, and the height above which it gets more than one."""


def figures_of(snapshot: RunSnapshot, *, ascii_only: bool, wide: bool) -> list[Content]:
    """Return label and value, one per line."""
    summary = snapshot.summary
    rows = held_out(snapshot)
    going = trend(rows)
    value = figure(rows[-1].perplexity) if rows else "–"
    best = bool(rows) and rows[-1].loss <= min(row.loss for row in rows)
    star = (" *" if ascii_only else " ★") if best else ""
    sign = (
        TREND_SIGNS[going]
        if going is not None and summary.status in ("running", "paused")
        else None
    )
    level = level_to_beat(snapshot)
    found = [
        _fact(f"{held_out_name(snapshot)} ppl", (f"{value}{star}", f"bold {palette.VALIDATION}"), (f" {sign[1] if ascii_only else sign[0]}" if sign else "", sign[2] if sign else palette.DIM)),
        _fact(f"vs {level_name(snapshot)}", (change(rows[-1].perplexity - level[1]) if level and rows else "–", palette.TEXT)),
        *_bits(summary),
    ]  # fmt: skip
    if summary.reference is not None and summary.reference.perplexity is not None and rows:
        found.insert(
            2,
            _fact(
                "vs reference",
                (change(rows[-1].perplexity - summary.reference.perplexity), palette.TEXT),
            ),
        )
    if summary.test.perplexity is not None and summary.test.name != summary.evaluation.name:
        found.append(
            _fact(
                (
                    "full test ppl"
                    if summary.evaluation.name not in (None, "validation")
                    else "test ppl"
                ),
                (figure(summary.test.perplexity), palette.TEXT),
            )
        )
        if summary.baseline.perplexity is not None and wide:
            found.append(
                _fact(
                    "vs test bigram",
                    (change(summary.test.perplexity - summary.baseline.perplexity), palette.TEXT),
                )
            )
    hardware = snapshot.hardware[-1] if snapshot.hardware else None
    if hardware is not None:
        own = hardware.gpu_memory_own if hardware.gpu_memory_own else hardware.process_memory
        number, _, unit = memory(own).partition(" ")
        found.append(_fact("memory", (number, palette.TEXT), (f" {unit}", palette.DIM)))
    number, _, unit = disk(summary.checkpoints.bytes).partition(" ")
    found.append(
        _fact(
            "checkpoints",
            (number, palette.TEXT),
            (f" {unit}, {summary.checkpoints.count} kept" if wide else f" {unit}", palette.DIM),
        )
    )
    if summary.corpus_notes and not wide:
        found.append(_fact("text", (counted(len(summary.corpus_notes), "note"), palette.WARN)))
    return found


def remark_lines(notes: Sequence[str], width: int) -> list[Content]:
    """Wrap remarks on how a text was prepared."""
    return [
        line
        for remark in notes
        for line in (
            safe_content(f"! {remark}", newlines="space", limit=300)
            .stylize(palette.WARN)
            .wrap(max(8, width))
        )
    ]


def _bits(summary: RunSummary) -> list[Content]:
    """Return bits per byte if known, and the share of unknown tokens if there are any."""
    judged = summary.evaluation
    unknown = (
        [_fact("unknown", (share(judged.unknown_share), palette.TEXT), (" of tokens", palette.DIM))]
        if judged.unknown_share
        else []
    )
    return (
        unknown
        if judged.bits_per_byte is None and unknown
        else [_fact("bits/byte", (figure(judged.bits_per_byte), palette.TEXT)), *unknown]
    )


def legend_of(snapshot: RunSnapshot, *, wide: bool) -> Content:
    """Return `Elman 2×192 · 543k · step 3,751 / 4,754 · 24 s left`."""
    summary = snapshot.summary
    parts = [] if wide else [Content.styled(model_name(summary), palette.DIM)]
    if summary.model.parameters is not None and not wide:
        parts.append(Content.styled(short(summary.model.parameters), palette.DIM))
    if summary.max_steps:
        parts.append(
            Content.assemble(
                ("step ", palette.DIM),
                (count(summary.step), palette.TEXT),
                (f" / {count(summary.max_steps)}", palette.DIM),
            )
        )
    if summary.status == "running" and summary.eta_seconds is not None:
        parts.append(Content.styled(time_left(summary.eta_seconds)[0], f"bold {palette.TRAIN}"))
    return Content.styled(" · ", palette.DIM).join(parts)


def _fact(label: str, *values: tuple[str, str]) -> Content:
    return Content.assemble((label.ljust(15), palette.DIM), *values)


def _note_lines(text: str, width: int, most: int) -> list[Content]:
    """Return `note  a first try …`, further lines indented."""
    words = list(
        safe_content(text, newlines="space").stylize(palette.TEXT).wrap(max(8, width - len(NOTE)))
    )
    return [
        Content.assemble((" " * len(NOTE) if index else NOTE, palette.DIM), line)
        for index, line in enumerate(cut_lines(words, width - len(NOTE), most))
    ]


class RunDetail(Panel):
    """Curve and figures side by side with the newest sample below, for narrow terminals."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._snapshot: RunSnapshot | None = None
        self._memory = PlotState()
        self._plot = Plot(0, 0)
        self._facts: list[Content] = []
        self._head = Content("")
        self._below: list[Content] = []
        self._chart_rows = 0
        self._with_curve = True
        self._problem = ""
        self._note = ""
        self._note_lines: list[Content] = []

    def show(
        self,
        snapshot: RunSnapshot | None,
        name: str,
        *,
        with_curve: bool = True,
        problem: str = "",
        note: str = "",
    ) -> None:
        """Show a run, or why it can't be read (None while reading); the user's note comes first."""
        if (
            snapshot is None
            or self._snapshot is None
            or snapshot.summary.run != self._snapshot.summary.run
        ):
            self._memory = PlotState()
        self._snapshot, self._with_curve, self._problem = snapshot, with_curve, problem
        self.set_reactive(
            Panel.panel_title,
            (
                safe_content(name, newlines="show", limit=32).stylize(f"bold {palette.BRIGHT}")
                if name
                else ""
            ),
        )
        self._note = note
        self.set_reactive(
            Panel.legend,
            legend_of(snapshot, wide=not with_curve) if snapshot is not None else Content(""),
        )
        self.redraw()

    @property
    def shows_run(self) -> bool:
        """Whether it shows a run's figures."""
        return self._snapshot is not None

    def legend_within(self, room: int) -> Content:
        """Drop the model from the legend if it doesn't fit."""
        if self._snapshot is None:
            return Content("")
        whole = legend_of(self._snapshot, wide=not self._with_curve)
        return whole if whole.cell_length <= room else legend_of(self._snapshot, wide=True)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the note, then curve, figures and sample in the remaining lines."""
        most = MOST_NOTE_LINES if height > NOTE_ROOM else 1
        self._note_lines = _note_lines(self._note, width, most) if self._note and height > 3 else []
        height -= len(self._note_lines)
        snapshot = self._snapshot
        self._plot, self._facts, self._below, self._head, self._chart_rows = (
            Plot(0, 0),
            [],
            [],
            Content(""),
            0,
        )
        if snapshot is None:
            self._below = (
                list(safe_content(self._problem).stylize(palette.TEXT).wrap(max(8, width)))
                if self._problem
                else []
            )
            return
        self._facts = figures_of(snapshot, ascii_only=self.ascii_only, wide=not self._with_curve)
        if not self._with_curve:
            self._prepare_texts(snapshot, width, height)
            return
        trouble = trouble_lines(snapshot, width, ascii_only=self.ascii_only)
        below = max(2, min(len(trouble), height - CURVE_LEAST - 1)) if height >= 7 else 0
        self._chart_rows = height - below - (1 if below else 0)
        self._below = (
            cut_lines(trouble, width, below) if trouble else sample_lines(snapshot, width, below)
        )
        data = _bare(perplexity_data(snapshot, "step"))
        room = max(10, width - FACTS - 4)
        end = data.x_end or max(
            (series.x[-1] for series in data.series if len(series.x)), default=1.0
        )
        look = PlotOptions(
            0.0,
            end,
            end,
            True,
            0.0,
            False,
            "ascii" if self.ascii_only else getattr(self.app, "marks_style", "braille"),
        )
        self._plot = draw(data, look, room, max(1, self._chart_rows - 1), self._memory)
        line = "=" if self.ascii_only else "━"
        heads = [f" {data.series[-1].name} ppl, log"] if data.series else []
        if heads and data.baselines:
            heads.insert(
                0,
                f"{heads[0]}   {'..' if self.ascii_only else '··'}"
                f" {level_words(data.baselines[0], look, self._plot)}",
            )
        head = next((one for one in heads if len(one) < room), "")
        self._head = (
            Content.assemble((line, palette.VALIDATION), (head, palette.DIM))
            if head
            else Content("")
        )

    def _prepare_texts(self, snapshot: RunSnapshot, width: int, height: int) -> None:
        trouble = trouble_lines(snapshot, width, ascii_only=self.ascii_only)
        room = max(0, height - len(self._facts) - 1 - (len(trouble) + 1 if trouble else 0))
        notes = remark_lines(snapshot.summary.corpus_notes, width)
        notes = [Content(""), *notes] if notes else []
        samples = sample_lines(snapshot, width, min(room - len(notes), 15))
        self._below = [
            *trouble,
            *([Content("")] if trouble else []),
            *samples,
            Content(""),
            *self._facts,
            *notes,
        ]
        self._facts = []

    def content_line(self, y: int, width: int) -> Strip:
        """Return a line of the note, of curve and figures, or of the sample."""
        if y < len(self._note_lines):
            return padded(segments_of(self._note_lines[y], palette.TEXT), width)
        y -= len(self._note_lines)
        if self._snapshot is None:
            return padded(
                segments_of(self._below[y], palette.TEXT) if y < len(self._below) else [], width
            )
        if y >= self._chart_rows + (1 if self._chart_rows else 0):
            index = y - self._chart_rows - (1 if self._chart_rows else 0)
            return padded(
                segments_of(self._below[index], palette.TEXT) if index < len(self._below) else [],
                width,
            )
        if y >= self._chart_rows:
            return padded([], width)
        left = segments_of(self._head, palette.DIM) if y == 0 else self._curve_row(y - 1)
        room = max(10, width - FACTS - 4)
        fact = segments_of(self._facts[y], palette.TEXT) if y < len(self._facts) else []
        return padded([*padded(left, room + 4), *fact], width)

    def _curve_row(self, y: int) -> list[Segment]:
        plot = self._plot
        label = (
            [Segment(f"{plot.labels.get(y, ''):>{plot.label_width}} ", palette.ink(palette.DIM))]
            if plot.gutter
            else []
        )
        row = plot.rows[y] if y < len(plot.rows) else []
        return [*label, *(Segment(text, style) for text, style in row if text)]


def _bare(data: ChartData) -> ChartData:
    """Keep only the last curve and the level to beat."""
    return replace(data, series=data.series[-1:], guides=(), marks=(), evaluated=(), note="")
