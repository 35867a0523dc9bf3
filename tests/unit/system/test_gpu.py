"""GPU readings with a driver that reports all, some or no values."""

from __future__ import annotations

import os
from dataclasses import astuple, replace
from types import SimpleNamespace

import pynvml
import pytest

from rnnlm_tui.schema.metrics import CARD_LOST, GpuRow
from rnnlm_tui.system.gpu import (
    VISIBLE_VARIABLE,
    GpuProbe,
    GpuProcess,
    OtherCards,
    cards,
    driver_cuda_version,
    driver_problem,
    driver_version,
    gpu_count,
    gpu_uuids,
)
from rnnlm_tui.system.machine import DRIVER_BYTES, free_training_memory, planned_device

UUIDS = ("GPU-12ab-34", "GPU-12ff-56")
"""Of the cards, in the driver's order."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A driver with two visible GPUs."""

    def unsupported(*_arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    processes = [
        SimpleNamespace(pid=1, usedGpuMemory=10),
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=2_000),
    ]
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(UUIDS),
        "nvmlDeviceGetUUID": lambda handle: UUIDS[int(handle.removeprefix("card "))],
        "nvmlDeviceGetHandleByIndex": lambda index: f"card {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"card {uuid}",
        "nvmlDeviceGetName": lambda handle: f"NVIDIA {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3_000, total=80_000),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97),
        "nvmlDeviceGetPowerUsage": unsupported,
        "nvmlDeviceGetTemperatureV": unsupported,
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        "nvmlDeviceGetIndex": lambda handle: int(handle.removeprefix("card ")),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: processes,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlSystemGetDriverVersion": lambda: "550.54.15",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12_040,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv(VISIBLE_VARIABLE, raising=False)
    monkeypatch.setattr("rnnlm_tui.system.machine.torch_fits_driver", lambda: True)
    return monkeypatch


def test_values_that_a_gpu_does_not_report_are_none(driver: pytest.MonkeyPatch) -> None:
    probe = GpuProbe()
    assert probe.there
    assert probe.sample() == GpuRow(
        None, "NVIDIA card 0", 97.0, 3_000, 2_000, 80_000, watts=None, celsius=61.0
    )
    probe.close()
    assert probe.sample() == GpuRow()


def test_the_temperature_falls_back_to_the_older_function(
    driver: pytest.MonkeyPatch,
) -> None:
    driver.setattr(pynvml, "nvmlDeviceGetTemperatureV", lambda handle, kind: 58)
    assert GpuProbe().sample().celsius == 58.0
    driver.delattr(pynvml, "nvmlDeviceGetTemperatureV")  # an older library
    assert GpuProbe().sample().celsius == 61.0


def test_gpus_are_named_in_the_numbering_of_cuda(driver: pytest.MonkeyPatch) -> None:
    assert gpu_uuids() == list(UUIDS)
    driver.setenv(VISIBLE_VARIABLE, "1,0")
    assert gpu_uuids() == [UUIDS[1], UUIDS[0]]
    driver.setenv(VISIBLE_VARIABLE, "")
    assert gpu_uuids() == []


@pytest.mark.parametrize(
    "broken",
    [
        "MemoryInfo",
        "UtilizationRates",
        "PowerUsage",
        "Temperature",
        "ComputeRunningProcesses",
        "Name",
    ],
)
def test_each_value_can_be_missing_alone(driver: pytest.MonkeyPatch, broken: str) -> None:
    whole = GpuProbe().sample()

    def refused(*_arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    driver.setattr(pynvml, f"nvmlDeviceGet{broken}", refused)
    lost = GpuProbe().sample()
    assert lost.fault == (None if broken == "Name" else CARD_LOST)
    rest = replace(lost, fault=None)
    assert all(
        figure in (None, before)
        for figure, before in zip(astuple(rest), astuple(whole), strict=True)
    )
    assert (rest == whole) == (broken == "PowerUsage")


def test_other_cards_are_all_but_the_training_one_whatever_cuda_sees(
    driver: pytest.MonkeyPatch,
) -> None:
    driver.setenv(VISIBLE_VARIABLE, "1")
    (other,) = OtherCards(GpuProbe().driver_index).sample()
    assert other == GpuRow(0, "NVIDIA card 0", 97.0, 3_000, 2_000, 80_000, watts=None, celsius=61.0)
    assert [card.index for card in OtherCards().sample()] == [0, 1]
    driver.setattr(
        pynvml,
        "nvmlDeviceGetHandleByIndex",
        lambda index: (_ for _ in ()).throw(pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)),
    )
    assert OtherCards().sample() == ()


@pytest.mark.parametrize("uuid", ["12ab", "GPU-12ab"])
def test_the_training_card_is_found_by_its_uuid(driver: pytest.MonkeyPatch, uuid: str) -> None:
    assert GpuProbe(uuid).sample().name == "NVIDIA card GPU-12ab"


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["card 0", "card 1"]),
        ("1", ["card 1"]),
        ("1, 0", ["card 1", "card 0"]),
        ("", []),
        ("-1", []),
        ("1,7,0", ["card 1"]),  # CUDA takes those before the first that isn't there
        ("1,1", []),
        ("GPU-12ff", ["card 1"]),
        ("GPU-12", []),  # two begin so
        ("GPU-12ff-56,GPU-12ab-34", ["card 1", "card 0"]),
        ("MIG-7", ["card MIG-7"]),
    ],
)
def test_cards_are_numbered_as_cuda_numbers_them(
    driver: pytest.MonkeyPatch, visible: str | None, names: list[str]
) -> None:
    driver.setattr("sys.platform", "linux")
    if visible is not None:
        driver.setenv(VISIBLE_VARIABLE, visible)
    assert gpu_count() == len(names)
    assert [GpuProbe(index=index).sample().name for index in range(len(names))] == [
        f"NVIDIA {name}" for name in names
    ]
    assert not GpuProbe(index=len(names)).there
    assert planned_device("auto") == ("cuda" if names else "cpu")


def test_free_training_memory_is_that_of_the_training_card(driver: pytest.MonkeyPatch) -> None:
    driver.setattr(
        pynvml,
        "nvmlDeviceGetMemoryInfo",
        lambda handle: SimpleNamespace(used=0, total=10**10 if handle == "card 1" else 10**9),
    )
    driver.setenv(VISIBLE_VARIABLE, "1")
    assert (
        free_training_memory("cuda")
        == free_training_memory("cuda:0")
        == free_training_memory("auto")
        == 10**10 - DRIVER_BYTES
    )
    assert free_training_memory("cuda:1") is None


def test_without_a_driver_there_are_no_gpus(driver: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    driver.setattr(pynvml, "nvmlInit", missing)
    probe = GpuProbe()
    assert not probe.there
    assert (probe.sample(), probe.driver_index, OtherCards().sample()) == (GpuRow(), None, ())
    probe.close()


def test_every_card_of_the_machine_is_described_with_its_processes(
    driver: pytest.MonkeyPatch,
) -> None:
    driver.setenv(VISIBLE_VARIABLE, "1")
    first, second = cards()
    assert (first.index, first.uuid, second.index, second.uuid) == (0, UUIDS[0], 1, UUIDS[1])
    assert (first.name, first.compute_capability) == ("NVIDIA card 0", (9, 0))
    assert (first.memory_used, first.memory_total) == (3_000, 80_000)
    assert first.processes == (GpuProcess(1, 10), GpuProcess(os.getpid(), 2_000))
    assert (driver_version(), driver_cuda_version()) == ("550.54.15", (12, 4))
    assert driver_problem() is None
