"""A run of the book's protocol on the train screen: its reference, test set, matmul and load."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.schema.reference import REFERENCE
from rnnlm_tui.schema.summary import EvaluationFigures
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.views.chart_data import AXES, Axis
from rnnlm_tui.tui.views.charts import loss_data, perplexity_data
from rnnlm_tui.tui.widgets.chart import Chart
from tests.tui.book_run import EVERY, STEPS, TOKENS_A_STEP, book_run, slice_loss
from tests.tui.fakes import make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until, with_runs

SIZES = ((80, 24), (120, 40))


@pytest.mark.parametrize(
    ("axis", "a_step"), [("step", 1.0), ("tokens", TOKENS_A_STEP), ("epoch", 1 / STEPS)]
)
def test_the_reference_is_drawn_at_the_same_number_of_sentences(axis: Axis, a_step: float) -> None:
    (guide,) = perplexity_data(book_run(), axis).guides
    assert len(guide.x) == len(REFERENCE)
    assert guide.x[0] == pytest.approx(EVERY * a_step)
    assert guide.x[-1] == pytest.approx(math.ceil(22_034_911 / 128) * a_step)
    assert list(guide.x) == sorted(guide.x)
    assert (guide.mean[0], guide.mean[-1]) == (266.13, 72.41)


def test_the_reference_covers_only_the_first_epoch() -> None:
    snapshot = book_run(max_steps=12 * EVERY, epochs=3.0)
    (guide,) = perplexity_data(snapshot, "step").guides
    assert list(guide.x) == [number * EVERY for number in (1, 2, 3, 4)]
    assert perplexity_data(book_run(max_steps=30, epochs=3.0), "step").guides == ()


def test_the_reference_has_no_time_axis() -> None:
    assert perplexity_data(book_run(), "active").guides == ()


def test_before_the_first_step_only_steps_are_known() -> None:
    snapshot = book_run(step=0)
    assert [bool(perplexity_data(snapshot, axis).guides) for axis in AXES] == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_the_loss_has_the_reference_in_nats() -> None:
    (guide,) = loss_data(book_run(), "step").guides
    assert guide.mean[-1] == pytest.approx(4.2824, abs=1e-4)


def test_a_run_off_the_protocol_has_no_reference() -> None:
    assert perplexity_data(make_snapshot(), "step").guides == ()
    assert perplexity_data(book_run(reference=None), "step").guides == ()


def test_evaluations_of_the_slice_are_points_and_that_of_the_whole_test_set_is_not() -> None:
    snapshot = book_run("finished", STEPS)
    whole = EvaluationRow(1, STEPS // EVERY * EVERY, "test", "test", 4.4, 9_000_000, 1.6, 60.0, 0.0)
    judged = perplexity_data(
        replace(snapshot, evaluations=(*snapshot.evaluations, whole)), "step"
    ).series[1]
    assert judged.name == "test slice"
    assert len(judged.x) == STEPS // EVERY
    assert judged.mean[-1] == pytest.approx(math.exp(slice_loss(STEPS // EVERY * EVERY)))


@pytest.mark.parametrize("size", SIZES)
async def test_the_reference_is_drawn_and_named_in_plot_and_legend(size: tuple[int, int]) -> None:
    async with running_app(with_runs(book_run()), size=size) as (app, pilot):
        assert text_of(app).count("reference") >= 2
        assert "·· reference 78.9" in text_of(app)
        assert "test slice 80.8" in text_of(app)
        await pilot.press("l")
        await until(pilot, lambda: "Perplexity, log" not in text_of(app))
        assert any(line.rstrip(" │").endswith("reference") for line in lines_of(app))
        await pilot.press("x", "x", "x")
        await until(pilot, lambda: "time ─╯" in text_of(app))
        assert "reference" not in text_of(app)


async def test_at_the_cursor_the_legend_shows_the_references_evaluation_there() -> None:
    async with running_app(with_runs(book_run()), size=(120, 40)) as (app, pilot):
        await pilot.press("right")
        await until(pilot, lambda: "at step" in text_of(app))
        await pilot.press(*(["left"] * 6))
        await until(pilot, lambda: "·· reference 81.6" in text_of(app))


async def test_the_whole_test_set_is_labelled_apart_from_the_slice() -> None:
    finished = book_run("finished", STEPS, test=EvaluationFigures(name="test", perplexity=74.1))
    async with running_app(with_runs(finished)) as (app, _):
        assert lines_of(app)[2].endswith("full test 74.1")
        assert lines_of(app)[3].startswith(" test 73.7")


@pytest.mark.parametrize("size", SIZES)
async def test_the_machine_panel_shows_the_matmul_precision(size: tuple[int, int]) -> None:
    async with running_app(with_runs(book_run()), size=size) as (app, _):
        assert "bf16 matmul" in text_of(app)
        assert "others use" not in text_of(app)


@pytest.mark.parametrize("size", SIZES)
async def test_other_processes_on_the_cores_are_shown_while_they_run(size: tuple[int, int]) -> None:
    services = with_runs(book_run(others=1.0))
    async with running_app(services, size=size) as (app, pilot):
        assert "others use 1.0 of 2 cores" in text_of(app)
        services.snapshots["plain-otter"] = book_run()
        await until(pilot, lambda: "others use" not in text_of(app))


async def test_a_guide_adds_the_same_work_to_a_chart_however_many_points_the_run_has() -> None:
    async with running_app(with_runs(book_run()), size=(120, 40)) as (app, _):
        assert isinstance(app.screen, TrainScreen)
        chart = app.screen.query_one("#perplexity", Chart)
        assert [len(guide.x) for guide in chart.data.guides] == [len(REFERENCE)]


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_shows_the_distance_to_the_reference(
    size: tuple[int, int],
) -> None:
    finished = book_run("finished", STEPS, test=EvaluationFigures(name="test", perplexity=74.1))
    async with running_app(with_runs(finished), pane="runs", size=size) as (app, pilot):
        await until(pilot, lambda: "vs reference" in text_of(app))
        assert [
            line.split("vs reference")[1].split()[0]
            for line in lines_of(app)
            if "vs reference" in line
        ] == ["+1.12"]
        assert "test slice ppl 73.7" in text_of(app)
        assert "full test ppl  74.1" in text_of(app)
