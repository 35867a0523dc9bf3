"""The train screen's charts of a run and its machine, and what is nearest to a step."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rnnlm_tui.schema.formatting import (
    GIB,
    NOTHING,
    figure,
    gib,
    scientific,
    short,
    unknown_share_text,
)
from rnnlm_tui.schema.metrics import (
    MACHINE_COLUMNS,
    evaluations_during_run,
    machine_values,
    perplexity,
)
from rnnlm_tui.schema.reference import REFERENCE_NAME, reference_points
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.chart_data import (
    AXIS_TEXTS,
    Axis,
    Baseline,
    ChartData,
    ChartSeries,
    Mark,
    ascending,
    curves,
    extrapolated_x,
    planned_end,
    short_batches,
    speeds,
    x_mapper,
    x_of_times,
    x_values,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import (
        CheckpointRow,
        EvaluationRow,
        EventKind,
        EventRow,
        SampleRow,
    )
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.series import Band


@dataclass(frozen=True, slots=True)
class StepMetric:
    """A metric with a value for each step, as the charts of one run and of several show it."""

    title: str
    column: str
    newest: Callable[[RunSummary], float | None]
    write: Callable[[float | None], str] = figure
    from_zero: bool = False
    smooth: bool = True

    def curve(self, snapshot: RunSnapshot, axis: Axis, since: float = 0.0) -> ChartSeries:
        """Return a run's curve; `since` is where its x begins."""
        series = curves(snapshot)
        band, speed = series.columns[self.column], self.column == "tokens_per_second"
        low, high = (band.low, band.high) if series.width > 1 else (None, None)
        places, newest = x_values(series, axis), self.newest(snapshot.summary)
        return ChartSeries(
            name="",
            colour=palette.TRAIN,
            x=[place - since for place in places] if since else places,
            mean=speeds(series) if speed else band.mean,
            low=low,
            high=high,
            current=self.write(newest) if len(places) else "",
            smooth=self.smooth,
            harmonic=speed,
            legend_from_curve=self.column != "loss",
            y_format=None if self.write is figure else self.write,
            left_out=short_batches(series),
        )

    def chart(self, snapshot: RunSnapshot, axis: Axis) -> ChartData:
        """Return the chart of one run."""
        curve = self.curve(snapshot, axis)
        return on_axis(ChartData(self.title, (curve,), y_from_zero=self.from_zero), snapshot, axis)


LOSS = StepMetric("Training loss", "loss", lambda summary: summary.train.loss)
SPEED = StepMetric(
    "Tokens/s", "tokens_per_second", lambda run: run.tokens_per_second, short, from_zero=True
)
NORM = StepMetric("Gradient norm", "grad_norm", lambda summary: summary.train.grad_norm)
RATE = StepMetric(
    "Learning rate",
    "learning_rate",
    lambda summary: summary.train.learning_rate,
    scientific,
    from_zero=True,
    smooth=False,
)


def exponentials(losses: Sequence[float]) -> list[float]:
    """Return perplexities of losses; NaN stays NaN."""
    try:
        return list(map(math.exp, losses))  # in C: a long run has thousands, several times a second
    except OverflowError:
        return [perplexity(loss) for loss in losses]


def perplexity_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Training and held-out perplexity with baselines, checkpoints, events and the best point."""
    train, judged = LOSS.curve(snapshot, axis), held_out_curve(snapshot, axis, perplexities)
    star = " ★" if judged.star and judged.star == (judged.x[-1], judged.mean[-1]) else ""
    train = replace(
        train,
        name="train",
        mean=exponentials(train.mean),
        low=train.low and exponentials(train.low),
        high=train.high and exponentials(train.high),
        current=train.current and figure(snapshot.summary.train.perplexity),
        geometric=True,
    )
    levels = levels_to_beat(snapshot)
    data = ChartData(
        "Perplexity",
        (train, *((replace(judged, current=judged.current + star),) if judged.x else ())),
        tuple(Baseline(value, f"{name} {figure(value)}") for name, value in levels),
        marks=marks(snapshot, axis),
        evaluated=judged.x,
        log_y=True,
        guides=_reference(snapshot, axis),
    )
    return on_axis(data, snapshot, axis)


def loss_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Training and held-out loss in nats."""
    train, judged = LOSS.curve(snapshot, axis), held_out_curve(snapshot, axis, losses)
    levels = ((name, math.log(value)) for name, value in levels_to_beat(snapshot))
    data = ChartData(
        "Loss",
        (replace(train, name="train"), *((judged,) if judged.x else ())),
        tuple(Baseline(value, f"{name} {figure(value)}") for name, value in levels),
        guides=_reference(snapshot, axis, math.log),
    )
    return on_axis(data, snapshot, axis)


