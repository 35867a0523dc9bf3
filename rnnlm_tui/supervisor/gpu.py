"""What NVIDIA's management library says of the graphics cards; nothing where there is no card or no driver."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One card at one moment; None where the driver doesn't tell. Bytes, percent, watts, degrees Celsius."""

    name: str | None = None
    percent: float | None = None
    memory_used: int | None = None
    memory_own: int | None = None
    """Held by this process."""
    memory_total: int | None = None
    watts: float | None = None
    celsius: float | None = None


def gpu_count() -> int:
    """NVIDIA cards that this process may see; 0 where there is no card or no driver."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


class GpuProbe:
    """Reads one card by its UUID (as torch names it, with or without `GPU-`), else by its place."""

    def __init__(self, uuid: str | None = None, *, index: int = 0) -> None:
        self._handle: Any = None  # an opaque pointer of the library; None: no card, no driver
        try:
            pynvml.nvmlInit()
            if uuid is None:
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            else:
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        except pynvml.NVMLError:
            self._handle = None

    @property
    def there(self) -> bool:
        return self._handle is not None

    def sample(self) -> GpuReading:
        """One reading; each figure that this card or driver refuses is None."""
        if self._handle is None:
            return GpuReading()
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        load = _ask(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        milliwatts = _ask(pynvml.nvmlDeviceGetPowerUsage, self._handle)
        celsius = _ask(lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU), self._handle)
        processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle) or []
        own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return GpuReading(
            name=_ask(pynvml.nvmlDeviceGetName, self._handle),
            percent=None if load is None else float(load.gpu),
            memory_used=None if memory is None else int(memory.used),
            memory_own=int(own[0]) if own and own[0] is not None else None,
            memory_total=None if memory is None else int(memory.total),
            watts=None if milliwatts is None else milliwatts / 1000,
            celsius=None if celsius is None else float(celsius),
        )

    def close(self) -> None:
        """Let go of the library; the probe reads nothing more."""
        if self._handle is not None:
            self._handle = None
            _ask(lambda _handle: pynvml.nvmlShutdown(), None)


def _ask(question: Callable[[Any], ValueT], handle: Any) -> ValueT | None:
    try:
        return question(handle)
    except pynvml.NVMLError:  # not supported by this card, or the driver has gone
        return None
