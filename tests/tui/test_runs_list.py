"""The list of runs by keys: the first launch, marks, filter, order, cursor, and its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from time import time

import pytest
from textual.content import Content
from textual.events import Key

from rnnlm_tui.client.arrangement import ArrangedRun
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventRow, GpuRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import (
    EvaluationFigures,
    ModelFigures,
    RunSummary,
)
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.poller import Polled
from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.views.compare import Marks, best_of_comparable
from rnnlm_tui.tui.widgets.runs_table import (
    SORT_KEYS,
    RunColumn,
    RunLayout,
    RunsTable,
    SortKey,
    rises,
    sorted_runs,
)
from rnnlm_tui.tui.widgets.table import row_of, saved_order
from tests.homes import trained
from tests.tui.demo_run import use_machine
from tests.tui.fakes import START, make_summary
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, shown, shows, text_of, until
from tests.unit.client.logs import record

NAMES = ("plain-otter", "brisk-heron", "amber-vole")


def is_open(app: RnnlmApp, name: str) -> bool:
    """Whether this run is the open one, and has been read."""
    run = app.run_directory
    return run is not None and run.name == name and app.snapshot is not None


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configs of started runs, which get no worker."""
    started: list[RunConfig] = []

    def start(config: RunConfig) -> RunDirectory:
        started.append(config)
        return trained("calm-badger", "stopped", config=config)

    monkeypatch.setattr("rnnlm_tui.client.start.start_run", start)
    return started


@pytest.mark.usefixtures("three_at_home")
async def test_runs_are_marked_compared_and_sorted_by_keys_and_clicks() -> None:
    async with at_home(settings={"runs order": ["Δ best", False]}) as (app, pilot):
        # the order is shown once, in a head or in the edge
        assert "sorted by Δ best ▴" in lines_of(app)[2]
        await pilot.press("o")
        assert "sorted by" not in text_of(app)
        orders = []
        for _ in range(7):
            head = re.findall(r"[▴▾] ?age|val ppl[▴▾]|name [▴▾]|status [▴▾]", lines_of(app)[3])
            orders.append((*head, *(line.split()[-1] for line in shown(app))))
            assert "›  plain-otter" in shown(app)
            await pilot.press("o")
        status = ("status ▴", "plain-otter", "amber-vole", "brisk-heron")
        assert {("▴ age", *NAMES), ("name ▴", *sorted(NAMES)), status} <= set(orders)
        while "name ▴" not in lines_of(app)[3]:
            await pilot.press("o")
        await pilot.press("O")
        assert "name ▾" in lines_of(app)[3]
        assert [line.split()[-1] for line in shown(app)] == sorted(NAMES, reverse=True)
        assert app.settings["runs order"] == ["name", True]
        for arrow in "▴▾":
            await pilot.click(offset=(lines_of(app)[3].index("val ppl"), 3))
            assert f" val ppl{arrow}" in lines_of(app)[3]
        await pilot.resize_terminal(120, 40)
        await pilot.click(offset=(lines_of(app)[3].index("tok/s"), 3))
        assert "Δ best ▾tok/s" in lines_of(app)[3], "the arrow touches no other head"
        await pilot.resize_terminal(80, 24)
        await pilot.click(offset=(lines_of(app)[3].index("age"), 3))

        await press(pilot, "home equals_sign", "mark two runs with space")
        assert app.current_mode == "runs"
        await pilot.press("space", "down", "space")
        assert shown(app) == [" A plain-otter", "›B brisk-heron", "   amber-vole"]
        assert "3 runs, ● 1 running, 2 marked to compare" in lines_of(app)[0]
        await pilot.press("up", "space")
        assert shown(app) == ["›  plain-otter", " B brisk-heron", "   amber-vole"]
        await until(pilot, lambda: app.settings["marked"] == ["", "brisk-heron"])
        assert Marks.from_json(app.settings["marked"]) == app.marks, "B stays B"
        await pilot.press("equals_sign")  # with the one under the cursor
        await until(pilot, lambda: app.current_mode == "compare")
        assert app.marks.names == ("plain-otter", "brisk-heron")
        # a run that isn't read yet keeps its mark, one that is gone loses it
        app.marks = app.marks.toggled("gone-goose")
        assert app.summaries is not None
        app.on_polled(Polled(all_listed=False, summaries=app.summaries[:-1]))
        assert "gone-goose" in app.marks.names
        app.on_polled(Polled(all_listed=True, summaries=app.summaries[:-1]))
        await until(pilot, lambda: "gone-goose" not in app.marks.names)


