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
    scored_part_text,
    scored_share_text,
    share,
    short,
    time_left,
)
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import amount, line, safe_content
from rnnlm_tui.tui.views.chart_data import ChartData, MarksStyle
from rnnlm_tui.tui.views.charts import (
    held_out,
    held_out_name,
    level_to_beat,
    perplexity_data,
)
from rnnlm_tui.tui.views.status import model_name
from rnnlm_tui.tui.views.train import TREND_SIGNS, trend
from rnnlm_tui.tui.widgets.chart.plot import PlotOptions, PlotState, draw
from rnnlm_tui.tui.widgets.chart.widget import level_words
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import Keys, cut_lines, hanging, sample_lines, trouble_lines

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


def figures_of(snapshot: RunSnapshot, *, wide: bool) -> list[Content]:
    """Return label and value, one per line."""
    summary = snapshot.summary
    rows = held_out(snapshot)
    going = trend(rows)
    value = figure(rows[-1].perplexity) if rows else "–"
    best = bool(rows) and rows[-1].loss <= min(row.loss for row in rows)
    star = " ★" if best else ""
    arrow: tuple[str, str] = ("", palette.DIM)
    if going is not None and summary.status in ("running", "paused"):
        sign, colour = TREND_SIGNS[going]
        arrow = (f" {sign}", colour)
    level = level_to_beat(snapshot)
    distance = change(rows[-1].perplexity - level[1]) if level and rows else "–"
    newest = (f"{value}{star}", f"bold {palette.VALIDATION}")
    found = [
        _fact(f"{held_out_name(snapshot)} ppl", newest, arrow),
        _fact(f"vs {level[0] if level is not None else 'bigram'}", distance),
    ]
    if summary.reference is not None and summary.reference.perplexity is not None and rows:
        distance = change(rows[-1].perplexity - summary.reference.perplexity)
        found.append(_fact("vs reference", distance))
    found += _bits(summary)
    test = summary.test.perplexity
    if test is not None and summary.test.name != summary.evaluation.name:
        sliced = summary.evaluation.name not in (None, "validation")
        name = "full test ppl" if sliced else "test ppl"
        found.append(_fact(name, figure(test)))
        if summary.baseline.perplexity is not None and wide:
            distance = change(test - summary.baseline.perplexity)
            found.append(_fact("vs test bigram", distance))
    if snapshot.hardware:
        hardware = snapshot.hardware[-1]
        own = memory(hardware.gpu.memory_own or hardware.process_memory)
        found.append(_fact("memory", amount(own)))
    kept = f", {summary.checkpoints.count} kept" if wide else ""
    found.append(_fact("checkpoints", amount(disk(summary.checkpoints.bytes) + kept)))
    if summary.corpus_notes and not wide:
        found.append(_fact("text", (counted(len(summary.corpus_notes), "note"), palette.WARN)))
    return found


def remark_lines(notes: Sequence[str], width: int) -> list[Content]:
    """Wrap remarks on how a text was prepared."""
    lines: list[Content] = []
    for note in notes:
        text = safe_content(f"! {note}", newlines="space", limit=300).stylize(palette.WARN)
        lines += text.wrap(max(8, width))
    return lines


def _bits(summary: RunSummary) -> list[Content]:
    """Return bits per byte if known, the scored share of the text if a part was left out, and that
    of unknown tokens if there are any."""
    judged = summary.evaluation
    found = []
    if judged.bits_per_byte is not None or not judged.unknown_share:
        found.append(_fact("bits/byte", figure(judged.bits_per_byte)))
    if judged.bits_per_byte is not None and scored_part_text(judged.scored_share):
        part = line("{} of the text", scored_share_text(judged.scored_share))
        found.append(_fact("scored", part))
    if judged.unknown_share:
        found.append(_fact("unknown", line("{} of tokens", share(judged.unknown_share))))
    return found


def legend_of(snapshot: RunSnapshot, *, wide: bool) -> Content:
    """Return `Elman 2×192 · 543k · step 3,751 / 4,754 · 24 s left`."""
    summary = snapshot.summary
    parts = [] if wide else [line(model_name(summary))]
    if summary.model.parameters is not None and not wide:
        parts.append(line(short(summary.model.parameters)))
    if summary.max_steps:
        steps = f"{count(summary.step)} / {count(summary.max_steps)}"
        parts.append(line("step {}", amount(steps)))
    if summary.status == "running" and summary.eta_seconds is not None:
        parts.append(Content.styled(time_left(summary.eta_seconds)[0], f"bold {palette.TRAIN}"))
    return Content.styled(" · ", palette.DIM).join(parts)


def _fact(label: str, *values: tuple[str, str] | Content | str) -> Content:
    return line(f"{label:<15}" + "{}" * len(values), *values)


