"""Helpers for tests of the app: an app on invented runs, its screen as text, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from textual.pilot import Pilot

from rnnlm_tui import store
from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.keymap import parse_keymap
from rnnlm_tui.tui.terminal import FULL
from rnnlm_tui.tui.threads import wait_for_threads
from tests.tui.fakes import FakeSampler

DEADLINE = 60.0
"""Seconds after which a condition that has not come true is a failure."""


@asynccontextmanager
async def at_home(
    run: str | None = "plain-otter",
    pane: Pane | None = "runs",
    *,
    size: tuple[int, int] = (80, 24),
    ascii_only: bool = False,
    sampler: FakeSampler | None = None,
    settings: dict[str, object] | None = None,
    keymap: str = "",
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app on the runs of the test's home, with a fake sampler, after the first look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "rnnlm_tui.client.sampler.SamplerClient", lambda **_: sampler or FakeSampler()
        )
        app = RnnlmApp(
            store.runs.find_run(run) if run is not None else None,
            pane,
            kind=FULL._replace(braille=not ascii_only),
            fps=20.0,
            settings=settings,
            keymap=parse_keymap(keymap),
        )
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: app.summaries is not None and app.machine is not None)
            await until(pilot, lambda: run is None or app.snapshot is not None)
            await pilot.pause()
            yield app, pilot
    wait_for_threads(20)  # what one writes late would be in the next test's home


def show_run(app: RnnlmApp, snapshot: RunSnapshot) -> None:
    """Let the app show an invented run as its open one; nothing is read for it."""
    app.run_directory = RunDirectory(runs_dir() / snapshot.summary.run)
    app.followed = {snapshot.summary.run: snapshot}


async def until(pilot: Pilot[int], condition: Callable[[], object]) -> None:
    """Wait for the condition, with a deadline."""
    end, pause = monotonic() + DEADLINE, 0.02
    while not condition():
        assert pilot.app._exception is None, f"the app failed: {pilot.app._exception!r}"
        assert monotonic() < end, (
            f"waited {DEADLINE:g} s in vain; the screen:\n{text_of(pilot.app)}"
        )
        await asyncio.sleep(pause)
        await pilot.pause()
        pause = min(1.5 * pause, 0.2)  # each look draws the screen
    await pilot.pause()


async def show(app: RnnlmApp, pilot: Pilot[int], snapshot: RunSnapshot) -> None:
    """Let the current pane show this state of the open run, until its log has news."""
    app.snapshot = snapshot
    assert app.pane_screen is not None
    app.pane_screen._arrive()
    await pilot.pause()


def lines_of(app: object) -> list[str]:
    """The screen's cells, a text a line."""
    assert isinstance(app, RnnlmApp)
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def shows(app: object, text: str) -> bool:
    """Whether the screen shows the text."""
    return text in text_of(app)


def text_of(app: object) -> str:
    """The screen's cells as one text."""
    return "\n".join(lines_of(app))


def shown(app: RnnlmApp) -> list[str]:
    """The runs of the table from the top, by the two letters in front of a name that tell of cursor
    and mark."""
    lines = lines_of(app)[4:]
    rows = lines[: next(index for index, line in enumerate(lines) if line.startswith(("╰", "+")))]
    return [f"{row[1]}{row[3]} {row[5:].split()[0]}" for row in rows if row[5:].strip(" │╰╯─╭")]
