"""The train screen: its keys, and what each status shows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.schema.presets import DEMO, ELMAN
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import (
    EvaluationFigures,
    PatienceFigures,
    PreparingFigures,
    RequestFigures,
    SourceFigures,
)
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.store.trash import Trashed, delete_run, list_trash
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.samples import sample_lines, samples_by_prompt
from tests.homes import trained, training
from tests.tui.fakes import make_snapshot, preparing
from tests.tui.support import at_home, lines_of, show, shows, text_of, until
from tests.unit.client.logs import record


@pytest.fixture
def trains() -> Iterator[None]:
    with training():
        yield


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the app asks of a worker that obeys, and of the start of one."""
    asked: list[object] = []

    def send(_run: RunDirectory, verb: str, **arguments: Any) -> CommandResult:
        asked.append((verb, *arguments.values()))
        saved = "checkpoints/step-000002401"
        return CommandResult(id="1", ok=True, step=2_401, checkpoint=saved, text="stops after it")

    def resume(run: RunDirectory, *_: object) -> str:
        asked.append("resume")
        return f"{run.name} resumed at step 2,400"

    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    monkeypatch.setattr("rnnlm_tui.client.start.resume_run", resume)
    return asked


@pytest.mark.usefixtures("trains")
async def test_letters_send_commands_to_the_worker_and_s_asks_when_to_stop(
    sent: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_home(pane="train") as (app, pilot):
        for keys, command in (
            ("space", ("pause",)),
            ("s", ("sample",)),
            ("c", ("checkpoint",)),
            ("e", ("evaluate",)),
            ("S S", ("stop",)),
            ("S enter", ("stop",)),
            ("S u p", ("stop_after", "epoch")),  # without a plan, u does nothing
            ("S e", ("stop_after", "evaluation")),
        ):
            sent.clear()
            await pilot.press(*keys.split())
            await until(pilot, lambda: sent)
            assert sent == [command]
            await until(
                pilot,
                lambda: any(said in lines_of(app)[-1] for said in ("2,401", "confirmed: stops")),
            )
            await pilot.press("escape")
        await pilot.press("S")
        await until(pilot, lambda: shows(app, "after the evaluation at step 2,500"))
        assert shows(app, "keep training")
        await pilot.press("escape")

        def reject(*_: object, **__: object) -> None:
            raise RunStateError("plain-otter is not running", hint="resume it first")

        monkeypatch.setattr("rnnlm_tui.client.control.send", reject)
        await pilot.press("c")
        await until(pilot, lambda: shows(app, "is not running") and shows(app, "resume it first"))
        await pilot.press("escape")

        # letters without an action here tell where they work
        before = lines_of(app)[-1]
        await pilot.press("Z")
        assert lines_of(app)[-1] == before
        for key, said in (
            ("m", "r, then m: write a note on the run"),
            ("C", "3, then C: check"),
        ):
            await pilot.press(key)
            await until(pilot, lambda: said in lines_of(app)[-1])  # noqa: B023
            await pilot.press("x")
            assert said not in lines_of(app)[-1]
        await pilot.press("r", "h")
        await until(pilot, lambda: "2, then h" in lines_of(app)[-1])
        await pilot.press("slash", "h")  # typed into the filter
        assert not shows(app, "2, then h")


async def test_space_resumes_a_run_without_a_worker_and_commands_say_why_not(
    sent: list[object],
) -> None:
    trained("plain-otter")
    async with at_home(pane="train") as (app, pilot):
        verbs: dict[RunStatus, str] = {
            "paused": "Resume", "stopped": "Resume", "crashed": "Resume", "failed": "Retry",
        }  # fmt: skip
        for status, verb in verbs.items():
            await show(app, pilot, make_snapshot(status))
            assert lines_of(app)[-1].startswith(f" space {verb} ")
            await pilot.press("space")
            await until(pilot, lambda: "resumed at step" in lines_of(app)[-1])
            assert sent.pop() in ("resume", ("resume",))
            await pilot.press("escape")
        whys: dict[RunStatus, str] = {
            "finished": "the run is finished",
            "stopped": "space resumes it",
            "failed": "space retries it",
            "draft": "space starts it",
        }
        for status, why in whys.items():
            await show(app, pilot, make_snapshot(status))
            for key in "sceS":
                await pilot.press(key)
                assert why in lines_of(app)[-1]
                await pilot.press("escape")
        hint = "`rnnlm-tui train --from plain-otter@best` starts a new run"
        early = make_snapshot("finished", message="stopped early: 5 evaluations", hint=hint)
        for snapshot, said in ((make_snapshot("finished"), "finished"), (early, "stopped early")):
            await show(app, pilot, snapshot)
            await pilot.press("space")
            await until(pilot, lambda: shows(app, said))  # noqa: B023
        assert shows(app, "--from plain-otter@best")
        assert sent == []


@pytest.mark.usefixtures("trains")
async def test_every_chart_is_drawn_once_for_the_first_paint_and_not_again_without_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rnnlm_tui.tui.poller.PAINT_SECONDS", 3_600)  # the app reports it itself
    drawn, prepare = list[str | None](), Chart.prepare

    def noted(chart: Chart, width: int, height: int) -> None:
        drawn.append(chart.id)
        prepare(chart, width, height)

    monkeypatch.setattr(Chart, "prepare", noted)
    async with at_home(pane="train", size=(120, 40)) as (app, pilot):
        assert app.machine is not None
        looks = app.watcher.polls
        await until(pilot, lambda: app.watcher.polls > looks + 3)
        assert sorted(filter(None, drawn)) == ["gradient", "loss", "perplexity", "speed"]


MEMORY = (
    "it needs 26 GiB of memory by estimate and 23 GiB are free: training.batch_size = 1,672 fits"
)
DEGRADED = (
    "it trains on; rows wait in memory (1,204): can't write log/000001.jsonl: No space left on"
    " device; free some space on this disk and try again"
)
FAILED = (
    "loss or gradient was not finite for 20 steps in a row up to step 53 (loss nan, gradient nan):"
    " no update was done after step 33, and the checkpoint of step 53 has the weights of then"
)
ADVICE = (
    "a resume would fail again; a new run may do better with a smaller learning rate than 1000:"
    " `rnnlm-tui train --config /home/ada/.local/share/rnnlm-tui/runs/plain-otter/config.toml`"
)


async def test_every_status_has_its_first_line_figures_footer_and_what_to_do_in_trouble() -> None:
    trained("plain-otter")
    planned = make_snapshot()
    summary = planned.summary.model_copy(update={"stop_after": "epoch"})
    planned = planned._replace(summary=summary)
    request = RequestFigures(words="learning_rate 0.001\x1b[31m", who="alex, pts/3")
    requested = make_snapshot(requests=(request,))
    whole = EvaluationFigures(name="test", perplexity=48.2)
    patient = make_snapshot(patience=PatienceFigures(waited=2, limit=5))
    building = PreparingFigures(phase="building", done=0, total=0)
    troubles = (
        (make_snapshot("preparing", 0, preparing=building, message=MEMORY), MEMORY),
        (make_snapshot("degraded", message=DEGRADED), f"{DEGRADED} time left unknown"),
        (make_snapshot("crashed", message="killed at 3,752"), "killed at 3,752"),
        (make_snapshot("lost", message="no answer since 3,752"), "no answer since 3,752"),
        (make_snapshot("failed", message=FAILED, hint=ADVICE, diverged=True), f"{FAILED} {ADVICE}"),
    )
    async with at_home(pane="train", size=(60, 24)) as (app, pilot):
        for size, (snapshot, why) in product(((60, 24), (120, 40), (80, 24)), troubles):
            await pilot.resize_terminal(*size)
            await show(app, pilot, snapshot)
            cells = [word for line in lines_of(app) for word in line.replace("│", " ").split()]
            assert [word for word in why.split() if word not in cells and len(word) < 40] == []
            progress = next(line for line in lines_of(app) if "/ 4,754" in line or "buil" in line)
            assert " B " not in progress, "nothing is counted in bytes any more"
            assert "left" not in progress.replace("time left unknown", "")
        assert "Retry" not in lines_of(app)[-1]
        await pilot.press("space")
        assert "it would fail again" in lines_of(app)[-1]
        await show(app, pilot, make_snapshot())
        assert not shows(app, "To do")
        await pilot.press("escape")  # ends the notice that covers the footer
        assert shows(app, "Pause")
        await show(app, pilot, make_snapshot("failed", message="the loss is not a number"))
        for key in ("right_square_bracket", "z"):  # without a sidebar, and with a chart alone
            await pilot.press(key)
            assert shows(app, "the loss is not a number")
        await pilot.press("right_square_bracket", "z")

        for snapshot, row, text in (
            (requested, 0, "plain-otter"),
            (preparing(), -1, " S Stop"),
            (make_snapshot("finished", 4_754, test=whole), 2, "100 %      test 48.2"),
            (
                make_snapshot("finished", 4_754),
                -1,
                " ← → Cursor  ↑ ↓ Zoom  h History  l Log y  x Axis  + - 0 Smooth  q Leave",
            ),
            (patient, 3, " val 55.3 ★ patience 2/5"),
        ):
            await show(app, pilot, snapshot)
            assert text in lines_of(app)[row], (text, lines_of(app)[row])
        await show(app, pilot, planned)
        await pilot.press("S")
        await until(pilot, lambda: shows(app, "don't stop after this epoch"))
        await pilot.press("escape")
        await pilot.resize_terminal(120, 40)
        await show(app, pilot, planned)
        await until(pilot, lambda: "stops after this epoch" in lines_of(app)[0])
        await show(app, pilot, requested)
        await until(pilot, lambda: "learning_rate 0.001␛[31m requested" in lines_of(app)[0])
        await show(app, pilot, make_snapshot(config=ELMAN, source=SourceFigures(perplexity=48.0)))
        await until(pilot, lambda: shows(app, "source 48.0") and shows(app, "5-gram 73.0"))
        assert "J K" not in lines_of(app)[-1], "there is no other run"


@pytest.mark.usefixtures("three_at_home")
async def test_capital_j_and_k_open_the_next_and_previous_run() -> None:
    settings: dict[str, object] = {
        "runs order": ["name", False], "marked": ["brisk-heron", "plain-otter"],
    }  # fmt: skip
    async with at_home(pane="train", size=(120, 40), settings=settings) as (app, pilot):
        for row in ("brisk-heron .*\n│ A finished", "plain-otter .*\n│ B "):
            assert re.search(f"│ . {row}", text_of(app))
        for keys, name, said in (
            ("J", "plain-otter", "this is the last run in the list"),
            ("K", "brisk-heron", "J K Run"),
            ("K K", "amber-vole", "this is the first run in the list"),
            ("J J", "plain-otter", ""),
        ):
            await pilot.press(*keys.split())
            await until(pilot, lambda: name in lines_of(app)[0] and said in lines_of(app)[-1])  # noqa: B023
        assert app.current_mode == "train"


async def test_a_failed_run_offers_its_config_and_d_discards_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained("brisk-heron", age=10)
    trained("plain-otter", "failed")
    may_delete = threading.Event()

    def slow_delete(run: RunDirectory) -> Trashed:
        assert may_delete.wait(10)
        return delete_run(run)

    async with at_home(pane="train") as (app, pilot):
        for part in ("space Retry", "n New from it", "L Log", "d Discard"):
            assert part in lines_of(app)[-1]
        await pilot.press("J")
        await until(pilot, lambda: "brisk-heron ✓ finished" in lines_of(app)[0])
        await pilot.press("d")
        await until(pilot, lambda: "only a failed run can be discarded here" in lines_of(app)[-1])
        assert list_trash() == []
        await pilot.press("K")
        await until(pilot, lambda: "plain-otter ✗ failed" in lines_of(app)[0])
        await pilot.press("n")
        await until(
            pilot, lambda: app.current_mode == "config" and shows(app, "   from plain-otter")
        )
        app.open_run(find_run("plain-otter"))
        await until(pilot, lambda: app.snapshot is not None and shows(app, "d Discard"))
        monkeypatch.setattr("rnnlm_tui.store.trash.delete_run", slow_delete)
        await pilot.press("d", "J")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])
        may_delete.set()  # a run that was opened meanwhile stays open
        await until(pilot, lambda: "plain-otter moved to the trash" in lines_of(app)[-1])
        assert app.current_mode == "train"
        assert "brisk-heron" in lines_of(app)[0]
        trained("amber-vole", "failed")
        app.select_run(find_run("amber-vole"))
        await until(pilot, lambda: "amber-vole ✗ failed" in lines_of(app)[0])
        await pilot.press("d")
        await until(pilot, lambda: shows(app, "amber-vole moved to the trash, u undoes it"))
        assert app.current_mode == "runs"
        assert {one.name for one in list_trash()} == {"plain-otter", "amber-vole"}
        await pilot.press("u")
        await until(pilot, lambda: shows(app, "amber-vole restored"))


