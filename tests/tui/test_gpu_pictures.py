"""Snapshots of the train screen on recorded GPUs: at the power limit, eight cards, MIG, no power
figures, lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.client.monitor import RunSnapshot
from tests.fakes import nvml
from tests.tui.fakes import FakeServices, make_hardware, make_machine, make_snapshot, with_cards
from tests.tui.pictures import Mode, assert_picture
from tests.tui.support import running_app, text_of, until
from tests.tui.test_pictures import PICTURES, still_clock

__all__ = ["still_clock"]

NARROW, WIDE = (80, 24), (120, 40)
READINGS = {f"train-{name}": nvml.read_machine(name) for name in nvml.MACHINES}
VIEWS: tuple[tuple[str, tuple[int, int], Mode], ...] = (
    *(("train-h100", size, "") for size in (NARROW, WIDE)),
    ("train-h100", WIDE, "plain"),
    *(("train-h100-node", size, "") for size in (NARROW, WIDE)),
    ("train-h100-node", NARROW, "plain"),
    *(("train-mig", size, "") for size in (NARROW, WIDE)),
    ("train-gtx1650", WIDE, ""),
    ("train-two-gpus", NARROW, ""),
    ("train-gpu-lost", NARROW, "plain"),
    ("train-gpu-lost", WIDE, ""),
)


def on_gpu(name: str) -> RunSnapshot:
    """A run that trains on the recorded machine."""
    return replace(make_snapshot(), hardware=with_cards(make_hardware(), *READINGS[name]))


def services(name: str) -> FakeServices:
    card, _ = READINGS[name]
    known = nvml.read(nvml.H100)[0] if card.name is None or card.fault else card
    return FakeServices(on_gpu(name), machine=replace(make_machine(), gpu=known))


@pytest.mark.parametrize(("name", "size", "mode"), VIEWS)
async def test_a_gpu_is_shown_as_in_its_snapshot(
    name: str, size: tuple[int, int], mode: Mode
) -> None:
    async with running_app(services(name), run="plain-otter", pane="train", size=size) as started:
        app, pilot = started
        await until(pilot, lambda: "Machine" in text_of(app))
        await assert_picture(app, PICTURES, name, size, mode)
