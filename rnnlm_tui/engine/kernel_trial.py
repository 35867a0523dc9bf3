"""Whether our Triton kernels work on a GPU: each is tried once, against torch's own operations."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

SWITCH = "RNNLM_TUI_TRITON"
"""Environment variable: `0` uses torch's operations only. A trial can't save a process that
Triton's compiler aborts."""

LARGEST_STEP = 2**29
"""Below this many numbers in a layer's state, the offsets of a time step fit into the 32 bits of
the cells' kernels: there are up to four projections of each."""

Kernel = TypeVar("Kernel")


def tried(
    load: Callable[[], Kernel], agrees: Callable[[Kernel], bool]
) -> tuple[Kernel | None, str]:
    """The kernel and an empty text, or None and what keeps it from working, in one line.

    Args:
        load: imports it.
        agrees: whether its results are right.
    """
    if os.environ.get(SWITCH) == "0":
        return None, f"{SWITCH} is 0"
    try:
        kernel = load()
        with torch.inference_mode(False):  # a trial may take gradients, also in an evaluation
            return (kernel, "") if agrees(kernel) else (None, "its results are wrong here")
    except Exception as error:  # Triton's errors have no base class
        return None, _problem(error)


def cell_kernel(
    device: torch.device,
    cell: str,
    load: Callable[[], Kernel],
    agrees: Callable[[Kernel], bool],
) -> Kernel | None:
    """The kernel of a cell, or None, with a warning if an NVIDIA GPU that is new enough can't use
    it."""
    if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    outcome = tried(load, agrees)
    if outcome[0] is None:
        warnings.warn(f"{cell} is slower without its kernel: {outcome[1]}", stacklevel=2)
    return outcome[0]


def _problem(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "Triton isn't installed"
    text = str(error).strip()
    if "find C compiler" in text:
        return "Triton needs a C compiler (install gcc)"
    if isinstance(error, subprocess.CalledProcessError):
        return "Triton's C compiler failed (are Python's headers installed, python3-dev?)"
    return (text or type(error).__name__).splitlines()[0]
