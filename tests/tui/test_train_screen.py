"""The train screen: its keys, and what each status shows."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.formatting import figure
from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.schema.presets import DEMO, ELMAN
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import (
    EvaluationFigures,
    PatienceFigures,
    PreparingFigures,
    RequestFigures,
    SourceFigures,
    TrainFigures,
)
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import Trashed, delete_run, list_trash
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.samples import sample_lines, samples_by_prompt
from tests.homes import trained
from tests.tui.fakes import make_snapshot, preparing
from tests.tui.support import at_home, lines_of, running_app, text_of, three_runs, until, with_runs


@pytest.mark.parametrize(
    ("key", "verb"),
    [("space", "pause"), ("s", "sample"), ("c", "checkpoint"), ("e", "evaluate")],
)
async def test_a_letter_sends_its_command_to_the_worker(key: str, verb: str) -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: services.sent)
        assert services.sent == [("plain-otter", verb, {})]
        await until(pilot, lambda: "3,752" in lines_of(app)[-1])


@pytest.mark.parametrize("key", ["S", "enter"])
async def test_stop_asks_when(key: str) -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("S")
        await until(pilot, lambda: "after the evaluation at step 4,000" in text_of(app))
        await pilot.press(key)
        await until(pilot, lambda: services.sent == [("plain-otter", "stop", {})])
        await until(pilot, lambda: "3,752" in lines_of(app)[-1])


@pytest.mark.parametrize(("key", "mark"), [("p", "epoch"), ("e", "evaluation")])
async def test_a_stop_can_wait_for_the_epoch_or_the_evaluation(key: str, mark: str) -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("S", "u")  # nothing is planned yet
        assert "keep training" in text_of(app)
        await pilot.press(key)
        await until(pilot, lambda: services.planned == [mark])
        await until(pilot, lambda: "confirmed: stops after this epoch" in lines_of(app)[-1])
        assert services.sent == []


async def test_a_planned_stop_is_shown_and_can_be_cancelled() -> None:
    snapshot = make_snapshot()
    summary = snapshot.summary.model_copy(update={"stop_after": "epoch"})
    services = with_runs(replace(snapshot, summary=summary))
    async with running_app(services) as (app, pilot):
        assert "stops after this epoch" in lines_of(app)[0]
        await pilot.press("S")
        await until(pilot, lambda: "don't stop after this epoch" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: services.planned == [None])


async def test_what_was_asked_is_in_the_first_line_until_the_worker_confirms() -> None:
    snapshot = make_snapshot()
    asked = (RequestFigures(words="learning_rate 0.001\x1b[31m", who="alex, pts/3"),)
    summary = snapshot.summary.model_copy(update={"requests": asked})
    for width, words in ((120, "learning_rate 0.001␛[31m requested"), (60, "requested…")):
        services = with_runs(replace(snapshot, summary=summary))
        async with running_app(services, size=(width, 24)) as (app, _):
            assert words in lines_of(app)[0]
            assert "plain-otter" in lines_of(app)[0]


async def test_every_chart_is_drawn_once_for_the_first_paint_and_not_again_for_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "rnnlm_tui.tui.poller.PAINT_SECONDS", 3_600
    )  # the app itself reports the first paint
    drawn, prepare = list[str | None](), Chart.prepare

    def noted(chart: Chart, width: int, height: int) -> None:
        drawn.append(chart.id)
        prepare(chart, width, height)

    monkeypatch.setattr(Chart, "prepare", noted)
    async with running_app(with_runs(make_snapshot()), size=(120, 40)) as (app, _):
        assert app.machine is not None
        assert sorted(filter(None, drawn)) == ["gradient", "loss", "perplexity", "speed"]


@pytest.mark.parametrize(
    ("status", "verb"),
    [("paused", "Resume"), ("stopped", "Resume"), ("crashed", "Resume"), ("failed", "Retry")],
)
async def test_space_resumes_a_run_without_a_worker(status: RunStatus, verb: str) -> None:
    services = with_runs(make_snapshot(status))
    async with running_app(services) as (app, pilot):
        assert lines_of(app)[-1].startswith(f" space {verb} ")
        await pilot.press("space")
        await until(pilot, lambda: services.resumed == ["plain-otter"])
        await until(pilot, lambda: "plain-otter resumed at step 3,752" in lines_of(app)[-1])
        assert services.sent == []


async def test_a_finished_run_offers_only_possible_actions() -> None:
    services = with_runs(make_snapshot("finished", 4_754))
    async with running_app(services) as (app, pilot):
        assert (
            lines_of(app)[-1]
            == " ← → Cursor  ↑ ↓ Zoom  h History  l Log y  x Axis  + - 0 Smooth  q Leave"
        )
        await pilot.press("space")
        await until(pilot, lambda: "finished" in lines_of(app)[-1])
        assert services.sent == []
        assert services.resumed == []


async def test_space_on_an_early_ended_run_shows_its_hint() -> None:
    hint = (
        "`rnnlm-tui train --from plain-otter@best --set training.patience=10` starts a new run from"
        " its best weights with twice the patience"
    )
    early = make_snapshot(
        "finished",
        3_000,
        message="stopped early: 5 evaluations without a better validation loss",
        hint=hint,
    )
    async with running_app(with_runs(early)) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: "--from plain-otter@best" in text_of(app))
        assert "stopped early" in text_of(app)


async def test_a_rejected_command_is_reported_with_its_hint() -> None:
    services = with_runs(make_snapshot())
    services.refuse = RunStateError(
        "plain-otter is not running (status stopped)", hint="resume it first"
    )
    async with running_app(services) as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "resume it first" in text_of(app))
        assert "is not running" in text_of(app)


async def test_x_steps_through_all_axes() -> None:
    async with running_app() as (app, pilot):
        for unit in ("step", "tokens", "epoch", "active time", "time of day", "step"):
            assert lines_of(app)[15].endswith(f"─ {unit} ─╯")
            await pilot.press("x")


async def test_l_and_y_change_the_scale_of_the_chosen_chart_alone() -> None:
    async with running_app() as (app, pilot):
        assert "Perplexity, log" in text_of(app)
        await pilot.press("l")
        assert "Perplexity, log" not in text_of(app)
        await pilot.press("y")
        assert "Perplexity, log" in text_of(app)
        await pilot.press("tab", "l")
        assert "Tokens/s, log" in text_of(app)
        assert "Perplexity, log" in text_of(app)


async def test_plus_minus_and_0_change_the_smoothing_of_every_chart() -> None:
    async with running_app() as (app, pilot):

        def smoothings() -> set[float]:
            return {chart.smoothing for chart in app.screen.query(Chart)}

        assert smoothings() == {0.9}
        await pilot.press("plus", "plus", "plus")
        assert smoothings() == {0.99}
        await pilot.press("minus", "minus")
        assert smoothings() == {0.6}
        await pilot.press("0")
        assert smoothings() == {0.0}
        await pilot.press("minus")
        assert smoothings() == {0.0}


async def test_the_cursor_is_at_the_same_step_on_all_charts_and_esc_removes_it() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        await pilot.press("right", "left", "left", "left")
        places = {chart.cursor for chart in app.screen.query(Chart)}
        assert len(places) == 1
        assert 3_500 < (places.pop() or 0) < 3_750
        assert "at step" in text_of(app)
        assert "Close cursor" in lines_of(app)[-1]
        await pilot.press("escape")
        assert {chart.cursor for chart in app.screen.query(Chart)} == {None}
        assert "Close cursor" not in lines_of(app)[-1]


async def test_a_cursor_needs_a_first_step() -> None:
    async with running_app(with_runs(preparing())) as (app, pilot):
        await pilot.press("right", "left")
        assert {chart.cursor for chart in app.screen.query(Chart)} == {None}


async def test_a_marked_run_has_its_letter_in_the_list_beside_the_charts() -> None:
    services = with_runs(make_snapshot(), make_snapshot(name="brisk-heron"))
    async with running_app(
        services, size=(120, 40), settings={"marked": ["brisk-heron", "plain-otter"]}
    ) as (app, _):
        lines = [line[2:22] for line in lines_of(app)]
        (heron,), (otter,) = (
            [index for index, line in enumerate(lines) if name in line and "rnnlm" not in line]
            for name in ("brisk-heron", "plain-otter")
        )
        assert lines[heron + 1].startswith("A running")
        assert lines[otter + 1].startswith("B running")


async def test_tab_goes_through_visible_charts_first() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        seen = []
        for _ in range(4):
            seen.append(
                next(
                    chart.id
                    for chart in app.screen.query(Chart)
                    if chart.highlighted and chart.display
                )
            )
            await pilot.press("tab")
        assert seen == ["perplexity", "loss", "speed", "gradient"]
        await pilot.press("shift+tab")
        assert (
            next(
                chart.id for chart in app.screen.query(Chart) if chart.highlighted and chart.display
            )
            == "gradient"
        )


async def test_z_shows_one_chart_alone_and_all_again() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("tab", "z")
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == ["speed"]
        await pilot.press("shift+tab")
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == ["perplexity"]
        await pilot.press("escape")
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == [
            "perplexity",
            "speed",
        ]


async def test_a_shows_the_first_steep_fall() -> None:
    async with running_app() as (app, pilot):
        assert "↑ from" in text_of(app)
        await pilot.press("a")
        assert "↑ from" not in text_of(app)


async def test_preparing_shows_the_corpus_in_bytes_and_only_what_can_be_done() -> None:
    async with running_app(with_runs(preparing())) as (app, _):
        assert "turning text into tokens" in lines_of(app)[2]
        assert "48 %" in lines_of(app)[2]
        assert "900 kB of 1.9 MB" in lines_of(app)[2]
        assert lines_of(app)[-1].startswith(" S Stop")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_model_that_is_being_built_shows_the_stage_and_what_memory_lacks(
    size: tuple[int, int],
) -> None:
    why = (
        "it needs 26 GiB of memory by estimate and 23 GiB are free: training.batch_size = 1,672"
        " should fit"
    )
    building = make_snapshot(
        "preparing", 0, preparing=PreparingFigures(phase="building", done=0, total=0), message=why
    )
    async with running_app(with_runs(building), size=size) as (app, _):
        shown, progress = text_of(app), lines_of(app)[2]
    assert "building the model" in shown
    assert " B " not in progress, "nothing is counted in bytes any more"
    for word in why.split():
        assert word in shown


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_degraded_run_shows_its_reason_and_hint_in_full(size: tuple[int, int]) -> None:
    why = (
        "it trains on; rows wait in memory (1,204): can't write log/000001.jsonl: No space left on"
        " device; free some space on this disk and try again"
    )
    async with running_app(with_runs(make_snapshot("degraded", message=why)), size=size) as (
        app,
        _,
    ):
        shown = text_of(app)
    for word in why.split():
        assert word in shown
    assert "time left unknown" in shown


async def test_a_stalled_run_shows_the_fact_and_the_last_log_line() -> None:
    async with running_app(
        with_runs(make_snapshot("stalled", message="no step since 14:31:07"))
    ) as (app, _):
        assert lines_of(app)[-3] == " ◌ no step since 14:31:07"
        assert lines_of(app)[-2] == " Last log line: evaluation at 3,751"
        assert lines_of(app)[2].endswith("◌ time left unknown")
        assert "falling" not in lines_of(app)[3]


FAILED = (
    "loss or gradient was not finite for 20 steps in a row up to step 53 (loss nan, gradient nan):"
    " no update was done after step 33, and the checkpoint of step 53 has the weights of then"
    " (checkpoints/step-000000053)"
)
ADVICE = (
    "a resume would fail again; a new run may do better with gradients clipped and a smaller"
    " learning rate than 1000: `rnnlm-tui train --config"
    " /home/ada/.local/share/rnnlm-tui/runs/plain-otter/config.toml --set optimizer.max_grad_norm=1"
    " --set optimizer.learning_rate=1`"
)


@pytest.mark.parametrize("size", [(60, 24), (80, 24), (120, 40), (200, 60)])
async def test_a_failed_run_shows_its_reason_and_hint_and_offers_no_futile_retry(
    size: tuple[int, int],
) -> None:
    failed = make_snapshot("failed", message=FAILED, hint=ADVICE, diverged=True)
    services = with_runs(failed)
    async with running_app(services, size=size) as (app, pilot):
        shown = [word for line in lines_of(app) for word in line.replace("│", " ").split()]
        missing = [
            word for word in f"{FAILED} {ADVICE}".split() if word not in shown and len(word) < 40
        ]
        assert missing == []
        assert "Retry" not in lines_of(app)[-1]
        await pilot.press("space")
        assert "it would fail again" in lines_of(app)[-1]
        services.snapshots["plain-otter"] = make_snapshot()
        await until(pilot, lambda: "To do" not in text_of(app))
        await pilot.press("escape")  # ends the notice that covers the footer
        assert "Pause" in text_of(app)


@pytest.mark.parametrize("status", ["failed", "crashed", "lost"])
async def test_trouble_replaces_the_samples(status: RunStatus) -> None:
    async with running_app(
        with_runs(make_snapshot(status, message="the loss is not a number at step 3,752"))
    ) as (app, _):
        assert "the loss is not a number at step 3,752" in lines_of(app)[-3]
        assert "left" not in lines_of(app)[2].replace("time left unknown", "")


async def test_the_elman_source_draws_its_floor() -> None:
    snapshot = make_snapshot(config=ELMAN, source=SourceFigures(perplexity=48.0))
    async with running_app(with_runs(snapshot), size=(120, 40)) as (app, _):
        assert "source 48.0" in text_of(app)
        assert "bigram 73.0" in text_of(app)


async def test_columns_stay_in_place_while_digits_change() -> None:
    services = with_runs(make_snapshot(step=3_751))
    async with running_app(services) as (app, pilot):
        before = [
            line.index(word)
            for line, word in zip(lines_of(app)[3:5], ("train", "grad"), strict=True)
        ]
        services.snapshots["plain-otter"] = make_snapshot(
            step=900,
            train=TrainFigures(loss=5.1, perplexity=1_234.5, grad_norm=12.0, learning_rate=1e-10),
        )
        await until(pilot, lambda: "1,23" in lines_of(app)[3])
        after = [
            line.index(word)
            for line, word in zip(lines_of(app)[3:5], ("train", "grad"), strict=True)
        ]
        assert before == after
        assert lines_of(app)[2].index("/") == 12


async def test_nothing_is_drawn_again_while_nothing_changes() -> None:
    async with running_app() as (app, pilot):
        screen = app.screen
        assert isinstance(screen, TrainScreen)
        shown: list[object] = []
        show = screen.show_snapshot

        def counting(snapshot: object) -> None:
            shown.append(snapshot)
            show(snapshot)  # type: ignore[arg-type]

        screen.show_snapshot = counting  # type: ignore[method-assign]
        looks = app.watcher.polls
        await until(pilot, lambda: app.watcher.polls > looks + 3)
        assert shown == []


@pytest.mark.parametrize(
    ("most", "said"),
    [(4_754, "at step 100"), (270, "at the end (step 270)"), (None, "at step 100")],
)
def test_the_first_samples_are_announced_for_a_future_step(most: int | None, said: str) -> None:
    config = parse_config(merge(DEMO, {"evaluation.every": 100 if most != 270 else 500}))
    snapshot = replace(make_snapshot(step=50, max_steps=most, config=config), samples=())
    assert f"no samples yet: first {said}, or press s" in sample_lines(snapshot, 100, 2)[0].plain


def test_the_announcement_is_wrapped_where_there_is_room_and_else_cut() -> None:
    snapshot = replace(
        make_snapshot(step=50, config=parse_config(merge(DEMO, {"evaluation.every": 100}))),
        samples=(),
    )
    whole = " ".join(line.plain for line in sample_lines(snapshot, 40, 5))
    assert whole == "no samples yet: first at step 100, or press s"
    assert all(len(line.plain) <= 40 for line in sample_lines(snapshot, 40, 5))
    (line,) = sample_lines(snapshot, 40, 1)
    assert line.plain.endswith("…")


def test_only_the_newest_sample_of_a_prompt_and_step_is_shown() -> None:
    rows = [
        SampleRow(1, step, "We must", text, 3, 7, time)
        for step, text, time in ((10, " a", 1.0), (10, " b", 2.0), (20, " c", 3.0))
    ]
    assert [[row.text for row in group] for group in samples_by_prompt(rows, ())] == [[" c", " b"]]


def test_prompts_that_the_config_lacks_come_last_as_they_were_asked() -> None:
    rows = [
        SampleRow(1, step, prompt, "", 3, 7, float(time))
        for time, (step, prompt) in enumerate([(10, "old"), (20, "c"), (20, "We must"), (20, "a")])
    ]
    groups = samples_by_prompt(rows, ["We must"])
    assert [group[0].prompt for group in groups] == ["We must", "c", "a", "old"]


def words_of(line: str) -> dict[int, str]:
    return {column: line[column:].split("  ")[0].rstrip() for column in (1, 28, 43, 60)}


async def test_training_and_validation_figures_are_labelled_in_their_columns() -> None:
    async with running_app() as (app, _):
        assert words_of(lines_of(app)[3]) == {
            1: "val 55.3 ★ ▼ falling",
            28: "train 50.9",
            43: "train loss 3.93",
            60: "val bits/byte 1.67",
        }


@pytest.mark.parametrize(
    ("waited", "words"), [(0, "val 55.3 ★ ▼ falling"), (2, "val 55.3 ★ patience 2/5")]
)
async def test_patience_is_shown_beside_the_validation_figure(waited: int, words: str) -> None:
    async with running_app(
        with_runs(make_snapshot(patience=PatienceFigures(waited=waited, limit=5)))
    ) as (app, _):
        assert words_of(lines_of(app)[3])[1] == words


async def test_after_the_end_the_test_perplexity_replaces_the_time_left() -> None:
    services = with_runs(
        make_snapshot("finished", 4_754, test=EvaluationFigures(name="test", perplexity=48.2))
    )
    async with running_app(services) as (app, _):
        assert lines_of(app)[2].endswith("100 %      test 48.2")


async def test_without_smoothing_the_legend_shows_the_newest_value() -> None:
    async with running_app() as (app, pilot):
        assert app.snapshot is not None
        newest = app.snapshot.series.columns["loss"].mean[-1]
        raw = figure(math.exp(newest))
        assert raw != "50.9"
        assert "train 50.9" in lines_of(app)[3]
        assert "train 50.9" in lines_of(app)[5]
        await pilot.press("0")
        await until(pilot, lambda: f"train {raw}" in lines_of(app)[5])
        assert "train 50.9" in lines_of(app)[3]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("finished", "the run is finished"),
        ("stopped", "space resumes it"),
        ("failed", "space retries it"),
        ("draft", "space starts it"),
    ],
)
@pytest.mark.parametrize("key", ["s", "c", "e", "S"])
async def test_commands_without_a_worker_are_rejected_at_once(
    status: RunStatus, why: str, key: str
) -> None:
    services = with_runs(make_snapshot(status))
    async with running_app(services) as (app, pilot):
        await pilot.press(key)
        assert why in lines_of(app)[-1]
        assert services.sent == []


@pytest.mark.parametrize(
    ("key", "said"),
    [("m", "r, then m: write a note on the run"), ("C", "3, then C: check")],
)
async def test_a_letter_of_another_screen_tells_where_it_works(key: str, said: str) -> None:
    async with running_app() as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: said in lines_of(app)[-1])
        await pilot.press("s")
        assert said not in lines_of(app)[-1]


async def test_a_letter_without_an_action_shows_nothing() -> None:
    async with running_app() as (app, pilot):
        before = lines_of(app)[-1]
        await pilot.press("Z")
        assert lines_of(app)[-1] == before


async def test_letters_typed_into_a_text_field_show_no_hint() -> None:
    async with running_app(pane="runs") as (app, pilot):
        await pilot.press("h")
        await until(pilot, lambda: "2, then h" in lines_of(app)[-1])
        await pilot.press("slash", "h")
        assert "2, then h" not in text_of(app)


async def test_a_cursor_before_the_first_samples_shows_their_step() -> None:
    config = parse_config(merge(DEMO, {"evaluation.every": 500}))
    snapshot = make_snapshot(config=config)
    async with running_app(with_runs(snapshot)) as (app, pilot):
        await pilot.press("home", "right")
        await until(pilot, lambda: "no samples up to here: first at step 500" in text_of(app))


def test_samples_of_raw_text_keep_their_line_breaks_and_indentation() -> None:
    snapshot = make_snapshot("running")
    row = replace(snapshot.samples[0], prompt="def f():\n", text="    if x:\n\treturn 1\n\ny = 2")
    snapshot = replace(
        snapshot,
        samples=(row,),
        summary=snapshot.summary.model_copy(update={"corpus_layout": "raw"}),
    )
    shown = [line.plain[7:].rstrip() for line in sample_lines(snapshot, 60, 8)]
    assert shown[:5] == ["def f():", "    if x:", "    return 1", "", "y = 2"]
    flat = replace(
        snapshot, summary=snapshot.summary.model_copy(update={"corpus_layout": "sentences"})
    )
    assert sample_lines(flat, 60, 8)[0].plain[7:].split() == [
        "def",
        "f():",
        "if",
        "x:",
        "return",
        "1",
        "y",
        "=",
        "2",
    ]


async def test_capital_j_and_k_open_the_next_and_previous_run() -> None:
    async with running_app(
        three_runs(), pane="train", settings={"runs order": ["name", False]}
    ) as (app, pilot):
        assert "plain-otter" in lines_of(app)[0]
        await pilot.press("J")
        await until(pilot, lambda: "this is the last run in the list" in lines_of(app)[-1])
        await pilot.press("K")
        await until(
            pilot, lambda: "brisk-heron" in lines_of(app)[0] and "J K Run" in lines_of(app)[-1]
        )
        await pilot.press("K", "K")
        await until(
            pilot,
            lambda: (
                "amber-vole" in lines_of(app)[0]
                and "this is the first run in the list" in lines_of(app)[-1]
            ),
        )
        await pilot.press("J", "J")
        await until(pilot, lambda: "plain-otter" in lines_of(app)[0])
        assert app.current_mode == "train"


async def test_with_one_run_the_footer_offers_no_other() -> None:
    async with running_app(
        with_runs(make_snapshot("finished", 4_754)), pane="train", size=(120, 40)
    ) as (app, _):
        assert "J K" not in lines_of(app)[-1]


async def test_a_failed_run_offers_its_config_its_log_and_discarding() -> None:
    services = with_runs(
        make_snapshot("failed", message="the text is empty"),
        make_snapshot("finished", 4_754, name="brisk-heron"),
    )
    async with running_app(services) as (app, pilot):
        assert [
            part
            for part in ("space Retry", "n New from it", "L Log", "d Discard")
            if part in lines_of(app)[-1]
        ] == [
            "space Retry",
            "n New from it",
            "L Log",
            "d Discard",
        ]
        await pilot.press("n")
        await until(
            pilot, lambda: app.current_mode == "config" and "   from plain-otter" in text_of(app)
        )


async def test_d_discards_a_failed_run() -> None:
    trained("plain-otter", "failed")
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: "plain-otter moved to the trash, T shows it" in text_of(app))
        assert app.current_mode == "runs"
        assert [one.name for one in list_trash()] == ["plain-otter"]


async def test_a_run_that_was_opened_while_another_is_discarded_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained("brisk-heron")
    trained("plain-otter", "failed")
    may_delete = threading.Event()

    def slow_delete(run: RunDirectory) -> Trashed:
        assert may_delete.wait(10)
        return delete_run(run)

    monkeypatch.setattr("rnnlm_tui.store.trash.delete_run", slow_delete)
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("d", "J")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])
        may_delete.set()
        await until(pilot, lambda: "plain-otter moved to the trash" in lines_of(app)[-1])
        assert app.current_mode == "train"
        assert "brisk-heron" in lines_of(app)[0]


async def test_only_a_failed_run_can_be_discarded() -> None:
    trained("plain-otter")
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: "only a failed run can be discarded here" in lines_of(app)[-1])
        assert list_trash() == []
