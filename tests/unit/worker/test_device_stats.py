"""Readings of the device that trains: by its driver, and by torch what that doesn't tell."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch

from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.system import machine as machine_module
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker import step_metrics
from rnnlm_tui.worker.step_metrics import DeviceProbe
from tests.fakes import nvml

CUDA = torch.device("cuda:1")


class Driver:
    """A driver's card number 3 with this reading."""

    driver_index = 3

    def __init__(self, reading: GpuRow) -> None:
        self.reading = reading

    def sample(self) -> GpuRow:
        return self.reading


def others(place: int | None = None) -> list[Driver]:
    """The cards 0 and 3 of a driver, but the one that trains."""
    return [Driver(GpuRow(number)) for number in (0, 3) if number != place]


def module(**answers: object) -> SimpleNamespace:
    return SimpleNamespace(
        get_device_properties=lambda device: SimpleNamespace(
            name="NVIDIA L4", total_memory=23_000, uuid="12ab"
        ),
        **answers,
    )


def probe(monkeypatch: pytest.MonkeyPatch, reading: GpuRow, **answers: object) -> DeviceProbe:
    monkeypatch.setattr(torch, "cuda", module(**answers))
    monkeypatch.setattr(step_metrics, "GpuProbe", lambda uuid: {"12ab": Driver(reading)}[uuid])
    return DeviceProbe(CUDA)


def test_a_complete_driver_reading_does_not_ask_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    told = GpuRow(None, "NVIDIA L4", 97.0, 9_000, 4_000, 23_000, 48.0, 61.0)
    device = probe(monkeypatch, told, memory_reserved=lambda device: pytest.fail("asked"))
    assert (device.sample(), device.driver_index) == (told, 3)


def test_a_driver_reading_without_this_process_is_completed_by_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = probe(
        monkeypatch,
        GpuRow(None, "NVIDIA L4", 97.0, 9_000, None, 23_000),
        memory_reserved=lambda device: 3_500 if device == CUDA else 0,
    )
    assert device.sample() == GpuRow(None, "NVIDIA L4", 97.0, 9_000, 3_500, 23_000)


def test_without_a_driver_torch_provides_name_own_memory_and_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = probe(monkeypatch, GpuRow(), memory_reserved=lambda device: 0)
    assert device.sample() == GpuRow(None, "NVIDIA L4", memory_own=0, memory_total=23_000)


def test_a_rocm_card_has_no_driver_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.replay(monkeypatch, nvml.NO_DRIVER)
    properties = SimpleNamespace(name="AMD Instinct MI210", total_memory=68_000, uuid="31-0-0")
    monkeypatch.setattr(
        torch,
        "cuda",
        SimpleNamespace(
            get_device_properties=lambda device: properties, memory_reserved=lambda device: 5_000
        ),
    )
    device = DeviceProbe(CUDA)
    assert device.sample() == GpuRow(None, "AMD Instinct MI210", None, None, 5_000, 68_000)
    assert device.driver_index is None


def test_the_mig_instance_that_torch_uses_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml.replay(monkeypatch, nvml.A100_MIG)
    instance = nvml.A100_MIG.cards[0].instances[1]
    properties = SimpleNamespace(
        name="NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        total_memory=20_937_965_568,
        uuid=instance.uuid.removeprefix("MIG-"),
    )
    monkeypatch.setattr(
        torch, "cuda", SimpleNamespace(get_device_properties=lambda device: properties)
    )
    machine = MachineReader(tmp_path, worker=True)
    before = machine.sample()
    assert [card.name for card in before.other_gpus] == ["NVIDIA A100-SXM4-40GB"]
    machine.watch_card(DeviceProbe(torch.device("cuda")))
    row = machine.sample()
    assert (row.gpu.memory_own, row.gpu.watts, row.other_gpus) == (
        14_195 * nvml.MIB,
        186.412,
        (),
    )


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


def test_a_row_separates_the_training_card_from_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine_module, "other_cards", others)
    machine = MachineReader(tmp_path, worker=True)
    before = machine.sample()
    assert (before.gpu.name, [card.index for card in before.other_gpus]) == (None, [0, 3])
    machine.watch_card(Driver(GpuRow(None, "NVIDIA L4", 97.0, celsius=61.0)))
    row = machine.sample()
    assert (
        row.gpu.name,
        row.gpu.percent,
        row.gpu.celsius,
        [card.index for card in row.other_gpus],
    ) == ("NVIDIA L4", 97.0, 61.0, [0])


def test_a_card_set_during_the_first_reading_is_not_read_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waking, awake = Event(), Event()

    def wake(place: int | None = None) -> list[Driver]:
        if place is None:
            waking.set()
            awake.wait(10)
        return others(place)

    monkeypatch.setattr(machine_module, "other_cards", wake)
    machine = MachineReader(tmp_path, worker=True)
    pulse = Thread(target=machine.sample)
    pulse.start()
    assert waking.wait(10)
    trains = Thread(target=machine.watch_card, args=(Driver(GpuRow(None, "NVIDIA L4", 97.0)),))
    trains.start()
    trains.join(0.1)  # without a lock it would be done by now
    awake.set()
    pulse.join()
    trains.join()
    assert [card.index for card in machine.sample().other_gpus] == [0]