def test_the_first_samples_are_announced_for_the_end_of_a_short_run() -> None:
    config = parse_config(merge(DEMO, {"evaluation.every": 500}))
    snapshot = make_snapshot(step=50, max_steps=270, config=config)._replace(samples=())
    whole = "no samples yet: first at the end (step 270), or press {key:sample}"
    assert " ".join(line.plain for line in sample_lines(snapshot, str, 40, 5)) == whole
    (line,) = sample_lines(snapshot, str, 40, 1)
    assert line.plain.endswith("…")
    assert len(line.plain) <= 40


def test_each_prompt_has_its_newest_sample_of_a_step_and_prompts_of_the_config_come_first() -> None:
    rows = [
        SampleRow(1, step, prompt, text, 3, 7, float(time))
        for time, (step, prompt, text) in enumerate(
            [(10, "old", ""), (10, "We must", " a"), (10, "We must", " b"), (20, "c", ""),
             (20, "We must", " c"), (20, "a", "")]
        )
    ]  # fmt: skip
    groups = samples_by_prompt(rows, ["We must"])
    assert [group[0].prompt for group in groups] == ["We must", "c", "a", "old"]
    assert [row.text for row in groups[0]] == [" c", " b"]


def test_samples_of_raw_text_keep_their_line_breaks_and_indentation() -> None:
    snapshot = make_snapshot()
    row = snapshot.samples[0]._replace(prompt="def f():\n", text="    if x:\n\treturn 1\n\ny = 2")

    def lines(layout: str) -> list[str]:
        summary = snapshot.summary.model_copy(update={"corpus_layout": layout})
        shown = sample_lines(snapshot._replace(samples=(row,), summary=summary), str, 60, 8)
        return [line.plain[7:].rstrip() for line in shown]

    assert lines("raw")[:5] == ["def f():", "    if x:", "    return 1", "", "y = 2"]
    assert " ".join(lines("sentences")[0].split()) == "def f(): if x: return 1 y = 2"


async def test_the_nets_health_takes_the_charts_place_until_a_key_leads_back() -> None:
    run = trained("plain-otter")
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("H")
        await until(pilot, lambda: shows(app, "its evaluations have none"))
        figures = {"saturated": 0.9, "dead": 0.0, "memory": 3.0, "gradient": 0.5}
        record(run, HealthRow(2, 3, {f"layer {number}": figures for number in range(1, 7)}, 0.0))
        await until(pilot, lambda: shows(app, "6 of 24 out of range at step 3"))
        assert shows(app, "! layer 1   saturated units           90 %")
        for key, seen in (("pagedown", True), ("pageup", False), ("down", False)):
            await pilot.press(key)
            assert shows(app, "layer 3   memory") == seen
        for back in ("escape", "H", "z", "tab"):  # the last two act on charts
            await pilot.press(back)
            assert not shows(app, "out of range")
            await pilot.press("H")
