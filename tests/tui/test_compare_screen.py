"""The compare screen: curves in the colour of their letter, figures with the distance to the best, the settings that differ, and the keys of charts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from rnnlm_tui.contract.presets import DEMO
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.widgets.marks import Marks
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until, with_runs

GRU = parse_config(merge(DEMO, {"model.cell_type": "gru", "optimizer.learning_rate": 1e-3}))


def two_runs() -> FakeServices:
    return with_runs(make_snapshot(), make_snapshot("finished", 4_754, name="brisk-heron", config=GRU))


@asynccontextmanager
async def comparing(
    services: FakeServices, *names: str, size: tuple[int, int] = (80, 24), ascii_only: bool = False
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app on the compare screen with these runs marked, after all were read."""
    async with running_app(services, pane="runs", size=size, ascii_only=ascii_only) as (app, pilot):
        app.set_marks(Marks(names))
        app.open_pane("compare")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.is_ready and len(app.compared) == len(names))
        yield app, pilot


async def test_marked_runs_lie_over_each_other_with_their_letters_figures_and_settings() -> None:
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
        for title in ("Training loss", "Bits per byte", "Tokens/s", "Gradient norm", "Learning rate", "Validation perplexity, log"):
            await pilot.press("tab")
            await until(pilot, lambda title=title: title in lines_of(app)[2])  # type: ignore[misc]


async def test_what_is_new_in_a_compared_run_shows() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        services.snapshots["plain-otter"] = make_snapshot(step=4_000)
        await until(pilot, lambda: any(snapshot.summary.step == 4_000 for snapshot in app.compared))
        await until(pilot, lambda: "4,000" in text_of(app))


async def test_a_run_that_is_no_longer_marked_leaves_the_picture_and_its_monitor_is_closed() -> None:
    services = with_runs(make_snapshot(), make_snapshot(name="brisk-heron"), make_snapshot(name="dusty-lynx"))
    async with comparing(services, "plain-otter", "brisk-heron", "dusty-lynx") as (app, pilot):
        app.mark("brisk-heron")
        await until(pilot, lambda: "brisk-heron" in services.closed_monitors)
        await until(pilot, lambda: "brisk-heron" not in text_of(app) and "C ● dusty-lynx" in text_of(app))


async def test_nothing_is_followed_once_the_screen_is_left() -> None:
    services = two_runs()
    async with comparing(services, "plain-otter", "brisk-heron") as (app, pilot):
        await pilot.press("escape")
        await until(pilot, lambda: app.current_mode == "runs" and {"plain-otter", "brisk-heron"} <= set(services.closed_monitors))
