"""StepMetrics: turns step results into rows, which are committed a few times a second.

DeviceProbe: readings of the device that trains, from its driver or from torch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch

from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.schema.metrics import SMOOTHED_STEPS, GpuRow, StepRow
from rnnlm_tui.system.gpu import GpuProbe

REPORT_SECONDS = 0.25
"""Rows are committed this often, unless one step takes longer: losses are read from a GPU a few
times a second, not at every step."""
_FIGURES = tuple(field.name for field in fields(StepResult) if field.type == "Tensor")
"""The metrics of a step that stay on the device until then, named as in its row."""


class StepMetrics:
    """Collects step results and commits their rows.

    Losses and norms stay on the device until their rows are committed, so training waits for a GPU
    only then.

    Args:
        commit: called with a block's rows, to store them now or once the disk accepts them.
        active_seconds: training time of the run before this attempt.
        observe: called with every row, in order, before it is stored.
        asynchronous: steps return before the device has finished them (CUDA, MPS). Then the time
            between two commits is divided among their steps by tokens.
    """

    def __init__(
        self,
        commit: Callable[..., None],
        attempt: int,
        *,
        observe: Callable[[StepRow], None] = lambda _: None,
        active_seconds: float = 0.0,
        asynchronous: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commit = commit
        self._attempt = attempt
        self._observe = observe
        self._asynchronous = asynchronous
        self._clock = clock
        self._waiting: list[tuple[StepResult, float]] = []
        self._flushed_at = -math.inf
        self._began = 0.0
        """Start of the first step that waits, by the clock."""
        self._recent: deque[float] = deque(maxlen=SMOOTHED_STEPS)
        self.active_seconds = active_seconds
        """Training time of the run up to the newest committed row."""

    @property
    def train_loss(self) -> float:
        """Mean loss of the newest committed steps, in nats per token; NaN before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else math.nan

    def add(self, result: StepResult) -> None:
        """Add one step's result; flushes if a row has waited long enough, or if a CPU's isn't
        finite.

        Raises:
            RuntimeError: the device failed in one of the steps.
        """
        now = self._clock()
        if not self._waiting:
            self._began = now - result.seconds
        self._waiting.append((result, time.time()))
        if now - self._flushed_at >= REPORT_SECONDS or (
            not self._asynchronous and not _is_finite(result)
        ):
            self.flush()

    def flush(self) -> None:
        """Commit the rows of all steps so far; waits for a GPU.

        Raises:
            RuntimeError: the device failed in one of the steps.
        """
        if not self._waiting:
            return
        block, self._waiting = self._waiting, []
        results = [result for result, _ in block]
        figures = torch.stack(
            [torch.stack([getattr(result, name) for name in _FIGURES]) for result in results]
        ).tolist()
        self._flushed_at = self._clock()
        rows = []
        for (result, ended), values, spent in zip(
            block, figures, self._seconds(results), strict=True
        ):
            self.active_seconds += spent
            measured = dict(zip(_FIGURES, values, strict=True))
            if math.isfinite(measured["loss"]) and math.isfinite(measured["grad_norm"]):
                self._recent.append(measured["loss"])
            rows.append(
                StepRow(
                    attempt=self._attempt,
                    step=result.step,
                    tokens_seen=result.tokens_seen,
                    epoch=result.epoch,
                    **measured,
                    learning_rate=result.learning_rate,
                    tokens_per_second=result.tokens / spent if spent > 0 else math.nan,
                    active_seconds=self.active_seconds,
                    time=ended,
                )
            )
        for row in rows:
            self._observe(row)
        self._commit(*rows)

    def _seconds(self, results: Sequence[StepResult]) -> list[float]:
        """Training time of each step of a block that is complete."""
        if not self._asynchronous:
            return [result.seconds for result in results]
        total = self._flushed_at - self._began
        tokens = sum(result.tokens for result in results)
        return [
            total * result.tokens / tokens if tokens else total / len(results) for result in results
        ]


def _is_finite(result: StepResult) -> bool:
    return math.isfinite(result.loss.item()) and math.isfinite(result.grad_norm.item())


ValueT = TypeVar("ValueT")


class DeviceProbe:
    """Reads a CUDA, ROCm, XPU or MPS device of this process.

    torch is only asked for its own allocations, which disturbs nothing on the device. Memory of
    other processes is known from the driver or not at all. In a container the driver may not know
    which of its processes this one is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._module: Any = getattr(torch, device.type, None)
        properties: Any = _or_none(lambda: self._module.get_device_properties(device))
        uuid = _or_none(lambda: str(properties.uuid)) if device.type == "cuda" else None
        self._driver = None if uuid is None else GpuProbe(uuid)
        self._name = "Apple GPU" if device.type == "mps" else _or_none(lambda: str(properties.name))
        total = _or_none(lambda: int(properties.total_memory))
        self._total = (
            _or_none(lambda: int(self._module.recommended_max_memory())) if total is None else total
        )

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the card; None: unknown."""
        return None if self._driver is None else self._driver.driver_index

    def sample(self) -> GpuRow:
        """Take one reading; unknown values are None."""
        found = GpuRow() if self._driver is None else self._driver.sample()
        if found.name is not None and found.memory_own is not None:
            return found
        own = _or_none(lambda: int(self._module.memory_reserved(self._device)))
        if own is None:
            own = _or_none(lambda: int(self._module.driver_allocated_memory()))
        return found._replace(
            name=self._name if found.name is None else found.name,
            memory_own=own if found.memory_own is None else found.memory_own,
            memory_total=self._total if found.memory_total is None else found.memory_total,
        )


def _or_none(question: Callable[[], ValueT]) -> ValueT | None:
    try:
        return question()
    except (AttributeError, RuntimeError, AssertionError, TypeError, ValueError):
        return None  # this device or this torch doesn't report it
