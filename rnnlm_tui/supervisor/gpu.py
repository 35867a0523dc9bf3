"""What NVIDIA's management library says of the graphics cards; nothing where there is no card or no driver."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from rnnlm_tui.contract.metrics import GpuRow

ValueT = TypeVar("ValueT")

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Which cards a process may use, by place or UUID, and in which order it numbers them; unset: all, empty: none."""


def gpu_count() -> int:
    """NVIDIA cards that a training may use; 0 where there is no card, no driver, or none that CUDA_VISIBLE_DEVICES leaves."""
    try:
        pynvml.nvmlInit()
        return len(_visible())
    except pynvml.NVMLError:
        return 0


class GpuProbe:
    """Reads one card by its UUID (as torch names it, with or without `GPU-`), else by the number that torch gives it: 1 for `cuda:1`."""

    def __init__(self, uuid: str | None = None, *, index: int = 0) -> None:
        self._handle: Any = None  # an opaque pointer of the library; None: no card, no driver
        try:
            pynvml.nvmlInit()
            card = _visible()[index] if uuid is None else uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(card) if isinstance(card, int) else pynvml.nvmlDeviceGetHandleByUUID(card)
        except (pynvml.NVMLError, IndexError):
            self._handle = None

    @property
    def there(self) -> bool:
        return self._handle is not None

    @property
    def driver_index(self) -> int | None:
        """The driver's number of the card; None where there is none, or it is a part of one."""
        return None if self._handle is None else _ask(pynvml.nvmlDeviceGetIndex, self._handle)

    def sample(self) -> GpuRow:
        """One reading; each figure that this card or driver refuses is None."""
        return GpuRow() if self._handle is None else _read(self._handle)

    def close(self) -> None:
        """Let go of the library; the probe reads nothing more."""
        if self._handle is not None:
            self._handle = None
            _ask(lambda _handle: pynvml.nvmlShutdown(), None)


class OtherCards:
    """Reads every card of the machine but one, whatever CUDA_VISIBLE_DEVICES leaves of them: they take its power and its air.

    Args:
        place: the driver's number of the card to leave out; None: none is.
    """

    def __init__(self, place: int | None = None) -> None:
        self._handles: dict[int, Any] = {}
        try:
            pynvml.nvmlInit()
            others = [number for number in range(int(pynvml.nvmlDeviceGetCount())) if number != place]
        except pynvml.NVMLError:
            return
        found = ((number, _ask(pynvml.nvmlDeviceGetHandleByIndex, number)) for number in others)
        self._handles = {number: handle for number, handle in found if handle is not None}

    def sample(self) -> tuple[GpuRow, ...]:
        """One reading of each, by number; a figure that is refused is None."""
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
    """As the driver is asked today, else as older ones are."""
    newer = getattr(pynvml, "nvmlDeviceGetTemperatureV", None)
    found = None if newer is None else _ask(lambda card: newer(card, pynvml.NVML_TEMPERATURE_GPU), handle)
    if found is None:
        found = _ask(lambda card: pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU), handle)
    return None if found is None else float(found)


def _visible() -> list[int | str]:
    """The driver's places of the cards (the UUIDs of parts of one) that CUDA numbers from 0 on, in its order.

    As CUDA reads its variable: a UUID may be cut short where one card alone begins so, a name that is no card's ends the list, and
    one that comes twice leaves nothing. Cards of several kinds are numbered by the driver's order, which CUDA_DEVICE_ORDER may change.
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
    """One entry of the variable among `count` cards."""
    if name.startswith("MIG-"):
        return name
    if name.startswith("GPU-"):
        alike = [place for place in range(count) if str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(place))).startswith(name)]
        return alike[0] if len(alike) == 1 else None
    return int(name) if name.isdecimal() and int(name) < count else None


def _ask(question: Callable[[Any], ValueT], handle: Any) -> ValueT | None:
    try:
        return question(handle)
    except (pynvml.NVMLError, ValueError, TypeError):  # not supported by this card, the driver has gone, or its answer makes no sense
        return None
