"""Read NVIDIA GPUs through NVML; without a GPU or driver there are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from rnnlm_tui.schema.metrics import GpuRow

ValueT = TypeVar("ValueT")

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable: GPUs that CUDA may use, by index or UUID, in its order; unset: all, empty:
none."""


def gpu_count() -> int:
    """Number of NVIDIA GPUs that CUDA can use, by CUDA_VISIBLE_DEVICES; 0 without a driver."""
    try:
        pynvml.nvmlInit()
        return len(_visible())
    except pynvml.NVMLError:
        return 0


def gpu_uuids() -> list[str]:
    """The UUIDs of these GPUs in CUDA's numbering, as CUDA_VISIBLE_DEVICES accepts them."""
    try:
        pynvml.nvmlInit()
        return [
            card
            if isinstance(card, str)
            else str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(card)))
            for card in _visible()
        ]
    except pynvml.NVMLError:
        return []


class GpuProbe:
    """Reads one GPU, by its UUID (with or without `GPU-`) or by torch's index: 1 for `cuda:1`."""

    def __init__(self, uuid: str | None = None, *, index: int = 0) -> None:
        self._handle: Any = None  # NVML's opaque handle; None: no GPU or no driver
        try:
            pynvml.nvmlInit()
            card = (
                _visible()[index]
                if uuid is None
                else uuid
                if uuid.startswith(("GPU-", "MIG-"))
                else f"GPU-{uuid}"
            )
            self._handle = (
                pynvml.nvmlDeviceGetHandleByIndex(card)
                if isinstance(card, int)
                else pynvml.nvmlDeviceGetHandleByUUID(card)
            )
        except (pynvml.NVMLError, IndexError):
            self._handle = None

    @property
    def there(self) -> bool:
        return self._handle is not None

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the GPU; None if there is none, or for a MIG instance."""
        return None if self._handle is None else _ask(pynvml.nvmlDeviceGetIndex, self._handle)

    def sample(self) -> GpuRow:
        """Read the GPU once; values that the driver doesn't report are None."""
        return GpuRow() if self._handle is None else _read(self._handle)

    def close(self) -> None:
        """Release NVML; later readings are empty."""
        if self._handle is not None:
            self._handle = None
            _ask(lambda _handle: pynvml.nvmlShutdown(), None)


class OtherCards:
    """Reads all GPUs of the machine except one. Ignores CUDA_VISIBLE_DEVICES: all share power and
    cooling.

    Args:
        place: the driver's index of the GPU to leave out; None: none.
    """

    def __init__(self, place: int | None = None) -> None:
        self._handles: dict[int, Any] = {}
        try:
            pynvml.nvmlInit()
            others = [
                number for number in range(int(pynvml.nvmlDeviceGetCount())) if number != place
            ]
        except pynvml.NVMLError:
            return
        found = ((number, _ask(pynvml.nvmlDeviceGetHandleByIndex, number)) for number in others)
        self._handles = {number: handle for number, handle in found if handle is not None}

    def sample(self) -> tuple[GpuRow, ...]:
        """Read each GPU once; values that the driver doesn't report are None."""
        return tuple(_read(handle, number) for number, handle in self._handles.items())


def _read(handle: Any, index: int | None = None) -> GpuRow:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    load = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    return GpuRow(
        index=index,
        name=_ask(_name, handle),
        percent=None if load is None else float(load.gpu),
        memory_used=None if memory is None else int(memory.used),
        memory_own=int(own[0]) if own and own[0] is not None else None,
        memory_total=None if memory is None else int(memory.total),
        watts=None if milliwatts is None else milliwatts / 1000,
        celsius=_celsius(handle),
    )


def _name(handle: Any) -> str:
    name = pynvml.nvmlDeviceGetName(handle)
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _celsius(handle: Any) -> float | None:
    """Temperature, by the current NVML function or the one of older libraries."""
    newer = getattr(pynvml, "nvmlDeviceGetTemperatureV", None)
    found = (
        None
        if newer is None
        else _ask(lambda card: newer(card, pynvml.NVML_TEMPERATURE_GPU), handle)
    )
    if found is None:
        found = _ask(
            lambda card: pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU), handle
        )
    return None if found is None else float(found)


def _visible() -> list[int | str]:
    """The driver's indexes (UUIDs for MIG instances) of the GPUs in CUDA's numbering.

    Like CUDA: a UUID may be shortened if it stays unique, an unknown name ends the list, and a
    duplicate leaves no GPU. Different GPUs are in the driver's order, which CUDA_DEVICE_ORDER may
    change.
    """
    count = int(pynvml.nvmlDeviceGetCount())
    wanted = os.environ.get(VISIBLE_VARIABLE)
    if wanted is None:
        return list(range(count))
    cards: list[int | str] = []
    for name in wanted.split(","):
        card = _named(name.strip(), count)
        if card is None:
            break
        cards.append(card)
    return cards if len(set(cards)) == len(cards) else []


def _named(name: str, count: int) -> int | str | None:
    """Resolve one entry of the variable among `count` GPUs."""
    if name.startswith("MIG-"):
        return name
    if name.startswith("GPU-"):
        alike = [
            place
            for place in range(count)
            if str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(place))).startswith(
                name
            )
        ]
        return alike[0] if len(alike) == 1 else None
    return int(name) if name.isdecimal() and int(name) < count else None


def _ask(question: Callable[[Any], ValueT], handle: Any) -> ValueT | None:
    try:
        return question(handle)
    # not supported by this GPU, the driver was unloaded, or its answer is invalid
    except (pynvml.NVMLError, ValueError, TypeError):
        return None