@pytest.mark.usefixtures("three_at_home")
async def test_the_filter_acts_as_it_is_typed_until_esc_removes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained("salty-wren", config=parse_config(merge(DEMO, {"training.batch_size": 3})), age=300)
    read: list[str] = []
    async with at_home() as (app, pilot):
        configs = app.watcher.runs.configs

        def recorded(names: Iterable[str]) -> dict[str, RunConfig]:
            read.extend(names)
            return configs(names)

        monkeypatch.setattr(app.watcher.runs, "configs", recorded)
        await press(pilot, (*"/small",), "enter Keep the filter  esc All runs", "2 of 4 runs")
        assert shown(app) == ["›  plain-otter", "   brisk-heron"]
        await pilot.press("down")
        assert shown(app) == ["   plain-otter", "›  brisk-heron"]
        await press(pilot, (*" perplexty<8",), '✗ did you mean "perplexity"')  # no room for both
        assert len(shown(app)) == 2, "an invalid word is ignored"
        await pilot.resize_terminal(120, 30)
        await press(pilot, "0", '✗ unknown key "perplexty"; did you mean "perplexity"')
        await pilot.resize_terminal(80, 24)
        await pilot.press(*["backspace"] * len("perplexty<80"))
        await pilot.press(*"gru")
        await press(pilot, "enter o", "val ppl▴")
        assert shown(app) == ["›  brisk-heron"], "the order keeps the filter"
        await until(pilot, lambda: is_open(app, "brisk-heron"))
        await pilot.press("escape", *"ooo")
        assert len(shown(app)) == 4
        assert "of 4 runs" not in text_of(app)

        await pilot.press(*"/batch_size<5")
        await until(pilot, lambda: shown(app) == ["›  salty-wren"])
        await pilot.press(*"00")
        await until(pilot, lambda: len(shown(app)) == 4)
        assert sorted(read) == sorted([*NAMES, "salty-wren"]), "each config is read once"
        await press(pilot, ("escape", *"/zebra"), "no run matches: esc shows them all")
        await pilot.press("enter", "t", "d", "space", "enter")
        assert app.marks.names == ()
        assert app.current_mode == "runs"
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        assert "0 of 4 runs" in text_of(app), "an overlay keeps the filter"
        await pilot.press("escape")
        assert len(shown(app)) == 4


@pytest.mark.usefixtures("three_at_home")
async def test_the_run_under_the_cursor_is_the_open_one_on_every_pane(
    starts: list[RunConfig],
) -> None:
    async with at_home(None) as (app, pilot):
        await until(pilot, lambda: is_open(app, "plain-otter"))
        await pilot.press("down")
        await until(pilot, lambda: is_open(app, "brisk-heron"))
        assert "╭─ brisk-heron ─" in text_of(app)
        for move, pane, name in (
            (("2",), "train", "brisk-heron"),
            (("r", "down", "2"), "train", "amber-vole"),  # before the cursor rests
            (("r", "up", "3"), "checkpoints", "brisk-heron"),
            (("r", "home", "slash", *"gru", "enter", "2"), "train", "brisk-heron"),
            (("r", "escape", "up", "enter"), "train", "plain-otter"),
        ):
            await pilot.press(*move)
            await until(
                pilot,
                lambda pane=pane, name=name: (  # type: ignore[misc]
                    app.current_mode == pane and is_open(app, name) and name in lines_of(app)[0]
                ),
            )
        await pilot.press("r", "down")
        for key in ("enter", "3"):  # at once, as a slow connection delivers them
            app.post_message(Key(key, None))
        await until(pilot, lambda: is_open(app, "brisk-heron") and shows(app, "no checkpoint"))
        # a draft is based on the run under the cursor, to which the list returns
        await pilot.press("r")
        await until(pilot, lambda: is_open(app, "brisk-heron"))
        await press(pilot, "n", "draft, not started   from brisk-heron")
        assert app.run_directory is None
        await pilot.press("r")
        await until(pilot, lambda: is_open(app, "brisk-heron"))
        assert "›  brisk-heron" in shown(app)
        # a started run gets the cursor, and no filter hides it
        await press(pilot, ("slash", *"gru", "enter", "f5"), "Start the demo?")
        assert starts == []
        await pilot.press("D")
        await until(pilot, lambda: app.current_mode == "train" and len(starts) == 1)
        await pilot.press("r")
        await until(pilot, lambda: "›  calm-badger" in shown(app) and len(shown(app)) == 4)
        assert is_open(app, "calm-badger")
        # after a restart, one that trains
        app.prefer_running = True
        assert app.summaries is not None
        app.on_polled(Polled(all_listed=True, summaries=app.summaries[:-1]))
        await until(pilot, lambda: is_open(app, "plain-otter"))
        assert "›  plain-otter" in shown(app)


