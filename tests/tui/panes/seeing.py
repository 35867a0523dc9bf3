"""Open the app on a pane, wait for what it should show, and read the screen's cells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.theme import Display
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import RUN
from tests.tui.support import until


@asynccontextmanager
async def opened(
    services: FakeServices,
    pane: Pane,
    *,
    size: tuple[int, int] = (80, 24),
    run: RunDirectory | None = RUN,
    ascii_only: bool = False,
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """Run the app on a pane, after its first update."""
    services.install()
    app = RnnlmApp(run, pane, display=Display(ascii_only=ascii_only))
    async with app.run_test(size=size, notifications=True) as pilot:
        if run is not None and services.snapshots:
            await until(pilot, lambda: app.snapshot is not None)
        await until(pilot, lambda: app.machine is not None)
        await pilot.pause()
        yield app, pilot


async def until_shown(pilot: Pilot[int], *texts: str) -> None:
    """Wait until all the texts are on the screen."""
    await until(pilot, lambda: all(text in screen_text(pilot.app) for text in texts))


def screen_text(app: object) -> str:
    """Return the screen's cells, one line per row, without trailing blanks."""
    assert isinstance(app, RnnlmApp)
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())
