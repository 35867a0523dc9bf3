"""Training steps as CUDA graphs: a whole step, from the batch to the new weights, is one launch.

A graph repeats its operations with the same shapes and the same memory. So there is one graph for
each of a few numbers of targets (buckets), the batch is put together on the device, and the
learning rate comes from a table there. Nothing that a graph allocates is used outside of it: its
results go to tensors that existed before. That is why all graphs share one memory pool and may be
replayed in any order.
"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from traceback import clear_frames, print_exception

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, Batches
from rnnlm_tui.engine.device import first_line, is_out_of_memory, release_cache
from rnnlm_tui.engine.figures import StepFigures
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.engine.memory import reset_peak
from rnnlm_tui.engine.model import State
from rnnlm_tui.engine.optim import set_learning_rate
from rnnlm_tui.engine.resident import ResidentBatches
from rnnlm_tui.engine.step import Update
from rnnlm_tui.errors import DeviceError

BUCKETS = 8
"""Graphs at most."""
ROWS_MULTIPLE = 64
"""Bucket sizes are multiples of this, for aligned matrix products."""
RATES = 1_024
"""Learning rates on the device."""
WARM_UPS = 3
"""Steps each way before they are timed or first recorded: libraries choose kernels and
workspaces."""
TRIALS = 20
"""Steps that are timed each way, at most."""
LEAST_TRIALS = 4
TRIAL_SECONDS = 2.0
"""Time for them, launched, unless `LEAST_TRIALS` take longer."""
TRIAL_BATCHES = 8
"""Different batches in them."""
CLEARLY_FASTER = 1.05
"""Speedup from which graphs are worth their memory."""
SAME = 1e-2
"""Largest relative difference of mean losses and gradient norms; more means that a recording is
wrong."""
NOISE = 4.0
"""Standard errors that are allowed on top of it: dropout draws other masks for a padded batch."""
RECOVERING_TORCH = (2, 13)
"""From this version on, torch's allocator recovers from a failed recording.

