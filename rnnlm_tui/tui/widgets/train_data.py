"""The train screen's charts: which curves, on which x axis, with which level to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import figure, scientific, short, unknown_share_text
from rnnlm_tui.contract.metrics import evaluations_during_run
from rnnlm_tui.contract.reference_curve import REFERENCE_NAME, reference_points
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.axes import AXIS_FORMATS, AXIS_LABELS, Axis, ascending, extrapolated_x, planned_end, x_mapper, x_values
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries, Mark
from rnnlm_tui.tui.widgets.content import safe_text
from rnnlm_tui.tui.widgets.curves import curves, short_batches, speeds

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import CheckpointRow, EvaluationRow, EventKind, EventRow
    from rnnlm_tui.store.series import SeriesTable
    from rnnlm_tui.supervisor.monitor import RunSnapshot

MOST_LOSS = 700.0
"""exp overflows above this."""


def exponentials(losses: Sequence[float]) -> list[float]:
    """Return perplexities of losses; NaN stays NaN."""
    exp = math.exp
    try:
        return list(map(exp, losses))  # in C: a long run has thousands, several times a second
    except OverflowError:
        return [exp(loss) if loss < MOST_LOSS else math.inf if loss == loss else math.nan for loss in losses]


def perplexity_data(snapshot: RunSnapshot, axis: Axis, log: bool = True) -> ChartData:
    """Training and held-out perplexity with baselines, checkpoints, events and the best point."""
    return _learning(snapshot, axis, "Perplexity", log, exponentials)


def loss_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Training and held-out loss in nats."""
    return _learning(snapshot, axis, "Loss", False, lambda losses: losses)


def speed_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Training tokens per second."""
    return _one(snapshot, axis, "Tokens/s", "tokens_per_second", short(snapshot.summary.tokens_per_second), from_zero=True)


def gradient_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Gradient norm before clipping, and the clipping threshold."""
    clip = snapshot.config.optimizer.max_grad_norm
    levels = (Baseline(clip, f"clip {clip:g}"),) if clip > 0 else ()
    return _one(snapshot, axis, "Gradient norm", "grad_norm", figure(snapshot.summary.train.grad_norm), from_zero=False, baselines=levels)


def rate_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """The learning rate."""
    return _one(snapshot, axis, "Learning rate", "learning_rate", scientific(snapshot.summary.train.learning_rate), from_zero=True, smooth=False)


def score_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Bits per byte on held-out text, comparable across tokenizers."""
    rows = held_out(snapshot)
    at = evaluated_at(snapshot.series, axis, rows)
    bits, unknown = bits_per_byte(rows), unknown_share_text(snapshot.summary.evaluation.unknown_share)
    best = min((index for index, value in enumerate(bits) if math.isfinite(value)), key=lambda index: bits[index], default=None)
    curve = ChartSeries(
        name=held_out_name(snapshot),
        colour=palette.VALIDATION,
        x=at,
        mean=bits,
        current=", ".join(filter(None, (figure(bits[-1]), unknown))) if rows else "",
        smooth=False,
        star=None if best is None else (at[best], bits[best]),
    )
    return chart_data(snapshot, axis, "Bits per byte", (curve,))


def bits_per_byte(rows: Sequence[EvaluationRow]) -> list[float]:
    """Return bits per byte, NaN for an evaluation without it."""
    return [math.nan if row.bits_per_byte is None else row.bits_per_byte for row in rows]


def held_out(snapshot: RunSnapshot) -> list[EvaluationRow]:
    """Return the evaluations on the run's evaluation set, one per step, sorted by step."""
    return evaluations_during_run(snapshot.evaluations, snapshot.config.evaluation.split)


def evaluated_at(series: SeriesTable, axis: Axis, rows: Sequence[EvaluationRow]) -> Sequence[float]:
    """Return x of evaluations sorted by step, ascending."""
    if axis == "step":
        return [row.step for row in rows]
    place = x_mapper(series, axis)
    return ascending([place(row.step, row.time) for row in rows])


def split_name(snapshot: RunSnapshot) -> str:
    """Return `val` or `test`, the run's evaluation set."""
    return "val" if snapshot.config.evaluation.split == "validation" else "test"


def held_out_name(snapshot: RunSnapshot) -> str:
    """Return the evaluation set, as `test slice` if it is only the first sentences of the set."""
    name = snapshot.summary.evaluation.name
    return split_name(snapshot) + ("" if name in (None, snapshot.config.evaluation.split) else " slice")


def levels_to_beat(snapshot: RunSnapshot) -> list[tuple[str, float]]:
    """Return name and perplexity of a generated source's entropy and of the bigram model.

    The bigram model's perplexity is that on the evaluation set, which its name includes.
    """
    source, baseline = snapshot.summary.source, snapshot.summary.baseline
    split = split_name(snapshot)
    bigram = baseline.validation_perplexity if split == "val" else baseline.perplexity
    name = f"{split} {safe_text(baseline.name, limit=16, newlines='show')}"
    return [(name, value) for name, value in (("source", source.perplexity), (name, bigram)) if value is not None and value > 0]


def level_to_beat(snapshot: RunSnapshot) -> tuple[str, float] | None:
    """Return the first of the levels to beat, if any."""
    return next(iter(levels_to_beat(snapshot)), None)


def level_name(snapshot: RunSnapshot) -> str:
    """Return `val bigram`, or `source`."""
    level = level_to_beat(snapshot)
    return level[0] if level is not None else "bigram"


