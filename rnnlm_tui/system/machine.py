"""This machine: its hardware, its free memory, and readings of its load (MachineReader).

CPU cores and memory that are available to this process or a new one.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol

import psutil

from rnnlm_tui.schema.metrics import GpuRow, HardwareRow
from rnnlm_tui.system.cuda import gpu_problem, is_driver_order
from rnnlm_tui.system.disk import disk_space, free_bytes
from rnnlm_tui.system.gpu import GpuProbe, gpu_count, other_cards, read_gpu
from rnnlm_tui.system.locks import host_name

CGROUP = Path("/sys/fs/cgroup")
"""Limits of this process's container."""


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    with suppress(AttributeError):  # macOS has no affinity
        return min(len(os.sched_getaffinity(0)), _quota() or 1 << 20)
    return os.cpu_count() or 1


def core_loads() -> list[float]:
    """Load of each core in this process's affinity since the previous call, 0 to 1.

    All cores if the system has no affinity.
    """
    percents = psutil.cpu_percent(percpu=True)
    try:
        return [percents[core] / 100 for core in os.sched_getaffinity(0)]
    # macOS has no affinity; a container may list fewer cores than its highest number
    except (AttributeError, IndexError):
        return [percent / 100 for percent in percents]


def _quota() -> int | None:
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None  # no such file, or "max": no quota


def _limit(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such file, or "max": no limit


def memory_available() -> int:
    """Bytes available to a new process without swapping, within the container's limit if there is
    one."""
    free, limit = int(psutil.virtual_memory().available), _limit("memory.max")
    if limit is not None:
        with suppress(OSError):
            used = _limit("memory.current") or 0
            stat = (CGROUP / "memory.stat").read_text(encoding="ascii")
            cached = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
            free = min(free, max(0, limit - used + (int(cached[1]) if cached else 0)))
    return free


def memory_total() -> int:
    """Bytes of main memory and swap, or the container's limits of both if there are any."""
    ram, swap = int(psutil.virtual_memory().total), int(psutil.swap_memory().total)
    limit, swappable = _limit("memory.max"), _limit("memory.swap.max")
    if limit is None:
        return ram + swap
    return min(ram, limit) + (swap if swappable is None else min(swap, swappable))


Device = Literal["cpu", "cuda", "mps"]
"""Kinds of device."""

DRIVER_BYTES = 500 * 2**20
"""GPU memory of a CUDA process besides its tensors: the driver's context and kernels."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """This machine at one moment. Sizes in bytes; None without a GPU or if its driver doesn't
    report them."""

    host: str
    cpu_count: int
    """Cores that this process may use."""
    memory_total: int
    memory_free: int
    """Available to a new process without swapping."""
    disk_free: int
    """On the disk of the described directory."""
    gpu: GpuRow
    """The first GPU that CUDA can use."""
    disk_total: int | None = None
    """Size of that disk."""


def describe_machine(directory: Path) -> MachineFacts:
    """Describe this machine, with the disk of `directory`. Takes milliseconds; waking an NVIDIA
    driver some hundred."""
    total, free = disk_space(directory)
    return MachineFacts(
        host=host_name(),
        cpu_count=usable_cores(),
        memory_total=int(psutil.virtual_memory().total),
        memory_free=memory_available(),
        disk_free=free,
        gpu=read_gpu(),
        disk_total=total,
    )


def planned_device(name: str) -> Device:
    """The kind of device that `training.device` selects here; `auto` takes a GPU that torch can
    use."""
    if name == "auto":
        if gpu_count() and gpu_problem() is None:
            return "cuda"
        return "mps" if sys.platform == "darwin" else "cpu"
    return "cuda" if name.startswith("cuda") else "mps" if name == "mps" else "cpu"


def free_training_memory(name: str) -> int | None:
    """Bytes available to a new training on the device `name`; None if unknown."""
    if planned_device(name) != "cuda":
        return memory_available()
    if not is_driver_order() and gpu_count() > 1:
        return None  # CUDA may give this number to another GPU
    gpu = read_gpu(index=int(name.partition(":")[2] or 0))
    return (
        None
        if gpu.memory_total is None or gpu.memory_used is None
        else max(0, gpu.memory_total - gpu.memory_used - DRIVER_BYTES)
    )


class Probe(Protocol):
    """Reads a GPU."""

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
            Waking an NVIDIA driver may take some hundred milliseconds: False does it here, True
            with the first reading.
    """

    def __init__(self, directory: Path, *, worker: bool) -> None:
        self._directory = directory
        self._process = psutil.Process() if worker else None
        self._cores = usable_cores()
        self._lock = Lock()  # the heartbeat thread reads while the training thread calls watch_card
        self._probe = None if worker else GpuProbe()
        self._card: Probe | None = self._probe
        self._others = None if self._probe is None else other_cards(self._probe.driver_index)
        self._cpu_loads()  # psutil measures loads between two calls: this is the first

    def watch_card(self, card: Probe) -> None:
        """Read this card as the main one from now on."""
        with self._lock:
            self._others, self._card = other_cards(card.driver_index), card

    def sample(self) -> HardwareRow:
        """Read everything once; loads are means since the previous reading.

        Raises:
            StorageError: the disk can't be read.
        """
        with self._lock:
            if self._others is None:
                self._others = other_cards()
            card, others = self._card, self._others
        gpu = GpuRow() if card is None else card.sample()
        if self._process is None:
            gpu = gpu._replace(memory_own=None)
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
            gpu=gpu,
            other_gpus=tuple(other.sample() for other in others),
        )

    def close(self) -> None:
        """Stop collecting the GPU's errors."""
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
