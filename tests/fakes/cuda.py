"""A CUDA device for tests on machines without one: tensors are on the CPU, CUDA graphs are real.

While a graph is captured, every operation is recorded, and carried out at once, with its tensors. A
replay carries the operations out again on the same tensors. So, as with CUDA, nothing of Python
runs in a replay, Python's numbers keep the values of the recording, and random numbers are new.

What CUDA would punish is made visible:

* reading a value back in a capture is an error, as are operations whose shapes depend on values;
* before every replay, and when a graph is reset, all memory of its pool is filled with NaN, or
  impossible indices. Whatever lives there between two replays, or is used after the graph, shows.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Phase = Literal["keeping", "warm-up", "forward", "backward", "update", "replay"]
UPDATES = frozenset({"aten::_fused_adamw_", "aten::_fused_sgd_"})
READING = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::nonzero",
        "aten::equal",
        "aten::is_nonzero",
        "aten::masked_select",
        "aten::_unique2",
        "aten::lift_fresh",
        "aten::pin_memory",
    }
)
"""Operations that wait for the device, or make a tensor of Python's numbers, whose copy waits."""
EMPTY = frozenset(
    {
        "aten::empty",
        "aten::empty_like",
        "aten::empty_strided",
        "aten::new_empty",
        "aten::new_empty_strided",
    }
)
"""Operations that write nothing."""
INVALID = "CUDA error: operation failed due to a previous error during capture"
BATCH_OPERATIONS = 20
"""About as many put a batch together, before the model begins."""
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


