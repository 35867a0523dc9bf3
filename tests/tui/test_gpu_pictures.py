"""Snapshots of the train screen on recorded GPUs: at the power limit, eight cards, MIG, no power
figures, lost."""

from __future__ import annotations

import pytest

from tests.fakes import nvml
from tests.tui.demo_run import demo_run, readings, use_machine
from tests.tui.pictures import Mode, assert_picture
from tests.tui.support import at_home, text_of, until
from tests.tui.test_pictures import PICTURES

pytestmark = pytest.mark.usefixtures("still")

NARROW, WIDE = (80, 24), (120, 40)
READINGS = {f"train-{name}": nvml.read_machine(name) for name in nvml.MACHINES}
VIEWS: tuple[tuple[str, tuple[int, int], tuple[Mode, ...]], ...] = (
    ("train-h100", NARROW, ("",)),
    ("train-h100", WIDE, ("", "plain")),
    ("train-h100-node", NARROW, ("", "plain")),
    ("train-h100-node", WIDE, ("",)),
    ("train-mig", NARROW, ("",)),
    ("train-mig", WIDE, ("",)),
    ("train-gtx1650", WIDE, ("",)),
    ("train-two-gpus", NARROW, ("",)),
    ("train-gpu-lost", NARROW, ("plain",)),
    ("train-gpu-lost", WIDE, ("",)),
)


@pytest.mark.parametrize(("name", "size", "modes"), VIEWS)
async def test_a_gpu_is_shown_as_in_its_snapshots(
    name: str, size: tuple[int, int], modes: tuple[Mode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, others = READINGS[name]
    use_machine(monkeypatch, nvml.read(nvml.H100)[0] if card.name is None or card.fault else card)
    with demo_run(hardware=readings(card=card, others=others)):
        async with at_home(pane="train", size=size) as (app, pilot):
            await until(pilot, lambda: "Machine" in text_of(app))
            for mode in modes:
                await assert_picture(app, PICTURES, name, size, mode)
