"""Helpers for tests of the compare screen: invented runs, and the app on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.poller import Watcher
from rnnlm_tui.tui.views.compare import Marks
from tests.tui.demo_run import IDLE, use_machine
from tests.tui.fakes import make_snapshot
from tests.tui.support import at_home, shows, until

GRU = parse_config(merge(DEMO, {"model.cell_type": "gru", "optimizer.learning_rate": 1e-3}))
TWO = ("plain-otter", "brisk-heron")


def two_runs() -> tuple[RunSnapshot, ...]:
    one, other = TWO
    return (
        make_snapshot(name=one),
        make_snapshot("finished", 4_754, name=other, config=GRU, lower=0.06),
    )


def eight_runs() -> tuple[RunSnapshot, ...]:
    names = (
        *TWO, "dusty-lynx", "quiet-marten", "amber-vole", "stern-crane", "salty-wren",
        "calm-badger",
    )  # fmt: skip
    sizes = (
        {"model.hidden_size": size, "model.embedding_dim": size} for size in range(96, 352, 32)
    )
    configs = [parse_config(merge(DEMO, size)) for size in sizes]
    return tuple(
        make_snapshot("finished", 4_754 - 300 * at, name=name, config=config, lower=0.04 * at)
        for at, (name, config) in enumerate(zip(names, configs, strict=True))
    )


@asynccontextmanager
async def comparing(
    *runs: RunSnapshot, size: tuple[int, int] = (80, 24), ascii_only: bool = False
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app on the compare screen, which shows these invented runs as the marked ones."""
    with pytest.MonkeyPatch.context() as patch:
        use_machine(patch, IDLE)
        patch.setattr(Watcher, "compare", lambda *_: None)  # they aren't on the disk
        patch.setattr(Marks, "among", lambda marks, _: marks)
        async with at_home(None, size=size, ascii_only=ascii_only) as (app, pilot):
            await show_compared(app, pilot, *runs)
            yield app, pilot


async def show_compared(app: RnnlmApp, pilot: Pilot[int], *runs: RunSnapshot) -> None:
    """Show these invented runs as the marked ones."""
    app.compared = runs
    app.marks = Marks(tuple(run.summary.run for run in runs))
    app.open_pane("compare")
    await until(pilot, lambda: shows(app, "best ppl"))