def _learning(snapshot: RunSnapshot, axis: Axis, title: str, log: bool, of: Callable[[Sequence[float]], Sequence[float]]) -> ChartData:
    series, summary = curves(snapshot), snapshot.summary
    band, rows = series.columns["loss"], held_out(snapshot)
    nats = title == "Loss"
    best = min((row for row in rows if math.isfinite(row.loss)), key=lambda row: row.loss, default=None)
    star = " ★" if best is not None and rows[-1] is best and not nats else ""
    place = x_mapper(series, axis)
    train = ChartSeries(
        name="train",
        colour=palette.TRAIN,
        x=x_values(series, axis),
        mean=of(band.mean),
        low=of(band.low) if series.width > 1 else None,
        high=of(band.high) if series.width > 1 else None,
        current=figure(summary.train.loss if nats else summary.train.perplexity) if len(series.step) else "",
        geometric=not nats,
        left_out=short_batches(series),
    )
    judged = ChartSeries(
        name=held_out_name(snapshot),
        colour=palette.VALIDATION,
        x=evaluated_at(series, axis, rows),
        mean=of([row.loss for row in rows]),
        current=f"{figure(rows[-1].loss if nats else rows[-1].perplexity)}{star}" if rows else "",
        smooth=False,
        star=None if best is None else (place(best.step, best.time), of([best.loss])[0]),
    )
    known = [(name, math.log(value) if nats else value) for name, value in levels_to_beat(snapshot)]
    levels = tuple(Baseline(value, f"{name} {figure(value)}") for name, value in known)
    shown = (train, judged) if rows else (train,)
    return chart_data(
        snapshot,
        axis,
        title,
        shown,
        baselines=levels,
        guides=_reference(snapshot, axis, nats=nats),
        log=log,
        marks=() if nats else marks(snapshot, axis),
        evaluated=() if nats else judged.x,
    )


def _reference(snapshot: RunSnapshot, axis: Axis, *, nats: bool) -> tuple[ChartSeries, ...]:
    """Return the book's own curve for a run that follows its protocol, by sentences seen."""
    summary, batch = snapshot.summary, snapshot.config.training.batch_size
    reference = summary.reference
    if reference is None:
        return ()
    course = reference_points(batch, summary.max_steps / summary.epochs if summary.max_steps and summary.epochs else None)
    placed = [(extrapolated_x(snapshot.series, axis, math.ceil(point.sentences / batch)), point.perplexity) for point in course]
    known = [(place, math.log(value) if nats else value) for place, value in placed if place is not None]
    beside = None if reference.perplexity is None else math.log(reference.perplexity) if nats else reference.perplexity
    curve = ChartSeries(
        name=REFERENCE_NAME,
        colour=palette.BASELINE,
        x=[place for place, _ in known],
        mean=[value for _, value in known],
        current=figure(beside) if beside is not None else "",
        smooth=False,
    )
    return (curve,) if known else ()


def marks(snapshot: RunSnapshot, axis: Axis) -> tuple[Mark, ...]:
    """Return marks for checkpoints (`c`), resumes, changed settings, skipped updates and loss
    spikes.
    """
    to_place = x_mapper(snapshot.series, axis)

    def at(row: EventRow | CheckpointRow, glyph: str, colour: str) -> Mark:
        return Mark(to_place(row.step, row.time), glyph, colour)

    def events(kind: EventKind, glyph: str, colour: str) -> list[Mark]:
        return [at(event, glyph, colour) for event in snapshot.events if event.kind == kind and (kind != "resumed" or event.attempt > 1)]

    return (
        *(at(row, "c", palette.TEXT) for row in snapshot.checkpoints if not row.best),
        *events("setting", "Δ", palette.TEXT),
        *events("spike", "↑", palette.WARN),
        *events("resumed", "↻", palette.WARN),
        *events("skipped", "✗", palette.BAD),
        *(at(row, "c", palette.VALIDATION) for row in snapshot.checkpoints if row.best),
    )


def _one(
    snapshot: RunSnapshot, axis: Axis, title: str, column: str, current: str, *, from_zero: bool, smooth: bool = True, baselines: tuple[Baseline, ...] = ()
) -> ChartData:
    series = curves(snapshot)
    band = series.columns[column]
    wide = series.width > 1
    write = {"tokens_per_second": short, "learning_rate": scientific}.get(column)
    curve = ChartSeries(
        name="",
        colour=palette.TRAIN,
        x=x_values(series, axis),
        mean=speeds(series) if column == "tokens_per_second" else band.mean,
        low=band.low if wide else None,
        high=band.high if wide else None,
        current=current if len(series.step) else "",
        smooth=smooth,
        harmonic=column == "tokens_per_second",
        legend_from_curve=True,
        y_format=write,
        left_out=short_batches(series),
    )
    return chart_data(snapshot, axis, title, (curve,), from_zero=from_zero, baselines=baselines)


def chart_data(
    snapshot: RunSnapshot,
    axis: Axis,
    title: str,
    series: tuple[ChartSeries, ...],
    *,
    baselines: tuple[Baseline, ...] = (),
    guides: tuple[ChartSeries, ...] = (),
    marks: tuple[Mark, ...] = (),
    evaluated: Sequence[float] = (),
    log: bool = False,
    from_zero: bool = False,
    y_unit: str = "",
) -> ChartData:
    """Return a chart of this run on that axis."""
    return ChartData(
        title=title,
        series=series,
        baselines=baselines,
        guides=guides,
        marks=marks,
        evaluated=evaluated,
        x_end=planned_end(snapshot, axis),
        x_label=AXIS_LABELS[axis],
        log_y=log,
        y_from_zero=from_zero,
        note=_what_will_come(snapshot),
        x_format=AXIS_FORMATS[axis],
        y_unit=y_unit,
    )


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
    return f"training starts {waits.get(preparing.phase if preparing else '', 'when the corpus is ready')}"
