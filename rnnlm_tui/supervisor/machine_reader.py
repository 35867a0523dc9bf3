"""Readings of this machine by whoever looks at it while no run's worker does: processors, memory, disk and graphics cards."""

from __future__ import annotations

import time

import psutil

from rnnlm_tui.contract.metrics import HardwareRow
from rnnlm_tui.store.cores import core_loads, usable_cores
from rnnlm_tui.store.free_space import free_bytes
from rnnlm_tui.store.locations import home
from rnnlm_tui.supervisor.gpu import GpuProbe, OtherCards


class MachineReader:
    """Reads the machine; from one thread. `sample()` takes about a millisecond and never waits.

    Its making wakes an NVIDIA driver, which may take some hundred milliseconds.
    """

    def __init__(self) -> None:
        self._cores = usable_cores()
        self._gpu = GpuProbe()
        self._others = OtherCards(self._gpu.place)
        core_loads()  # loads are measured between two readings: this is the first one's beginning

    def sample(self) -> HardwareRow:
        """One reading, with the load since the one before; nothing in it is a run's own.

        Raises:
            StorageError: the disk can't be asked.
        """
        memory = psutil.virtual_memory()
        gpu = self._gpu.sample()
        return HardwareRow(
            time=time.time(),
            cpu_percent=100 * min(sum(core_loads()), self._cores) / self._cores,
            process_cpu_percent=0.0,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_memory=0,
            disk_free=free_bytes(home()),
            gpu_name=gpu.name,
            gpu_percent=gpu.percent,
            gpu_memory_used=gpu.memory_used,
            gpu_memory_total=gpu.memory_total,
            gpu_watts=gpu.watts,
            gpu_celsius=gpu.celsius,
            other_gpus=self._others.sample(),
        )

    def close(self) -> None:
        """Let go of the driver."""
        self._gpu.close()
