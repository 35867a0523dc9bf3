"""Every chart and panel is painted with the most extreme losses that a log can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.schema.sampling import (
    AlternativesRequest,
    InspectRequest,
    ReachRequest,
    StatesRequest,
)
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.log import Row
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.views.chart_data import MarksStyle
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import CHARTS, COMPARED_CHARTS
from rnnlm_tui.tui.views.compare import Marks, compared
from rnnlm_tui.tui.widgets.chart.plot import draw
from tests.fakes import answers
from tests.tui.fakes import FakeSampler, make_snapshot
from tests.tui.panes.seeing import running_at_home, screen_text
from tests.tui.panes.test_inspect_pane import sampled, scored, weights
from tests.tui.panes.test_versus_pane import comparing, sample, step_of, surprised
from tests.tui.pictures import SIZES
from tests.tui.support import at_home, shows, text_of, until
from tests.tui.widgets.chart.pictures import look
from tests.unit.client.logs import record
from tests.unit.store.rows import evaluation_row, new_run, step_row, write_model

EXTREMES = (0.0, 1e-30, 690.0, 1e300, math.inf, math.nan)
CURVES: tuple[Sequence[float], ...] = (
    *((value,) for value in EXTREMES),
    EXTREMES,
    (*[4.0] * 20, *EXTREMES),
    (1e300, math.inf),
)
"""The losses of a run's steps, again and again."""
STEPS, EVERY = 160, 16
HEIGHTS: dict[MarksStyle, tuple[int, ...]] = {"braille": (4, 12), "block": (12,), "ascii": (4,)}
"""The heights of charts, with and without a band of raw points, by their dots."""
PANES_OF_RUNS: tuple[Pane, ...] = ("runs", "checkpoints", "train")


