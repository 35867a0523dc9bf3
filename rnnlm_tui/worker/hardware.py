"""Readings of the machine that trains: CPU, memory and disk, and the GPU where one trains."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock
from typing import Protocol

import psutil

from rnnlm_tui.contract.metrics import HardwareRow
from rnnlm_tui.store.cores import core_loads, usable_cores
from rnnlm_tui.store.free_space import free_bytes
from rnnlm_tui.supervisor.gpu import GpuReading, OtherCards


class Card(Protocol):
    """The card that trains."""

    @property
    def place(self) -> int | None:
        """The driver's number of it; None where it has none."""

    def sample(self) -> GpuReading:
        """One reading."""


class HardwareProbe:
    """Reads the machine and this process; `sample()` takes about a millisecond and never waits.

    Args:
        directory: the disk it stands on is the one whose free space counts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = psutil.Process()
        self._cores = usable_cores()
        self._turn = Lock()  # the pulse reads, and the thread that trains says which card it is
        self._card: Card | None = None
        self._others: OtherCards | None = None
        self._cpu_loads()  # loads are measured between two readings: this is the first one's beginning

    def watch_card(self, card: Card) -> None:
        """Read the card that trains from now on, too, and keep it apart from the machine's others."""
        with self._turn:
            self._others, self._card = OtherCards(card.place), card

    def sample(self) -> HardwareRow:
        """One reading, with the loads since the reading before."""
        with self._turn:
            if self._others is None:
                self._others = OtherCards()  # not before: a driver may take a while to wake up
            card, others = self._card, self._others
        gpu = GpuReading() if card is None else card.sample()
        memory = psutil.virtual_memory()
        whole, own = self._cpu_loads()
        return HardwareRow(
            time=time.time(),
            cpu_percent=whole,
            process_cpu_percent=own,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_memory=self._process.memory_info().rss,
            disk_free=free_bytes(self._directory),
            gpu_name=gpu.name,
            gpu_percent=gpu.percent,
            gpu_memory_used=gpu.memory_used,
            gpu_memory_own=gpu.memory_own,
            gpu_memory_total=gpu.memory_total,
            gpu_watts=gpu.watts,
            gpu_celsius=gpu.celsius,
            other_gpus=others.sample(),
        )

    def _cpu_loads(self) -> tuple[float, float]:
        """Busy part of the usable cores, and this process's, which has no children; percent."""
        own = self._process.cpu_percent() / 100
        return usable_loads(own, core_loads(), self._cores)


def usable_loads(own: float, loads: list[float], cores: int) -> tuple[float, float]:
    """Percent of `cores` that are busy and that this process uses itself, from its own use in cores and the load (0 to 1) of each core that it may run on.

    Where a container's quota gives fewer cores than it may run on, others take from them only what the rest of the machine has no room for.
    """
    own = min(own, float(cores))
    others = max(0.0, sum(loads) - own)
    held = min(max(0.0, others - (len(loads) - cores)), cores - own)
    return 100 * (own + held) / cores, 100 * own / cores
