"""Readings of a graphics card through a driver that tells all, some or nothing."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pynvml
import pytest

from rnnlm_tui.supervisor.gpu import GpuProbe, GpuReading


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A driver with one card."""

    def unsupported(*_arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    processes = [SimpleNamespace(pid=1, usedGpuMemory=10), SimpleNamespace(pid=os.getpid(), usedGpuMemory=2_000)]
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"card {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"card {uuid}",
        "nvmlDeviceGetName": lambda handle: f"NVIDIA {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3_000, total=80_000),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97),
        "nvmlDeviceGetPowerUsage": unsupported,
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: processes,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return monkeypatch


def test_a_card_is_read_and_what_it_refuses_is_none(driver: pytest.MonkeyPatch) -> None:
    probe = GpuProbe()
    assert probe.there
    assert probe.sample() == GpuReading("NVIDIA card 0", 97.0, 3_000, 2_000, 80_000, watts=None, celsius=61.0)
    probe.close()
    assert probe.sample() == GpuReading()


@pytest.mark.parametrize("uuid", ["12ab", "GPU-12ab"])
def test_the_card_that_trains_is_found_by_its_uuid(driver: pytest.MonkeyPatch, uuid: str) -> None:
    assert GpuProbe(uuid).sample().name == "NVIDIA card GPU-12ab"


def test_without_a_driver_there_is_nothing(driver: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    driver.setattr(pynvml, "nvmlInit", missing)
    probe = GpuProbe()
    assert not probe.there
    assert probe.sample() == GpuReading()
    probe.close()