async def test_the_first_launch_offers_the_demo(
    starts: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_config: RunConfig) -> RunDirectory:
        raise CorpusError("the disk is busy", hint="wait for a better time")

    use_machine(monkeypatch, GpuRow())
    async with at_home(None) as (app, pilot):
        await until(pilot, lambda: shows(app, "57 State of the Union addresses"))
        assert "CPU, 8 cores" in text_of(app)
        assert lines_of(app)[0].endswith("gpu1 · 8 CPUs")
        with monkeypatch.context() as patch:
            patch.setattr("rnnlm_tui.client.start.start_run", refuse)
            await press(pilot, "enter", "wait for a better time")
        assert app.current_mode == "runs"
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and "calm-badger" in text_of(app))
    assert starts == [DEMO]


async def test_a_long_list_scrolls_draws_only_what_changes_and_leaves_room_for_the_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, now = list[str](), time()
    monkeypatch.setattr("rnnlm_tui.tui.widgets.runs_table.time", lambda: now)

    def counted(columns: Sequence[RunColumn], row: ArrangedRun, table: RunsTable) -> Content:
        drawn.append(row.id)
        return row_of(columns, row, table)

    for index in range(2):
        create_run(DEMO, f"run-{index:02d}")
    async with at_home("run-00", settings={"runs order": ["name", False]}) as (app, pilot):

        async def takes(rows: int) -> None:
            table, detail = app.screen.query_one("#runs"), app.screen.query_one("#run-detail")
            below = app.size.height - 3 - rows
            await until(pilot, lambda: (table.size.height, detail.size.height) == (rows, below))

        await takes(5)
        for count, rows in ((6, 9), (30, 10)):
            for index in range(len(app.summaries or ()), count):
                create_run(DEMO, f"run-{index:02d}")
            app.watcher.poll_now()
            await takes(rows)
        await pilot.press("slash", *"run-01")
        await until(pilot, lambda: len(shown(app)) == 1)
        assert app.screen.query_one("#runs").size.height == 10, "a filter moves nothing"
        await pilot.press("escape", "home")
        await pilot.resize_terminal(120, 40)
        await takes(18)
        await pilot.resize_terminal(80, 24)
        await takes(10)
        await until(pilot, lambda: "─ ↓ 23 more ─" in text_of(app))
        await pilot.press("end", "pageup", "up", "up")
        assert "›  run-21" in shown(app)
        assert "─ ↑ 21 more  ↓ 2 more ─" in text_of(app)
        await pilot.press("end")
        assert "─ ↑ 23 more ─" in text_of(app)
        await pilot.press(*["space", "up"] * 8, "space")
        await until(pilot, lambda: "8 runs are marked" in lines_of(app)[-1])
        assert len(app.marks.names) == 8
        monkeypatch.setattr("rnnlm_tui.tui.widgets.runs_table.row_of", counted)
        for layout in ((), ("V",)):
            await pilot.press("home", *layout)
            drawn.clear()
            await pilot.press("down")
            assert "›  run-01" in shown(app)
            assert not drawn, "only the cursor moved"
        await pilot.click(offset=(6, 5), times=2)
        await until(pilot, lambda: app.current_mode == "config" and is_open(app, "run-01"))


