"""The charts of several runs overlaid, each run in the colour of its letter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import NOTHING, figure, scientific, short
from rnnlm_tui.tui.widgets.axes import AXIS_FORMATS, AXIS_LABELS, Axis, planned_end, step_of_x, x_of_step, x_values
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries, XFormat
from rnnlm_tui.tui.widgets.content import safe_text
from rnnlm_tui.tui.widgets.curves import curves, short_batches, speeds
from rnnlm_tui.tui.widgets.marks import Marks
from rnnlm_tui.tui.widgets.train_data import bits_per_byte, evaluated_at, exponentials, held_out, level_to_beat

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EvaluationRow
    from rnnlm_tui.store.series import SeriesTable
    from rnnlm_tui.supervisor.comparison import Comparison
    from rnnlm_tui.supervisor.monitor import RunSnapshot

SINCE_START = "since start"
"""Label of the wall axis for runs trained on different days: time since each began."""
MOST_NAME = 20
MOST_BANDS = 2
"""Up to this many runs show their raw points; more would hide each other's curves."""


@dataclass(frozen=True, slots=True)
class MarkedRun:
    """A run marked for comparison, with its letter and colour."""

    letter: str
    colour: str
    snapshot: RunSnapshot

    @property
    def name(self) -> str:
        """The run's name, sanitized and shortened for a legend."""
        return safe_text(self.snapshot.summary.run, limit=MOST_NAME, newlines="show")


MarkedRuns = Sequence[MarkedRun]


def compared(marks: Marks, snapshots: Sequence[RunSnapshot]) -> MarkedRuns:
    """Return the marked runs that have been read, in the order of their letters."""
    known = {snapshot.summary.run: snapshot for snapshot in snapshots}
    return [MarkedRun(marks.letter(name), marks.colour(name), known[name]) for name in marks.names if name in known]


def validation_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Perplexity on the set that the runs are evaluated on."""
    splits = {run.snapshot.config.evaluation.split for run in runs}
    title = "Held-out perplexity" if len(splits) > 1 else "Test perplexity" if splits == {"test"} else "Validation perplexity"
    return _held_out(runs, axis, title, lambda rows: exponentials([row.loss for row in rows]), log=True, levels=_common_level(runs))


def bits_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Bits per byte on held-out text, comparable across tokenizers; NaN with many unknown words."""
    return _held_out(runs, axis, "Bits per byte", bits_per_byte)


def loss_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Training loss; the title says so if the texts or tokens differ and the losses aren't
    comparable.
    """
    texts = len({run.snapshot.config.corpus for run in runs}) > 1
    tokens = len({run.snapshot.config.tokenizer for run in runs}) > 1
    return _trained(runs, axis, f"Training loss{', different texts' if texts else ', different tokens' if tokens else ''}", "loss", figure)


def speed_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Training tokens per second."""
    return _trained(runs, axis, "Tokens/s", "tokens_per_second", short, from_zero=True)


def gradient_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Gradient norm before clipping."""
    return _trained(runs, axis, "Gradient norm", "grad_norm", figure)


def rate_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """The learning rate."""
    return _trained(runs, axis, "Learning rate", "learning_rate", scientific, from_zero=True, smooth=False)


COMPARED_CHARTS: dict[str, Callable[[MarkedRuns, Axis], ChartData]] = {
    "compare-validation": validation_data,
    "compare-loss": loss_data,
    "compare-bits": bits_data,
    "compare-speed": speed_data,
    "compare-gradient": gradient_data,
    "compare-rate": rate_data,
}
"""Chart id to its data, in the order of the tab key."""


def comparison(runs: MarkedRuns) -> Comparison:
    """Compare the runs: the settings that differ, and their figures."""
    from rnnlm_tui.supervisor.comparison import ComparedRun, changed_settings, comparison_of

    def row(run: MarkedRun) -> ComparedRun:
        snapshot = run.snapshot
        return ComparedRun(run.letter, snapshot.summary.run, snapshot.summary, snapshot.config, _best_seconds(snapshot), changed_settings(snapshot.events))

    return comparison_of([row(run) for run in runs])


def _best_seconds(snapshot: RunSnapshot) -> float | None:
    """Return the training time at the best evaluation."""
    step = snapshot.summary.evaluation.best_step
    return None if step is None or not len(snapshot.series.step) else x_of_step(snapshot.series, "active", step)


def start_time(run: MarkedRun) -> float:
    """Return the Unix time at which the run's training began; 0 before its first step."""
    series = run.snapshot.series
    return series.time[0] - series.active[0] if len(series.time) else 0.0


def span(runs: MarkedRuns, axis: Axis) -> tuple[float, float] | None:
    """Return x of the first and the newest step of any run; None if no run has a step."""
    ends = [(places[0], places[-1]) for run in runs if len(places := _places(run, axis))]
    return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else None


def step_of_x_in(run: MarkedRun, axis: Axis, place: float) -> float:
    """Return the run's step at an x."""
    return step_of_x(run.snapshot.series, axis, place + start_time(run) if axis == "wall" else place)


