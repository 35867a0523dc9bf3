"""DeviceProbe: readings of the device that trains, from its driver or from torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.system.gpu import GpuProbe

ValueT = TypeVar("ValueT")


class DeviceProbe:
    """Reads a CUDA, ROCm, XPU or MPS device of this process.

    torch is only asked for its own allocations, which disturbs nothing on the device. Memory of
    other processes is known from the driver or not at all: torch must not ask for it while a CUDA
    graph is captured. In a container the driver may not know which of its processes this one is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._module: Any = getattr(torch, device.type, None)
        properties: Any = _or_none(lambda: self._module.get_device_properties(device))
        uuid = _or_none(lambda: str(properties.uuid)) if device.type == "cuda" else None
        self._driver = None if uuid is None else GpuProbe(uuid)
        self._name = "Apple GPU" if device.type == "mps" else _or_none(lambda: str(properties.name))
        total = _or_none(lambda: int(properties.total_memory))
        self._total = (
            _or_none(lambda: int(self._module.recommended_max_memory())) if total is None else total
        )

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the card; None: unknown."""
        return None if self._driver is None else self._driver.driver_index

    def sample(self) -> GpuRow:
        """Take one reading; unknown values are None."""
        found = GpuRow() if self._driver is None else self._driver.sample()
        if found.name is not None and found.memory_own is not None:
            return found
        own = _or_none(lambda: int(self._module.memory_reserved(self._device)))
        if own is None:
            own = self._allocated()
        return replace(
            found,
            name=self._name if found.name is None else found.name,
            memory_own=own if found.memory_own is None else found.memory_own,
            memory_total=self._total if found.memory_total is None else found.memory_total,
        )

    def _allocated(self) -> int | None:
        return _or_none(lambda: int(self._module.driver_allocated_memory()))


def _or_none(question: Callable[[], ValueT]) -> ValueT | None:
    try:
        return question()
    except (AttributeError, RuntimeError, AssertionError, TypeError, ValueError):
        return None  # this device or this torch doesn't report it
