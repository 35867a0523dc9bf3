"""Save and restore the state of all global random generators, as tensors and plain JSON."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TypedDict, cast

import numpy as np
import torch
from torch import Tensor


class RandomValues(TypedDict):
    """The generators whose state is plain numbers."""

    python: list[object]
    """`random.getstate()`: version, 625 numbers, the spare Gaussian."""
    numpy: list[object]
    """`numpy.random.get_state()`: name, 624 numbers, position, whether there is a spare Gaussian, the spare."""


def pack_random_state(device: torch.device) -> tuple[dict[str, Tensor], RandomValues]:
    """State of the generators of Python, NumPy, torch and the device."""
    tensors = {"random.torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random.mps"] = torch.mps.get_rng_state()
    version, numbers, spare = random.getstate()
    name, keys, position, has_spare, cached = np.random.get_state(legacy=True)
    return tensors, {"python": [version, list(numbers), spare], "numpy": [name, np.asarray(keys).tolist(), position, has_spare, cached]}


def unpack_random_state(tensors: Mapping[str, Tensor], values: object, device: torch.device) -> None:
    """Restore what `pack_random_state` returned; the generator of another kind of device is left alone."""
    packed = cast(RandomValues, values)
    torch.set_rng_state(tensors["random.torch"].cpu())
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), device)
    elif device.type == "mps" and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"].cpu())
    version, numbers, spare = cast(tuple[int, list[int], float | None], tuple(packed["python"]))
    random.setstate((version, tuple(numbers), spare))
    name, keys, position, has_spare, cached = cast(tuple[str, list[int], int, int, float], tuple(packed["numpy"]))
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_spare, cached))
