"""What NVIDIA's driver says of a real GPU, beside what torch says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rnnlm_tui.system.gpu import cards, driver_version, gpu_count
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker.step_metrics import DeviceProbe
from tests.gpu import DEVICE, NEEDS_GPU, ON_DEVICE

pytestmark = [
    *ON_DEVICE,
    NEEDS_GPU,
    pytest.mark.skipif(bool(torch.version.hip), reason="no NVIDIA GPU here"),
]


def test_the_card_that_trains_is_read_and_not_listed_again(tmp_path: Path) -> None:
    held = torch.zeros(2**26, device=DEVICE)
    torch.cuda.synchronize(DEVICE)
    machine = MachineReader(tmp_path, worker=True)
    probe = DeviceProbe(DEVICE)
    machine.watch_card(probe)
    gpu = machine.sample().gpu
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    assert gpu.name is not None
    assert gpu.memory_total == pytest.approx(total, rel=0.05)
    assert gpu.memory_used is not None
    assert gpu.memory_own is not None
    assert torch.cuda.memory_reserved(DEVICE) <= gpu.memory_own <= total
    for value, most in (
        (gpu.percent, 100.0),
        (gpu.celsius, 110.0),
        (gpu.watts, 2_000.0),
        (gpu.clock_mhz, gpu.clock_max_mhz),
    ):
        assert value is None or most is None or 0 <= value <= most
    assert gpu.fault is None
    others = machine.sample().other_gpus
    assert probe.driver_index is not None
    assert probe.driver_index not in [card.index for card in others]
    assert len(others) == len(cards()) - 1
    del held


def test_the_driver_counts_and_describes_the_cards_that_torch_has() -> None:
    assert gpu_count() == torch.cuda.device_count()
    assert driver_version()
    uuid = str(torch.cuda.get_device_properties(DEVICE).uuid)
    (here,) = [
        device
        for board in cards()
        for device in (board, *board.instances)
        if device.uuid is not None and device.uuid.endswith(uuid)
    ]
    assert here.compute_capability == torch.cuda.get_device_capability(DEVICE)