Before it, `CUDAGraph::capture_end` threw before it ended the allocator's capture
(pytorch/pytorch#180395). Then the next `empty_cache`, or the next allocation that has to free
cached memory, failed with `captures_underway.empty() INTERNAL ASSERT FAILED`. `_end_failed` does
what torch left out; until it was seen to work on a GPU, `auto` doesn't rely on it. What a recording
that failed because of an operation had allocated stays reserved in torch 2.13 (#190348); after out
of memory it is freed.
"""


def graphs_wanted(choice: str, device: torch.device) -> tuple[bool, str]:
    """Whether to try CUDA graphs, and a note if `auto` doesn't try them because of torch's build.

    Args:
        choice: `auto`, `on` or `off`.
    """
    if choice == "off" or device.type != "cuda":
        return False, ""
    if choice == "auto" and torch.version.hip:
        return False, (
            "no CUDA graphs: they weren't tried on AMD GPUs yet; training.cuda_graphs = on tries"
            " them"
        )
    major, minor = torch.__version__.split(".")[:2]
    if choice == "on" or (int(major), int(minor)) >= RECOVERING_TORCH:
        return True, ""
    wanted = ".".join(map(str, RECOVERING_TORCH))
    return False, (
        f"no CUDA graphs: torch {major}.{minor} can't continue after a failed recording; use torch"
        f" {wanted} or later, or training.cuda_graphs = on"
    )


def bucket_sizes(counts: NDArray[np.int64], most: int, *, multiple: int) -> tuple[int, ...]:
    """Numbers of targets to record graphs for, ascending; every batch fits the last.

    Args:
        counts: targets of the batches of a pass.
        most: targets of a batch without padding, B x T.
    """
    shares = np.arange(1, BUCKETS) / (BUCKETS - 1)
    found = np.quantile(counts, shares, method="higher")
    rounded = {-(-int(size) // multiple) * multiple for size in found}
    return (*sorted(size for size in rounded if size < most), most)


class CopiedBatches:
    """Batches from main memory, for a text that is too large for the GPU.

    Each is copied into the same tensors, padded to one shape; every position goes through the head.
    """

    def __init__(self, batches: Batches, device: torch.device, epoch: int) -> None:
        """
        Args:
            epoch: a pass, whose batches have the shape.
        """
        self._batches, self.seeks = batches, 0
        self._built: tuple[int, int, Batch] | None = None
        last = batches.steps_per_epoch - 1
        self.shape = self._batch(epoch, 0).inputs_BT.shape[0], batches.longest
        self._fits_last = batches.pads or self._batch(epoch, last).inputs_BT.shape == self.shape
        self._inputs_BT = torch.zeros(self.shape, dtype=torch.int64, device=device)
        self._targets_BT = torch.full_like(self._inputs_BT, IGNORED)

    def seek(self, epoch: int, index: int) -> None:
        """Copy this batch to the device; needed before each step."""
        self.seeks += 1
        batch = self._batch(epoch, index).to(self._inputs_BT.device)
        rows, length = batch.inputs_BT.shape
        if (rows, length) != self.shape:
            self._inputs_BT.zero_()
            self._targets_BT.fill_(IGNORED)
        self._inputs_BT[:rows, :length].copy_(batch.inputs_BT, non_blocking=True)
        self._targets_BT[:rows, :length].copy_(batch.targets_BT, non_blocking=True)

    def assemble(self, rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The copied batch."""
        del rows
        return self._inputs_BT, self._targets_BT, None

    def fits(self, index: int) -> bool:
        """Whether a batch has this shape or may be padded to it."""
        return self._fits_last or index < self._batches.steps_per_epoch - 1

    def rows(self, epoch: int, index: int) -> int:
        """Targets of a batch that count."""
        return self._batch(epoch, index).tokens

    def row_counts(self, epoch: int) -> NDArray[np.int64]:
        """One number, all positions: it makes one bucket."""
        del epoch
        return np.array([self.shape[0] * self.shape[1]], np.int64)

    def _batch(self, epoch: int, index: int) -> Batch:
        if self._built is None or self._built[:2] != (epoch, index):
            self._built = epoch, index, self._batches.batch(epoch, index)
        return self._built[2]


class RateTable:
    """Learning rates of the coming steps on the device, so that a replayed step needs none from the
    host."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, rate: Callable[[int], float], device: torch.device
    ) -> None:
        """
        Args:
            rate: of a step, counted from 1.
        """
        self._rate, self._first, self._next = rate, 0, -1
        self._used = [group["lr"] for group in optimizer.param_groups]
        self._rates = torch.zeros(RATES, device=device)
        self._place_1 = torch.zeros(1, dtype=torch.int64, device=device)

    def take(self) -> None:
        """Set the optimizer's rate to the next one. Only launches operations."""
        rate = self._rates.index_select(0, self._place_1).squeeze(0)
        for used in self._used:
            used.copy_(rate)
        self._place_1.add_(1)

    def seek(self, step: int) -> None:
        """Make the rate of a step the next one. Does nothing on the device if it is already, except
        once in `RATES` steps."""
        size = len(self._rates)
        if self._next < 0 or not self._first <= step < self._first + size:
            rates = torch.tensor([self._rate(step + later) for later in range(size)])
            if self._rates.device.type == "cuda":
                rates = rates.pin_memory()
            self._rates.copy_(rates, non_blocking=True)
            self._place_1.zero_()
            self._first = step
        elif step != self._next:
            self._place_1.fill_(step - self._first)
        self._next = step + 1

    def forget(self) -> None:
        """Ask for all rates again before the next step: the schedule has changed."""
        self._next = -1

    def stand_still(self) -> None:
        """Rates of zero, until `seek`, for up to `RATES` steps."""
        self._rates.zero_()
        self._place_1.zero_()
        self.forget()


class StepGraphs:
    """Recorded steps of a training, one for each bucket, and the carried state in its own
    memory."""

    def __init__(
        self,
        update: Update,
        source: ResidentBatches | CopiedBatches,
        rates: RateTable,
        figures: StepFigures,
        epoch: int,
    ) -> None:
        """Allocate what lives outside of the graphs; `record` does the rest.

        Args:
            epoch: the pass whose batches determine the buckets.
        """
        self._update, self._source, self._rates, self._figures = update, source, rates, figures
        self._device = update.model.output.weight.device
        batch_size, length = source.shape
        self._start = update.model.initial_state(batch_size)
        self.state: State = ()
        """After the newest step; empty: it isn't carried."""
        if update.carries:
            self.state = tuple(tuple(part.clone() for part in layer) for layer in self._start)
        self._counts, self._epoch = source.row_counts(epoch), epoch
        most = batch_size * length
        self.buckets = (
            (most,)  # every window of this shape counts whole
            if update.carries
            else bucket_sizes(self._counts, most, multiple=ROWS_MULTIPLE)
        )
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool = 0, 0
        self._next: tuple[int, int, int] | None = None
        """Epoch and index of the batch that the device would assemble next, and how often it was
        moved before."""

    def record(self) -> None:
        """Record all buckets. This takes a few steps at a rate of zero; the caller restores
        weights, moments and generators.

        Raises:
            RuntimeError: CUDA can't record one of the operations, or memory ran out. Call
                `release`.
        """
        stream, self._pool = _recording_stream(self._device), torch.cuda.graph_pool_handle()
        self._rates.stand_still()
        stream.wait_stream(torch.cuda.current_stream(self._device))
        # The stream is our own, so that a failed recording leaves it, too.
        with torch.cuda.stream(stream), _no_collection():
            # The largest first: the others then find room in what it has freed in the pool.
            for rows in reversed(self.buckets):
                smallest = int(np.argmin(self._counts))
                for _ in range(WARM_UPS if rows == self.buckets[-1] else 1):
                    self._source.seek(self._epoch, smallest)
                    self._run(rows)
                self._graphs[rows] = torch.cuda.CUDAGraph()
                # Other threads (a checkpoint's) may use the device meanwhile.
                with torch.cuda.graph(
                    self._graphs[rows],
                    pool=self._pool,
                    stream=stream,
                    capture_error_mode="thread_local",
                ):
                    self._run(rows)
                self._let_go()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        self._next = None
        self._set_state(None)

    def takes(self, index: int) -> bool:
        """Whether a batch can be replayed."""
        return self._source.fits(index)

    def step(self, step: int, epoch: int, index: int, state: State | None) -> int:
        """Replay the update number `step` (from 1) on a batch that it takes; returns the targets
        that count. The state after it is in `state`, loss and norm are among the figures.

        Args:
            state: the state to start from; None: the initial one.
        """
        self._rates.seek(step)
        return self._replay(epoch, index, state)

    def trial_step(self, epoch: int, index: int) -> None:
        """As `step`, at a rate of zero and from the state of the one before, first from zero."""
        self._replay(epoch, index, self.state)

    def refill_rates(self) -> None:
        """Take over a changed schedule from the next step on."""
        self._rates.forget()

    def release(self) -> None:
        """Free the graphs and their memory. The carried state stays valid."""
        with suppress(RuntimeError):  # a device that failed before
            torch.cuda.synchronize(self._device)
        for graph in self._graphs.values():
            _end_failed(graph, self._pool, self._device)
            graph.reset()
        self._graphs.clear()
        self._let_go()
        _leave_recording(self._device)
        with suppress(RuntimeError):  # see RECOVERING_TORCH
            torch.cuda.empty_cache()

    def _replay(self, epoch: int, index: int, state: State | None) -> int:
        source = self._source
        rows = source.rows(epoch, index)
        graph = self._graphs[next(size for size in self.buckets if size >= rows)]
        if self._next != (epoch, index, source.seeks) or isinstance(source, CopiedBatches):
            source.seek(epoch, index)
        self._set_state(state)
        self._next = None  # if the replay fails
        graph.replay()
        self._next = epoch, index + 1, source.seeks
        return rows

    def _set_state(self, state: State | None) -> None:
        if self._update.carries:
            _copy(self._start if state is None else state, self.state)

    def _run(self, rows: int) -> None:
        """A step as it is recorded; all its results go to tensors from outside of the pool."""
        inputs_BT, targets_BT, rows_N = self._source.assemble(rows)
        self._rates.take()
        start = self.state or self._start
        loss, norm, reached = self._update(inputs_BT, targets_BT, rows_N, start)
        self._figures.write(loss, norm)
        _copy(reached, self.state)

    def _let_go(self) -> None:
        """Drop every reference to memory of the pool, which a failed recording leaves, too."""
        self._update.forget_gradients()
        self._update.optimizer.found_inf = None  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Trial:
    """Finds out whether graphs are faster, without changing anything about the training."""

    update: Update
    batches: Batches
    figures: StepFigures
    rate: Callable[[int], float]
    """Learning rate of a step, counted from 1."""
    rehearse: Callable[[], None]
    """Raises DeviceError if the largest evaluation or plain step runs out of memory."""
    epoch: int
    index: int
    """The position of the training, whose coming batches are used."""

    def run(self) -> tuple[StepGraphs | None, str]:
        """Record graphs and measure them against launching the operations; returns the graphs if
        they are clearly faster, and a note.

        Whatever happens, weights, optimizer and random generators are as before. Steps on trial
        have a learning rate of zero.
        """
        device = self.update.model.output.weight.device
        graphs: StepGraphs | None = None
        kept: KeptTraining | None = None
        faster = False
        try:
            kept = KeptTraining(self.update, device)
            graphs = StepGraphs(
                self.update,
                self.batches.resident or CopiedBatches(self.batches, device, self.epoch),
                RateTable(self.update.optimizer, self.rate, device),
                self.figures,
                self.epoch,
            )
            places = self._places(graphs)
            set_learning_rate(self.update.optimizer, 0.0)
            plain, found_S2 = self._timed(self._plain_steps(), places)
            graphs.record()
            kept.restore_generators()  # the same draws as in the plain steps
            replayed, same_S2 = self._timed(graphs.trial_step, places, trials=len(found_S2))
            # Once more: the GPU's clock may have been low at first.
            again, _ = self._timed(self._plain_steps(), places, trials=len(found_S2))
            plain = min(plain, again)
            if any(differ(found_S2[:, part], same_S2[:, part]) for part in range(2)):
                note = "no CUDA graphs: their losses differ from those without"
            else:
                note = f"CUDA graphs: a step was measured {plain / replayed:.2f} times as fast"
                faster = plain / replayed > CLEARLY_FASTER
        except Exception as error:  # whatever it is, steps can be launched
            note = f"no CUDA graphs: {_cause(error)}"
        finally:
            if graphs is not None and not faster:
                graphs.release()
            self.update.forget_gradients()
            if kept is not None:
                kept.restore(keep_addresses=faster)
            self.figures.align()
        del kept  # the rehearsal needs the memory
        with suppress(RuntimeError):  # see RECOVERING_TORCH
            release_cache(device)
        reset_peak(device)  # the trial's isn't that of training
        if graphs is None or not faster:
            return None, note
        return self._rehearsed(graphs, note)

    def _rehearsed(self, graphs: StepGraphs, note: str) -> tuple[StepGraphs | None, str]:
        """The graphs, unless memory runs out beside their pool, which they keep."""
        try:
            self.rehearse()
        except DeviceError as error:
            clear_frames(error.__cause__.__traceback__ if error.__cause__ else None)
            graphs.release()
            return None, f"no CUDA graphs: {error.message} beside them"
        return graphs, note

    def _places(self, graphs: StepGraphs) -> list[tuple[int, int]]:
        """Epoch and index of the batches on trial: the coming ones that graphs take, in turns."""
        steps = self.batches.steps_per_epoch
        coming = ((self.index + later) % steps for later in range(min(steps, TRIAL_BATCHES + 1)))
        taken = [index for index in coming if graphs.takes(index)][:TRIAL_BATCHES]
        if not taken:
            raise RuntimeError("no batch has the usual shape")
        return [(self.epoch, taken[trial % len(taken)]) for trial in range(WARM_UPS + TRIALS)]

    def _plain_steps(self) -> Callable[[int, int], None]:
        """Plain steps from a zero state."""
        model = self.update.model
        state: State = ()

        def step(epoch: int, index: int) -> None:
            nonlocal state
            batch = self.batches.batch(epoch, index).to(model.output.weight.device)
            start = state or model.initial_state(len(batch.inputs_BT))
            loss, norm, state = self.update(batch.inputs_BT, batch.targets_BT, batch.rows_N, start)
            self.figures.write(loss, norm)

        return step

    def _timed(
        self,
        step: Callable[[int, int], None],
        places: Sequence[tuple[int, int]],
        *,
        trials: int | None = None,
    ) -> tuple[float, Tensor]:
        """Seconds of a step after the warm-up, and losses and norms of the timed ones, on the CPU.

        Args:
            trials: timed steps; None: as many as fit into the time.
        """
        device = self.update.model.output.weight.device
        self.figures.align()
        for place in places[: WARM_UPS - 1]:
            step(*place)
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        step(*places[WARM_UPS - 1])
        torch.cuda.synchronize(device)
        if trials is None:
            spent = max(time.perf_counter() - began, 1e-6)
            trials = max(LEAST_TRIALS, int(TRIAL_SECONDS / spent))
        timed = places[WARM_UPS:][:trials]
        began = time.perf_counter()
        for place in timed:
            step(*place)
        torch.cuda.synchronize(device)
        seconds = (time.perf_counter() - began) / len(timed)
        return seconds, self.figures.uncounted(WARM_UPS + len(timed))[WARM_UPS:].cpu()


def _copy(source: State, target: State) -> None:
    """Copy a state into another's tensors."""
    for given, own in zip(source, target, strict=True):
        for value, tensor in zip(given, own, strict=True):
            if value is not tensor:
                tensor.copy_(value)


def differ(plain: Tensor, replayed: Tensor) -> bool:
    """Whether the losses, or gradient norms, of the same batches on the same weights differ by more
    than dropout's noise. Where both aren't finite they agree.
    """
    if (plain.isfinite() != replayed.isfinite()).any():
        return True
    both = plain.isfinite()
    if not both.any():
        return False
    difference = (plain[both] - replayed[both]).double()
    noise = difference.std(correction=0) / len(difference) ** 0.5
    allowed = SAME * plain[both].abs().double().mean() + NOISE * noise
    return bool(difference.mean().abs() > allowed)


def _cause(error: BaseException) -> str:
    """Why a trial failed, mostly in torch's words; the traceback goes to stderr, a run's log. Lets
    go of the tensors of the failed step, which its frames keep alive.

    After an operation that can't be recorded, the end of the recording fails, too.
    """
    if not is_out_of_memory(error):
        print_exception(error)
    while True:
        clear_frames(error.__traceback__)
        if not isinstance(error.__context__, RuntimeError):
            break
        error = error.__context__
    return "out of memory" if is_out_of_memory(error) else first_line(error)


@functools.cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: cuBLAS keeps memory for each stream that it was used on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile, in any thread: to destroy another training's graph, which may
    be in it, ends a recording."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _end_failed(graph: torch.cuda.CUDAGraph, pool: tuple[int, int], device: torch.device) -> None:
    """End a recording that failed for the allocator and give up its share of the pool, if torch
    hasn't: see `RECOVERING_TORCH`. Before `reset`."""
    try:
        graph.pool()
    except RuntimeError:  # it failed
        with suppress(RuntimeError):  # torch has ended it
            torch._C._cuda_endAllocateToPool(_index(device), pool)
            torch._C._cuda_releasePool(_index(device), pool)


def _leave_recording(device: torch.device) -> None:
    """Give the device's generator a new state: after a failed recording the old one still counts
    as recorded and would refuse to draw."""
    generator = torch.cuda.default_generators[_index(device)]
    generator.graphsafe_set_state(generator.clone_state())


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


class KeptTraining:
    """Copies of weights, optimizer state and generators, restored in place: recorded graphs use
    the addresses."""

    def __init__(self, update: Update, device: torch.device) -> None:
        self._update, self._device = update, device
        self._cpu_random = torch.get_rng_state()
        self._random = torch.cuda.get_rng_state(device)
        self._weights = [parameter.detach().clone() for parameter in update.model.parameters()]
        self._optimizer = {
            parameter: {
                key: value.clone() for key, value in own.items() if isinstance(value, Tensor)
            }
            for parameter, own in update.optimizer.state.items()
        }

    @torch.no_grad()
    def restore(self, *, keep_addresses: bool) -> None:
        """Restore everything.

        Args:
            keep_addresses: keep the state that a new optimizer has got meanwhile, as zeros.
        """
        for parameter, value in zip(self._update.model.parameters(), self._weights, strict=True):
            parameter.copy_(value)
        state = self._update.optimizer.state
        for owner, own in state.items():
            before = self._optimizer.get(owner, {})
            for key, value in own.items():
                if isinstance(value, Tensor):  # the moments and counts of a new optimizer are zeros
                    value.copy_(before[key]) if key in before else value.zero_()
        if not keep_addresses:
            for owner in state.keys() - self._optimizer.keys():
                del state[owner]
        self.restore_generators()

    def restore_generators(self) -> None:
        """Restore the generators of CPU and device."""
        torch.set_rng_state(self._cpu_random)
        torch.cuda.set_rng_state(self._random, self._device)
