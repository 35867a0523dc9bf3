"""Readings of the machine that trains: CPU, memory and disk, and the GPU where one trains."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from rnnlm_tui.contract.metrics import HardwareRow
from rnnlm_tui.supervisor.gpu import GpuProbe, GpuReading


class HardwareProbe:
    """Reads the machine and this process; `sample()` takes about a millisecond and never waits.

    Args:
        directory: the disk it stands on is the one whose free space counts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = psutil.Process()
        self._cores = psutil.cpu_count() or 1
        self._gpu: GpuProbe | None = None
        psutil.cpu_percent()  # loads are measured between two readings: this is the first one's beginning
        self._process.cpu_percent()

    def watch_gpu(self, uuid: str) -> None:
        """Read this card as well from now on."""
        self._gpu = GpuProbe(uuid)

    def sample(self) -> HardwareRow:
        """One reading, with the loads since the reading before."""
        gpu_probe = self._gpu
        gpu = gpu_probe.sample() if gpu_probe is not None else GpuReading()
        memory = psutil.virtual_memory()
        return HardwareRow(
            time=time.time(),
            cpu_percent=psutil.cpu_percent(),
            process_cpu_percent=self._process.cpu_percent() / self._cores,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_memory=self._process.memory_info().rss,
            disk_free=psutil.disk_usage(str(self._directory)).free,
            gpu_name=gpu.name,
            gpu_percent=gpu.percent,
            gpu_memory_used=gpu.memory_used,
            gpu_memory_own=gpu.memory_own,
            gpu_memory_total=gpu.memory_total,
            gpu_watts=gpu.watts,
            gpu_celsius=gpu.celsius,
        )
