"""Readings of the device that trains: by its driver, and by torch what that doesn't tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch

from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.system import machine as machine_module
from rnnlm_tui.system.gpu import Card, GpuProbe, other_cards
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker.step_metrics import DeviceProbe
from tests.fakes.nvml import A100_MIG, H100, H100_NODE, MIB, NO_DRIVER, replay


def not_asked(device: object) -> int:
    pytest.fail("torch was asked")


def probe(
    monkeypatch: pytest.MonkeyPatch,
    uuid: str,
    *,
    name: str = "NVIDIA L4",
    memory_reserved: Callable[[object], int] = not_asked,
) -> DeviceProbe:
    """A probe of torch's CUDA device with this UUID."""
    properties = SimpleNamespace(name=name, total_memory=68_000, uuid=uuid[4:])
    fake = SimpleNamespace(
        get_device_properties=lambda _device: properties, memory_reserved=memory_reserved
    )
    monkeypatch.setattr(torch, "cuda", fake)
    return DeviceProbe(torch.device("cuda"))


def test_a_complete_driver_reading_does_not_ask_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, H100)
    device = probe(monkeypatch, H100.cards[0].uuid)
    assert (device.sample(), device.driver_index) == (GpuProbe().sample(), 0)


def test_a_driver_reading_without_this_process_is_completed_by_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, H100).change(0, ComputeRunningProcesses=[])
    row = probe(monkeypatch, H100.cards[0].uuid, memory_reserved=lambda _device: 3_500).sample()
    assert (row.name, row.memory_own) == ("NVIDIA H100 80GB HBM3", 3_500)


def test_without_a_driver_torch_provides_name_own_memory_and_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, NO_DRIVER)
    name = "AMD Instinct MI210"
    device = probe(monkeypatch, "    31-0-0", name=name, memory_reserved=lambda _device: 0)
    assert device.sample() == GpuRow(None, name, memory_own=0, memory_total=68_000)
    assert device.driver_index is None


def test_the_mig_instance_that_torch_uses_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, A100_MIG)
    machine = MachineReader(tmp_path, worker=True)
    before = machine.sample()
    assert [card.name for card in before.other_gpus] == ["NVIDIA A100-SXM4-40GB"]
    machine.watch_card(probe(monkeypatch, A100_MIG.cards[0].instances[1].uuid))
    row = machine.sample()
    assert (row.gpu.memory_own, row.gpu.watts, row.other_gpus) == (14_195 * MIB, 186.412, ())


def test_an_apple_gpu_is_read_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch,
        "mps",
        SimpleNamespace(driver_allocated_memory=lambda: 700, recommended_max_memory=lambda: 9_000),
    )
    device = DeviceProbe(torch.device("mps"))
    assert (device.sample(), device.driver_index) == (
        GpuRow(None, "Apple GPU", memory_own=700, memory_total=9_000),
        None,
    )


def test_a_device_unknown_to_torch_has_no_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "xpu", SimpleNamespace())
    assert DeviceProbe(torch.device("xpu")).sample() == GpuRow()


def test_a_card_set_during_the_first_reading_is_not_read_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waking, awake = Event(), Event()

    def wake(place: int | None = None) -> list[Card]:
        if place is None:
            waking.set()
            awake.wait(10)
        return other_cards(place)

    replay(monkeypatch, H100_NODE)
    monkeypatch.setattr(machine_module, "other_cards", wake)
    machine = MachineReader(tmp_path, worker=True)
    pulse = Thread(target=machine.sample)
    pulse.start()
    assert waking.wait(10)
    trains = Thread(target=machine.watch_card, args=(GpuProbe(index=3),))
    trains.start()
    trains.join(0.1)  # without a lock it would be done by now
    awake.set()
    pulse.join()
    trains.join()
    assert [card.index for card in machine.sample().other_gpus] == [0, 1, 2, 4, 5, 6, 7]
