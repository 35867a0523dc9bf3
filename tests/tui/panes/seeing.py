"""Wait for what the app should show, read the screen's cells, and a run to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from textual.pilot import Pilot

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import RunLock
from tests.homes import LOSSES, trained, with_checkpoints
from tests.tui.support import text_of, until

screen_text = text_of


async def until_shown(pilot: Pilot[int], *texts: str) -> None:
    """Wait until all the texts are on the screen."""

    def all_shown() -> bool:
        found = screen_text(pilot.app)
        return all(text in found for text in texts)

    await until(pilot, all_shown)


async def press(pilot: Pilot[int], keys: str | Sequence[str], *texts: str) -> None:
    """Press keys, in a string with blanks between them, and wait until all the texts are shown."""
    await pilot.press(*(keys.split() if isinstance(keys, str) else keys))
    await until_shown(pilot, *texts)


@contextmanager
def running_at_home() -> Iterator[RunDirectory]:
    """A run with five checkpoints that trains, as long as its lock is held."""
    run = with_checkpoints(trained("plain-otter", "running"), LOSSES)
    with RunLock(run.lock_path):
        yield run
