"""Run tests of Triton kernels interpreted, in a separate process: Triton decides whether it
interprets a kernel when the kernel is defined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton isn't installed")

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
SWITCH = "TRITON_INTERPRET"
INTERPRETED = os.environ.get(SWITCH) == "1"
DEVICE = torch.device("cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda:0")
"""Where kernels are tested."""
NEEDS_GPU = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="no CUDA device of compute capability 8.0 here",
)


def assert_pass_interpreted(*names: str) -> None:
    """All tests of these files pass on the CPU."""
    if VERSION < (3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton 3.6 can't interpret with NumPy 2.4 or newer")
    files = [str(Path(__file__).with_name(name)) for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files],
        env=os.environ | {"OMP_NUM_THREADS": "1", SWITCH: "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
