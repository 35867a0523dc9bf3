"""The charts of a run, of its machine and of several runs, and what is nearest to a step.

A `Metric` has all that charts know of a value: a run's curve over its steps, that of its
evaluations, how both are written, scaled and coloured, and the levels to beat.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.schema.formatting import (
    GIB,
    NOTHING,
    figure,
    gib,
    scientific,
    short,
    unknown_share_text,
)
from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, machine_values, perplexity
from rnnlm_tui.schema.reference import REFERENCE_NAME, reference_points
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.chart_data import AXIS_TEXTS, Baseline, ChartData, ChartSeries, Mark
from rnnlm_tui.tui.views.charted_run import ChartedRun, ascending

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import CheckpointRow, EvaluationRow, EventRow, SampleRow
    from rnnlm_tui.schema.tuning import RangeDone

Runs = Sequence[ChartedRun]
Numbers = Sequence[float]
MOST_BANDS = 2
"""Up to this many runs show their raw points; more would hide each other's curves."""
SINCE_START = "since start"
"""Label of the wall axis for runs trained on different days: time since each began."""


def exponentials(losses: Numbers) -> Numbers:
    """Return perplexities of losses; NaN stays NaN."""
    try:
        return list(map(math.exp, losses))  # in C: a long run has thousands, several times a second
    except OverflowError:
        return [perplexity(loss) for loss in losses]


def levels_to_beat(snapshot: RunSnapshot) -> list[tuple[str, float]]:
    """Return name and perplexity of a generated source's entropy and of the count model.

    The count model's perplexity is that on the evaluation set, which its name includes.
    """
    source, baseline = snapshot.summary.source, snapshot.summary.baseline
    split = split_name(snapshot)
    counts = baseline.validation_perplexity if split == "val" else baseline.perplexity
    name = f"{split} {safe_text(baseline.name, limit=16, newlines='show')}"
    levels = (("source", source.perplexity), (name, counts))
    return [(name, value) for name, value in levels if value is not None and value > 0]


def to_beat(snapshot: RunSnapshot, of: Callable[[float], float] = float) -> Sequence[Baseline]:
    """Return these levels, as `of` makes them of perplexities."""
    levels = ((name, of(value)) for name, value in levels_to_beat(snapshot))
    return [Baseline(value, f"{name} {figure(value)}") for name, value in levels]


def clipping(snapshot: RunSnapshot) -> Sequence[Baseline]:
    """Return the clipping threshold of gradients."""
    clip = snapshot.config.optimizer.max_grad_norm
    return [Baseline(clip, f"clip {clip:g}")] if clip > 0 else []


