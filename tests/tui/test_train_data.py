"""From snapshots to charts: curves, x values and levels."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import pytest

from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.schema.presets import BOOK, ELMAN
from rnnlm_tui.schema.summary import BaselineFigures, PreparingFigures, SourceFigures
from rnnlm_tui.store.series import Band, SeriesTable, empty_table
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.views import chart_data
from rnnlm_tui.tui.views.chart_data import AXES, Axis, ChartData
from rnnlm_tui.tui.views.charts import (
    RATE,
    SPEED,
    exponentials,
    gradient_data,
    level_to_beat,
    loss_data,
    marks,
    perplexity_data,
    score_data,
)
from rnnlm_tui.tui.views.train import trend
from rnnlm_tui.tui.widgets.chart.plot import PlotOptions, PlotState, draw
from rnnlm_tui.tui.widgets.chart.raster import bins_of
from rnnlm_tui.tui.widgets.chart.widget import value_of, written
from tests.tui.fakes import make_series, make_snapshot


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    snapshot = make_snapshot(step=2_000)
    data = perplexity_data(snapshot, "step")
    assert data.series[0].mean[100] == pytest.approx(
        math.exp(snapshot.series.columns["loss"].mean[100])
    )
    assert data.series[1].name == "val"
    assert data.x_end == 4_754


@pytest.mark.parametrize(
    ("phase", "note"),
    [
        ("encoding", "when the corpus is ready"),
        ("building", "when the model is built"),
        ("rehearsing", "after a test of the largest step"),
        ("evaluating", "after a test evaluation"),
    ],
)
def test_an_empty_chart_shows_what_the_first_step_waits_for(phase: str, note: str) -> None:
    snapshot = make_snapshot(
        "preparing", 0, preparing=PreparingFigures(phase=phase, done=0, total=0)
    )
    assert loss_data(snapshot, "step").note == f"training starts {note}"


def test_gaps_and_overflows_are_kept() -> None:
    gap, huge, one = exponentials([math.nan, 1e6, 0.0])
    assert math.isnan(gap)
    assert huge == math.inf
    assert one == 1.0


def test_a_generated_source_shows_its_floor_and_others_the_bigram() -> None:
    assert level_to_beat(make_snapshot()) == ("val bigram", 73.0)
    assert level_to_beat(make_snapshot(config=ELMAN, source=SourceFigures(perplexity=5.6))) == (
        "source",
        5.6,
    )
    assert level_to_beat(make_snapshot(config=BOOK)) == ("test bigram", 74.1)
    assert level_to_beat(make_snapshot(baseline=BaselineFigures())) is None


@pytest.mark.parametrize("axis", AXES)
def test_a_step_between_buckets_lies_between_their_places(axis: Axis) -> None:
    series = make_series(1_000, width=4)
    places = chart_data.x_values(series, axis)
    between = chart_data.x_of_step(series, axis, 402)
    assert places[99] < between < places[100]
    assert chart_data.x_of_step(series, axis, 5_000) == (5_000 if axis == "step" else places[-1])


@pytest.mark.parametrize("axis", AXES)
def test_the_planned_end_lies_past_the_newest_point(axis: Axis) -> None:
    snapshot = make_snapshot(step=2_000)
    end = chart_data.planned_end(snapshot, axis)
    assert end is not None
    assert end > chart_data.x_values(snapshot.series, axis)[-1]


@pytest.mark.parametrize("axis", AXES)
def test_a_run_without_steps_gives_empty_charts(axis: Axis) -> None:
    snapshot = make_snapshot("preparing", 0)
    assert len(snapshot.series) == len(empty_table()) == 0
    for make in (
        loss_data,
        perplexity_data,
        SPEED.chart,
        gradient_data,
        RATE.chart,
        score_data,
    ):
        assert all(len(series.x) == 0 for series in make(snapshot, axis).series)


def test_marks_stand_for_checkpoints_evaluations_a_resumed_run_and_a_changed_setting() -> None:
    found = marks(make_snapshot(), "step")
    glyphs = [mark.glyph for mark in found]
    assert [glyphs.count(glyph) for glyph in "c↻Δ"] == [6, 1, 1]
    assert len(perplexity_data(make_snapshot(), "step").evaluated) == 37
    assert [
        mark.x for mark in found if mark.glyph == "c" and mark.colour == palette.VALIDATION
    ] == [3_700]


def test_the_best_evaluation_has_its_star_on_the_curve() -> None:
    snapshot = make_snapshot()
    best = min(snapshot.evaluations, key=lambda row: row.loss)
    for data, value in (
        (perplexity_data(snapshot, "step"), best.perplexity),
        (loss_data(snapshot, "step"), best.loss),
    ):
        star = data.series[1].star
        assert star is not None
        assert star == pytest.approx((3_700.0, value))


def test_a_generated_source_has_its_floor_and_the_bigram() -> None:
    data = perplexity_data(
        make_snapshot(config=ELMAN, source=SourceFigures(perplexity=5.6)), "step"
    )
    assert [line.label for line in data.baselines] == ["source 5.60", "val bigram 73.0"]


@pytest.mark.parametrize("axis", AXES)
def test_detailed_rows_replace_coarse_buckets(axis: Axis) -> None:
    snapshot = replace(
        make_snapshot(step=4_000),
        series=make_series(4_000, width=64),
        detail=stretch(make_series(4_000, width=2), 1_000, 1_400),
    )
    x = loss_data(snapshot, axis).series[0].x
    assert list(x) == sorted(x)
    assert len(x) == len(snapshot.series) - 6 + 200
    assert len(SPEED.chart(snapshot, axis).series[0].x) == len(x)


def stretch(series: SeriesTable, first: int, last: int) -> SeriesTable:
    """Its buckets from one step to another."""
    part = slice(bisect_right(series.step, first), bisect_right(series.step, last))
    bands = {
        name: Band(band.low[part], band.high[part], band.mean[part])
        for name, band in series.columns.items()
    }
    return SeriesTable(
        series.width,
        series.step[part],
        series.tokens[part],
        series.epoch[part],
        series.active[part],
        series.time[part],
        series.nonfinite[part],
        bands,
    )


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([4.0], None), ([4.0, 3.9], "falling"), ([4.0, 4.1], "rising"), ([4.0, 4.0, 4.001], "level")],
)
def test_trend_compares_the_newest_evaluation_with_the_two_before(
    losses: list[float], expected: str | None
) -> None:
    rows = [
        EvaluationRow(1, 100 * index, "validation", "validation", loss, 1, 1.0, 0.1, 0.0)
        for index, loss in enumerate(losses)
    ]
    assert trend(rows) == expected


def test_evaluations_ascend_though_a_clock_was_set_back() -> None:
    snapshot = make_snapshot()
    later = tuple(
        replace(row, time=row.time - 900.0 if row.step > 2_000 else row.time)
        for row in snapshot.evaluations
    )
    data = perplexity_data(replace(snapshot, evaluations=later), "wall")
    assert list(data.series[1].x) == sorted(data.series[1].x)
    assert data.evaluated == data.series[1].x


def test_a_run_with_only_infinite_evaluations_has_no_best() -> None:
    snapshot = make_snapshot()
    lost = replace(
        snapshot, evaluations=tuple(replace(row, loss=math.inf) for row in snapshot.evaluations)
    )
    judged = perplexity_data(lost, "step").series[1]
    assert judged.star is None
    assert judged.current == "∞"


def test_the_curve_of_the_speed_averages_to_all_tokens_over_all_the_time() -> None:
    series = make_series(200, width=1)
    seconds = [
        0.01 if index % 2 else 0.3 for index in range(200)
    ]  # a mean of the steps' speeds would be far off
    active = array("d", (sum(seconds[: index + 1]) for index in range(200)))
    snapshot = replace(make_snapshot(step=200), series=replace(series, active=active))
    shown = SPEED.chart(snapshot, "step").series[0]
    (whole,) = bins_of(shown, 0.0, 1_000.0, 2)[:1]
    assert whole.points == 200
    assert whole.mean == pytest.approx(series.tokens[-1] / active[-1])


@pytest.mark.parametrize("chart", [SPEED.chart, gradient_data])
def test_a_legend_shows_the_end_of_its_curve(chart: Callable[..., ChartData]) -> None:
    snapshot = make_snapshot()
    norm = snapshot.series.columns["grad_norm"]
    odd = Band(norm.low, norm.high, array("d", [*norm.mean[:-1], 90.0]))
    series = replace(snapshot.series, columns={**snapshot.series.columns, "grad_norm": odd})
    data = chart(replace(snapshot, series=series), "step")
    look = PlotOptions(0.0, 4_754.0, 4_754.0, False, 0.9, False, "braille")
    plot = draw(data, look, 60, 12, PlotState())
    assert value_of(data, look, plot, 0)[0] == written(data.series[0], plot.drawn[0].curve[-1][1])
    raw = replace(look, smoothing=0.0)
    assert value_of(data, raw, draw(data, raw, 60, 12, PlotState()), 0)[0] == written(
        data.series[0], data.series[0].mean[-1]
    )


def test_the_best_bits_a_byte_have_a_star() -> None:
    data = score_data(make_snapshot(), "step")
    (curve,) = data.series
    assert curve.star is not None
    assert curve.star[1] == min(curve.mean)
    assert curve.star[0] == curve.x[list(curve.mean).index(min(curve.mean))]


def test_the_gradient_norm_has_its_own_range() -> None:
    assert not gradient_data(make_snapshot(), "step").y_from_zero