async def test_the_detail_says_why_a_run_failed_or_cannot_be_read_and_what_its_text_lacks() -> None:
    notes = "3 lines longer than 65,536 characters split into several sentences", "2 files ignored"
    failed = EventRow(1, 0, "failed", "the loss is not a number", START)
    record(create_run(DEMO, "amber-vole"), Facts(max_steps=3, corpus_notes=notes), failed)
    create_run(DEMO, "div").config_path.write_text("{")
    async with at_home("amber-vole") as (app, pilot):
        assert "✗ the loss is not a number" in text_of(app)
        assert re.search(r"text +2 notes", text_of(app))
        await pilot.resize_terminal(140, 40)
        await until(pilot, lambda: shows(app, "! 2 files ignored"))
        words = " ".join(re.sub("[│╭╮╰╯─]", "", text_of(app)).split())
        assert f"! {notes[0]} ! {notes[1]}" in words
        await pilot.press("o", "o", "end")  # by name
        for size in ((80, 24), (140, 40)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: shows(app, "? can't be read"))
            assert "lost contact" not in text_of(app)
            await until(pilot, lambda: shows(app, "config.toml"))


# columns and orders, without an app


def measured(
    name: str, best: float | None, status: RunStatus = "stopped", **more: object
) -> RunSummary:
    figures = EvaluationFigures(best_perplexity=best)
    return make_summary(name, status, 9, None, validation=figures, **more)


def test_only_runs_with_the_same_text_and_tokenizer_are_compared() -> None:
    runs = [
        measured(
            name,
            best,
            corpus_hash=corpus,
            evaluation=EvaluationFigures(scored_bytes=size),
        )
        for name, best, corpus, size in (
            ("a", 55.0, "speeches", 500),
            ("b", 60.0, "speeches", 500),
            ("elman-1", 4.4, "elman", 500),
            ("elman-2", 4.2, "elman", 500),
            ("letters", 3.1, "letters", 500),
            ("sentences", 3.1, "speeches", 400),
            ("draft", None, "speeches", 500),
        )
    ]
    assert best_of_comparable(runs) == {"a": 55.0, "b": 55.0, "elman-1": 4.2, "elman-2": 4.2}


ORDERS: dict[SortKey, tuple[str, str]] = {
    "age": ("abc", "cba"), "perplexity": ("cba", "bca"), "name": ("abc", "cba"),
    "status": ("abc", "cba"), "progress": ("cba", "bca"), "Δ best": ("cba", "bca"),
    "tok/s": ("cba", "bca"), "time": ("cba", "bca"), "tags": ("cba", "bca"),
    "model": ("acb", "bac"),
}  # fmt: skip
"""Each order, and the reverse one."""


def test_each_column_sorts_both_ways_with_missing_values_last_and_pinned_runs_first() -> None:
    lstm = ModelFigures(cell_type="lstm", num_layers=2, hidden_size=192, tie_weights=True)
    all_runs = [
        measured("b", 60.0, "failed", updated=3e3, tokens_per_second=10.0, active_seconds=5.0,
            max_steps=99, model=lstm, tags=("z",)),
        measured("a", None, "running", updated=1e3, tokens_per_second=None, active_seconds=0.0,
            max_steps=None),
        measured("c", 50.0, "finished", updated=2e3, tokens_per_second=30.0, active_seconds=9.0,
            max_steps=9, tags=("demo",)),
    ]  # fmt: skip
    best = {"b": 50.0, "c": 50.0}
    for key, orders in ORDERS.items():
        for backwards, names in enumerate(orders):
            found = sorted_runs(all_runs, key, backwards=bool(backwards), best=best)
            assert "".join(run.run for run in found) == names, key
    assert [rises(key) for key in ORDERS] == [True] * 4 + [False, True, False, False, True, True]
    for key, backwards, pinned in product(SORT_KEYS, (False, True), all_runs):
        runs = [run.model_copy(update={"pinned": run is pinned}) for run in all_runs]
        assert sorted_runs(runs, key, backwards=backwards, best=best)[0].run == pinned.run
    assert saved_order({"runs": ["name", True]}, "runs", SORT_KEYS) == ("name", True)
    for kept in (["shoe size", True], ["name"], "name", [["name"], True], None):
        assert saved_order({"runs": kept}, "runs", SORT_KEYS) == ("age", False)
    assert RunLayout.from_setting(["groups", "cell"]).setting() == ["groups", "cell"]
    assert RunLayout.from_setting(["groups", "no_such_key"]).name == "list"
