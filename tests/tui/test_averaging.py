"""The app asks whether to keep an average, and does as it is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from rnnlm_tui.client.average import StagedAverage
from rnnlm_tui.schema.averaging import AverageDone, EvaluatedPart
from rnnlm_tui.store.averages import AVERAGED_FACT, list_averages, write_average
from rnnlm_tui.system.locks import staging
from rnnlm_tui.tui.averaging import average
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, until_shown
from tests.tui.support import until
from tests.unit.store.rows import new_run, write_model


@pytest.mark.parametrize("keep", [True, False])
async def test_an_average_is_kept_or_discarded(keep: bool) -> None:
    run, asked = new_run("plain-otter"), list[tuple[str, ...]]()

    class Averaging(FakeServices):
        def average(self, addresses: Sequence[str]) -> StagedAverage:
            asked.append(tuple(addresses))
            run.checkpoints_path.mkdir()
            place = ExitStack()
            folder = place.enter_context(staging(run.checkpoints_path)) / "average"
            write_average(run, folder, 3_750, write_model, {AVERAGED_FACT: list(addresses)})
            losses = zip(addresses, (4.1, 4.0), strict=True)
            parts = tuple(EvaluatedPart(address=one, loss=loss) for one, loss in losses)
            done = AverageDone(step=3_750, loss=3.9, tokens=999, parts=parts)
            return StagedAverage(run, done, folder, place)

    services = Averaging()
    services.snapshots["plain-otter"] = make_snapshot("finished")
    async with opened(services, "checkpoints") as (app, pilot):
        app.run_beside(average(app, ("plain-otter@3700", "plain-otter@3750")))
        await until_shown(
            pilot,
            "Keep the average?",
            "perplexity 49.40, better than its best part (-5.20)",
            "plain-otter@3750: 54.60. Weights only",
        )
        assert asked == [("plain-otter@3700", "plain-otter@3750")]
        await pilot.press("D" if keep else "enter")
        words = "kept as plain-otter@average-3750" if keep else "average discarded"
        await until_shown(pilot, words)
        await until(pilot, lambda: not list(run.checkpoints_path.glob(".*")))
    assert [entry.name for entry in list_averages(run)] == (["average-3750"] if keep else [])
