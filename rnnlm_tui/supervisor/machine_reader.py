"""MachineReader: readings of CPU, memory, disk and GPUs, for a worker's history and for the app."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock
from typing import Protocol

import psutil

from rnnlm_tui.contract.metrics import GpuRow, HardwareRow
from rnnlm_tui.store.cores import core_loads, usable_cores
from rnnlm_tui.store.free_space import free_bytes
from rnnlm_tui.supervisor.gpu import GpuProbe, OtherCards


class Card(Protocol):
    """A GPU that can be read."""

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the card; None if it has none."""

    def sample(self) -> GpuRow:
        """Read the card once."""


class MachineReader:
    """Reads the machine. `sample` takes about a millisecond and never blocks.

    Args:
        directory: its disk is the one whose free space is read.
        worker: True in a training worker: the readings include this process, and the GPU is the one
            passed to `watch_card`. False: only the machine, with the first GPU as the main one.
            Waking an NVIDIA driver may take some hundred milliseconds: False does it here,
            True with the first reading.
    """

    def __init__(self, directory: Path, *, worker: bool) -> None:
        self._directory = directory
        self._process = psutil.Process() if worker else None
        self._cores = usable_cores()
        self._lock = Lock()  # the heartbeat thread reads while the training thread calls watch_card
        self._probe = None if worker else GpuProbe()
        self._card: Card | None = self._probe
        self._others = None if self._probe is None else OtherCards(self._probe.driver_index)
        self._cpu_loads()  # psutil measures loads between two calls: this is the first

    def watch_card(self, card: Card) -> None:
        """Read this card as the main one from now on."""
        with self._lock:
            self._others, self._card = OtherCards(card.driver_index), card

    def sample(self) -> HardwareRow:
        """Read everything once; loads are means since the previous reading.

        Raises:
            StorageError: the disk can't be read.
        """
        with self._lock:
            if self._others is None:
                self._others = OtherCards()
            card, others = self._card, self._others
        gpu = GpuRow() if card is None else card.sample()
        memory = psutil.virtual_memory()
        whole, own = self._cpu_loads()
        return HardwareRow(
            time=time.time(),
            cpu_percent=whole,
            process_cpu_percent=own,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_memory=0 if self._process is None else self._process.memory_info().rss,
            disk_free=free_bytes(self._directory),
            gpu_name=gpu.name,
            gpu_percent=gpu.percent,
            gpu_memory_used=gpu.memory_used,
            gpu_memory_own=None if self._process is None else gpu.memory_own,
            gpu_memory_total=gpu.memory_total,
            gpu_watts=gpu.watts,
            gpu_celsius=gpu.celsius,
            other_gpus=others.sample(),
        )

    def close(self) -> None:
        """Release the GPU driver."""
        if self._probe is not None:
            self._probe.close()

    def _cpu_loads(self) -> tuple[float, float]:
        """Percent of the usable cores that are busy, and that this process (no children) uses."""
        loads = core_loads()
        if self._process is None:
            return 100 * min(sum(loads), self._cores) / self._cores, 0.0
        return usable_loads(self._process.cpu_percent() / 100, loads, self._cores)


def usable_loads(own: float, loads: list[float], cores: int) -> tuple[float, float]:
    """Percent of `cores` that are busy, and that this process uses.

    Under a container's quota there are fewer `cores` than the process may run on. Other processes
    then take from it only what doesn't fit on the rest of the machine.

    Args:
        own: cores that this process keeps busy.
        loads: load of each core that this process may run on, 0 to 1.
    """
    own = min(own, float(cores))
    others = max(0.0, sum(loads) - own)
    held = min(max(0.0, others - (len(loads) - cores)), cores - own)
    return 100 * (own + held) / cores, 100 * own / cores
