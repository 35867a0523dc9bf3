"""Whether a cell's Triton kernels work on a GPU: they are tried once, against single operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

Kernel = TypeVar("Kernel")


def working(
    device: torch.device,
    cell: str,
    load: Callable[[], Kernel],
    agrees: Callable[[Kernel], bool],
) -> Kernel | None:
    """The kernels, or None, with a warning if an NVIDIA GPU that is new enough can't use them.

    This compiles and runs them and waits for the device, so it must not be inside the recording of
    a CUDA graph, which comes after the first steps.

    Args:
        load: imports them.
        agrees: whether their results are right.
    """
    if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        kernel = load()
        if agrees(kernel):
            return kernel
        problem = "its results are wrong here"
    except ModuleNotFoundError:
        problem = "Triton isn't installed"
    # Triton has no base class for its errors: no C compiler, no space for its cache, no support.
    except Exception as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
    warnings.warn(f"{cell} is slower without its kernel: {problem}", stacklevel=2)
    return None