def gradient_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Gradient norm before clipping, and the clipping threshold."""
    clip = snapshot.config.optimizer.max_grad_norm
    levels = (Baseline(clip, f"clip {clip:g}"),) if clip > 0 else ()
    return replace(NORM.chart(snapshot, axis), baselines=levels)


def score_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Bits per byte on held-out text, comparable across tokenizers."""
    curve = held_out_curve(snapshot, axis, bits_per_byte)
    if unknown := curve.current and unknown_share_text(snapshot.summary.evaluation.unknown_share):
        curve = replace(curve, current=f"{curve.current}, {unknown}")
    return on_axis(ChartData("Bits per byte", (curve,)), snapshot, axis)


def held_out_curve(
    snapshot: RunSnapshot,
    axis: Axis,
    of: Callable[[Sequence[EvaluationRow]], Sequence[float]],
    since: float = 0.0,
) -> ChartSeries:
    """Return the curve of a run's evaluations, the best with a star; `since` is where x begins."""
    rows, series = held_out(snapshot), curves(snapshot)
    places: Sequence[float] = [row.step for row in rows]
    if axis != "step":
        place = x_mapper(series, axis)
        places = ascending([max(0.0, place(row.step, row.time) - since) for row in rows])
    values = of(rows)
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    best = min(finite, key=values.__getitem__, default=None)
    return ChartSeries(
        name=held_out_name(snapshot),
        colour=palette.VALIDATION,
        x=places,
        mean=values,
        current=figure(values[-1]) if values else "",
        smooth=False,
        star=None if best is None else (places[best], values[best]),
    )


def losses(rows: Sequence[EvaluationRow]) -> list[float]:
    """Return losses of evaluations."""
    return [row.loss for row in rows]


def perplexities(rows: Sequence[EvaluationRow]) -> list[float]:
    """Return perplexities of evaluations."""
    return exponentials(losses(rows))


def bits_per_byte(rows: Sequence[EvaluationRow]) -> list[float]:
    """Return bits per byte, NaN for an evaluation without it."""
    return [math.nan if row.bits_per_byte is None else row.bits_per_byte for row in rows]


def held_out(snapshot: RunSnapshot) -> list[EvaluationRow]:
    """Return the evaluations on the run's evaluation set, one per step, sorted by step."""
    return evaluations_during_run(snapshot.evaluations, snapshot.config.evaluation.split)


def split_name(snapshot: RunSnapshot) -> str:
    """Return `val` or `test`, the run's evaluation set."""
    return "val" if snapshot.config.evaluation.split == "validation" else "test"


def held_out_name(snapshot: RunSnapshot) -> str:
    """Return the evaluation set, as `test slice` if it is only the first sentences of the set."""
    whole = snapshot.summary.evaluation.name in (None, snapshot.config.evaluation.split)
    return split_name(snapshot) + ("" if whole else " slice")


def levels_to_beat(snapshot: RunSnapshot) -> list[tuple[str, float]]:
    """Return name and perplexity of a generated source's entropy and of the bigram model.

    The bigram model's perplexity is that on the evaluation set, which its name includes.
    """
    source, baseline = snapshot.summary.source, snapshot.summary.baseline
    split = split_name(snapshot)
    bigram = baseline.validation_perplexity if split == "val" else baseline.perplexity
    name = f"{split} {safe_text(baseline.name, limit=16, newlines='show')}"
    return [
        (name, value)
        for name, value in (("source", source.perplexity), (name, bigram))
        if value is not None and value > 0
    ]


def level_to_beat(snapshot: RunSnapshot) -> tuple[str, float] | None:
    """Return the first of the levels to beat, if any."""
    return next(iter(levels_to_beat(snapshot)), None)


def _reference(
    snapshot: RunSnapshot, axis: Axis, of: Callable[[float], float] = float
) -> tuple[ChartSeries, ...]:
    """Return the book's own curve for a run that follows its protocol, by sentences seen."""
    summary, batch = snapshot.summary, snapshot.config.training.batch_size
    reference, steps, epochs = summary.reference, summary.max_steps, summary.epochs
    if reference is None:
        return ()
    x, mean = [], []
    for point in reference_points(batch, steps / epochs if steps and epochs else None):
        place = extrapolated_x(snapshot.series, axis, math.ceil(point.sentences / batch))
        if place is not None:
            x.append(place)
            mean.append(of(point.perplexity))
    newest = reference.perplexity
    current = "" if newest is None else figure(of(newest))
    curve = ChartSeries(REFERENCE_NAME, palette.BASELINE, x, mean, current=current, smooth=False)
    return (curve,) if x else ()


def marks(snapshot: RunSnapshot, axis: Axis) -> tuple[Mark, ...]:
    """Return marks for checkpoints, resumes, changed settings, skipped updates and spikes."""
    to_place = x_mapper(snapshot.series, axis)

    def at(row: EventRow | CheckpointRow, glyph: str, colour: str) -> Mark:
        return Mark(to_place(row.step, row.time), glyph, colour)

    def events(kind: EventKind, glyph: str, colour: str) -> list[Mark]:
        return [
            at(event, glyph, colour)
            for event in snapshot.events
            if event.kind == kind and (kind != "resumed" or event.attempt > 1)
        ]

    return (
        *(at(row, "c", palette.TEXT) for row in snapshot.checkpoints if not row.best),
        *events("spike", "↑", palette.WARN),
        *events("setting", "Δ", palette.TEXT),  # over spikes, which may be in every column
        *events("resumed", "↻", palette.WARN),
        *events("skipped", "✗", palette.BAD),
        *(at(row, "c", palette.VALIDATION) for row in snapshot.checkpoints if row.best),
    )


