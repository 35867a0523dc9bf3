"""The screen of a sweep: its runs by their settings, the effect of each key, and no sweep."""

from __future__ import annotations

import pytest

from rnnlm_tui.client.queue import add_run
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.tui.screens.sweep import SweepScreen
from tests.homes import queue_in_use, trained
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, shows, text_of, until

TAGS = ("sweep:rates",)


def config(rate: float, seed: int) -> RunConfig:
    changes = {"optimizer.learning_rate": rate, "training.seed": seed, "training.device": "cpu"}
    return parse_config(merge(RunConfig(), changes))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_sweep_is_shown_from_one_of_its_runs_and_enter_opens_another(
    size: tuple[int, int],
) -> None:
    ends: dict[float, tuple[EventKind, ...]] = {
        1e-3: ("finished", "failed"), 1e-2: ("finished", "finished"), 1e-1: ("stopped",),
    }  # fmt: skip
    for place, (rate, kinds) in enumerate(ends.items()):
        for seed, kind in enumerate(kinds):
            name, loss = f"rates-{place}{seed}", 4.0 - place % 2 + seed / 10
            run = trained(name, kind, tags=TAGS, config=config(rate, seed), loss=loss)
            with RunLog(run, 1) as log:
                log.append(Facts(message="pruned at step 3: why" if rate == 1e-1 else ""))
    trained("plain-otter")
    with queue_in_use():
        add_run(create_run(config(1.0, 0), "rates-30", tags=TAGS))
        async with at_home("rates-30", size=size) as (app, pilot):
            await press(pilot, "W", "Sweep rates", "enter open")
            text = text_of(app)
            assert "6 runs: 3 finished, 1 pruned, 1 failed, 1 waiting" in text
            assert text.index("learning_rate 0.01: 21.1 ± 1.49") < text.index("● rates-10")
            assert text.index("rates-11") < text.index("learning_rate 0.001: 57.5 ± 4.06")
            assert "rates-20  pruned      54.6  learning_rate 0.1; pruned at step 3" in text
            assert "rates-30  waiting        –  learning_rate 1" in text
            assert "learning_rate        spread 36.3   best 0.01 21.1, 0.1 54.6, 0.001 5" in text
            await pilot.press("down", "enter")
            await until(pilot, lambda: app.run_directory and app.run_directory.name == "rates-11")
            assert not isinstance(app.screen, SweepScreen)


async def test_without_sweeps_the_key_says_how_one_is_made() -> None:
    trained("plain-otter")
    async with at_home() as (app, pilot):
        await pilot.press("W")
        await until(pilot, lambda: "train --sweep KEY=A,B" in lines_of(app)[-1])
        assert not shows(app, "Sweep ")
