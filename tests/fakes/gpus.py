"""A machine's NVIDIA GPUs as its driver (NVML) and torch see them, which may differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml
import pytest
import torch

from rnnlm_tui.system import cuda
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE

GIB = 2**30


@dataclass
class FakeCard:
    """A GPU."""

    name: str = "NVIDIA H100 PCIe"
    uuid: str = "GPU-1a2b3c4d-0000"
    capability: tuple[int, int] = (9, 0)
    total: int = 80 * GIB
    free: int = 79 * GIB
    processes: list[tuple[int, int]] = field(default_factory=list)
    """Process ids and the bytes that they hold."""
    failure: str = ""
    """Message of every CUDA call on it; empty: it works."""


def install_driver(
    monkeypatch: pytest.MonkeyPatch,
    cards: Sequence[FakeCard],
    *,
    version: str = "550.54.15",
    newest_cuda: int = 12040,
    failure: int | None = None,
) -> None:
    """Let NVML answer for a driver with these cards.

    Args:
        newest_cuda: 12040 is CUDA 12.4.
        failure: NVML's error code, instead of any answer.
    """

    def init() -> None:
        if failure is not None:
            raise pynvml.NVMLError(failure)

    def by_uuid(uuid: str) -> FakeCard:
        found = [card for card in cards if card.uuid == uuid]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found[0]

    answers: dict[str, Callable[..., object]] = {
        "nvmlInit": init,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: version,
        "nvmlSystemGetCudaDriverVersion": lambda: newest_cuda,
        "nvmlDeviceGetCount": lambda: len(cards),
        "nvmlDeviceGetHandleByIndex": lambda index: cards[index],
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetIndex": lambda card: list(cards).index(card),
        "nvmlDeviceGetUUID": lambda card: card.uuid,
        "nvmlDeviceGetName": lambda card: card.name,
        "nvmlDeviceGetCudaComputeCapability": lambda card: card.capability,
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(
            used=card.total - card.free, free=card.free, total=card.total
        ),
        "nvmlDeviceGetComputeRunningProcesses": lambda card: [
            SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in card.processes
        ],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv(VISIBLE_VARIABLE, raising=False)


def install_torch(
    monkeypatch: pytest.MonkeyPatch,
    cards: Sequence[FakeCard],
    *,
    version: str = "2.13.0",
    built_for: str | None = "12.6",
    architectures: Sequence[str] = ("sm_75", "sm_80", "sm_90"),
    refusal: str = "",
) -> list[torch.device]:
    """Let torch be a build with these cards, in its numbering; returns the devices that become its
    current one.

    Args:
        built_for: the build's CUDA; None: built without.
        refusal: why CUDA doesn't start; empty: it does.
    """
    chosen: list[torch.device] = []

    def card(device: object = None) -> FakeCard:
        index = 0 if device is None else torch.device(str(device)).index or 0
        return cards[index]

    def working(device: object = None) -> FakeCard:
        if card(device).failure:
            raise torch.AcceleratorError(card(device).failure)
        return card(device)

    def init() -> None:
        if refusal:
            raise RuntimeError(refusal)

    def set_device(device: torch.device) -> None:
        working(device)
        chosen.append(device)

    zeros = torch.zeros

    def fake_zeros(*shape: int, **settings: object) -> torch.Tensor:
        if str(settings.get("device", "")).startswith("cuda"):
            working(settings.pop("device"))
        return zeros(*shape, **settings)  # type: ignore[call-overload, no-any-return]

    there = bool(built_for) and bool(cards) and not refusal
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: there,
        "device_count": lambda: len(cards) if there else 0,
        "init": init,
        "get_device_name": lambda device=None: card(device).name,
        "get_device_capability": lambda device=None: card(device).capability,
        "get_device_properties": lambda device=None: SimpleNamespace(
            name=card(device).name,
            uuid=card(device).uuid.removeprefix("GPU-"),
            total_memory=card(device).total,
        ),
        "get_arch_list": lambda: list(architectures),
        "mem_get_info": lambda device=None: (working(device).free, card(device).total),
        "set_device": set_device,
        "synchronize": working,
        "empty_cache": lambda: None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch, "zeros", fake_zeros)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    install_torch_build(monkeypatch, version, built_for)
    return chosen


def install_torch_build(
    monkeypatch: pytest.MonkeyPatch, version: str = "2.13.0", built_for: str | None = "12.6"
) -> None:
    """Let this torch be the installed one, for processes that don't import it."""
    build = cuda.TorchBuild(version, built_for)
    monkeypatch.setattr(cuda, "installed_torch", lambda: build)