def on_axis(data: ChartData, snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Return a chart of this run with the axis and its planned end."""
    label, form = AXIS_TEXTS[axis]
    end, note = planned_end(snapshot, axis), _what_will_come(snapshot)
    return replace(data, x_end=end, x_label=label, note=note, x_format=form)


def _what_will_come(snapshot: RunSnapshot) -> str:
    """Say under an empty chart what the first steps wait for."""
    if snapshot.summary.status != "preparing":
        return ""
    preparing = snapshot.summary.preparing
    waits: dict[str, str] = {
        "building": "when the model is built",
        "rehearsing": "after a test of the largest step",
        "evaluating": "after a test evaluation",
    }
    phase = preparing.phase if preparing else ""
    return f"training starts {waits.get(phase, 'when the corpus is ready')}"


def busy_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """GPU load in percent, or without a GPU the CPU load of this run and of all processes."""

    def curve(name: str, colour: str, column: str) -> ChartSeries:
        return _machine_curve(snapshot, axis, name, colour, column, _percent)

    curves: tuple[ChartSeries, ...]
    if _measured(snapshot, "gpu_percent"):
        title, curves = "GPU", (curve("", palette.TRAIN, "gpu_percent"),)
    else:
        own = curve("run", palette.TRAIN, "process_cpu_percent")
        title, curves = "CPU", (own, curve("all", palette.THIRD, "cpu_percent"))
    return on_axis(ChartData(title, curves, y_from_zero=True, y_unit=" %"), snapshot, axis)


def memory_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Memory in GiB of this run and of all processes, and the total: the GPU's if there is one."""
    row = snapshot.hardware[-1] if snapshot.hardware else None
    if _measured(snapshot, "gpu_memory_used"):
        title, own, used = "GPU memory", "gpu_memory_own", "gpu_memory_used"
        total = row.gpu.memory_total if row else None
    else:
        title, own, used = "Memory", "process_memory", "memory_used"
        total = row.memory_total if row else None
    curves = tuple(
        _machine_curve(snapshot, axis, name, colour, column, gib, scale=1 / GIB)
        for name, colour, column in (("own", palette.TRAIN, own), ("all", palette.THIRD, used))
    )
    levels = (Baseline(total / GIB, f"{gib(total)} GiB"),) if total else ()
    return on_axis(ChartData(f"{title}, GiB", curves, levels, y_from_zero=True), snapshot, axis)


def _measured(snapshot: RunSnapshot, column: str) -> bool:
    """Whether the machine ever reported this value."""
    return any(value == value for value in snapshot.machine.columns[column].mean)


def _machine_curve(
    snapshot: RunSnapshot,
    axis: Axis,
    name: str,
    colour: str,
    column: str,
    write: Callable[[float | None], str],
    *,
    scale: float = 1.0,
) -> ChartSeries:
    """Return the curve of a machine reading; `write` formats the reading, before scaling."""
    machine = snapshot.machine
    band: Band = machine.columns[column]
    low, high, mean = (
        [value * scale for value in part] if scale != 1.0 else part
        for part in (band.low, band.high, band.mean)
    )
    values = machine_values(snapshot.hardware[-1]) if snapshot.hardware else ()
    newest = dict(zip(MACHINE_COLUMNS, values, strict=False)).get(column)
    return ChartSeries(
        name=name,
        colour=colour,
        x=x_of_times(snapshot.series, axis, machine.time),
        mean=mean,
        low=low,
        high=high,
        current=write(newest) if len(machine) else "",
        y_format=lambda value: write(value / scale),
    )


def _percent(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.0f} %"


CHARTS: dict[str, Callable[[RunSnapshot, Axis], ChartData]] = {
    "perplexity": perplexity_data,
    "loss": loss_data,
    "speed": SPEED.chart,
    "gradient": gradient_data,
    "rate": RATE.chart,
    "score": score_data,
    "gpu": busy_data,
    "memory": memory_data,
}
"""The charts of one run by chart id, in the order of tab."""


def nearest_checkpoint(snapshot: RunSnapshot, step: float) -> CheckpointRow | None:
    """Return the checkpoint with the fewest steps between, the earlier of two; None without any."""
    return min(snapshot.checkpoints, key=lambda row: (abs(row.step - step), row.step), default=None)


def adjacent_evaluation(snapshot: RunSnapshot, step: float, by: int) -> EvaluationRow | None:
    """Return the next evaluation after a step (`by` 1) or the last before it (-1), if any."""
    rows = held_out(snapshot)
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
    return replace(snapshot, samples=tuple(row for row in rows if row.step <= step))
