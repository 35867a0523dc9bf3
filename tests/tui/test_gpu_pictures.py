"""Snapshots of the train screen on recorded GPUs: at the power limit, eight cards, MIG, no power
figures, lost."""

from __future__ import annotations

import pytest

from tests.fakes import nvml
from tests.tui.demo_run import demo_run, readings, use_machine
from tests.tui.pictures import Mode, assert_picture
from tests.tui.support import at_home
from tests.tui.test_pictures import PICTURES

pytestmark = pytest.mark.usefixtures("still")

View = tuple[tuple[int, int], Mode]
NARROW, WIDE = (80, 24), (120, 40)
VIEWS: tuple[tuple[str, tuple[View, ...]], ...] = (
    ("h100", ((WIDE, ""), (WIDE, "plain"), (NARROW, ""))),
    ("h100-node", ((WIDE, ""),)),
    ("h100-node", ((NARROW, ""), (NARROW, "plain"))),
    ("mig", ((WIDE, ""), (NARROW, ""))),
    ("gtx1650", ((WIDE, ""),)),
    ("two-gpus", ((NARROW, ""),)),
    ("gpu-lost", ((WIDE, ""),)),
    ("gpu-lost", ((NARROW, "plain"),)),
)
"""Machines and what one app shows of each; other charts lose a row where there are more GPUs."""


@pytest.mark.parametrize(("name", "views"), VIEWS)
async def test_a_gpu_is_shown_as_in_its_snapshots(
    name: str, views: tuple[View, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, others = nvml.read_machine(name)
    use_machine(monkeypatch, nvml.read(nvml.H100)[0] if card.name is None or card.fault else card)
    with demo_run(hardware=readings(card=card, others=others)):
        async with at_home(pane="train", size=views[0][0]) as (app, pilot):
            for size, mode in views:
                await pilot.resize_terminal(*size)
                await assert_picture(app, PICTURES, f"train-{name}", size, mode)
