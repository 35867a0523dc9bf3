"""Heartbeat: a thread that writes a heartbeat and a hardware reading every second.

DeviceProbe: readings of the device that trains, from its driver where possible, else from torch.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch

from rnnlm_tui.schema.metrics import GpuRow, HardwareRow
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS
from rnnlm_tui.system.gpu import GpuProbe


class HeartbeatStore(Protocol):
    """Where heartbeats are written; safe to call from a second thread."""

    def heartbeat(self, time: float) -> None: ...

    def add_hardware(self, row: HardwareRow) -> None: ...


class HardwareReader(Protocol):
    def sample(self) -> HardwareRow: ...


class Heartbeat:
    """Writes until `stop`, also while paused and during evaluations: it shows that the process is
    alive.

    A heartbeat that can't be written (a full disk) or a reading that fails is skipped with a line
    in
    the log.
    """

    def __init__(
        self, store: HeartbeatStore, probe: HardwareReader, *, seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._store = store
        self._probe = probe
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat, then start the thread."""
        self._store.heartbeat(time.time())
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing is written after this."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._store.heartbeat(time.time())
                self._store.add_hardware(self._probe.sample())
            except Exception as error:
                # any error: without heartbeats the run would look stalled, and rows that wait for
                # disk space would never be stored
                print(f"no heartbeat written: {error}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the run's log


ValueT = TypeVar("ValueT")


class DeviceProbe:
    """Reads a CUDA, ROCm, XPU or MPS device of this process.

    torch is only asked for its own allocations, which disturbs nothing on the device. Memory of
    other
    processes is known from the driver or not at all: torch must not ask for it while a CUDA graph
    is
    captured. In a container the driver may not know which of its processes this one is.
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
    except (
        AttributeError,
        RuntimeError,
        AssertionError,
        TypeError,
        ValueError,
    ):  # this device or this torch doesn't report it
        return None
