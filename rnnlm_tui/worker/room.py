"""The memory of one attempt: what it needs by arithmetic, what is free, and what to try where that is less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch

from rnnlm_tui.contract.chunks import RESIDENT_SHARE
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import FLOAT_BYTES, parameter_count
from rnnlm_tui.contract.figures import counted, memory
from rnnlm_tui.contract.memory import largest_fitting_batch, memory_parts
from rnnlm_tui.contract.metrics import Phase
from rnnlm_tui.engine.failures import NO_PRIMITIVE, is_out_of_memory
from rnnlm_tui.engine.memory import held_bytes, limit_left
from rnnlm_tui.engine.preflight import fitting_rows, rehearse_evaluation, rehearse_step
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.store.free_memory import memory_available


class Room:
    """What a run's config needs of the memory of a device.

    Args:
        run: the run's name, for commands to try.
        sentences, tokens: to train on.
    """

    def __init__(self, run: str, config: RunConfig, device: torch.device, *, vocab_size: int, sentences: int, tokens: int) -> None:
        self.run = run
        self._config = config
        self._device = device
        self._vocab_size = vocab_size
        self._sentences = sentences
        on_gpu = device.type == "cuda"
        self._resident = tokens if on_gpu and FLOAT_BYTES * tokens <= RESIDENT_SHARE * self.available() else 0
        self.needed = memory_parts(config, vocab_size, sentences=sentences, on_gpu=on_gpu, resident_tokens=self._resident).total
        """Bytes, by arithmetic."""

    def available(self) -> int:
        """Bytes that this process holds or could take: of the GPU where one trains, else of the machine."""
        if self._device.type == "cuda":
            return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device)
        left = limit_left()
        return held_bytes(self._device) + (memory_available() if left is None else min(left, memory_available()))

    def warning(self) -> str:
        """What to know before it starts where it needs more than there is; empty where it fits."""
        have = self.available()
        if self.needed <= have:
            return ""
        return f"it needs {memory(self.needed)} of memory by estimate and {memory(have)} are free: {self._batch_words(self._fitting(have))}"

    def largest_fitting_batch(self) -> int | None:
        """The largest training.batch_size that should fit into what is free; None where not even one row does."""
        return self._fitting(self.available())

    @contextmanager
    def building(self) -> Iterator[None]:
        """Around what makes the model and its optimizer: no memory for it is told in numbers.

        Raises:
            DeviceError: out of memory.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            count = parameter_count(self._config.model, self._vocab_size).total
            message = (
                f"out of memory while the model was built: {self._model_words()}, {counted(count, 'parameter')} are {memory(FLOAT_BYTES * count)} of weights"
            )
            raise DeviceError(message, hint=self._hint(self.largest_fitting_batch(), 0)) from error

    def rehearse(self, trainer: Trainer, enter: Callable[[Phase], None]) -> float:
        """The largest step and evaluation before the first; the seconds of the step.

        Args:
            enter: told what begins.

        Raises:
            DeviceError: out of memory, with the shapes and a batch that was tried and works.
        """
        enter("rehearsing")
        try:
            seconds = rehearse_step(trainer)
        except DeviceError as error:
            clear_frames(error.__cause__.__traceback__ if error.__cause__ else None)  # they hold the tensors of the step that failed
            batch = fitting_rows(trainer)
            if batch is None and str(error.__cause__) == NO_PRIMITIVE:
                raise RuntimeError(NO_PRIMITIVE) from error  # at any size: it is not the memory
            raise self.explained(error, trainer.step, batch=batch, tried=True) from error
        enter("evaluating")
        try:
            rehearse_evaluation(trainer)
        except DeviceError as error:
            raise self.explained(error, trainer.step, tried=True) from error
        return seconds

    def explained(self, error: DeviceError, step: int, *, batch: int | None = None, tried: bool = False) -> DeviceError:
        """Out of memory in a step or an evaluation: the model's shape, what is free, a batch that should fit.

        Args:
            step: of the checkpoint that the run can go on from; 0: there is none.
            batch: that was tried and works.
        """
        if not is_out_of_memory(error.__cause__ or error):
            return error
        free = f", {memory(self.needed)} by estimate, {memory(self.available())} are there"
        if not tried:
            half = self._config.training.batch_size // 2  # the whole has worked before, whatever the arithmetic says
            batch = min(self._fitting(self.available()) or half, half) or None
        return DeviceError(f"{error.message} ({self._model_words()}{free})", hint=self._hint(batch, step, tried=tried))

    def _fitting(self, have: int) -> int | None:
        on_gpu = self._device.type == "cuda"
        return largest_fitting_batch(self._config, self._vocab_size, have, sentences=self._sentences, on_gpu=on_gpu, resident_tokens=self._resident)

    def _hint(self, batch: int | None, step: int, *, tried: bool = False) -> str:
        words = self._batch_words(batch, tried=tried)
        if not step:
            return words
        other = f" --set training.batch_size={batch}" if batch is not None else ""
        return (
            f"step {step:,} is saved: `rnnlm-tui resume {self.run}` goes on from it when there is more memory, "
            f"`rnnlm-tui train --from {self.run}@{step}{other}` starts a new run from it; {words}"
        )

    def _batch_words(self, batch: int | None, *, tried: bool = False) -> str:
        if batch is None:
            return "a smaller model.hidden_size, model.num_layers or tokenizer.vocab_size needs less"
        return f"training.batch_size = {batch:,} {'was tried and fits' if tried else 'should fit'}"

    def _model_words(self) -> str:
        model = self._config.model
        return f"{model.cell_type}, {model.num_layers} x {model.hidden_size:,} units, {counted(self._vocab_size, 'type')}"