@dataclass(frozen=True, slots=True)
class Operation:
    """A recorded operation and what it returned."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[Tensor, ...]


@dataclass
class FakeCuda:
    """What the tests steer and see; `install` puts it in the place of `torch.cuda`."""

    fails_in: Phase | None = None
    """The next operation in this phase raises `error`; once."""
    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError(OUT_OF_MEMORY))
    recovers: bool = True
    """The allocator survives a failed capture, as from torch 2.13 on."""
    reserved: int = 0
    peak: int = 0
    captures: int = 0
    """Graphs recorded."""
    replays: int = 0
    resets: int = 0
    emptied: int = 0
    """Calls of `empty_cache`."""
    events: list[str] = field(default_factory=list)
    """What was called, in order."""
    pools: dict[object, list[Tensor]] = field(default_factory=dict)
    """Tensors that were allocated in captures, by pool."""
    on_side_stream: bool = False
    capturing: Graph | None = None

    def fail(self, phase: Phase) -> None:
        """Raise `error` if the test asked for it in this phase."""
        if self.fails_in == phase:
            self.fails_in = None
            raise self.error

    def holds(self, tensor: Tensor | None) -> bool:
        """Whether a tensor is in a pool's memory."""
        if tensor is None:
            return False
        place = tensor.untyped_storage().data_ptr()
        return any(
            place == kept.untyped_storage().data_ptr()
            for pool in self.pools.values()
            for kept in pool
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace the functions of `torch.cuda` that training uses."""
        stream = Stream()
        replaced: dict[str, object] = {
            "CUDAGraph": lambda: Graph(self),
            "graph": self._capture,
            "graph_pool_handle": lambda: object(),
            "Stream": lambda _device: Stream(),
            "stream": self._on_stream,
            "current_stream": lambda _device=None: stream,
            "synchronize": lambda _device=None: self.events.append("synchronize"),
            "current_device": lambda: 0,
            "empty_cache": self._empty_cache,
            "get_rng_state": lambda _device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, _device=None: torch.set_rng_state(state),
            "default_generators": (Generator(),),
            "max_memory_reserved": lambda _device=None: self.peak,
            "memory_reserved": lambda _device=None: self.reserved,
            "mem_get_info": lambda _device=None: (2**33, 2**34),
        }
        for name, function in replaced.items():
            monkeypatch.setattr(torch.cuda, name, function)
        for name, function in (
            ("_cuda_endAllocateToPool", self._end_allocating),
            ("_cuda_releasePool", lambda _index, _pool: self.events.append("release pool")),
        ):
            monkeypatch.setattr(torch._C, name, function, raising=False)

    @contextmanager
    def kept_copies(self) -> Iterator[None]:
        """Around a trial: copying the weights fails if `fails_in` is "keeping"."""
        copies = 0

        def run(func: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            nonlocal copies
            copies += func._schema.name == "aten::clone"
            if copies == 2:
                self.fail("keeping")
            return func(*arguments, **keywords)

        with Operations(run):
            yield

    def _end_allocating(self, index: int, pool: object) -> None:
        del index, pool
        if self.capturing is None:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.capturing = None

    def _empty_cache(self) -> None:
        if self.capturing is not None:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        self.emptied += 1
        self.events.append("empty_cache")

    @contextmanager
    def _on_stream(self, stream: Stream) -> Iterator[None]:
        del stream
        self.on_side_stream = True
        try:
            with Operations(self._warm_up):
                yield
        finally:
            self.on_side_stream = False

    @contextmanager
    def _capture(
        self, graph: Graph, *, pool: object, stream: Stream, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        del stream, capture_error_mode
        if not self.on_side_stream:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        if gc.isenabled():
            raise RuntimeError("garbage with a graph in it might be collected")
        self._empty_cache()
        graph.memory = self.pools.setdefault(pool, [])
        self.capturing = graph
        try:
            with Operations(partial(self._record, graph)):
                yield
        finally:
            if self.recovers or not graph.is_invalid:
                self.capturing = None
            if graph.is_invalid:
                raise RuntimeError(INVALID)
        graph.is_whole = True
        self.captures += 1

    def _warm_up(self, func: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """An operation on the side stream."""
        if func._schema.name in UPDATES and self.capturing is None:
            self.fail("warm-up")
        return func(*arguments, **keywords)

    def _record(
        self, graph: Graph, func: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """An operation in a capture."""
        name = func._schema.name
        if name in READING:
            graph.is_invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        in_backward = torch._C._current_autograd_node() is not None
        phase: Phase = "update" if name in UPDATES else "backward" if in_backward else "forward"
        if phase != "forward" or len(graph.operations) > BATCH_OPERATIONS:
            self.fail(phase)
        given = {
            tensor.untyped_storage().data_ptr()
            for tensor in tree_leaves((arguments, keywords))
            if isinstance(tensor, Tensor)
        }
        results = func(*arguments, **keywords)
        leaves = tuple(tree_leaves(results))
        fresh = [
            leaf
            for leaf in leaves
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given
        ]
        graph.memory.extend(leaf.detach() for leaf in fresh)
        if name not in EMPTY and (fresh or func._schema.is_mutable):  # others are views
            graph.operations.append(Operation(func, arguments, keywords, leaves))
        return results


class Stream:
    """Work on the CPU is in order anyway."""

    def wait_stream(self, other: Stream) -> None:
        """Nothing to wait for."""


class Generator:
    """The device's generator is the CPU's."""

    def clone_state(self) -> Tensor:
        """Its state."""
        return torch.get_rng_state()

    def graphsafe_set_state(self, state: Tensor) -> None:
        """Set it."""
        torch.set_rng_state(state)


class Graph:
    """A recording."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.operations: list[Operation] = []
        self.memory: list[Tensor] = []
        """Of its pool."""
        self.is_whole = self.is_invalid = False

    @torch.no_grad()
    def replay(self) -> None:
        """Carry the operations out again."""
        if not self.is_whole:
            raise RuntimeError("replay without a preceding successful capture")
        if self._cuda.fails_in == "replay":
            torch.rand(1)  # the generator is told of a replay before the launch
        self._cuda.fail("replay")
        self._cuda.replays += 1
        self._spoil()
        for operation in self.operations:
            results = tree_leaves(operation.function(*operation.arguments, **operation.keywords))
            for kept, new in zip(operation.results, results, strict=True):
                if isinstance(kept, Tensor) and not _is_same_memory(kept, new):
                    kept.copy_(new)

    def pool(self) -> object:
        """Only a successful recording has one."""
        if not self.is_whole:
            raise RuntimeError("pool() without a preceding successful capture")
        return self.memory

    def reset(self) -> None:
        """Free it."""
        self._cuda.resets += 1
        self.operations.clear()
        self.is_whole = False
        self._spoil()

    def _spoil(self) -> None:
        for tensor in self.memory:
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
            elif tensor.dtype == torch.int64:
                tensor.fill_(-(2**40))  # no valid index


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation in a block goes through a function of function, arguments and keywords."""

    def __init__(self, run: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._run = run

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        return self._run(func, args, dict(kwargs or {}))


@contextmanager
def counted_operations() -> Iterator[list[str]]:
    """The names of all operations in a block."""
    names: list[str] = []

    def count(func: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        names.append(func._schema.name)
        return func(*arguments, **keywords)

    with Operations(count):
        yield names


def _is_same_memory(first: Tensor, second: Any) -> bool:
    return (
        not isinstance(second, Tensor)
        or first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    )
