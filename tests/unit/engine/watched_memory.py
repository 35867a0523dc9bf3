"""What a GPU needs of a Triton kernel and the interpreter doesn't show: a kernel stays within its
tensors, programs don't depend on each other's order, and threads not on each other's writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

SWITCH = "TRITON_INTERPRET"
INTERPRETED = os.environ.get(SWITCH) == "1"
"""Triton decides it for a kernel when the kernel is defined."""
Addresses = NDArray[np.uint64]
SMALLEST = 2
"""Bytes of the smallest number."""
NOBODY, SEVERAL = 0, -1
"""Instead of a program's number."""


class WatchedMemory:
    """Stands before the interpreter's own access to memory."""

    def __init__(self, interpreter: Any) -> None:
        """
        Args:
            interpreter: with `load` and `store`, as Triton's C++ module has them.
        """
        self._interpreter = interpreter
        self.launch([])

    def launch(self, tensors: list[Tensor]) -> None:
        """Begin a launch with these arguments."""
        parts: list[list[int]] = []
        for begin, end in sorted(_bounds(one) for one in tensors if one.numel()):
            if parts and begin <= parts[-1][1]:  # views of one tensor
                parts[-1][1] = max(end, parts[-1][1])
            else:
                parts.append([begin, end])
        self._begins, self._ends = np.array(parts, np.uint64).reshape(-1, 2).T
        sizes = (self._ends - self._begins) // SMALLEST + 1
        self._firsts = np.cumsum(sizes) - sizes
        self._readers, self._writers = (np.zeros(int(sizes.sum()), np.int64) for _ in range(2))
        self._program = NOBODY

    def begin_program(self, number: int) -> None:
        """
        Args:
            number: from 1, unique in the launch.
        """
        self._program = number

    def load(self, places: Addresses, mask: NDArray[np.bool_], *rest: Any) -> Any:
        found = self._found(places[mask], "reads")
        writers = self._writers[found]
        # There is no barrier between the threads of a program.
        assert not (writers == self._program).any(), "a program reads what it has written"
        assert not writers.any(), "a program reads what another one has written"
        readers = self._readers[found]
        first = (readers == NOBODY) | (readers == self._program)
        self._readers[found] = np.where(first, self._program, SEVERAL)
        return self._interpreter.load(places, mask, *rest)

    def store(self, places: Addresses, values: Any, mask: NDArray[np.bool_]) -> Any:
        found = self._found(places[mask], "writes")
        assert len(np.unique(found)) == len(found), "two threads write the same number"
        for others, did in ((self._readers[found], "read"), (self._writers[found], "written")):
            own = (others == NOBODY) | (others == self._program)
            assert own.all(), f"a program writes what another one has {did}"
        self._writers[found] = self._program
        return self._interpreter.store(places, values, mask)

    def _found(self, places: Addresses, does: str) -> Any:
        """Indices of the numbers at these places."""
        part = np.searchsorted(self._begins, places, side="right") - 1
        inside = (part >= 0) & (places < self._ends[part])
        assert inside.all(), f"a program {does} outside of its tensors"
        return self._firsts[part] + (places - self._begins[part]) // SMALLEST


def _bounds(tensor: Tensor) -> tuple[int, int]:
    """Addresses of a tensor's first number and of the end of its last."""
    last = sum((n - 1) * by for n, by in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (1 + last) * tensor.element_size()


@pytest.fixture
def watched_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Watches all kernels, if Triton interprets them."""
    if not INTERPRETED:
        yield
        return
    from triton.runtime import interpreter

    memory = WatchedMemory(interpreter._interpreter)
    arguments = interpreter.GridExecutor._init_args_hst
    begin = interpreter.InterpreterBuilder.set_grid_idx

    def take_arguments(executor: Any, given: Any, named: Any) -> Any:
        found, found_named = arguments(executor, given, named)
        memory.launch([one for one in (*found, *found_named.values()) if isinstance(one, Tensor)])
        return found, found_named

    def begin_program(builder: Any, x: int, y: int, z: int) -> None:
        memory.begin_program(1 + x + (y << 20) + (z << 40))
        begin(builder, x, y, z)

    monkeypatch.setattr(interpreter, "_interpreter", memory)
    monkeypatch.setattr(interpreter.GridExecutor, "_init_args_hst", take_arguments)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "set_grid_idx", begin_program)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)  # new tensors are NaN until they are written
    yield
    torch.use_deterministic_algorithms(False)