def stored(name: str, losses: Sequence[float], saved: int = 0) -> RunSnapshot:
    """A run whose losses, gradients, speeds and bits are these, as its monitor reads it, with so
    many checkpoints."""
    run = new_run(name)

    def at(step: int) -> float:
        return losses[step % len(losses)]

    rows: list[Row] = [
        step_row(step, loss=at(step), grad_norm=at(step), speed=at(step))
        for step in range(1, STEPS + 1)
    ]
    for step in range(EVERY, STEPS + 1, EVERY):
        loss = at(step // EVERY)
        rows.append(evaluation_row(step, loss=loss)._replace(bits_per_byte=loss))
        if step <= saved * EVERY:
            facts = {"train_loss": loss, "epoch": step / 99}
            write_checkpoint(run, step, write_model, None, facts)
    record(run, *rows)
    return RunMonitor(run).snapshot()


@pytest.mark.parametrize("first", range(3))
def test_every_chart_is_drawn_with_extreme_losses_in_every_scale(first: int) -> None:
    names = ("plain-otter", "brisk-heron", "dusty-lynx")
    snapshots = [stored(name, CURVES[first + 3 * at]) for at, name in enumerate(names)]
    alone = [*map(ChartedRun, snapshots), ChartedRun(make_snapshot())]  # the last one on a GPU
    charts = [(name, make([run])) for run in alone for name, make in CHARTS.items()]
    marked = compared(Marks(names), snapshots)
    charts += [(name, make(marked)) for name, make in COMPARED_CHARTS.items()]
    for (name, data), everything, (marks, heights) in product(
        charts, (False, True), HEIGHTS.items()
    ):
        plot = None
        for log, height, cursor in product((False, True), heights, (None, 100.0)):
            shown = data._replace(log_y=log)
            options = look(shown, marks=marks, show_all=everything)
            plot = draw(shown, options, 60, height, plot, cursor=cursor)
            assert len(plot.rows) == height, (name, options)


@pytest.mark.parametrize(("size", "curves"), [(SIZES[0], CURVES[::2]), (SIZES[1], CURVES[1::2])])
async def test_every_pane_of_runs_is_painted_with_extreme_losses(
    size: tuple[int, int], curves: Sequence[Sequence[float]]
) -> None:
    names = [f"run-{index}" for index in range(len(curves))]
    for name, losses in zip(names, curves, strict=True):
        stored(name, losses, saved=3)
    async with at_home("run-0", size=size) as (app, pilot):
        for name in names:
            app.select_run(find_run(name))
            for pane in PANES_OF_RUNS:
                app.open_pane(pane)
                await until(
                    pilot,
                    lambda: app.snapshot and app.snapshot.summary.run == name and shows(app, name),  # noqa: B023
                )
            await pilot.press("left", "l", "a")
            text_of(app)
        app.marks = Marks(tuple(names))
        app.open_pane("compare")
        await until(
            pilot,
            lambda: (
                isinstance(app.screen, CompareScreen)
                and app.screen.is_ready
                and len(app.compared) == len(names)
            ),
        )
        for key in ("left", "l", "a"):
            await pilot.press(key)
            text_of(app)


def extreme(answer: object, value: float) -> object:
    """The answer of a sampler with this as every number that a model has computed."""
    if isinstance(answer, float):
        return value
    if isinstance(answer, tuple):
        return tuple(extreme(item, value) for item in answer)
    if isinstance(answer, BaseModel):
        return answer.model_copy(update={name: extreme(item, value) for name, item in answer})
    return answer


@pytest.mark.parametrize(
    ("size", "ascii_only", "values"),
    [(SIZES[0], True, EXTREMES[::2]), (SIZES[1], False, EXTREMES[1::2])],
)
async def test_inspect_is_painted_and_written_with_extreme_surprises(
    size: tuple[int, int], ascii_only: bool, values: Sequence[float],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    def answer(value: float, request: Any) -> BaseModel:
        return cast("BaseModel", extreme(answers.answer(request), value))

    def written() -> list[str]:
        found = [file.read_text() for file in tmp_path.glob("*.json")]
        return [text for text in found if text.endswith("}\n")]

    kinds = (InspectRequest, AlternativesRequest, StatesRequest, ReachRequest)
    sampler = FakeSampler()
    with running_at_home() as run:
        home = at_home(pane="prompt", size=size, ascii_only=ascii_only, sampler=sampler)
        async with home as (app, pilot):
            for place, value in enumerate(values, start=1):
                sampler.answers = dict.fromkeys(kinds, partial(answer, value))
                app.prompt_session.tree.add(sampled(weights=weights(run, 3_700)))
                await pilot.press("f2")
                await scored(app, pilot)
                for key in ("right", "j", *["tab"] * 4, "z", "z"):
                    await pilot.press(key)
                    screen_text(app)
                await pilot.press("w", "down", "enter")
                await until(pilot, lambda: len(written()) == place)  # noqa: B023
                await pilot.press("escape")
    assert all(json.loads(text)["tokens"] for text in written())


async def test_compared_texts_are_painted_and_written_with_extreme_surprises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def answer(values: Sequence[float], request: InspectRequest) -> BaseModel:
        """Every token is as surprising for one side, every second one for the other."""
        found, both = surprised(request), step_of(request.checkpoint) == 3_700
        tokens = [
            extreme(token, values[place % 2]) if both or place % 4 < 2 else token
            for place, token in enumerate(found.tokens)
        ]
        return found.model_copy(update={"tokens": tuple(tokens)})

    async with comparing() as (app, pilot, fake):
        for place in range(1, 4):
            fake.answers = {InspectRequest: partial(answer, EXTREMES[place - 1 :: 3])}
            await sample(app, pilot, ["ctrl+u", *f"The {place}", "enter"], f"The {place} is strong")
            for key in ("escape", "shift+right", "ctrl+t", "shift+right", "right", "ctrl+s"):
                await pilot.press(key)
                screen_text(app)
            await until(pilot, lambda: len(list(tmp_path.glob("*.md"))) == place)  # noqa: B023
            await pilot.press("escape", "shift+tab")
