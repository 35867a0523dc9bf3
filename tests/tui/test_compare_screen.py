"""The compare screen: curves, figures, differing settings, and the keys of charts."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import EvaluationFigures
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.views.chart_data import AXES
from rnnlm_tui.tui.views.compare import COMPARED_CHARTS, MarkedRun, Marks
from tests.tui.comparing import comparing, eight_runs, two_runs
from tests.tui.fakes import make_snapshot
from tests.tui.support import lines_of, running_app, shows, text_of, three_runs, until, with_runs


async def test_marked_runs_are_overlaid_with_letters_figures_and_settings() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
        lines = lines_of(app)
        assert "Validation perplexity, log" in lines[2]
        assert "A plain-otter" in lines[2]
        assert "B brisk-heron" in lines[2]
        assert any(line.startswith("│ A ● plain-otter") for line in lines)
        heron = next(line for line in lines if line.startswith("│ B ✓ brisk-heron"))
        assert "★" in heron
        assert "0.0" in heron
        cell = next(line for line in lines if "model.cell_type" in line)
        assert cell.split()[2:4] == ["elman", "gru"]


async def test_tab_goes_through_the_figures_of_the_runs() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        for title in (
            "Training loss",
            "Bits per byte",
            "Tokens/s",
            "Gradient norm",
            "Learning rate",
            "Validation perplexity, log",
        ):
            await pilot.press("tab")
            await until(pilot, lambda title=title: title in lines_of(app)[2])  # type: ignore[misc]


async def test_news_of_a_compared_run_is_shown() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        services.snapshots["plain-otter"] = make_snapshot(step=4_000)
        await until(pilot, lambda: any(snapshot.summary.step == 4_000 for snapshot in app.compared))
        await until(pilot, lambda: "4,000" in text_of(app))


async def test_an_unmarked_run_is_removed_and_its_monitor_closed() -> None:
    services = with_runs(
        make_snapshot(), make_snapshot(name="brisk-heron"), make_snapshot(name="dusty-lynx")
    )
    async with comparing(services, "plain-otter", "brisk-heron", "dusty-lynx") as (app, pilot):
        app.mark("brisk-heron")
        await until(pilot, lambda: "brisk-heron" in services.closed_monitors)
        await until(
            pilot, lambda: "brisk-heron" not in text_of(app) and "C ● dusty-lynx" in text_of(app)
        )


async def test_why_bits_per_byte_are_not_comparable_is_shown_in_full_at_80_columns() -> None:
    config = parse_config(merge(DEMO, {"tokenizer.kind": "word"}))
    judged = EvaluationFigures(
        name="validation",
        step=3_700,
        perplexity=2.5,
        unknown_share=0.73,
        best_step=3_700,
        best_perplexity=2.5,
    )
    few = replace(make_snapshot(name="brisk-heron", evaluation=judged), config=config)
    async with comparing(with_runs(make_snapshot(), few), "plain-otter", "brisk-heron") as (
        app,
        pilot,
    ):
        await until(
            pilot,
            lambda: (
                "73 % of B's tokens are unknown"
                in " ".join(line.strip("│ ") for line in lines_of(app))
            ),
        )


async def test_compared_runs_are_polled_only_while_a_screen_shows_them() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        await pilot.press("2")
        await until(
            pilot,
            lambda: app.current_mode == "train" and services.closed_monitors == ["brisk-heron"],
        )


async def test_the_small_chart_of_the_runs_overlays_marked_runs() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron", size=(120, 40)) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: "Validation perplexity" in text_of(app))
        app.mark("brisk-heron")
        await until(pilot, lambda: "Validation perplexity" not in text_of(app))


async def test_runs_on_different_texts_show_that_perplexities_are_not_comparable() -> None:
    other = parse_config(merge(DEMO, {"tokenizer.vocab_size": 512}))
    services = with_runs(make_snapshot(), make_snapshot(name="brisk-heron", config=other))
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        await until(pilot, lambda: "aren't comparable" in text_of(app))
        assert "Δ best" not in text_of(app)
        assert not any(
            "★" in line for line in lines_of(app) if "brisk-heron" in line and line.startswith("│")
        )


async def test_eight_runs_have_a_line_each_and_the_rest_of_the_table_is_scrolled_to() -> None:
    names = [f"run-{index}" for index in range(8)]
    configs = [
        parse_config(
            merge(
                DEMO, {"model.hidden_size": 64 + 8 * index, "model.embedding_dim": 64 + 8 * index}
            )
        )
        for index in range(8)
    ]
    services = with_runs(
        make_snapshot(),
        *(
            make_snapshot(name=name, config=config)
            for name, config in zip(names, configs, strict=True)
        ),
    )
    async with comparing(services, *names) as (app, pilot):
        await until(pilot, lambda: "H ● run-7" in text_of(app))
        assert "more" in lines_of(app)[22]
        assert "model.hidden_size" not in text_of(app)
        await pilot.press("pagedown")
        await until(pilot, lambda: "model.hidden_size" in text_of(app))
        assert "120" in next(line for line in lines_of(app) if "model.hidden_size" in line)
        await pilot.press("pageup")
        await until(pilot, lambda: "best ppl" in text_of(app))


async def test_the_cursor_shows_every_run_at_its_step_and_esc_goes_back_in_stages() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        await until(pilot, lambda: "★B" in text_of(app))
        await pilot.press("home", "right", "right")
        await until(
            pilot, lambda: "A 805 @100" in lines_of(app)[2] and " 138 " in lines_of(app)[14]
        )
        await until(pilot, lambda: "at 138  best ppl" in text_of(app))
        assert next(line for line in lines_of(app) if "A ● plain-otter" in line).split()[4:6] == [
            "805",
            "55.3",
        ]
        await pilot.press("z")
        await until(pilot, lambda: "best ppl" not in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: "@100" not in lines_of(app)[2])
        assert app.current_mode == "compare"
        await pilot.press("escape")
        await until(pilot, lambda: "best ppl" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.current_mode == "runs")


async def test_the_table_shows_the_charts_values_at_the_cursor() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        screen = app.screen
        assert isinstance(screen, CompareScreen)

        def table() -> list[str]:
            return (
                next(line for line in lines_of(app) if "A ● plain-otter" in line).split()[4:5]
                + next(line for line in lines_of(app) if "B ✓" in line).split()[4:5]
            )

        await until(pilot, lambda: "★B" in text_of(app))
        for cells in (1, 20):
            await pilot.press("home", *["right"] * cells)
            for _ in COMPARED_CHARTS:
                await pilot.press("tab")
                await until(
                    pilot,
                    lambda: (
                        len(values := screen.chart(screen.chosen).values) == 2 and table() == values
                    ),
                )


async def test_a_run_has_no_value_beyond_its_end() -> None:
    services = with_runs(
        make_snapshot("finished", 4_754), make_snapshot("stopped", 1_000, name="brisk-heron")
    )
    async with comparing(services, "plain-otter", "brisk-heron", size=(120, 40)) as (app, pilot):
        await pilot.press("tab", "end")
        await until(
            pilot,
            lambda: (
                next(line for line in lines_of(app) if "B ■ brisk-heron" in line).split()[4] == "–"
            ),
        )
        await until(pilot, lambda: "@1,000" in lines_of(app)[2])
        assert next(line for line in lines_of(app) if "A ✓ plain-otter" in line).split()[4] != "–"


async def test_the_open_run_draws_nothing_if_it_is_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = with_runs(
        make_snapshot(), make_snapshot(name="brisk-heron"), make_snapshot(name="dusty-lynx")
    )
    async with comparing(services, "brisk-heron", "dusty-lynx") as (app, pilot):
        app.select_run(services.run("plain-otter"))
        await until(pilot, lambda: app.snapshot is not None)
        shown: list[object] = []
        monkeypatch.setattr(
            CompareScreen, "show_snapshot", lambda _screen, snapshot: shown.append(snapshot)
        )
        services.snapshots["plain-otter"] = make_snapshot(step=4_000)
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.summary.step == 4_000)
        await pilot.pause()
        assert shown == []


async def test_the_wall_axis_of_runs_counts_from_the_start_of_each() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        for label in ("tokens", "epoch", "active time", "since start", "step"):
            await pilot.press("x")
            await until(pilot, partial(shows, app, f" {label} "))


async def test_letters_distinguish_curves_without_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with comparing(two_runs(), "plain-otter", "brisk-heron", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
        inside = "\n".join(line[8:] for line in lines_of(app)[3:30])
        assert inside.count("A") >= 3
        assert inside.count("B") >= 3


async def test_the_points_of_the_chart_are_written_to_a_file_named_after_it() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        await pilot.press("w")
        await until(pilot, lambda: "written to" in lines_of(app)[-1])
    ((name, text),) = services.saved
    assert name == "compare-validation.csv"
    assert {"plain-otter", "brisk-heron"} <= set(
        text.replace(",", "\n").replace('"', "").splitlines()
    )


async def test_an_unreadable_run_is_reported_and_the_others_are_shown() -> None:
    services = two_runs()
    services.runs = services.runs[:1]
    async with running_app(services, pane="runs") as (app, pilot):
        app.marks = Marks(("plain-otter", "brisk-heron"))
        app.open_pane("compare")
        await until(
            pilot, lambda: [snapshot.summary.run for snapshot in app.compared] == ["plain-otter"]
        )
        await until(pilot, lambda: "A ● plain-otter" in text_of(app))


async def test_a_zoomed_range_is_read_at_full_resolution_in_every_run() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        await pilot.press("up", "up")
        await until(pilot, lambda: sum(steps is not None for steps in services.looked_at) >= 2)
        part = (
            app.screen.chart("compare-validation").part
            if isinstance(app.screen, CompareScreen)
            else None
        )
        assert part is not None
        await until(
            pilot, lambda: services.looked_at[-1] == (math.floor(part[0]), math.ceil(part[1]))
        )
        await pilot.press("x")
        await until(pilot, lambda: " tokens " in text_of(app))
        await until(
            pilot,
            lambda: (
                (found := services.looked_at[-1]) is not None
                and abs(found[0] - part[0]) < 10
                and abs(found[1] - 4_754) < 10
            ),
        )
        await pilot.press("u")
        await until(pilot, lambda: services.looked_at[-1] is None)


async def test_compared_runs_come_back_at_the_next_start() -> None:
    services = two_runs()
    services.install()
    app = RnnlmApp(
        services.run("plain-otter"),
        "compare",
        fps=20.0,
        settings={"marked": ["plain-otter", "brisk-heron"]},
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "B ✓ brisk-heron" in text_of(app))


def test_bits_and_speed_of_runs_carry_letters_colours_and_newest_values() -> None:
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


async def test_dots_become_blocks_and_stay_blocks() -> None:
    services = two_runs()
    settings: dict[str, object] = {"marked": ["plain-otter", "brisk-heron"]}
    blocks, dots = set("▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"), {chr(0x2800 + number) for number in range(1, 256)}

    def draws_blocks(app: RnnlmApp) -> bool:
        return bool(blocks & set(text_of(app))) and not dots & set(text_of(app))

    for _start in range(2):
        services.install()
        app = RnnlmApp(
            services.run("plain-otter"),
            "compare",
            fps=20.0,
            settings=dict(settings),
        )
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, partial(shows, app, "B ✓ brisk-heron"))
            if not settings.get("dots"):
                assert dots & set(text_of(app))
                await app.run_action("app.next_marks")
                settings = {
                    key: value for key, value in app.settings.items() if key in ("marked", "dots")
                }
            await until(pilot, partial(draws_blocks, app))


async def test_names_from_outside_never_act_on_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe[@click=app.quit]x"
    services = with_runs(make_snapshot(), make_snapshot(name=hostile, corpus=hostile))
    async with comparing(services, "plain-otter", hostile) as (app, pilot):
        await until(
            pilot, lambda: "differs" in text_of(app) or "no setting differs" in text_of(app)
        )
        await pilot.press("right")
        assert not {"\x1b", "\x07", "\u202e"} & set(text_of(app))
        assert all(
            not segment.style.meta.get("@click")
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style
        )


async def test_any_size_can_be_drawn_while_data_arrives() -> None:
    services = eight_runs()
    async with comparing(services, *services.snapshots) as (app, pilot):
        for at, (width, height) in enumerate(
            (
                (60, 15),
                (300, 100),
                (1, 1),
                (200, 60),
                (61, 16),
                (120, 37),
                (80, 18),
                (200, 20),
                (60, 60),
                (80, 24),
            )
        ):
            services.snapshots["plain-otter"] = make_snapshot(step=3_000 + at)
            await pilot.resize_terminal(width, height)
            await pilot.press("tab", "right")
        await until(pilot, lambda: len(lines_of(app)) == 24 and "comparing" in lines_of(app)[0])


async def test_a_run_without_steps_is_in_the_table_without_a_curve() -> None:
    services = with_runs(make_snapshot(), make_snapshot("preparing", 0, name="brisk-heron"))
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        for _figure in COMPARED_CHARTS:
            await pilot.press("tab", "up", "left", "home", "x")
        await until(pilot, lambda: "brisk-heron" in text_of(app))
        assert "–" in next(line for line in lines_of(app) if line.startswith("│ B"))
        services.snapshots["brisk-heron"] = make_snapshot(step=400, name="brisk-heron")
        await until(
            pilot, lambda: "136" in next(line for line in lines_of(app) if line.startswith("│ B"))
        )
        await pilot.press("u")
        await until(pilot, lambda: "no points" not in text_of(app))


async def test_the_table_scrolls_in_a_small_terminal_below_its_heads() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
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


async def test_a_chart_shown_alone_is_counted_and_esc_returns_to_the_table() -> None:
    async with comparing(two_runs(), "plain-otter", "brisk-heron") as (app, pilot):
        await until(pilot, lambda: "differs in" in text_of(app))
        await pilot.press("z", "tab")
        assert lines_of(app)[-1].startswith(" tab Figure 2 of 6  esc Back")
        await pilot.press("escape")
        assert lines_of(app)[-1].startswith(" tab Figure  ")
        assert "differs in" in text_of(app)


async def test_the_footer_shows_where_esc_goes() -> None:
    async with running_app(
        three_runs(),
        pane="compare",
        size=(80, 24),
        settings={"marked": ["plain-otter", "brisk-heron"]},
    ) as (app, pilot):
        await until(pilot, lambda: "esc Runs" in lines_of(app)[-1])
        await pilot.press("right")
        await until(pilot, lambda: "esc Close cursor" in lines_of(app)[-1])
        await pilot.press("escape", "z")
        await until(pilot, lambda: "esc Back" in lines_of(app)[-1])
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.current_mode == "runs")
