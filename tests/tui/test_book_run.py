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
from tests.homes import trained
from tests.tui.book_run import EVERY, STEPS, TOKENS_A_STEP, book_run, slice_loss
from tests.tui.fakes import make_snapshot
from tests.tui.support import at_home, lines_of, show, shows, text_of


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
    (nats,) = loss_data(book_run(), axis).guides
    assert nats.mean[-1] == pytest.approx(4.2824, abs=1e-4)


def test_the_reference_covers_the_first_epoch_of_a_run_of_its_protocol_but_no_time() -> None:
    three = book_run(max_steps=12 * EVERY, epochs=3.0)
    (guide,) = perplexity_data(three, "step").guides
    assert list(guide.x) == [number * EVERY for number in (1, 2, 3, 4)]
    unborn = book_run(step=0)  # before the first step, only steps are known
    for snapshot, axes in (
        (book_run(), ("step", "tokens", "epoch")),
        (unborn, ("step",)),
        (book_run(max_steps=30, epochs=3.0), ()),
        (book_run(reference=None), ()),
        (make_snapshot(), ()),
    ):
        drawn = tuple(axis for axis in AXES if perplexity_data(snapshot, axis).guides)
        assert drawn == axes


def test_evaluations_of_the_slice_are_points_and_that_of_the_whole_test_set_is_not() -> None:
    snapshot = book_run("finished", STEPS)
    last = STEPS // EVERY * EVERY
    whole = EvaluationRow(1, last, "test", "test", 4.4, 9_000_000, 1.6, 60.0, 0.0)
    rows = (*snapshot.evaluations, whole)
    judged = perplexity_data(replace(snapshot, evaluations=rows), "step").series[1]
    assert judged.name == "test slice"
    assert len(judged.x) == STEPS // EVERY
    assert judged.mean[-1] == pytest.approx(math.exp(slice_loss(last)))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_the_train_screen_names_the_reference_the_slice_and_the_matmul(
    size: tuple[int, int],
) -> None:
    trained("plain-otter")
    async with at_home(pane="train", size=size) as (app, pilot):
        await show(app, pilot, book_run(others=1.0))
        assert shows(app, "others use 1.0 of 2 cores")
        await show(app, pilot, book_run())
        assert not shows(app, "others use")
        assert shows(app, "bf16 matmul")
        assert text_of(app).count("reference") >= 2
        assert shows(app, "·· reference 78.9")
        assert shows(app, "test slice 80.8")
        await pilot.press("l")
        assert not shows(app, "Perplexity, log")
        assert any(line.rstrip(" │").endswith("reference") for line in lines_of(app))
        if size == (120, 40):
            assert isinstance(app.screen, TrainScreen)
            app.screen.move_cursor_to(51_000)  # the reference's evaluation before it
            await pilot.pause()
            assert shows(app, "·· reference 81.6")
            await pilot.press("escape")
        await pilot.press("x", "x", "x")
        assert not shows(app, "reference")
        whole = EvaluationFigures(name="test", perplexity=74.1)
        await show(app, pilot, book_run("finished", STEPS, test=whole))
        assert shows(app, "full test 74.1")
        assert shows(app, " test 73.7")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_the_list_shows_the_distance_to_the_reference(size: tuple[int, int]) -> None:
    trained("plain-otter")
    whole = EvaluationFigures(name="test", perplexity=74.1)
    async with at_home(size=size) as (app, pilot):
        await show(app, pilot, book_run("finished", STEPS, test=whole))
        (distance,) = [line for line in lines_of(app) if "vs reference" in line]
        assert distance.split("vs reference")[1].split()[0] == "+1.12"
        assert shows(app, "test slice ppl 73.7")
        assert shows(app, "full test ppl  74.1")
