"""Open the app on a pane, wait for what it should show, and read the screen's cells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import cast

from textual.pilot import Pilot

from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.theme import Display
from tests.homes import trained, with_checkpoints
from tests.tui.fakes import FakeSampler
from tests.tui.support import until


async def until_shown(pilot: Pilot[int], *texts: str) -> None:
    """Wait until all the texts are on the screen."""
    await until(pilot, lambda: all(text in screen_text(pilot.app) for text in texts))


async def press(pilot: Pilot[int], keys: str | Sequence[str], *texts: str) -> None:
    """Press keys, in a string with blanks between them, and wait until all the texts are shown."""
    await pilot.press(*(keys.split() if isinstance(keys, str) else keys))
    await until_shown(pilot, *texts)


def screen_text(app: object) -> str:
    """Return the screen's cells, one line per row, without trailing blanks."""
    assert isinstance(app, RnnlmApp)
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


LOSSES = {1_000: 4.4671, 2_000: 4.2077, 3_000: 4.1059, 3_700: 4.0622, 3_750: None}
"""Steps of the checkpoints of a run at home, and their validation losses."""


@contextmanager
def running_at_home(
    name: str = "plain-otter", losses: Mapping[int, float | None] = LOSSES
) -> Iterator[RunDirectory]:
    """A run with checkpoints that trains, as long as its lock is held."""
    run = with_checkpoints(trained(name, "running"), losses)
    with RunLock(run.lock_path):
        yield run


@asynccontextmanager
async def opened_at_home(
    run: RunDirectory | None,
    pane: Pane,
    sampler: FakeSampler,
    *,
    size: tuple[int, int] = (120, 40),
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """Run the app on a run of the test's home with this sampler, after its first update."""
    app = RnnlmApp(run, pane, display=Display())
    app.sampler = cast(SamplerClient, sampler)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: run is None or app.snapshot is not None)
        await until(pilot, lambda: app.machine is not None and app.summaries is not None)
        yield app, pilot
