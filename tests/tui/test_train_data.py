"""From snapshots to charts: curves, x values, and the machine's readings between steps."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise

import pytest

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.store.series import Band
from rnnlm_tui.tui.views.chart_data import AXES, Axis, ChartData
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import CHARTS
from rnnlm_tui.tui.widgets.chart.raster import bins_of
from tests.tui.fakes import make_series, make_snapshot


def chart(name: str, snapshot: RunSnapshot, axis: Axis = "step") -> ChartData:
    return CHARTS[name]([ChartedRun(snapshot, axis)])


@pytest.mark.parametrize("axis", AXES)
def test_steps_readings_and_the_planned_end_have_their_places_on_every_axis(axis: Axis) -> None:
    series = make_series(1_000, width=4)
    run = ChartedRun(make_snapshot()._replace(series=series), axis)
    places = run.places
    assert places[99] < run.x_of_step(402) < places[100]
    assert run.step_of_x(run.x_of_step(402)) == pytest.approx(402)
    assert run.x_of_step(5_000) == (5_000 if axis == "step" else places[-1])
    halfway = (series.time[39] + series.time[40]) / 2
    times = [series.time[0] - 100, halfway, series.time[-1], series.time[-1] + 50]
    found = run.x_of_times(times)
    assert list(found) == sorted(found)
    assert list(found[1:3]) == pytest.approx([(places[39] + places[40]) / 2, places[-1]])
    assert axis == "wall" or (found[0], found[3]) == (0.0, places[-1])
    (first,) = run.x_of_times([series.time[0] - series.active[0] / 2])
    assert axis == "wall" or first == pytest.approx(places[0] / 2, rel=1e-3)
    run = ChartedRun(make_snapshot(), axis)
    end = run.planned_end
    assert end is not None
    assert end > run.places[-1]
    assert axis != "step" or end == 4_754


def test_a_clock_that_was_set_back_holds_still_until_it_has_caught_up() -> None:
    back = replace(make_series(40, width=10), time=array("d", [100.0, 110.0, 90.0, 120.0]))
    snapshot = make_snapshot()
    odd = snapshot._replace(series=back)
    assert list(ChartedRun(odd, "wall").places) == [100.0, 110.0, 110.0, 120.0]
    places = ChartedRun(odd).x_of_times([95.0, 105.0, 85.0, 115.0])
    assert all(one <= other for one, other in pairwise(places))
    later = tuple(
        row._replace(time=row.time - 900.0 if row.step > 2_000 else row.time)
        for row in snapshot.evaluations
    )
    data = chart("perplexity", snapshot._replace(evaluations=later), "wall")
    assert list(data.series[1].x) == sorted(data.series[1].x)
    assert data.evaluated == data.series[1].x


def test_detailed_rows_replace_coarse_buckets() -> None:
    fine = make_series(4_000, width=2)
    part = slice(bisect_right(fine.step, 1_000), bisect_right(fine.step, 1_400))
    columns = {
        name: Band(band.low[part], band.high[part], band.mean[part])
        for name, band in fine.columns.items()
    }
    names = ("step", "tokens", "epoch", "active", "time", "nonfinite")
    detail = replace(fine, columns=columns, **{name: getattr(fine, name)[part] for name in names})
    coarse = make_series(4_000, width=64)
    snapshot = make_snapshot()._replace(series=coarse, detail=detail)
    for axis in AXES:
        x = chart("loss", snapshot, axis).series[0].x
        assert list(x) == sorted(x)
        assert len(x) == len(chart("speed", snapshot, axis).series[0].x) == len(coarse) - 6 + 200


def test_the_curve_of_the_speed_averages_to_all_tokens_over_all_the_time() -> None:
    series = make_series(200, width=1)
    # a mean of the steps' speeds would be far off
    seconds = [0.01 if index % 2 else 0.3 for index in range(200)]
    active = array("d", (sum(seconds[: index + 1]) for index in range(200)))
    snapshot = make_snapshot()._replace(series=replace(series, active=active))
    (whole,) = bins_of(chart("speed", snapshot).series[0], 0.0, 1_000.0, 2)[:1]
    assert whole.points == 200
    assert whole.mean == pytest.approx(series.tokens[-1] / active[-1])