class Metric(NamedTuple):
    """A value of each step, of each evaluation, or of both."""

    title: str
    column: str = ""
    """Where the series has it; empty: it is measured by evaluations alone."""
    judged: Callable[[EvaluationRow], float | None] | None = None
    """Its value in an evaluation; None: it has none."""
    convert: Callable[[Numbers], Numbers] = list
    """From the values of rows to those of the chart."""
    write: Callable[[float | None], str] = figure
    levels: Callable[[RunSnapshot], Sequence[Baseline]] = lambda _: ()
    reference: Callable[[float], float] | None = None
    """From a perplexity, for the book's own curve; None: it isn't drawn."""
    log: bool = False
    from_zero: bool = False
    smooth: bool = True
    main: bool = False
    """The chart that has marks, and a star beside its newest value."""

    def curve(self, run: ChartedRun, *, band: bool) -> ChartSeries:
        """Return the curve of a run's steps, with its raw points if there is to be a band."""
        series, speed = run.curves, self.column == "tokens_per_second"
        values, places = series.columns[self.column], run.places_in(series)
        wide, current = series.width > 1, None
        if self.column == "loss" and len(places):  # as in the figures above the charts
            loss = run.snapshot.summary.train.loss
            current = self.write(None if loss is None else self.convert([loss])[0])
        return ChartSeries(
            name=run.name if run.letter else "train" if self.judged else "",
            colour=run.colour or palette.TRAIN,
            x=places,
            mean=run.speeds if speed else self.convert(values.mean),
            low=self.convert(values.low) if wide else None,
            high=self.convert(values.high) if wide else None,
            current=current,
            marker=run.letter,
            smooth=self.smooth,
            average="geometric" if self.log else "harmonic" if speed else "arithmetic",
            y_format=None if self.write is figure else self.write,
            band=band,
            left_out=run.short_batches,
        )

    def judged_curve(self, run: ChartedRun) -> ChartSeries:
        """Return the curve of a run's evaluations, the best with a star."""
        assert self.judged is not None
        found = [self.judged(row) for row in run.evaluations]
        values = self.convert([math.nan if value is None else value for value in found])
        places = ascending([run.x_of_step(row.step, row.time) for row in run.evaluations])
        finite = [index for index, value in enumerate(values) if math.isfinite(value)]
        best = min(finite, key=values.__getitem__, default=None)
        starred = self.main and not run.letter and best == len(values) - 1
        return ChartSeries(
            name=run.name if run.letter else held_out_name(run.snapshot),
            colour=run.colour or palette.VALIDATION,
            x=places,
            mean=values,
            current=figure(values[-1]) + " ★" * starred if values else "",
            marker=run.letter,
            smooth=False,
            star=None if best is None else (places[best], values[best]),
        )

    def chart(self, runs: Runs) -> ChartData:
        """Return the chart of one run's steps and evaluations, or of one of both of marked runs.

        Those of marked runs are their evaluations if it is the main chart or has nothing else, with
        the level that all share.
        """
        run, marked = runs[0], bool(runs[0].letter)
        main = self.main and not marked
        series: list[ChartSeries] = []
        if self.column and not (marked and self.main):
            series = [self.curve(run, band=len(runs) <= MOST_BANDS) for run in runs]
        judged: list[ChartSeries] = []
        if self.judged and not (marked and series):
            judged = [self.judged_curve(run) for run in runs]
        levels = [self.levels(run.snapshot)[: 1 if marked else None] for run in runs]
        shared = levels[0] if all(level == levels[0] for level in levels) else ()
        series += [one for one in judged if one.x or not series]
        return charted(self.title, series, runs)._replace(
            baselines=tuple(shared) if judged or not marked else (),
            marks=marks(run) if main else (),
            evaluated=judged[0].x if main else (),
            guides=() if self.reference is None or marked else _reference(run, self.reference),
            log_y=self.log,
            y_from_zero=self.from_zero,
        )


PERPLEXITY = Metric(
    "Perplexity",
    "loss",
    lambda row: row.loss,
    exponentials,
    levels=to_beat,
    reference=float,
    log=True,
    main=True,
)
LOSS = Metric(
    "Loss",
    "loss",
    lambda row: row.loss,
    levels=partial(to_beat, of=math.log),
    reference=math.log,
)
SPEED = Metric("Tokens/s", "tokens_per_second", write=short, from_zero=True)
NORM = Metric("Gradient norm", "grad_norm", levels=clipping)
RATE = Metric("Learning rate", "learning_rate", write=scientific, from_zero=True, smooth=False)
BITS = Metric("Bits per byte", judged=lambda row: row.bits_per_byte)


def charted(title: str, series: Sequence[ChartSeries], runs: Runs) -> ChartData:
    """Return a chart of these runs with their axis and planned end."""
    label, form = AXIS_TEXTS[runs[0].axis]
    if runs[0].axis == "wall" and runs[0].letter:
        label, form = SINCE_START, "duration"
    ends = [run.planned_end for run in runs]
    known = [end for end in ends if end is not None]
    return ChartData(
        title,
        tuple(series),
        x_end=max(known) if len(known) == len(ends) else None,
        x_label=label,
        note="" if runs[0].letter else _what_will_come(runs[0].snapshot),
        x_format=form,
    )


def score_data(runs: Runs) -> ChartData:
    """Bits per byte on held-out text, comparable across tokenizers, with the unknown share."""
    data = BITS.chart(runs)
    (curve,) = data.series
    unknown = unknown_share_text(runs[0].snapshot.summary.evaluation.unknown_share)
    if curve.current and unknown:
        curve = curve._replace(current=f"{curve.current}, {unknown}")
    return data._replace(series=(curve,))


def compared_perplexities(runs: Runs) -> ChartData:
    """Perplexity on the set that the runs are evaluated on."""
    splits = {run.snapshot.config.evaluation.split for run in runs}
    name = "Held-out" if len(splits) > 1 else "".join(splits).capitalize()
    return PERPLEXITY.chart(runs)._replace(title=f"{name} perplexity")


