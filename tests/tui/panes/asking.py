"""The prompt pane on runs of the test's home, with a fake sampler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from threading import Event
from types import SimpleNamespace

import pytest
from textual.pilot import Pilot

from rnnlm_tui import client
from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.sampling import SampleRequest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.prompt import PromptScreen
from tests.homes import LOSSES, trained, with_checkpoints
from tests.tui.fakes import FakeSampler
from tests.tui.support import at_home, until


def pane(app: RnnlmApp) -> PromptScreen:
    """Return the prompt pane, which must be the visible one."""
    screen = app.pane_screen
    assert isinstance(screen, PromptScreen)
    return screen


def run_at_home(
    name: str = "plain-otter",
    last: EventKind = "running",
    losses: Mapping[int, float | None] = LOSSES,
) -> RunDirectory:
    """A run of the demo with five checkpoints."""
    return with_checkpoints(trained(name, last, config=DEMO), losses)


def words(request: SampleRequest) -> list[list[str]]:
    """A text that says which seed and how many tokens before it: ` s7t0 end`."""
    return [
        [f" s{request.settings.seed + sample}t{len(request.ids)}", " end"]
        for sample in range(request.count)
    ]


@asynccontextmanager
async def sampling(
    sampler: FakeSampler | None = None,
    run: RunDirectory | None = None,
    *,
    trains: bool = True,
    pane: Pane = "prompt",
    size: tuple[int, int] = (80, 24),
    keymap: str = "",
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int], FakeSampler]]:
    """The prompt pane of a run, which trains, with a sampler that says seed and place."""
    run, sampler = run or run_at_home(), sampler or FakeSampler(texts=words)
    with RunLock(run.lock_path) if trains else nullcontext():
        opened = at_home(run.name, pane, size=size, sampler=sampler, keymap=keymap)
        async with opened as (app, pilot):
            yield app, pilot, sampler


def worker_writes_snapshots(patch: pytest.MonkeyPatch, allowed: Event | None = None) -> list[str]:
    """Let the worker of any run answer commands, once it is allowed; return what it was sent."""
    sent: list[str] = []

    def send(_run: RunDirectory, verb: str) -> SimpleNamespace:
        sent.append(verb)
        assert allowed is None or allowed.wait(60)
        return SimpleNamespace(checkpoint="snapshots/step-000003752-aa", step=3_752)

    patch.setattr(client.control, "send", send)
    return sent


async def drawn(
    app: RnnlmApp, pilot: Pilot[int], sampler: FakeSampler, *keys: str
) -> SampleRequest:
    """Press keys that ask for a text; return the request once it has ended."""
    count = len(sampler.requests) + 1
    await pilot.press(*keys)
    await sampled(app, pilot, sampler, count)
    return sampler.requests[-1]


async def sampled(app: RnnlmApp, pilot: Pilot[int], sampler: FakeSampler, count: int) -> None:
    """Wait for the end of the request with this number."""
    await until(pilot, lambda: len(sampler.requests) == count and not pane(app).sampling)
