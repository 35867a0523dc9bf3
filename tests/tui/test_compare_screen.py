"""The compare screen by keys: curves, figures, differing settings, the cursor and what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.significance import SignificanceDone
from rnnlm_tui.schema.summary import EvaluationFigures
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.views.charts import COMPARED_CHARTS
from tests.fakes.outcome import compared, outcome
from tests.homes import trained, training
from tests.tui.comparing import GRU, TWO, comparing, eight_runs, show_compared, two_runs
from tests.tui.fakes import make_snapshot
from tests.tui.pictures import SIZES, SMALL, assert_picture, assert_pictures
from tests.tui.support import at_home, lines_of, shows, text_of, until

PICTURES = Path(__file__).parent / "snapshots"


@pytest.fixture
def train_to() -> Iterator[Callable[[int], None]]:
    """Two runs that train, the first of them on to a step."""
    with training("brisk-heron", 1_000, config=GRU), training(config=DEMO) as go_on:
        yield go_on


def line_of(app: RnnlmApp, letter: str) -> str:
    """A run's line of the table; empty if it isn't shown."""
    return next((line for line in lines_of(app) if line.startswith(f"│ {letter} ")), "")


def screen_of(app: RnnlmApp) -> CompareScreen:
    assert isinstance(app.screen, CompareScreen)
    return app.screen


def shows_values(app: RnnlmApp, screen: CompareScreen, *, ended: bool) -> bool:
    """Whether the table has the values of the chosen chart, and a dash for a run that has ended."""
    shown = [line_of(app, letter).split()[4] for letter in "AB"]
    values = screen.chart(screen.chosen).values
    return shown == ([values[0], "–"] if ended else values)


async def test_two_runs_are_compared_by_keys(
    train_to: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with at_home(pane="compare", settings={"marked": list(TWO)}) as (app, pilot):
        await until(pilot, lambda: line_of(app, "B") and shows(app, "differs in"))
        await until(pilot, lambda: shows(app, "★A"))
        lines, screen = lines_of(app), screen_of(app)
        for words in ("Validation perplexity, log", "A plain-otter", "B brisk-heron"):
            assert words in lines[2]
        assert line_of(app, "A").startswith("│ A ● plain-otter")
        assert {"★", "0.0"} <= {*line_of(app, "A"), *line_of(app, "A").split()}
        cell = next(line for line in lines if "model.cell_type" in line)
        assert cell.split()[2:4] == ["elman", "gru"]
        # the rest of the table is scrolled to, below the heads
        assert not shows(app, "parameters")
        seen: set[str] = set()
        for _ in range(8):
            await pilot.press("pagedown")
            seen |= {line[6:22].strip() for line in lines_of(app)}
        assert {"train ppl", "epochs"} <= seen
        top = next(index for index, line in enumerate(lines_of(app)) if "─ Runs ─" in line)
        assert lines_of(app)[top + 1].split()[1:3] in (["more", "figures"], ["differs", "in"])
        assert "↓" not in lines_of(app)[-2]
        await pilot.press(*["pageup"] * 9)
        await until(pilot, lambda: shows(app, "best ppl"))

        # the cursor shows the chart's values in the table; esc goes back in stages
        for cells in (2, 30):
            await pilot.press("home", *["right"] * cells)
            for _ in COMPARED_CHARTS:
                await pilot.press("tab")
                assert screen.cursor is not None
                await until(pilot, partial(shows, app, f" at {screen.cursor:,.0f}  best ppl"))
                ended = screen.cursor > 1_010
                await until(pilot, partial(shows_values, app, screen, ended=ended))
                assert "esc Close cursor" in lines_of(app)[-1]
        assert ended
        await pilot.press("z", "escape")
        await until(pilot, lambda: "esc Back" in lines_of(app)[-1])
        assert screen.cursor is None
        for title in ("Training loss", "Bits per byte", "Tokens/s", "Gradient", "Learning rate"):
            await pilot.press("tab")
            await until(pilot, partial(lambda title: title in lines_of(app)[2], title))
        assert lines_of(app)[-1].startswith(" tab Figure 6 of 6  esc Back")
        assert not shows(app, "best ppl")
        await pilot.press("tab", "escape")
        await until(pilot, lambda: shows(app, "best ppl"))
        assert lines_of(app)[-1].startswith(" tab Figure  ")
        assert "esc Runs" in lines_of(app)[-1]

        # a zoomed range is read at full resolution in every run, on each axis
        def detailed() -> list[float]:
            """The first step of each run that is read so."""
            return [run.detail.step[0] for run in app.compared if run.detail is not None]

        await pilot.press("up", "up")
        start, end = screen.window.shown
        for label in ("step", "tokens", "epoch", "active time", "since start"):
            await until(pilot, partial(shows, app, f" {label} "))
            # with half as many steps before it
            await until(
                pilot, lambda: detailed() == [pytest.approx(start - (end - start) / 2, abs=80)]
            )
            await pilot.press("x")
        await pilot.press("u")
        await until(pilot, lambda: not detailed())

        await pilot.press("w")
        await until(pilot, lambda: list(tmp_path.rglob("compare-validation.csv")))
        (file,) = tmp_path.rglob("compare-validation.csv")
        assert set(TWO) <= set(file.read_text().replace(",", "\n").splitlines())
        train_to(2_500)
        await until(pilot, lambda: shows(app, "2,500"))
        # they are polled only while a screen shows them
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train" and app.compared == ())
        await pilot.press("r", "equals_sign", "escape")
        await until(pilot, lambda: app.current_mode == "runs" and len(app.compared) == 2)


async def test_runs_are_unmarked_and_the_list_draws_those_that_are_marked(
    train_to: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("dusty-lynx")
    settings: dict[str, object] = {"marked": ["dusty-lynx", "brisk-heron", "plain-otter"]}
    async with at_home(pane="compare", size=(120, 40), settings=settings) as (app, pilot):
        await until(pilot, lambda: line_of(app, "C"))
        app.mark("plain-otter")
        await until(pilot, lambda: not line_of(app, "C") and len(app.compared) == 2)
        # the open run draws nothing if it is not compared
        shown: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                CompareScreen, "show_snapshot", lambda _, snapshot: shown.append(snapshot)
            )
            train_to(2_500)
            await until(pilot, lambda: app.snapshot and app.snapshot.summary.step == 2_500)
        assert shown == []
        await pilot.press("r")
        await until(pilot, lambda: shows(app, "Validation perplexity"))
        app.mark("brisk-heron")
        await until(pilot, lambda: not shows(app, "Validation perplexity"))


async def test_what_cannot_be_compared_is_told() -> None:
    words = parse_config(merge(DEMO, {"tokenizer.kind": "word"}))
    few = parse_config(merge(DEMO, {"tokenizer.vocab_size": 512}))
    figures = {"step": 3_700, "perplexity": 2.5, "best_step": 3_700, "best_perplexity": 2.5}
    judged = EvaluationFigures.model_validate(
        {"name": "validation", "unknown_share": 0.73, **figures}
    )
    one, heron = make_snapshot(), "brisk-heron"
    odd = make_snapshot(name="many-words", evaluation=judged)._replace(config=words)
    async with comparing(one, odd) as (app, pilot):
        unknown = "73 % of B's tokens are unknown"
        await until(pilot, lambda: unknown in " ".join(line.strip("│ ") for line in lines_of(app)))
        await show_compared(app, pilot, one, make_snapshot(name="few-tokens", config=few))
        await until(pilot, lambda: shows(app, "aren't comparable"))
        assert not shows(app, "Δ best")
        assert "★" not in line_of(app, "B")
        # a run without steps is in the table without a curve
        await show_compared(app, pilot, one, make_snapshot("preparing", 0, name=heron))
        for _figure in COMPARED_CHARTS:
            await pilot.press("tab", "up", "left", "home", "x")
        await until(pilot, lambda: "–" in line_of(app, "B"))
        await show_compared(app, pilot, one, make_snapshot(step=400, name=heron))
        await until(pilot, lambda: "136" in line_of(app, "B"))
        await pilot.press("u")
        await until(pilot, lambda: not shows(app, "no points"))


async def test_eight_runs_have_a_line_each_in_any_size_while_data_arrives() -> None:
    first, *others = eight_runs()
    async with comparing(first, *others) as (app, pilot):
        await assert_pictures(pilot, PICTURES, "compare-eight")
        await pilot.resize_terminal(*SMALL)
        assert "more" in lines_of(app)[22]
        assert not shows(app, "model.hidden_size")
        await pilot.press("pagedown")
        assert "128" in next(line for line in lines_of(app) if "model.hidden_size" in line)
        sizes = (60, 15), (300, 100), (1, 1), (80, 18), (80, 24)
        for at, size in enumerate(sizes):
            app.compared = (make_snapshot(step=3_000 + at), *others)
            await pilot.resize_terminal(*size)
            await pilot.press("tab", "right")
        await until(pilot, lambda: len(lines_of(app)) == 24 and "comparing" in lines_of(app)[0])


async def test_a_cursor_and_many_curves_in_ascii_are_shown_as_in_their_snapshots() -> None:
    async with comparing(*two_runs()) as (app, pilot):
        screen = screen_of(app)
        await pilot.press("tab")
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await until(
                pilot, lambda: shows(app, "tab Figure") and screen.chart("compare-loss").values
            )
            await pilot.press("home", "shift+right", "shift+right")
            await assert_picture(app, PICTURES, "compare-cursor", size, "")
            await pilot.press("escape")
    async with comparing(*eight_runs(), size=SIZES[1], ascii_only=True) as (app, _pilot):
        await assert_picture(app, PICTURES, "compare-eight", SIZES[1], "ascii")


@pytest.mark.usefixtures("train_to")
async def test_marks_and_dots_come_back_at_the_next_start_and_letters_tell_curves_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, object] = {"run": "plain-otter", "pane": "compare", "marked": list(TWO)}
    blocks, dots = set("▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"), {chr(0x2800 + number) for number in range(1, 256)}

    def draws_blocks(app: RnnlmApp) -> bool:
        return bool(blocks & set(text_of(app))) and not dots & set(text_of(app))

    async with at_home(pane="compare", settings=dict(settings)) as (app, pilot):
        await until(pilot, lambda: line_of(app, "B") and dots & set(text_of(app)))
        await app.run_action("app.next_marks")
        await until(pilot, partial(draws_blocks, app))
        settings = {"marked": [*TWO, "gone-goose"], "dots": app.settings["dots"]}
    monkeypatch.setenv("NO_COLOR", "1")
    async with at_home(pane="compare", size=(120, 40), settings=settings) as (app, pilot):
        await until(pilot, lambda: line_of(app, "B") and draws_blocks(app))
        inside = "\n".join(line[8:] for line in lines_of(app)[3:30])
        assert min(inside.count("A"), inside.count("B")) >= 2
        assert not line_of(app, "C"), "it can't be read"


async def test_a_test_of_the_difference_is_drawn_and_ends_when_its_screen_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, ended, go_on = list[dict[str, str]](), Event(), Event()
    done = outcome(compared("B", -0.052, -0.018), compared("C", -0.021, 0.035, "dusty-lynx@300"))

    def find_differences(
        addresses: dict[str, str], report: Callable[[TaskProgress], None], check: Callable[[], None]
    ) -> SignificanceDone:
        asked.append(addresses)
        report(TaskProgress(phase="scoring plain-otter@4000", done=3, total=10))
        try:
            while not go_on.wait(0.01):
                check()
        except Exception:
            ended.set()
            raise
        if len(asked) == 3:
            raise InputError("B isn't compared: another text", hint="compare others")
        return done

    monkeypatch.setattr("rnnlm_tui.client.significance.find_differences", find_differences)
    async with comparing(*two_runs(), make_snapshot(name="dusty-lynx")) as (app, pilot):
        assert "D Test" in lines_of(app)[-1]
        await pilot.press("D")
        await until(pilot, lambda: shows(app, "scoring plain-otter@4000 30 % …"))
        await pilot.press("escape")
        await until(pilot, ended.is_set)
        assert asked == [{"A": "plain-otter", "B": "brisk-heron", "C": "dusty-lynx"}]
        go_on.set()
        await pilot.press("D")
        await until(pilot, lambda: shows(app, "B is better than A by 0.035 nats per token"))
        await assert_pictures(pilot, PICTURES, "compare-test")
        await pilot.press("end")
        await until(pilot, lambda: shows(app, "1,204: We shall see."))
        await pilot.press("D", "D")
        await until(pilot, lambda: shows(app, "✗ B isn't compared: another text"))
        assert shows(app, "compare others")
