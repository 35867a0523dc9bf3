"""Ranks: the processes that train one model together, each on its share of every batch.

Rank 0 decides everything and sends orders; the others compute the same step at the same time. All
have the same weights, since all add up the same gradients.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from enum import IntEnum
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from rnnlm_tui.engine.batches import rows_of_share

ChoiceT = TypeVar("ChoiceT")
CONTROL_SECONDS = 3_600.0
"""Longest wait for the next order: rank 0 may sample, save or measure meanwhile."""
NCCL_PATIENCE = 120.0
_MOST_VALUES = 3
_MOST_MARKS = 1_000


class Order(IntEnum):
    """What rank 0 asks of the others."""

    STEP = 1
    """A training step: learning rate, clip norm, dropout."""
    EVALUATE = 2
    """The evaluation of a split: its number, and the most sentences."""
    NEXT = 3
    """The next batch of an evaluation."""
    ENOUGH = 4
    """All batches of an evaluation are done; any other order gives it up."""
    COLLECT = 5
    """Send the carried state."""
    WAIT = 6
    """Nothing yet, but rank 0 lives."""
    END = 7


class Interrupted(Exception):  # noqa: N818 - not an error: rank 0 was asked to stop
    """Rank 0 gave up the evaluation."""


class Ranks:
    """This process among those that train together.

    Args:
        store: through which the ranks find one another.
        seconds: longest wait for another rank in a step, and of rank 0 for any answer.
        exact: reduce all gradients at once, in an order that is the same in every step.

    Raises (every method that communicates):
        RuntimeError: another rank ended, or didn't answer in time.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        store: dist.Store,
        device: torch.device,
        *,
        seconds: float = CONTROL_SECONDS,
        exact: bool = False,
    ) -> None:
        self.rank, self.size, self.exact = rank, size, exact
        self.device = device
        self.tokens = 0
        """Targets of this rank's shares so far."""
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("gradients", store),
            rank=rank,
            world_size=size,
            # NCCL aborts the process: the worker should notice a lost rank before.
            timeout=timedelta(seconds=seconds + NCCL_PATIENCE if on_gpu else seconds),
        )
        # The others wait for orders; rank 0 never waits longer for an answer than in a step.
        patience = timedelta(seconds=seconds if rank == 0 else max(seconds, CONTROL_SECONDS))
        # Not the gradients' group: on GPUs orders would wait for the steps before them.
        self._control = dist.new_group(backend="gloo", timeout=patience)
        self._waited = 0.0
        self._ready: float | torch.cuda.Event = 0.0
        self._marks = deque[tuple[torch.cuda.Event, torch.cuda.Event]](maxlen=_MOST_MARKS)

    @property
    def leads(self) -> bool:
        """This is rank 0."""
        return self.rank == 0

    @property
    def waited(self) -> float:
        """Seconds so far between the end of this rank's own work on a gradient and the arrival of
        those of the others."""
        while self._marks and self._marks[0][1].query():  # type: ignore[no-untyped-call]
            ready, done = self._marks.popleft()
            self._waited += ready.elapsed_time(done) / 1_000
        return self._waited

    def send_order(self, order: Order, *values: float) -> None:
        """Rank 0: send the others an order; doesn't wait for them."""
        rest = [0.0] * (_MOST_VALUES - len(values))
        message = torch.tensor([order, *values, *rest], dtype=torch.float64)
        dist.broadcast(message, 0, group=self._control)

    def next_order(self) -> tuple[Order, list[float]]:
        """The others: wait for the next order."""
        message = torch.empty(1 + _MOST_VALUES, dtype=torch.float64)
        dist.broadcast(message, 0, group=self._control)
        order, *values = message.tolist()
        return Order(int(order)), values

    def same(self, choice: ChoiceT | None) -> ChoiceT:
        """What rank 0 chose, for all; the others give None."""
        found = [choice]
        dist.broadcast_object_list(found, 0, group=self._control)
        return cast(ChoiceT, found[0])

    def totals(self, *numbers: float) -> list[float]:
        """The sum of each number over all ranks, in double precision."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums, group=self._control)
        return [float(total) for total in sums]

    def spread(self, model: nn.Module) -> nn.Module:
        """Give all ranks the weights of rank 0; returns the module whose gradients are summed over
        all ranks: in exact mode the model itself, see `add_up`."""
        for parameter in model.parameters():
            values = parameter.detach().contiguous()
            dist.broadcast(values, 0)
            parameter.detach().copy_(values)
        if self.exact:
            return model
        module = DistributedDataParallel(model, init_sync=False, gradient_as_bucket_view=True)
        # A lambda, since torch can't read the types of a function whose module postpones them.
        module.register_comm_hook(None, lambda _, bucket: self._add_up_bucket(bucket))
        return module

    def only_own(self, module: nn.Module) -> AbstractContextManager[None]:
        """Inside, gradients stay this rank's: others of the same step follow."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def begin_total(self, loss: Tensor) -> dist.Work:
        """Begin to replace a loss by its sum over all ranks, beside the gradients."""
        work: dist.Work = dist.all_reduce(loss, async_op=True)
        return work

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """After the last gradient of a step: in exact mode sum them over all ranks, in one piece.

        `DistributedDataParallel` changes its pieces after the first step, so a resumed run would
        round differently.
        """
        if self.exact:
            gradients = [one.grad for one in parameters if one.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._mark_ready()
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        if isinstance(self._ready, float):
            self._waited += time.perf_counter() - self._ready
        else:
            done = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            done.record()
            self._marks.append((self._ready, done))

    def collect(self, tensor: Tensor, rows: int) -> Tensor:
        """Rank 0: all rows of a tensor of which each rank has its share; the others send theirs and
        get it back.

        Args:
            rows: of all ranks.
        """
        if not self.leads:
            dist.send(tensor.cpu().contiguous(), 0, group=self._control)
            return tensor
        parts = [tensor.cpu()]
        for rank in range(1, self.size):
            own = rows_of_share(rows, rank, self.size)
            shape = own.stop - own.start, *tensor.shape[1:]
            parts.append(torch.empty(shape, dtype=tensor.dtype))
            dist.recv(parts[-1], rank, group=self._control)
        return torch.cat(parts).to(tensor.device)

    def close(self) -> None:
        """Leave the group; the others notice it at their next exchange."""
        dist.destroy_process_group()

    def _add_up_bucket(self, bucket: dist.GradBucket) -> Future[Tensor]:
        if bucket.is_last():
            self._mark_ready()
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        future: Future[list[Tensor]] = work.get_future()
        return future.then(lambda done: done.value()[0])

    def _mark_ready(self) -> None:
        if self.device.type != "cuda":
            self._ready = time.perf_counter()
            return
        self._ready = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._ready.record()
