"""Memory of this process or its GPU, and a rehearsal of a run's largest step and evaluation.

The rehearsal shows a lack of memory in seconds, not hours.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from rnnlm_tui.engine.batches import Batch, evaluation_shape
from rnnlm_tui.engine.device import (
    errors_explained,
    random_state,
    set_random_state,
    wait,
)
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.system.machine import memory_available

CPU = torch.device("cpu")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
COPY_RESERVE_BYTES = 64 * 2**20
"""Memory that stays free beside a copy of weights and state."""
SPARE_BYTES = 32 * 2**20
"""Extra memory during a rehearsed step: other shapes and the work between steps need a little
more."""


def reset_peak(device: torch.device) -> None:
    """Restart the peak from the current value, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        # proc(5): the peak resident set size becomes the current one.
        _CLEAR.write_text("5", encoding="ascii")


def peak_bytes(device: torch.device) -> int:
    """Peak memory: on a GPU what torch reserved there, which includes gaps between tensors, but
    not the driver's; else of this process, libraries included."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def held_bytes(device: torch.device) -> int:
    """The same for the current memory."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def free_main_memory() -> int:
    """Bytes that this process can allocate: those free in main memory, or fewer if it has a limit
    (`ulimit -v`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    free = memory_available()
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, max(0, limit - int(psutil.Process().memory_info().vms)))


def spare_bytes() -> int:
    """Bytes of main memory that are free beside this process at its peak so far, less a reserve for
    other work."""
    growth = max(0, peak_bytes(CPU) - held_bytes(CPU))
    return free_main_memory() - growth - COPY_RESERVE_BYTES


def rehearse_step(trainer: Trainer) -> float:
    """Forward, backward and moments of the largest batch; returns the seconds that it took.

    Leaves weights, moments, counters, data position, carried state and random generators unchanged.

    Raises:
        DeviceError: out of memory, with the shape.
        RnnlmError: exact mode, and an operation has no deterministic version.
    """
    shape = largest_step(trainer)
    with errors_explained("a step", shape, trainer.parts):
        return _step(trainer, *shape)


def rehearse_evaluation(trainer: Trainer) -> None:
    """Evaluate a batch of the largest shape.

    Raises:
        DeviceError: out of memory, with the shape.
    """
    shape = evaluation_shape(
        "sentences" if trainer.batches.pads else "stream", trainer.batches.longest
    )
    with errors_explained("an evaluation", shape):
        evaluate(trainer.model, [_batch(trainer, *shape)])
        wait(trainer.device)


def largest_step(trainer: Trainer) -> tuple[int, int]:
    """(B, T) of the largest part of a batch that is computed at once."""
    rows = trainer.batches.batch(trainer.epoch, 0).inputs_BT.shape[0]
    return -(-rows // trainer.parts), trainer.batches.longest


def _step(trainer: Trainer, rows: int, length: int) -> float:
    random = random_state(trainer.device)
    began = time.perf_counter()
    try:
        spare = torch.empty(SPARE_BYTES, dtype=torch.uint8, device=trainer.device)
        batch = _batch(trainer, rows, length).to(trainer.device)
        trainer.update.rehearse(batch)
        wait(trainer.device)
        del spare
    finally:
        set_random_state(random, trainer.device)
    return time.perf_counter() - began


def _batch(trainer: Trainer, rows: int, length: int) -> Batch:
    """Arbitrary tokens: memory depends on the shape alone."""
    tokens_BT = (torch.arange(rows * length) % trainer.model.vocab_size).view(rows, length)
    return Batch(tokens_BT, tokens_BT, rows * length)