def compared_losses(runs: Runs) -> ChartData:
    """Training loss; the title says so if losses aren't comparable."""
    texts = len({run.snapshot.config.corpus for run in runs}) > 1
    tokens = len({run.snapshot.config.tokenizer for run in runs}) > 1
    why = ", different texts" if texts else ", different tokens" if tokens else ""
    return LOSS.chart(runs)._replace(title=f"Training loss{why}")


def held_out(snapshot: RunSnapshot) -> list[EvaluationRow]:
    """Return the evaluations on the run's evaluation set, one per step, sorted by step."""
    return ChartedRun(snapshot).evaluations


def split_name(snapshot: RunSnapshot) -> str:
    """Return `val` or `test`, the run's evaluation set."""
    return "val" if snapshot.config.evaluation.split == "validation" else "test"


def held_out_name(snapshot: RunSnapshot) -> str:
    """Return the evaluation set, as `test slice` if it is only the first sentences of the set."""
    whole = snapshot.summary.evaluation.name in (None, snapshot.config.evaluation.split)
    return split_name(snapshot) + ("" if whole else " slice")


def level_to_beat(snapshot: RunSnapshot) -> tuple[str, float] | None:
    """Return name and perplexity of the first of the levels to beat, if any."""
    return next(iter(levels_to_beat(snapshot)), None)


def _reference(run: ChartedRun, of: Callable[[float], float]) -> tuple[ChartSeries, ...]:
    """Return the book's own curve for a run that follows its protocol, by sentences seen.

    None on the time axes: future times of another machine's run are unknown.
    """
    summary, batch = run.snapshot.summary, run.snapshot.config.training.batch_size
    reference, steps, epochs = summary.reference, summary.max_steps, summary.epochs
    if reference is None or run.axis in ("active", "wall"):
        return ()
    points = reference_points(batch, steps / epochs if steps and epochs else None)
    places = [run.x_beyond(math.ceil(point.sentences / batch)) for point in points]
    x = [place for place in places if place is not None]
    mean = [of(point.perplexity) for point in points]
    newest = reference.perplexity
    current = "" if newest is None else figure(of(newest))
    curve = ChartSeries(REFERENCE_NAME, palette.BASELINE, x, mean, current=current, smooth=False)
    return (curve,) if x else ()


EVENT_MARKS = (
    ("spike", "↑", palette.WARN),
    ("setting", "Δ", palette.TEXT),  # over spikes, which may be in every column
    ("resumed", "↻", palette.WARN),
    ("skipped", "✗", palette.BAD),
)


def marks(run: ChartedRun) -> tuple[Mark, ...]:
    """Return marks for checkpoints, resumes, changed settings, skipped updates and spikes."""

    def at(row: EventRow | CheckpointRow, glyph: str, colour: str) -> Mark:
        return Mark(run.x_of_step(row.step, row.time), glyph, colour)

    saved, events = run.snapshot.checkpoints, run.snapshot.events
    return (
        *(at(row, "c", palette.TEXT) for row in saved if not row.best),
        *(
            at(event, glyph, colour)
            for kind, glyph, colour in EVENT_MARKS
            for event in events
            if event.kind == kind and (kind != "resumed" or event.attempt > 1)
        ),
        *(at(row, "c", palette.VALIDATION) for row in saved if row.best),
    )


def _what_will_come(snapshot: RunSnapshot) -> str:
    """Say under an empty chart what the first steps wait for."""
    if snapshot.summary.status != "preparing":
        return ""
    preparing = snapshot.summary.preparing
    waits: dict[str, str] = {
        "connecting": "when all processes are there",
        "building": "when the model is built",
        "rehearsing": "after a test of the largest step",
        "evaluating": "after a test evaluation",
    }
    phase = preparing.phase if preparing else ""
    return f"training starts {waits.get(phase, 'when the corpus is ready')}"


MACHINE_CHARTS: dict[tuple[bool, bool], tuple[str, dict[str, str]]] = {
    (False, False): ("CPU", {"process_cpu_percent": "run", "cpu_percent": "all"}),
    (False, True): ("GPU", {"gpu_percent": ""}),
    (True, False): ("Memory, GiB", {"process_memory": "own", "memory_used": "all"}),
    (True, True): ("GPU memory, GiB", {"gpu_memory_own": "own", "gpu_memory_used": "all"}),
}
"""Whether it is about memory, and whether a GPU reports it → its title, and names of readings."""