class RunDetail(Panel):
    """Curve and figures side by side with the newest sample below, for narrow terminals."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._snapshot: RunSnapshot | None = None
        self._run: RunSummary | None = None
        self._with_curve = True
        self._memory = PlotState()
        self._rows: list[Sequence[Segment]] = []

    def show(
        self, snapshot: RunSnapshot | None, run: RunSummary | None, *, with_curve: bool
    ) -> None:
        """Show a listed run: its note, and its state or why it can't be read.

        Args:
            snapshot: its state; None while it is being read.
        """
        before = self._snapshot
        if snapshot is None or before is None or snapshot.summary.run != before.summary.run:
            self._memory = PlotState()
        self._snapshot, self._run, self._with_curve = snapshot, run, with_curve
        name = "" if run is None else safe_content(run.run, newlines="show", limit=32)
        title = name.stylize(f"bold {palette.BRIGHT}") if isinstance(name, Content) else name
        self.set_reactive(Panel.panel_title, title)
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
        snapshot, run = self._snapshot, self._run
        lines: list[Content] = []
        if run is not None and run.note and height > 3:
            most = MOST_NOTE_LINES if height > NOTE_ROOM else 1
            note = safe_content(run.note, newlines="space").stylize(palette.TEXT)
            lines = hanging(line(NOTE), note, width, most)
        self._rows = [segments_of(line, palette.TEXT) for line in lines]
        height -= len(lines)
        below: Sequence[Content] = ()
        if snapshot is not None and self._with_curve:
            trouble = trouble_lines(snapshot, self._keys, width)
            rows = max(2, min(len(trouble), height - CURVE_LEAST - 1)) if height >= 7 else 0
            self._rows += self._curve(snapshot, width, height - rows - (1 if rows else 0))
            below = cut_lines(trouble, width, rows)
            below = below or sample_lines(snapshot, self._keys, width, rows)
            below = [Content(""), *below] if rows else ()
        elif snapshot is not None:
            below = self._texts(snapshot, width, height)
        elif run is not None and run.unreadable:
            problem = safe_content("\n".join(filter(None, (run.message, run.hint))))
            below = problem.stylize(palette.TEXT).wrap(max(8, width))
        self._rows += [segments_of(line, palette.TEXT) for line in below]

    def _keys(self, text: str) -> str:
        """Put the keys of actions in place of `{key:id}`."""
        keys: Keys = getattr(self.app, "with_keys", str)
        return keys(text)

    def _curve(self, snapshot: RunSnapshot, width: int, rows: int) -> list[Sequence[Segment]]:
        """Draw the curve below its heading, with the figures at the right."""
        data, room = _bare(perplexity_data(snapshot, "step")), max(10, width - FACTS - 4)
        newest = (series.x[-1] for series in data.series if len(series.x))
        end = data.x_end or max(newest, default=1.0)
        marks: MarksStyle = getattr(self.app, "marks_style", "braille")
        look = PlotOptions(0.0, end, end, True, 0.0, False, marks)
        plot = draw(data, look, room, max(1, rows - 1), self._memory)
        heads = [f" {data.series[-1].name} ppl, log"] if data.series else []
        if heads and data.baselines:
            heads.insert(0, f"{heads[0]}   ·· {level_words(data.baselines[0], plot)}")
        head = next((one for one in heads if len(one) < room), "")
        sign = ("━", palette.VALIDATION) if head else ""
        curve = [plot.row(y) for y in range(len(plot.rows))]
        left = [segments_of(Content.assemble(sign, (head, palette.DIM))), *curve]
        facts = [segments_of(fact, palette.TEXT) for fact in figures_of(snapshot, wide=False)]
        blank: list[list[Segment]] = [[] for _ in range(rows)]
        return [
            [*padded(row, room + 4), *fact]
            for _, row, fact in zip(blank, [*left, *blank], [*facts, *blank], strict=False)
        ]

    def _texts(self, snapshot: RunSnapshot, width: int, height: int) -> list[Content]:
        """Return trouble, samples, figures and notes below each other."""
        trouble = trouble_lines(snapshot, self._keys, width)
        facts = figures_of(snapshot, wide=True)
        room = max(0, height - len(facts) - 1 - (len(trouble) + 1 if trouble else 0))
        notes = remark_lines(snapshot.summary.corpus_notes, width)
        notes = [Content(""), *notes] if notes else []
        samples = sample_lines(snapshot, self._keys, width, min(room - len(notes), 15))
        gap = [Content("")] if trouble else []
        return [*trouble, *gap, *samples, Content(""), *facts, *notes]

    def content_line(self, y: int, width: int) -> Strip:
        """Return a line of the note, of curve and figures, or of the sample."""
        return padded(self._rows[y] if y < len(self._rows) else [], width)


def _bare(data: ChartData) -> ChartData:
    """Keep only the last curve and the level to beat."""
    return replace(data, series=data.series[-1:], guides=(), marks=(), evaluated=(), note="")