def x_of_step_in(run: MarkedRun, axis: Axis, step: float) -> float:
    """Return x of the run's step."""
    place = x_of_step(run.snapshot.series, axis, step)
    return place - start_time(run) if axis == "wall" else place


def values_at_x(runs: MarkedRuns, axis: Axis, place: float, values: Sequence[str]) -> list[str]:
    """Blank out the values of runs that had ended before this x."""
    ends = [places[-1] if len(places := _places(run, axis)) else -math.inf for run in runs]
    return [value if place <= end else NOTHING for value, end in zip(values, ends, strict=True)]


def shown_steps(runs: MarkedRuns, axis: Axis, part: tuple[float, float]) -> dict[str, tuple[int, int]]:
    """Map each run to its first and last step in a part of x."""
    return {run.snapshot.summary.run: (math.floor(step_of_x_in(run, axis, part[0])), math.ceil(step_of_x_in(run, axis, part[1]))) for run in runs}


def _places(run: MarkedRun, axis: Axis, series: SeriesTable | None = None) -> Sequence[float]:
    places = x_values(series or run.snapshot.series, axis)
    if axis != "wall":
        return places
    start = start_time(run)
    return [place - start for place in places]


def _evaluated_at(run: MarkedRun, axis: Axis, rows: Sequence[EvaluationRow]) -> list[float]:
    start = start_time(run) if axis == "wall" else 0.0
    return [max(0.0, place - start) for place in evaluated_at(run.snapshot.series, axis, rows)]


def _held_out(
    runs: MarkedRuns,
    axis: Axis,
    title: str,
    of: Callable[[list[EvaluationRow]], Sequence[float]],
    *,
    log: bool = False,
    levels: tuple[Baseline, ...] = (),
) -> ChartData:
    drawn = []
    for run in runs:
        rows = held_out(run.snapshot)
        values = of(rows)
        current = figure(values[-1]) if values else ""
        places = _evaluated_at(run, axis, rows)
        best = min((index for index, value in enumerate(values) if math.isfinite(value)), key=lambda index: values[index], default=None)
        star = None if best is None else (places[best], values[best])
        drawn.append(ChartSeries(run.name, run.colour, places, values, current=current, marker=run.letter, smooth=False, star=star))
    return _overlay(runs, axis, title, drawn, log=log, levels=levels)


def _trained(
    runs: MarkedRuns, axis: Axis, title: str, column: str, write: Callable[[float], str], *, from_zero: bool = False, smooth: bool = True
) -> ChartData:
    drawn = []
    few = len(runs) <= MOST_BANDS
    for run in runs:
        series = curves(run.snapshot)
        band = series.columns[column]
        current = _newest(run, column, write)
        low, high = (band.low, band.high) if few and series.width > 1 else (None, None)
        places = _places(run, axis, series)
        drawn.append(
            ChartSeries(
                run.name,
                run.colour,
                places,
                speeds(series) if column == "tokens_per_second" else band.mean,
                low,
                high,
                current=current,
                marker=run.letter,
                smooth=smooth,
                harmonic=column == "tokens_per_second",
                legend_from_curve=column != "loss",
                y_format=write,
                band=few,
                left_out=short_batches(series),
            )
        )
    return _overlay(runs, axis, title, drawn, from_zero=from_zero)


def _newest(run: MarkedRun, column: str, write: Callable[[float], str]) -> str:
    summary = run.snapshot.summary
    if not len(run.snapshot.series.step):
        return ""
    values = {
        "loss": summary.train.loss,
        "tokens_per_second": summary.tokens_per_second,
        "grad_norm": summary.train.grad_norm,
        "learning_rate": summary.train.learning_rate,
    }
    value = values[column]
    return "" if value is None else write(value)


def _common_level(runs: MarkedRuns) -> tuple[Baseline, ...]:
    """Return the level to beat if it is the same for all runs."""
    levels = {level_to_beat(run.snapshot) for run in runs}
    level = next(iter(levels)) if len(levels) == 1 else None
    return () if level is None or not math.isfinite(level[1]) else (Baseline(level[1], f"{level[0]} {figure(level[1])}"),)


def _overlay(
    runs: MarkedRuns, axis: Axis, title: str, drawn: Sequence[ChartSeries], *, log: bool = False, from_zero: bool = False, levels: tuple[Baseline, ...] = ()
) -> ChartData:
    ends = [planned_end(run.snapshot, axis) for run in runs]
    known = [end - start_time(run) if axis == "wall" else end for run, end in zip(runs, ends, strict=True) if end is not None]
    x_format: XFormat = "duration" if axis == "wall" else AXIS_FORMATS[axis]
    return ChartData(
        title=title,
        series=tuple(drawn),
        baselines=levels,
        x_end=max(known) if known and len(known) == len(ends) else None,
        x_label=SINCE_START if axis == "wall" else AXIS_LABELS[axis],
        log_y=log,
        y_from_zero=from_zero,
        x_format=x_format,
    )
