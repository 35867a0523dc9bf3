"""torch as a build with or without CUDA, on a machine with GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rnnlm_tui.system import cuda
from tests.fakes.nvml import RecordedCard


def install_torch(
    monkeypatch: pytest.MonkeyPatch,
    cards: Sequence[RecordedCard],
    *,
    version: str = "2.13.0",
    built_for: str | None = "12.6",
    architectures: Sequence[str] = ("sm_75", "sm_80", "sm_90"),
    refusal: str = "",
    failure: str = "",
) -> list[torch.device]:
    """Let torch be a build with these cards, in its numbering; returns the devices that become its
    current one.

    Args:
        built_for: the build's CUDA; None: built without.
        refusal: why CUDA doesn't start; empty: it does.
        failure: message of every CUDA call on the first card; empty: it works.
    """
    chosen: list[torch.device] = []

    def index(device: object) -> int:
        return 0 if device is None else torch.device(str(device)).index or 0

    def answer(name: str) -> Callable[..., Any]:
        return lambda device=None: cards[index(device)].answers[name]

    def work(device: object = None) -> None:
        if failure and index(device) == 0:
            raise torch.AcceleratorError(failure)

    def init() -> None:
        if refusal:
            raise RuntimeError(refusal)

    def set_device(device: torch.device) -> None:
        work(device)
        chosen.append(device)

    def memory(device: object = None) -> tuple[int, int]:
        work(device)
        sizes = answer("MemoryInfo")(device)
        return sizes["free"], sizes["total"]

    zeros = torch.zeros

    def fake_zeros(*shape: int, **settings: object) -> torch.Tensor:
        if str(settings.get("device", "")).startswith("cuda"):
            work(settings.pop("device"))
        return zeros(*shape, **settings)  # type: ignore[call-overload, no-any-return]

    there = bool(built_for) and bool(cards) and not refusal
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: there,
        "device_count": lambda: len(cards) if there else 0,
        "init": init,
        "get_device_name": answer("Name"),
        "get_device_capability": answer("CudaComputeCapability"),
        "get_device_properties": lambda device=None: SimpleNamespace(
            name=answer("Name")(device),
            uuid=cards[index(device)].uuid.removeprefix("GPU-"),
            total_memory=answer("MemoryInfo")(device)["total"],
        ),
        "get_arch_list": lambda: list(architectures),
        "mem_get_info": memory,
        "set_device": set_device,
        "synchronize": work,
        "empty_cache": lambda: None,
    }
    for name, function in answers.items():
        monkeypatch.setattr(torch.cuda, name, function)
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
