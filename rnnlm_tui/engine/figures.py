"""Losses and gradient norms of the newest steps, kept on the device and fetched without stopping
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

CAPACITY = 4_096
"""Steps whose figures are kept, a power of two; at 8 bytes a step they are copied as a whole."""


class Arrival(Protocol):
    """When a copy is complete: a `torch.cuda.Event` or the like."""

    def query(self) -> bool:
        """Whether it is, without waiting."""
        ...

    def synchronize(self) -> None:
        """Wait for it."""
        ...


Send = Callable[[Tensor, Tensor], Arrival | None]
"""Starts the copy of the first tensor into the second; returns None if it is complete already."""


class StepFigures:
    """A ring of (loss, gradient norm) in the device's memory, in float32.

    A step writes its own on the device, where a counter says to which place, so that a CUDA graph
    can record the writing and every replay writes to the next place.
    """

    def __init__(
        self, device: torch.device, *, capacity: int = CAPACITY, send: Send | None = None
    ) -> None:
        """
        Args:
            send: copies the ring to main memory; None: as fits the device.
        """
        self.capacity = capacity
        self._ring_C2 = torch.zeros(capacity, 2, device=device)
        self._place_1 = torch.zeros(1, dtype=torch.int64, device=device)
        pinned = device.type == "cuda"
        self._fetched_C2 = torch.zeros(capacity, 2, pin_memory=pinned)
        self._send = send or (_send_beside_work if pinned else _send_at_once)
        self._count = 0

    def write(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Write a step's figures on the device, without waiting for it.

        Args:
            loss, grad_norm: scalars.
        """
        pair_12 = torch.stack([loss, grad_norm]).to(self._ring_C2.dtype).unsqueeze(0)
        self._ring_C2.index_copy_(0, self._place_1, pair_12)
        self._place_1.add_(1).bitwise_and_(self.capacity - 1)

    def count(self) -> int:
        """Count a step whose figures are or will be written, launched or replayed; returns its
        number, from 0."""
        self._count += 1
        return self._count - 1

    def align(self) -> None:
        """Set the device to the count of steps: call it after steps that were written, but don't
        count, such as a graph's trials.

        They may be as many as the ring has places that aren't waited for.
        """
        self._place_1.fill_(self._count % self.capacity)

    def of(self, number: int) -> Tensor:
        """Loss and norm of a step, shape (2,), on the device.

        Raises:
            IndexError: a later step has overwritten them, or there is no such step yet.
        """
        _check_known(number, self._count, self.capacity)
        return self._ring_C2[number % self.capacity]

    def uncounted(self, steps: int) -> Tensor:
        """Loss and norm of the first steps that don't count, such as a trial's, since the last that
        counts or since `align`: shape (steps, 2), on the device."""
        places = torch.arange(self._count, self._count + steps, device=self._ring_C2.device)
        return self._ring_C2[places % self.capacity]

    def fetch(self) -> Fetch:
        """Start a copy of the figures so far to main memory; the device continues.

        The one before must have been read: both use the same memory.
        """
        return Fetch(self._fetched_C2, self._count, self._send(self._ring_C2, self._fetched_C2))


class Fetch:
    """A copy of a device's figures that is on its way."""

    def __init__(self, figures_C2: Tensor, count: int, arrival: Arrival | None) -> None:
        self._figures_C2, self._count, self._arrival = figures_C2, count, arrival

    @property
    def arrived(self) -> bool:
        """Whether reading waits for nothing."""
        return self._arrival is None or self._arrival.query()

    def read(self, numbers: Sequence[int]) -> list[tuple[float, float]]:
        """Loss and norm of these steps; waits until they are here.

        Raises:
            IndexError: the ring didn't hold one of these steps any more, or not yet.
        """
        capacity = len(self._figures_C2)
        for number in numbers:
            _check_known(number, self._count, capacity)
        if self._arrival is not None:
            self._arrival.synchronize()
        places = torch.tensor([number % capacity for number in numbers], dtype=torch.int64)
        return [(loss, grad_norm) for loss, grad_norm in self._figures_C2[places].tolist()]


def _check_known(number: int, count: int, capacity: int) -> None:
    if not count - capacity <= number < count:
        raise IndexError(
            f"no figures of step {number:,}: known are {capacity:,} before step {count:,}"
        )


def _send_at_once(ring_C2: Tensor, fetched_C2: Tensor) -> None:
    fetched_C2.copy_(ring_C2)


def _send_beside_work(ring_C2: Tensor, fetched_C2: Tensor) -> Arrival:
    fetched_C2.copy_(ring_C2, non_blocking=True)
    # Waiting for it leaves the core to others instead of asking the driver again and again.
    arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrival.record(torch.cuda.current_stream(ring_C2.device))
    return arrival