def machine_chart(runs: Runs, *, memory: bool) -> ChartData:
    """Return the load in percent, or the memory in GiB with its total: the GPU's if there is one.

    The machine's own without a GPU, of this run and of all processes.
    """
    snapshot = runs[0].snapshot
    machine, row = snapshot.machine, snapshot.hardware[-1] if snapshot.hardware else None
    measured = machine.columns["gpu_memory_used" if memory else "gpu_percent"].mean
    on_gpu = any(value == value for value in measured)
    title, names = MACHINE_CHARTS[memory, on_gpu]
    scale, write = (1 / GIB, gib) if memory else (1.0, _percent)
    newest = dict(zip(MACHINE_COLUMNS, machine_values(row) if row else (), strict=False))
    curves = []
    for (column, name), colour in zip(names.items(), (palette.TRAIN, palette.THIRD), strict=False):
        band = machine.columns[column]
        low, high, mean = (
            [value * scale for value in part] for part in (band.low, band.high, band.mean)
        )
        curves.append(
            ChartSeries(
                name,
                colour,
                runs[0].x_of_times(machine.time),
                mean,
                low,
                high,
                current=write(newest.get(column)) if len(machine) else "",
                y_format=lambda value: write(value / scale),
            )
        )
    total = None if row is None else row.gpu.memory_total if on_gpu else row.memory_total
    return charted(title, curves, runs)._replace(
        baselines=(Baseline(total / GIB, f"{gib(total)} GiB"),) if memory and total else (),
        y_from_zero=True,
        y_unit="" if memory else " %",
    )


def _percent(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.0f} %"


Charts = dict[str, Callable[[Runs], ChartData]]
CHARTS: Charts = {
    "perplexity": PERPLEXITY.chart,
    "loss": LOSS.chart,
    "speed": SPEED.chart,
    "gradient": NORM.chart,
    "rate": RATE.chart,
    "score": score_data,
    "gpu": partial(machine_chart, memory=False),
    "memory": partial(machine_chart, memory=True),
}
"""The charts of one run by chart id, in the order of tab."""
COMPARED_CHARTS: Charts = {
    "compare-validation": compared_perplexities,
    "compare-loss": compared_losses,
    "compare-bits": BITS.chart,
    "compare-speed": SPEED.chart,
    "compare-gradient": NORM.chart,
    "compare-rate": RATE.chart,
}
"""The charts of several runs, in the order of tab."""


def nearest_checkpoint(snapshot: RunSnapshot, step: float) -> CheckpointRow | None:
    """Return the checkpoint with the fewest steps between, the earlier of two; None without any."""
    return min(snapshot.checkpoints, key=lambda row: (abs(row.step - step), row.step), default=None)


def adjacent_evaluation(run: ChartedRun, step: float, by: int) -> EvaluationRow | None:
    """Return the next evaluation after a step (`by` 1) or the last before it (-1), if any."""
    rows = run.evaluations
    steps = [row.step for row in rows]
    index = bisect_right(steps, step) if by > 0 else bisect_left(steps, step) - 1
    return rows[index] if 0 <= index < len(rows) else None


def latest_evaluation(evaluations: Sequence[EvaluationRow], step: float) -> EvaluationRow | None:
    """Return the last evaluation up to this step, of rows sorted by step, if any."""
    index = bisect_right([row.step for row in evaluations], step) - 1
    return evaluations[index] if index >= 0 else None


def snapshot_until(
    snapshot: RunSnapshot, step: float, older: Sequence[SampleRow] = ()
) -> RunSnapshot:
    """Return the snapshot with only the samples up to a step, including `older` ones."""
    oldest = min((row.step for row in snapshot.samples), default=0)
    rows = (*snapshot.samples, *(row for row in older if row.step < oldest))
    return snapshot._replace(samples=tuple(row for row in rows if row.step <= step))


def range_chart(found: RangeDone) -> ChartData:
    """Return a range test's smoothed loss against the rate's decimal logarithm, over each step's
    loss, with a star at the suggestion."""
    star, current, smooth = None, "", found.smoothed
    if (peak := found.suggestion) is not None:
        at, current = bisect_left(found.rates, peak * 0.98), f"★ {scientific(peak)}"
        star = math.log10(found.rates[at]), smooth[at]
    places = tuple(map(math.log10, found.rates))
    low, high = ([*map(end, found.losses, smooth)] for end in (min, max))
    loss = ChartSeries("", palette.TRAIN, places, smooth, low, high, current, "", False, star=star)
    return ChartData("Loss", (loss,), x_end=places[-1], x_label="learning rate", x_format="power")
