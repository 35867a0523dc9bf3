"""The compare screen by keys: curves, figures, differing settings, the cursor and what is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
from textual.geometry import Size
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import EvaluationFigures
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.views.chart_data import AXES
from rnnlm_tui.tui.views.compare import COMPARED_CHARTS, MarkedRun, Marks
from rnnlm_tui.tui.widgets.compare import compare_arrangement
from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST
from tests.tui.comparing import comparing, eight_runs, two_runs
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import lines_of, running_app, shows, text_of, until

TWO = ("plain-otter", "brisk-heron")


def line_of(app: RnnlmApp, letter: str) -> str:
    """A run's line of the table; empty if it isn't shown."""
    return next((line for line in lines_of(app) if line.startswith(f"│ {letter} ")), "")


def screen_of(app: RnnlmApp) -> CompareScreen:
    assert isinstance(app.screen, CompareScreen)
    return app.screen


async def compare(app: RnnlmApp, pilot: Pilot[int], *names: str) -> None:
    """Compare other runs."""
    app.set_marks(Marks(names))
    await until(pilot, lambda: [one.summary.run for one in app.compared] == list(names))
    await until(pilot, lambda: line_of(app, "B"))


async def test_two_runs_are_compared_by_keys() -> None:
    services = two_runs()
    async with comparing(services, *TWO) as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
        lines, screen = lines_of(app), screen_of(app)
        assert "Validation perplexity, log" in lines[2]
        assert "A plain-otter" in lines[2]
        assert "B brisk-heron" in lines[2]
        assert line_of(app, "A").startswith("│ A ● plain-otter")
        heron = line_of(app, "B")
        assert heron.startswith("│ B ✓ brisk-heron")
        assert "★" in heron
        assert "0.0" in heron
        cell = next(line for line in lines if "model.cell_type" in line)
        assert cell.split()[2:4] == ["elman", "gru"]
        # the rest of the table is scrolled to, below the heads
        assert "parameters" not in text_of(app)
        seen: set[str] = set()
        for _ in range(8):
            await pilot.press("pagedown")
            await pilot.pause()
            seen |= {line[6:22].strip() for line in lines_of(app)}
        assert {"train loss", "parameters", "checkpoints", "epochs"} <= seen
        top = next(index for index, line in enumerate(lines_of(app)) if "─ Runs ─" in line)
        assert lines_of(app)[top + 1].split()[1:3] in (["more", "figures"], ["differs", "in"])
        assert "↓" not in lines_of(app)[-2]
        await pilot.press(*["pageup"] * 9)
        await until(pilot, lambda: "best ppl" in text_of(app))

        # the cursor shows the chart's values in the table; esc goes back in stages
        await until(pilot, lambda: "★B" in text_of(app))
        await pilot.press("home", "right", "right")
        await until(
            pilot, lambda: "A 805 @100" in lines_of(app)[2] and " 138 " in lines_of(app)[14]
        )
        await until(pilot, lambda: "at 138  best ppl" in text_of(app))
        assert line_of(app, "A").split()[4:6] == ["805", "55.3"]
        assert "esc Close cursor" in lines_of(app)[-1]
        for cells in (1, 20):
            await pilot.press("home", *["right"] * cells)
            for _ in COMPARED_CHARTS:
                await pilot.press("tab")
                await until(
                    pilot,
                    lambda: (
                        len(values := screen.chart(screen.chosen).values) == 2
                        and [line_of(app, letter).split()[4] for letter in "AB"] == values
                    ),
                )
        await pilot.press("z", "escape")
        await until(pilot, lambda: "esc Back" in lines_of(app)[-1])
        assert " at 138" not in text_of(app)
        for title in ("Training loss", "Bits per byte", "Tokens/s", "Gradient", "Learning rate"):
            await pilot.press("tab")
            await until(pilot, partial(lambda title: title in lines_of(app)[2], title))
        assert lines_of(app)[-1].startswith(" tab Figure 6 of 6  esc Back")
        assert "best ppl" not in text_of(app)
        await pilot.press("tab", "escape")
        await until(pilot, lambda: "best ppl" in text_of(app))
        assert lines_of(app)[-1].startswith(" tab Figure  ")
        assert "esc Runs" in lines_of(app)[-1]

        # a zoomed range is read at full resolution in every run, on each axis
        await pilot.press("up", "up")
        await until(pilot, lambda: services.looked_at[-1] is not None)
        part = screen.window.part
        assert part is not None
        first = math.floor(part[0])
        await until(pilot, lambda: services.looked_at[-1] == (first, math.ceil(part[1])))
        for label in ("tokens", "epoch", "active time", "since start", "step"):
            await pilot.press("x")
            await until(pilot, partial(shows, app, f" {label} "))
            steps = services.looked_at[-1]
            assert steps is not None
            assert abs(steps[0] - first) < 10
            assert abs(steps[1] - 4_754) < 10
        await pilot.press("u")
        await until(pilot, lambda: services.looked_at[-1] is None)

        await pilot.press("w")
        await until(pilot, lambda: "written to" in lines_of(app)[-1])
        ((name, text),) = services.saved
        assert name == "compare-validation.csv"
        assert set(TWO) <= set(text.replace(",", "\n").replace('"', "").splitlines())
        services.snapshots["plain-otter"] = make_snapshot(step=4_000)
        await until(pilot, lambda: "4,000" in text_of(app))
        # they are polled only while a screen shows them
        await pilot.press("2")
        await until(
            pilot,
            lambda: app.current_mode == "train" and services.closed_monitors == ["brisk-heron"],
        )
        await pilot.press("r", "equals_sign", "escape")
        await until(pilot, lambda: app.current_mode == "runs")


async def test_runs_are_unmarked_and_the_list_draws_those_that_are_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = FakeServices(
        make_snapshot(),
        make_snapshot("finished", 4_754, name="dusty-lynx"),
        make_snapshot("stopped", 1_000, name="brisk-heron"),
    )
    names = ("dusty-lynx", "brisk-heron", "plain-otter")
    async with comparing(services, *names, size=(120, 40)) as (app, pilot):
        # a run has no value beyond its end
        await pilot.press("tab", "end")
        await until(pilot, lambda: line_of(app, "B").split()[4:5] == ["–"])
        await until(pilot, lambda: "@1,000" in lines_of(app)[2])
        assert line_of(app, "A").split()[4] != "–"
        await pilot.press("escape")
        app.mark("plain-otter")
        await until(pilot, lambda: not line_of(app, "C") and line_of(app, "B"))
        # the open run draws nothing if it is not compared
        await until(pilot, lambda: app.snapshot is not None)
        shown: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                CompareScreen, "show_snapshot", lambda _, snapshot: shown.append(snapshot)
            )
            services.snapshots["plain-otter"] = make_snapshot(step=4_000)
            await until(pilot, lambda: app.snapshot and app.snapshot.summary.step == 4_000)
            await pilot.pause()
        assert shown == []
        await pilot.press("r")
        await until(pilot, lambda: "Validation perplexity" in text_of(app))
        app.mark("brisk-heron")
        await until(pilot, lambda: "Validation perplexity" not in text_of(app))


async def test_what_cannot_be_compared_is_told_and_nothing_acts_on_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe[@click=app.quit]x"
    words = parse_config(merge(DEMO, {"tokenizer.kind": "word"}))
    few = parse_config(merge(DEMO, {"tokenizer.vocab_size": 512}))
    figures = {"step": 3_700, "perplexity": 2.5, "best_step": 3_700, "best_perplexity": 2.5}
    judged = EvaluationFigures.model_validate(
        {"name": "validation", "unknown_share": 0.73, **figures}
    )
    services = FakeServices(
        make_snapshot(),
        replace(make_snapshot(name="many-words", evaluation=judged), config=words),
        make_snapshot(name="few-tokens", config=few),
        make_snapshot("preparing", 0, name="brisk-heron"),
        make_snapshot(name=hostile, corpus=hostile),
    )
    async with comparing(services, "plain-otter", "many-words") as (app, pilot):
        unknown = "73 % of B's tokens are unknown"
        await until(pilot, lambda: unknown in " ".join(line.strip("│ ") for line in lines_of(app)))
        await compare(app, pilot, "plain-otter", "few-tokens")
        await until(pilot, lambda: "aren't comparable" in text_of(app))
        assert "Δ best" not in text_of(app)
        assert "★" not in line_of(app, "B")
        # a run without steps is in the table without a curve
        await compare(app, pilot, "plain-otter", "brisk-heron")
        for _figure in COMPARED_CHARTS:
            await pilot.press("tab", "up", "left", "home", "x")
        await until(pilot, lambda: "–" in line_of(app, "B"))
        services.snapshots["brisk-heron"] = make_snapshot(step=400, name="brisk-heron")
        await until(pilot, lambda: "136" in line_of(app, "B"))
        await pilot.press("u")
        await until(pilot, lambda: "no points" not in text_of(app))
        await compare(app, pilot, "plain-otter", hostile)
        await pilot.press("right")
        assert not {"\x1b", "\x07", "\u202e"} & set(text_of(app))
        assert all(
            not segment.style.meta.get("@click")
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style
        )


async def test_eight_runs_have_a_line_each_in_any_size_while_data_arrives() -> None:
    services = eight_runs()
    names = tuple(services.snapshots)
    async with comparing(services, *names) as (app, pilot):
        await until(pilot, lambda: "H ✓ calm-badger" in text_of(app))
        assert "more" in lines_of(app)[22]
        assert "model.hidden_size" not in text_of(app)
        await pilot.press("pagedown")
        await until(pilot, lambda: "model.hidden_size" in text_of(app))
        assert "128" in next(line for line in lines_of(app) if "model.hidden_size" in line)
        sizes = (
            (60, 15), (300, 100), (1, 1), (200, 60), (61, 16), (120, 37), (80, 18), (200, 20),
            (60, 60), (80, 24),
        )  # fmt: skip
        for at, size in enumerate(sizes):
            services.snapshots["plain-otter"] = make_snapshot(step=3_000 + at)
            await pilot.resize_terminal(*size)
            await pilot.press("tab", "right")
        await until(pilot, lambda: len(lines_of(app)) == 24 and "comparing" in lines_of(app)[0])


async def test_compared_runs_and_their_dots_come_back_at_the_next_start() -> None:
    services = two_runs()
    settings: dict[str, object] = {"marked": list(TWO)}
    blocks, dots = set("▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"), {chr(0x2800 + number) for number in range(1, 256)}

    def draws_blocks(app: RnnlmApp) -> bool:
        return bool(blocks & set(text_of(app))) and not dots & set(text_of(app))

    for _start in range(2):
        async with running_app(services, pane="compare", settings=dict(settings)) as (app, pilot):
            await until(pilot, partial(shows, app, "B ✓ brisk-heron"))
            if not settings.get("dots"):
                assert dots & set(text_of(app))
                await app.run_action("app.next_marks")
                settings = {
                    key: value for key, value in app.settings.items() if key in ("marked", "dots")
                }
            await until(pilot, partial(draws_blocks, app))


async def test_letters_distinguish_curves_without_colour_also_if_a_run_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    services = two_runs()
    async with comparing(services, *TWO, size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
        inside = "\n".join(line[8:] for line in lines_of(app)[3:30])
        assert inside.count("A") >= 3
        assert inside.count("B") >= 3
        app.marks = Marks(("plain-otter", "gone-goose"))
        app.open_pane("compare")
        await until(pilot, lambda: [one.summary.run for one in app.compared] == ["plain-otter"])
        await until(pilot, lambda: line_of(app, "A") and not line_of(app, "B"))


def test_charts_of_runs_carry_letters_colours_and_newest_values() -> None:
    runs = [
        MarkedRun("A", "#5fd7ff", make_snapshot()),
        MarkedRun("B", "#d787ff", make_snapshot("finished", 4_754, name="brisk-heron")),
    ]
    for data in COMPARED_CHARTS.values():
        for axis in AXES:
            drawn = data(runs, axis)
            assert [(series.marker, series.colour) for series in drawn.series] == [
                ("A", "#5fd7ff"),
                ("B", "#d787ff"),
            ]
            assert all(list(series.x) == sorted(series.x) for series in drawn.series)
    assert [series.current for series in COMPARED_CHARTS["compare-speed"](runs, "step").series] == [
        "27.6k",
        "",
    ]


# the layout, without an app

CHARTS = ("validation", "loss", "bits", "speed", "gradient", "rate")


def test_nothing_overlaps_and_the_chart_has_room_at_every_size() -> None:
    for width in (60, 80, 120, 190, 200, 300):
        for height in (12, 15, 21, 37, 50, 57, 97):
            for lines in (0, 3, 8, 40):
                size = Size(width, height)
                places = compare_arrangement(size, CHARTS, "loss", lines)
                regions = list(places.values())
                assert all(size.region.contains_region(region) for region in regions)
                assert not any(one.overlaps(other) for one, other in combinations(regions, 2))
                assert sum(region.area for region in regions) == size.area
                assert all(places[name].height >= CHART_LEAST for name in CHARTS if name in places)


def test_the_table_has_rows_in_a_small_terminal_and_other_charts_in_a_large_one() -> None:
    for size, lines, heights in ((Size(80, 21), 8, (11, 10)), (Size(60, 12), 10, (6, 6))):
        places = compare_arrangement(size, CHARTS, "validation", lines)
        assert (places["validation"].height, places["compared-runs"].height) == heights
        assert "loss" not in places
    places = compare_arrangement(Size(200, 57), CHARTS, "bits", 10)
    assert set(places) == {*CHARTS, "compared-runs"}
    assert places["bits"].width > 2 * places["loss"].width - 2
    alone = compare_arrangement(Size(80, 21), CHARTS, "speed", 10, alone=True)
    assert alone == {"speed": Size(80, 21).region}


# snapshots: eight runs, and the cursor

PICTURES = Path(__file__).parent / "snapshots"
STATES: dict[str, tuple[Callable[[], FakeServices], tuple[str, ...]]] = {
    "compare-eight": (eight_runs, ()),
    "compare-cursor": (two_runs, ("tab", "home", *["shift+right"] * 2)),
}


@each_view(*STATES)
async def test_compare_screen_equals_its_snapshot(
    name: str, size: tuple[int, int], mode: Mode
) -> None:
    make, keys = STATES[name]
    services = make()
    async with comparing(services, *services.snapshots, size=size, ascii_only=mode == "ascii") as (
        app,
        pilot,
    ):
        await until(pilot, lambda: "best ppl" in text_of(app))
        await pilot.press(*keys)
        await assert_picture(app, PICTURES, name, size, mode)
