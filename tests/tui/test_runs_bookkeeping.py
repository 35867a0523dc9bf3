"""Runs in the list: marks, filter, order, labels and names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.labels import RunLabels, change_labels, read_labels
from rnnlm_tui.store.runs import find_run, list_runs
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.poller import Polled
from rnnlm_tui.tui.screens.overlay import AskScreen
from tests.tui.fakes import make_snapshot
from tests.tui.support import (
    at_home,
    lines_of,
    running_app,
    shown,
    text_of,
    three_runs,
    until,
    with_runs,
)


async def typed(pilot: Pilot[int], text: str) -> None:
    await pilot.press(
        *(
            {
                " ": "space",
                "<": "less_than_sign",
                "=": "equals_sign",
                "!": "exclamation_mark",
                "-": "minus",
            }.get(key, key)
            for key in text
        )
    )


def labels_of(name: str) -> RunLabels:
    return read_labels(find_run(name))


async def test_space_marks_and_unmarks_a_run() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("space", "down", "space")
        assert shown(app) == [" A plain-otter", "›B brisk-heron", "   amber-vole"]
        assert "3 runs, ● 1 running, 2 marked to compare" in lines_of(app)[0]
        await pilot.press("up", "space")
        assert shown(app) == ["›  plain-otter", " B brisk-heron", "   amber-vole"]
        assert app.marked == ("brisk-heron",)
        await until(pilot, lambda: app.settings["marked"] == ["", "brisk-heron"])


async def test_a_ninth_run_is_not_marked() -> None:
    services = with_runs(
        *(make_snapshot("finished", 4_754, name=f"run-{index}") for index in range(9))
    )
    async with running_app(services, run="run-0", pane="runs") as (app, pilot):
        for _ in range(9):
            await pilot.press("space", "down")
        assert len(app.marked) == 8
        await pilot.press("space")
        await until(pilot, lambda: "8 runs are marked" in lines_of(app)[-1])


async def test_equals_sign_compares_marked_runs_and_explains_marks_without_any() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("equals_sign")
        await until(pilot, lambda: "mark two runs with space" in lines_of(app)[-1])
        assert app.current_mode == "runs"
        await pilot.press("space", "down", "equals_sign")
        await until(pilot, lambda: app.current_mode == "compare")
        assert app.marked == ("plain-otter", "brisk-heron")


@pytest.mark.usefixtures("three_at_home")
async def test_a_missing_run_loses_its_mark() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("down", "space", "d")
        await until(pilot, lambda: "2 runs" in lines_of(app)[0])
        assert app.marked == ()


async def test_a_marked_run_keeps_its_mark_while_the_list_is_being_read() -> None:
    services = three_runs()
    services.install()
    app = RnnlmApp(
        services.run("plain-otter"),
        "runs",
        fps=20.0,
        settings={"marked": ["amber-vole", "gone-goose"]},
    )
    async with app.run_test(size=(80, 24)) as pilot:
        app.on_polled(Polled(all_listed=False, summaries=(services.runs[0],)))
        assert "gone-goose" in app.marked
        app.on_polled(Polled(all_listed=True, summaries=tuple(services.runs)))
        assert list(app.marked) == ["amber-vole"]
        await pilot.pause()


async def test_the_filter_acts_as_it_is_typed_and_enter_keeps_it() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash")
        assert "enter Keep the filter  esc All runs" in lines_of(app)[-1]
        await typed(pilot, "small")
        assert shown(app) == ["›  plain-otter", "   brisk-heron"]
        assert "2 of 3 runs" in text_of(app)
        await typed(pilot, " gru")
        assert shown(app) == ["›  brisk-heron"]
        await pilot.press("enter", "o")
        assert "val ppl▴" in text_of(app)
        assert shown(app) == ["›  brisk-heron"]
        await until(
            pilot, lambda: app.run_directory is not None and app.run_directory.name == "brisk-heron"
        )
        await pilot.press("escape")
        assert len(shown(app)) == 3
        assert "of 3 runs" not in text_of(app)


async def test_the_arrows_move_through_matches_while_typing() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "small")
        await pilot.press("down")
        assert shown(app) == ["   plain-otter", "›  brisk-heron"]


async def test_an_invalid_filter_is_reported_and_leaves_the_list() -> None:
    async with running_app(three_runs(), pane="runs", size=(120, 30)) as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "small perplexty<8")
        assert '✗ unknown key "perplexty"' in text_of(app)
        assert "perplexity" in text_of(app).split("unknown key")[1].splitlines()[0]
        assert shown(app)[:2] == ["›  plain-otter", "   brisk-heron"]


async def test_a_run_opened_elsewhere_is_not_hidden_by_the_filter() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "gru")
        await pilot.press("enter", "f5", "D")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("r")
        await until(pilot, lambda: "›  calm-badger" in shown(app) and len(shown(app)) == 4)


async def test_esc_clears_a_filter_without_matches() -> None:
    services = three_runs()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "zebra")
        assert "no run matches: esc shows them all" in text_of(app)
        assert "0 of 3 runs" in text_of(app)
        await pilot.press("enter", "t", "d", "space", "enter")
        assert app.marked == ()
        assert services.started == []
        assert app.current_mode == "runs"
        await pilot.press("escape")
        assert len(shown(app)) == 3


async def test_a_filter_by_a_config_key_reads_each_config_once() -> None:
    services = three_runs()
    services.snapshots["brisk-heron"] = make_snapshot(
        "finished",
        4_754,
        name="brisk-heron",
        config=parse_config(merge(DEMO, {"training.batch_size": 3})),
    )
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "batch_size<5")
        await until(pilot, lambda: shown(app) == ["›  brisk-heron"])
        await typed(pilot, "00")
        assert len(shown(app)) == 3
        assert sorted(name for names in services.configs_read for name in names) == [
            "amber-vole",
            "brisk-heron",
            "plain-otter",
        ]


async def test_capital_o_reverses_the_sort() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("o", "o")
        assert "name ▴" in lines_of(app)[3]
        assert [line.split()[-1] for line in shown(app)] == [
            "amber-vole",
            "brisk-heron",
            "plain-otter",
        ]
        await pilot.press("O")
        assert "name ▾" in lines_of(app)[3]
        assert "sorted by" not in text_of(app)
        assert [line.split()[-1] for line in shown(app)] == [
            "plain-otter",
            "brisk-heron",
            "amber-vole",
        ]
        assert app.settings["runs order"] == ["name", True]


async def test_a_click_on_a_head_sorts_and_a_second_one_reverses() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        for arrow in "▴▾":
            await pilot.click(offset=(lines_of(app)[3].index("val ppl"), 3))
            assert f" val ppl{arrow}" in lines_of(app)[3]


async def test_the_sort_arrow_does_not_touch_the_previous_head() -> None:
    async with running_app(three_runs(), pane="runs", size=(120, 40)) as (app, pilot):
        await pilot.click(offset=(lines_of(app)[3].index("tok/s"), 3))
        assert "Δ best ▾tok/s" in lines_of(app)[3]


@pytest.mark.parametrize(
    "kept", [["name", True], ["shoe size", True], ["name"], "name", [["name"], True]]
)
async def test_the_order_is_restored_at_the_next_start(
    kept: object,
) -> None:
    services = three_runs()
    services.install()
    app = RnnlmApp(
        services.run("plain-otter"),
        "runs",
        fps=20.0,
        settings={"runs order": kept},
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "plain-otter" in text_of(app))
        assert ("name ▾" if kept == ["name", True] else "▴ age") in text_of(app)


@pytest.mark.usefixtures("three_at_home")
async def test_t_edits_tags_and_lists_those_in_use() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("t")
        assert "Tags of plain-otter" in text_of(app)
        assert "in use: gru  small" in text_of(app)
        await typed(pilot, " first,")
        assert "invalid tag" in text_of(app)
        await pilot.press("enter")
        assert isinstance(app.screen, AskScreen)
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: "small f" in text_of(app))
        assert labels_of("plain-otter").tags == ("small", "first")


@pytest.mark.usefixtures("three_at_home")
async def test_m_writes_a_note_and_esc_cancels() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("m")
        await typed(pilot, "try qk norm")
        await pilot.press("enter")
        await until(pilot, lambda: "│ note  try qk norm" in text_of(app))
        await pilot.press("m", "x", "escape")
        assert labels_of("plain-otter").note == "try qk norm"


@pytest.mark.usefixtures("three_at_home")
async def test_p_pins_a_run_to_the_top() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("down", "down", "p")
        await until(pilot, lambda: shown(app)[0] == "›  amber-vole")
        assert "amber-vole ⚑" in text_of(app)
        await pilot.press("o")
        assert shown(app)[0] == "›  amber-vole"
        await pilot.press("p")
        await until(pilot, lambda: shown(app)[0] != "›  amber-vole")


@pytest.mark.usefixtures("three_at_home")
async def test_f2_renames_a_run_with_its_mark_and_rejects_a_taken_name() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("down", "space", "N")
        await pilot.press(*["backspace"] * 11)
        await typed(pilot, "amber-vole")
        assert 'run "amber-vole" already exists' in text_of(app)
        await pilot.press("enter")
        assert isinstance(app.screen, AskScreen)
        await pilot.press("2", "enter")
        await until(pilot, lambda: "›A amber-vole2" in shown(app))
        await until(
            pilot,
            lambda: (
                app.run_directory is not None
                and app.run_directory.name == "amber-vole2"
                and app.snapshot is not None
            ),
        )


@pytest.mark.usefixtures("three_at_home")
@pytest.mark.parametrize("key", ["d", "N"])
async def test_a_living_run_is_neither_deleted_nor_renamed(key: str) -> None:
    async with at_home() as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: "stop it first" in lines_of(app)[-1])
        assert len(app.screen_stack) == 1
        assert list_trash() == []


@pytest.mark.usefixtures("three_at_home")
async def test_a_deleted_run_is_not_opened_by_a_late_lookup() -> None:
    async with at_home() as (app, pilot):
        found = find_run("brisk-heron")
        await pilot.press("down", "d")
        await until(pilot, lambda: len(shown(app)) == 2)
        app.select_run(found)
        assert app.run_directory is None or app.run_directory.name != "brisk-heron"
        await pilot.press("u")
        await until(
            pilot, lambda: app.run_directory is not None and app.run_directory.name == "brisk-heron"
        )


@pytest.mark.usefixtures("three_at_home")
async def test_tags_are_checked_as_on_the_command_line() -> None:
    async with at_home() as (_, pilot):
        await pilot.press("t")
        await typed(pilot, "+paper -small")
        await pilot.press("enter")
        await until(pilot, lambda: labels_of("plain-otter").tags == ("paper",))


@pytest.mark.usefixtures("three_at_home")
async def test_the_sidebar_has_the_order_of_the_list() -> None:
    async with at_home(size=(200, 60)) as (app, pilot):
        await pilot.press("o", "o")
        change_labels(find_run("brisk-heron"), lambda labels: replace(labels, pinned=True))
        app.watcher.poll_now()
        await until(pilot, lambda: app.summaries is not None and app.summaries[1].pinned)
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train" and "brisk-heron" in text_of(app))
        names = ("amber-vole", "brisk-heron", "plain-otter")
        side = [name for line in lines_of(app)[2:] for name in names if name in line[:34]]
        assert side[:3] == ["brisk-heron", "amber-vole", "plain-otter"]


async def test_a_filters_hint_is_shown_if_its_problem_has_no_room() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash")
        await typed(pilot, "small perplexty<8")
        assert '✗ did you mean "perplexity"' in text_of(app)


@pytest.mark.usefixtures("three_at_home")
async def test_tags_have_a_dozen_cells_at_120_columns() -> None:
    run = find_run("plain-otter")
    change_labels(run, lambda labels: replace(labels, tags=("twelve-cells",)))
    async with at_home(size=(120, 40)) as (app, _):
        assert "twelve-cell" in text_of(app)


@pytest.mark.usefixtures("three_at_home")
async def test_tags_of_marked_runs_are_edited_together() -> None:
    async with at_home(settings={"marked": ["brisk-heron", "plain-otter"]}) as (app, pilot):
        assert "t Tag 2" in lines_of(app)[-1]
        await pilot.press("t")
        assert "Tags of all 2 marked runs" in text_of(app)
        await typed(pilot, "paper")
        await pilot.press("enter")
        await until(pilot, lambda: "2 runs tagged: plain-otter, brisk-heron" in lines_of(app)[-1])
        assert {run.name: read_labels(run).tags for run in list_runs()} == {
            "plain-otter": ("small", "paper"),
            "brisk-heron": ("small", "gru", "paper"),
            "amber-vole": (),
        }
        await pilot.press("t", *["backspace"] * len("small paper "))
        await typed(pilot, "done")
        await pilot.press("enter")
        await until(pilot, lambda: labels_of("plain-otter").tags == ("done",))
        assert labels_of("brisk-heron").tags == ("gru", "done")


@pytest.mark.usefixtures("three_at_home")
async def test_a_run_that_is_not_marked_is_tagged_alone() -> None:
    async with at_home(settings={"marked": ["brisk-heron", "plain-otter"]}) as (app, pilot):
        await pilot.press("end")
        assert "t Tag  " in lines_of(app)[-1]
        await pilot.press("t")
        assert "Tags of amber-vole" in text_of(app)
        await typed(pilot, "odd")
        await pilot.press("enter")
        await until(pilot, lambda: labels_of("amber-vole").tags == ("odd",))
        assert labels_of("plain-otter").tags == ("small",)
