"""NVML on a machine with an H100 and a driver for CUDA 12.4, for child processes that have this
folder on their path before the library itself."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_HERE = str(Path(__file__).parent)
_spec = PathFinder.find_spec("pynvml", [place for place in sys.path if place != _HERE])
assert _spec is not None
assert _spec.loader is not None
_library: Any = module_from_spec(_spec)
_spec.loader.exec_module(_library)
globals().update({name: value for name, value in vars(_library).items() if name[:2] != "__"})

_ANSWERS: dict[str, Any] = {
    "nvmlInit": lambda: None,
    "nvmlShutdown": lambda: None,
    "nvmlSystemGetDriverVersion": lambda: "550.54.15",
    "nvmlSystemGetCudaDriverVersion_v2": lambda: 12040,
    "nvmlDeviceGetCount": lambda: 1,
    "nvmlDeviceGetHandleByIndex": lambda index: index,
    "nvmlDeviceGetHandleByUUID": lambda uuid: 0,
    "nvmlDeviceGetIndex": lambda card: 0,
    "nvmlDeviceGetUUID": lambda card: "GPU-1a2b3c4d-0000",
    "nvmlDeviceGetName": lambda card: "NVIDIA H100 PCIe",
    "nvmlDeviceGetCudaComputeCapability": lambda card: (9, 0),
    "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(
        used=3 * 2**30, free=77 * 2**30, total=80 * 2**30
    ),
    "nvmlDeviceGetComputeRunningProcesses": lambda card: [],
}
globals().update(_ANSWERS)
