"""StepMetrics: turns step results into rows, which are committed a few times a second.

DeviceProbe: readings of the device that trains, from its driver or from torch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from rnnlm_tui.engine.figures import Fetch, StepFigures
from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.schema.metrics import SMOOTHED_STEPS, GpuRow, StepRow
from rnnlm_tui.system.gpu import GpuProbe

REPORT_SECONDS = 0.25
"""A block of rows is this long at most, unless one step takes longer: losses are fetched from a GPU
a few times a second, not at every step."""


class StepMetrics:
    """Collects step results and commits their rows.

    Losses and norms come from the device in blocks of steps. A GPU trains the next block while one
    is fetched, whose rows are committed once they are here; on a CPU they are here at once.

    Args:
        commit: stores rows, now or once the disk accepts them.
        active_seconds: training time of the run before this attempt.
        observe: called with every row, in order, before it is stored.
        asynchronous: steps return before the device has finished them (CUDA, MPS). Then the time
            between two arrivals is divided among the steps of a block by tokens.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[StepRow]], None],
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
        self._coming: tuple[Fetch, list[tuple[StepResult, float]]] | None = None
        self._block_steps = 1
        self._flushed_at = -math.inf
        self._measured_to: float | None = None  # by the clock; None: no step is unmeasured
        self._recent: deque[float] = deque(maxlen=SMOOTHED_STEPS)
        self.active_seconds = active_seconds
        """Training time of the run up to the newest committed row."""

    @property
    def train_loss(self) -> float:
        """Mean loss of the newest committed steps, in nats per token; NaN before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else math.nan

    def add(self, result: StepResult) -> None:
        """Add one step's result; flushes if a row has waited long enough, if a CPU's isn't finite,
        or if a GPU has enough to do.

        Raises:
            RuntimeError: the device failed in one of the steps before.
        """
        self._waiting.append((result, time.time()))
        now = self._clock()
        if self._measured_to is None:
            self._measured_to = now - result.seconds
        if self._coming is not None and self._coming[0].arrived:
            self._commit_coming()
        if (
            now - self._flushed_at >= REPORT_SECONDS
            or len(self._waiting) >= self._most_waiting(result.figures)
            or (not self._asynchronous and not _is_finite(result))
        ):
            self.flush()

    def flush(self, *, final: bool = False) -> None:
        """Commit the rows whose figures were being fetched, and start to fetch those since.

        This waits for the former, so a GPU is never more than two blocks of steps behind.

        Args:
            final: wait for all steps and commit their rows, before anything that isn't training: an
                evaluation, a checkpoint, a pause, the end.

        Raises:
            RuntimeError: the device failed in one of the steps.
        """
        self._commit_coming()
        if self._waiting:
            block, self._waiting = self._waiting, []
            self._coming = block[0][0].figures.fetch(), block
            self._flushed_at = self._clock()
            if final or self._coming[0].arrived:
                self._commit_coming()

    def _most_waiting(self, figures: StepFigures) -> int:
        """Steps of a block. Two blocks, one being fetched and one being launched, are at most half
        of the ring."""
        fits = figures.capacity // 4
        return min(self._block_steps, fits) if self._asynchronous else fits

    def _commit_coming(self) -> None:
        if self._coming is None:
            return
        (fetch, block), self._coming = self._coming, None
        results = [result for result, _ in block]
        figures = fetch.read([result.number for result in results])
        seconds = self._seconds(results)
        rows = []
        for (result, ended), (loss, grad_norm), spent in zip(block, figures, seconds, strict=True):
            self.active_seconds += spent
            if math.isfinite(loss) and math.isfinite(grad_norm):
                self._recent.append(loss)
            rows.append(
                StepRow(
                    attempt=self._attempt,
                    step=result.step,
                    tokens_seen=result.tokens_seen,
                    epoch=result.epoch,
                    loss=loss,
                    grad_norm=grad_norm,
                    learning_rate=result.learning_rate,
                    tokens_per_second=result.tokens / spent if spent > 0 else math.nan,
                    active_seconds=self.active_seconds,
                    time=ended,
                )
            )
        for row in rows:
            self._observe(row)
        self._commit(rows)

    def _seconds(self, results: Sequence[StepResult]) -> list[float]:
        """Training time of each step of a block that has just arrived."""
        now = self._clock()
        began = now if self._measured_to is None else self._measured_to
        self._measured_to = now if self._waiting else None
        if not self._asynchronous:
            return [result.seconds for result in results]
        total = now - began
        # A device that isn't waited for would get steps for minutes ahead: launch as many as it
        # does between two flushes. The first ones take longer, so the number only grows slowly.
        fits = REPORT_SECONDS * len(results) / total if total > 0 else math.inf
        self._block_steps = max(1, int(min(fits, 2 * len(results))))
        tokens = sum(result.tokens for result in results)
        return [
            total * result.tokens / tokens if tokens else total / len(results) for result in results
        ]


def _is_finite(result: StepResult) -> bool:
    return all(map(math.isfinite, result.figures.of(result.number).tolist()))


ValueT = TypeVar("ValueT")


class DeviceProbe:
    """Reads a CUDA, ROCm, XPU or MPS device of this process.

    torch is only asked for its own allocations, which disturbs nothing on the device. Memory of
    other processes is known from the driver or not at all: torch must not ask for it while a CUDA
    graph is captured. In a container the driver may not know which of its processes this one is.
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
            own = self._allocated()
        return replace(
            found,
            name=self._name if found.name is None else found.name,
            memory_own=own if found.memory_own is None else found.memory_own,
            memory_total=self._total if found.memory_total is None else found.memory_total,
        )

    def _allocated(self) -> int | None:
        return _or_none(lambda: int(self._module.driver_allocated_memory()))


def _or_none(question: Callable[[], ValueT]) -> ValueT | None:
    try:
        return question()
    except (AttributeError, RuntimeError, AssertionError, TypeError, ValueError):
        return None  # this device or this torch doesn't report it
