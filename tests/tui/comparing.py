"""Helpers for tests of the compare screen: different runs, and the app on them."""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from textual.pilot import Pilot

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.series import Band
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.views.compare import Marks
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import running_app, text_of, until

GRU = parse_config(merge(DEMO, {"model.cell_type": "gru", "optimizer.learning_rate": 1e-3}))


def two_runs() -> FakeServices:
    return FakeServices(
        make_snapshot(),
        better(make_snapshot("finished", 4_754, name="brisk-heron", config=GRU), 0.06),
    )


def better(snapshot: RunSnapshot, by: float) -> RunSnapshot:
    """The same run with losses lower by this many nats."""
    evaluations = tuple(replace(row, loss=row.loss - by) for row in snapshot.evaluations)
    band = snapshot.series.columns["loss"]
    lower = Band(
        *(array("d", (value - by for value in part)) for part in (band.low, band.high, band.mean))
    )
    judged = snapshot.summary.evaluation
    figures = judged.model_copy(
        update={
            name: getattr(judged, name) * math.exp(-by)
            for name in ("perplexity", "best_perplexity")
        }
    )
    summary = snapshot.summary.model_copy(update={"evaluation": figures, "validation": figures})
    return replace(
        snapshot,
        evaluations=evaluations,
        summary=summary,
        series=replace(snapshot.series, columns={**snapshot.series.columns, "loss": lower}),
    )


@asynccontextmanager
async def comparing(
    services: FakeServices, *names: str, size: tuple[int, int] = (80, 24), ascii_only: bool = False
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app on the compare screen with these runs marked, after a curve was drawn."""
    async with running_app(services, pane="runs", size=size, ascii_only=ascii_only) as (app, pilot):
        app.set_marks(Marks(names))
        app.open_pane("compare")
        await until(
            pilot,
            lambda: (
                isinstance(app.screen, CompareScreen)
                and app.screen.is_ready
                and len(app.compared) == len(names)
                and (ascii_only or any("\u2800" < sign < "\u2900" for sign in text_of(app)))
            ),
        )
        yield app, pilot


def eight_runs() -> FakeServices:
    names = (
        "plain-otter",
        "brisk-heron",
        "dusty-lynx",
        "quiet-marten",
        "amber-vole",
        "stern-crane",
        "salty-wren",
        "calm-badger",
    )
    configs = [
        parse_config(merge(DEMO, {"model.hidden_size": size, "model.embedding_dim": size}))
        for size in range(96, 352, 32)
    ]
    runs = [
        better(make_snapshot("finished", 4_754 - 300 * at, name=name, config=config), 0.04 * at)
        for at, (name, config) in enumerate(zip(names, configs, strict=True))
    ]
    return FakeServices(*runs)
