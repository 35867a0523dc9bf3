"""Run a file of test cases with Triton's interpreter, in a separate process: Triton reads the
switch when a kernel is defined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

triton = pytest.importorskip("triton", reason="Triton isn't installed")

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])


def assert_cases_pass(name: str) -> None:
    """All cases of this file pass on the CPU."""
    if VERSION < (3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton 3.6 can't interpret with NumPy 2.4 or newer")
    cases = str(Path(__file__).with_name(name))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", cases],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
