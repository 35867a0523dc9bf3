"""Details of the run under the cursor: a small curve, its figures and its newest sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content

from rnnlm_tui.schema.formatting import (
    NOTHING,
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
)
from rnnlm_tui.tui import WIDE_FROM, palette
from rnnlm_tui.tui.text import amount, line, safe_content, sentence, time_left
from rnnlm_tui.tui.views.chart_data import MarksStyle
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import PERPLEXITY, held_out, held_out_name, level_to_beat
from rnnlm_tui.tui.views.status import model_name
from rnnlm_tui.tui.views.train import TREND_SIGNS, trend
from rnnlm_tui.tui.widgets.chart.plot import Plot, PlotOptions, draw
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import (
    cut_lines,
    hanging,
    lines_below,
    sample_lines,
    trouble_lines,
)

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


def figures_of(snapshot: RunSnapshot, *, wide: bool) -> Iterator[Content]:
    """Yield label and value, one per line."""
    summary, rows = snapshot.summary, held_out(snapshot)

    def versus(perplexity: float | None) -> str:
        known = rows and perplexity is not None
        return change(rows[-1].perplexity - perplexity) if known and perplexity else NOTHING

    best = bool(rows) and rows[-1].loss <= min(row.loss for row in rows)
    value = figure(rows[-1].perplexity) if rows else NOTHING
    going, arrow = trend(rows), ("", palette.DIM)
    if going is not None and summary.status in ("running", "paused"):
        sign, colour = TREND_SIGNS[going]
        arrow = (f" {sign}", colour)
    newest = (value + " ★" * best, f"bold {palette.VALIDATION}")
    yield _fact(f"{held_out_name(snapshot)} ppl", newest, arrow)
    name, level = level_to_beat(snapshot) or (summary.baseline.name, None)
    yield _fact(f"vs {name}", versus(level))
    if summary.reference is not None and summary.reference.perplexity is not None and rows:
        yield _fact("vs reference", versus(summary.reference.perplexity))
    judged, test = summary.evaluation, summary.test
    if judged.bits_per_byte is not None or not judged.unknown_share:
        yield _fact("bits/byte", figure(judged.bits_per_byte))
    if judged.bits_per_byte is not None and scored_part_text(judged.scored_share):
        yield _fact("scored", line("{} of the text", scored_share_text(judged.scored_share)))
    if judged.unknown_share:
        yield _fact("unknown", line("{} of tokens", share(judged.unknown_share)))
    if test.perplexity is not None and test.name != judged.name:
        sliced = judged.name not in (None, "validation")
        yield _fact("full test ppl" if sliced else "test ppl", figure(test.perplexity))
        if summary.baseline.perplexity is not None and wide:
            distance = change(test.perplexity - summary.baseline.perplexity)
            yield _fact(f"vs test {summary.baseline.name}", distance)
    if snapshot.hardware:
        hardware = snapshot.hardware[-1]
        own = memory(hardware.gpu.memory_own or hardware.process_memory)
        yield _fact("memory", amount(own))
    kept = f", {summary.checkpoints.count} kept" if wide else ""
    yield _fact("checkpoints", amount(disk(summary.checkpoints.bytes) + kept))
    if summary.corpus_notes and not wide:
        yield _fact("text", (counted(len(summary.corpus_notes), "note"), palette.WARN))


def remark_lines(notes: Sequence[str], width: int) -> list[Content]:
    """Wrap remarks on how a text was prepared."""
    rows = (sentence(f"! {note}", width, style=palette.WARN) for note in notes)
    return list(chain.from_iterable(rows))


def _fact(label: str, *values: tuple[str, str] | Content | str) -> Content:
    return line(f"{label:<15}" + "{}" * len(values), *values)


class RunDetail(Panel):
    """Curve and figures side by side with the newest sample below, for narrow terminals."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.snapshot: RunSnapshot | None = None
        """The run whose figures it shows."""
        self._run: RunSummary | None = None
        self._plot: Plot | None = None

    def show(self, snapshot: RunSnapshot | None, run: RunSummary | None) -> None:
        """Show a listed run: its note, and its state or why it can't be read.

        Args:
            snapshot: its state; None while it is being read.
        """
        before = self.snapshot
        if snapshot is None or before is None or snapshot.summary.run != before.summary.run:
            self._plot = None
        self.snapshot, self._run = snapshot, run
        title = safe_content("" if run is None else run.run, newlines="show", limit=32)
        self.set_reactive(Panel.panel_title, title.stylize(f"bold {palette.BRIGHT}"))
        self.redraw()

    @property
    def with_curve(self) -> bool:
        """Whether it has a curve, since there is no room for a chart beside it."""
        return self.app.size.width < WIDE_FROM

    def legends(self) -> Iterable[Label]:
        """Return `Elman 2×192 · 543k · step 3,751 / 4,754 · 24 s left`, without the model if there
        is no room for it or no curve."""
        if self.snapshot is None:
            return ()
        summary, parts = self.snapshot.summary, []
        if summary.max_steps:
            steps = f"{count(summary.step)} / {count(summary.max_steps)}"
            parts.append(line("step {}", amount(steps)))
        if summary.status == "running" and summary.eta_seconds is not None:
            parts.append(Content.styled(time_left(summary.eta_seconds)[0], f"bold {palette.TRAIN}"))
        model = [line(model_name(summary))]
        if summary.model.parameters is not None:
            model.append(line(short(summary.model.parameters)))
        forms = ([*model, *parts], parts) if self.with_curve else (parts,)
        return [line(" · ").join(form) for form in forms]

    def prepare(self, width: int, height: int) -> None:
        """Lay out the note, then curve, figures and sample in the remaining lines."""
        snapshot, run, keys = self.snapshot, self._run, getattr(self.app, "with_keys", str)
        note: list[Content] = []
        if run is not None and run.note and height > 3:
            most = MOST_NOTE_LINES if height > NOTE_ROOM else 1
            text = safe_content(run.note, newlines="space").stylize(palette.TEXT)
            note = hanging(line(NOTE), text, width, most)
        height -= len(note)
        curve: list[Sequence[Segment]] = []
        below: Sequence[Content] = ()
        if snapshot is not None and self.with_curve:
            trouble = trouble_lines(snapshot, keys, width)
            rows = max(2, min(len(trouble), height - CURVE_LEAST - 1)) if height >= 7 else 0
            curve = self._curve(snapshot, width, height - rows - (1 if rows else 0))
            below = cut_lines(trouble, width, rows)
            below = below or sample_lines(snapshot, keys, width, rows)
            below = [Content(""), *below] if rows else ()
        elif snapshot is not None:
            notes = remark_lines(snapshot.summary.corpus_notes, width)
            last = [Content(""), *figures_of(snapshot, wide=True)]
            last += [Content(""), *notes] if notes else []
            below = [*lines_below(snapshot, keys, width, min(15, height - len(last))), *last]
        elif run is not None and run.unreadable:
            problem = safe_content("\n".join(filter(None, (run.message, run.hint))))
            below = problem.stylize(palette.TEXT).wrap(max(8, width))
        self.lines = [*note, *curve, *below]

    def _curve(self, snapshot: RunSnapshot, width: int, rows: int) -> list[Sequence[Segment]]:
        """Draw the last curve and the level to beat below a heading, figures at the right."""
        data, room = PERPLEXITY.chart([ChartedRun(snapshot)]), max(10, width - FACTS - 4)
        data = data._replace(series=data.series[-1:], guides=(), marks=(), evaluated=(), note="")
        newest = (series.x[-1] for series in data.series if len(series.x))
        end = data.x_end or max(newest, default=1.0)
        marks: MarksStyle = getattr(self.app, "marks_style", "braille")
        look = PlotOptions(0.0, end, end, True, 0.0, False, marks)
        plot = self._plot = draw(data, look, room, max(1, rows - 1), self._plot)
        heads = [f" {data.series[-1].name} ppl, log"] if data.series else []
        if heads and data.baselines:
            heads.insert(0, f"{heads[0]}   ·· {plot.level_words(data.baselines[0])}")
        head = next((one for one in heads if len(one) < room), "")
        sign = ("━", palette.VALIDATION) if head else ""
        left = [segments_of(Content.assemble(sign, (head, palette.DIM)))]
        left += [plot.row(y) for y in range(len(plot.rows))]
        facts = [segments_of(fact, palette.TEXT) for fact in figures_of(snapshot, wide=False)]
        blank: list[list[Segment]] = [[]] * rows
        both = zip([*left, *blank], [*facts, *blank], strict=False)
        return [[*padded(row, room + 4), *fact] for row, fact in islice(both, rows)]
