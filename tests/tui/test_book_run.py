"""A run of the book's protocol on the train screen: its reference, test set, matmul and load."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.schema.reference import REFERENCE
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.views.chart_data import AXES
from tests.tui.book_run import EVERY, FACTS, STEPS, TOKENS_A_STEP, book_run
from tests.tui.demo_run import seen
from tests.tui.support import at_home, lines_of, shows, text_of, until
from tests.tui.test_train_data import chart


def test_the_reference_is_drawn_at_the_same_number_of_sentences() -> None:
    snapshot = seen(book_run())
    for axis, a_step in (("step", 1.0), ("tokens", TOKENS_A_STEP), ("epoch", 1 / STEPS)):
        (guide,) = chart("perplexity", snapshot, axis).guides  # type: ignore[arg-type]
        assert len(guide.x) == len(REFERENCE)
        ends = EVERY * a_step, math.ceil(22_034_911 / 128) * a_step
        assert (guide.x[0], guide.x[-1]) == pytest.approx(ends, rel=2e-3)
        assert list(guide.x) == sorted(guide.x)
        assert (guide.mean[0], guide.mean[-1]) == (266.13, 72.41)
        (nats,) = chart("loss", snapshot, axis).guides  # type: ignore[arg-type]
        assert nats.mean[-1] == pytest.approx(4.2824, abs=1e-4)


def test_the_reference_covers_the_first_epoch_of_a_run_of_its_protocol_but_no_time() -> None:
    three, short = (
        FACTS.model_copy(update={"max_steps": most, "epochs": 3.0}) for most in (12 * EVERY, 30)
    )
    (guide,) = chart("perplexity", seen(book_run(facts=three, name="dusty-lynx"))).guides
    assert list(guide.x) == [number * EVERY for number in (1, 2, 3, 4)]
    for made, axes in (
        (book_run(), ("step", "tokens", "epoch")),
        (book_run(step=0, name="stern-crane"), ("step",)),  # before it, only steps are known
        (book_run(facts=short, name="amber-vole"), ()),
    ):
        snapshot = seen(made)
        assert tuple(axis for axis in AXES if chart("perplexity", snapshot, axis).guides) == axes


@pytest.mark.usefixtures("still")
async def test_the_screens_name_the_reference_the_slice_and_the_matmul() -> None:
    with book_run(), book_run("finished", STEPS, name="old-otter", whole=74.1):
        async with at_home(pane="train", size=(120, 40)) as (app, pilot):
            assert not shows(app, "others use")
            assert text_of(app).count("reference") >= 2
            await pilot.press("l")
            assert not shows(app, "Perplexity, log")
            assert any(line.rstrip(" │").endswith("reference") for line in lines_of(app))
            assert isinstance(app.screen, TrainScreen)
            app.screen.move_cursor_to(51_000)  # the reference's evaluation before it
            await pilot.pause()
            assert shows(app, "·· reference 81.6")
            await pilot.press("escape", "x", "x", "x")
            assert not shows(app, "reference")
            app.open_run(find_run("old-otter"))
            await until(pilot, lambda: shows(app, "full test 74.1") and shows(app, " test 73.7"))
            # the whole test set's evaluation is no point of the slice's curve
            await pilot.press("x", "x", "end")
            await until(pilot, lambda: shows(app, "test slice 73.7"))
            await pilot.press("escape", "r")
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: shows(app, "vs reference   +1.12"))
            assert shows(app, "test slice ppl 73.7")
            assert shows(app, "full test ppl  74.1")
