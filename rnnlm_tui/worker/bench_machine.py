"""The machine task of a `bench`: how fast the device multiplies matrices and reads memory."""

from __future__ import annotations

import torch
from pydantic import BaseModel

from rnnlm_tui.contract.bench import BenchTask, MachineSurvey, MachineTurn, TurnRequest
from rnnlm_tui.engine.device import describe
from rnnlm_tui.engine.loss import rows_per_chunk
from rnnlm_tui.engine.matmul import choose_matmul
from rnnlm_tui.engine.roofline import multiplication_speeds, reading_speed, ways_to_multiply
from rnnlm_tui.errors import InputError
from rnnlm_tui.store.free_memory import memory_available
from rnnlm_tui.worker.bench_training import numbers_of
from rnnlm_tui.worker.building import set_up_torch


class MachineTask:
    """Measures at each turn; the best of all turns are the limits."""

    def __init__(self, task: BenchTask) -> None:
        self._device = set_up_torch(task.config)
        self._width, self._vocab_size = task.config.model.hidden_size, task.vocab_size
        hidden, vocab_size = self._width, self._vocab_size
        head = (rows_per_chunk(vocab_size), vocab_size, hidden)
        square = (4096, 4096, 4096) if self._device.type == "cuda" else (1024, 1024, 1024)
        # The head's forward product, the gradients of its input and of its weights, and a shape that suits any device.
        self._shapes = (head, (head[0], head[2], head[1]), (head[1], head[2], head[0]), square)

    def survey(self) -> MachineSurvey:
        """The device and its capabilities."""
        free = torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else memory_available()
        return MachineSurvey(
            device=describe(self._device),
            device_type=self._device.type,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            memory_free=int(free),
            numbers=ways_to_multiply(self._device),
            auto=numbers_of(choose_matmul("auto", torch.randn(self._vocab_size, self._width, device=self._device)), self._device),
        )

    def turn(self, request: TurnRequest) -> MachineTurn:
        """Spend half of the time on matrix products, half on memory."""
        gflops = multiplication_speeds(self._device, self._shapes, request.seconds / 2)
        threads = torch.get_num_threads()
        bandwidth = one = reading_speed(self._device, request.seconds / 4)
        if self._device.type == "cpu":
            torch.set_num_threads(1)
            one = reading_speed(self._device, request.seconds / 4)
            torch.set_num_threads(threads)
        return MachineTurn(gflops=gflops, bandwidth=max(bandwidth, one), bandwidth_one=one)

    def save(self, path: str) -> BaseModel:
        """Refused.

        Raises:
            InputError: always.
        """
        raise InputError(f"the machine task has no weights to save in {path}")
