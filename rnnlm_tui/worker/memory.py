"""MemoryBudget: the memory that a run needs, what is free, and what to change when it doesn't
fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from rnnlm_tui.engine.device import NO_PRIMITIVE, is_out_of_memory, uuid_of
from rnnlm_tui.engine.memory import (
    free_main_memory,
    held_bytes,
    rehearse_evaluation,
    rehearse_step,
)
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import FLOAT_BYTES, parameter_count
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import counted, memory
from rnnlm_tui.schema.memory import largest_fitting_batch, memory_parts
from rnnlm_tui.schema.metrics import Phase
from rnnlm_tui.system.cuda import holder_words
from rnnlm_tui.system.machine import memory_total


class MemoryBudget:
    """What a run needs of a device's memory, and what is available.

    Args:
        run: the run's name, for suggested commands.
        sentences: of the training set.
        processes: those that share each batch.
    """

    def __init__(
        self,
        run: str,
        config: RunConfig,
        device: torch.device,
        *,
        vocab_size: int,
        sentences: int,
        processes: int = 1,
    ) -> None:
        self._run = run
        self._config = config
        self._device = device
        self._vocab_size = vocab_size
        self._sentences = sentences
        self._processes = processes
        self.needed = memory_parts(
            config,
            vocab_size,
            sentences=sentences,
            on_gpu=device.type == "cuda",
            processes=processes,
        ).training
        """Estimated bytes, without the copy for checkpoints."""

    def available(self) -> int:
        """Bytes that this process holds or could allocate, on the GPU that trains or else in main
        memory."""
        if self._device.type == "cuda":
            return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(
                self._device
            )
        return held_bytes(self._device) + free_main_memory()

    def shortage(self) -> Facts:
        """A warning if the run needs more than is available, and a batch size that should fit;
        empty if the run fits."""
        have = self.available()
        if self.needed <= have:
            return Facts(memory_warning="", memory_batch=None)
        batch = self._fitting_batch()
        words = (
            f"needs an estimated {memory(self.needed)} of memory, {memory(have)} free"
            f"{self._holders()}: {_remedy(batch)}"
        )
        return Facts(memory_warning=words, memory_batch=batch)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Around the construction of model and optimizer: report how much memory they need if it
        fails, or before it if this machine can't hold them: its out-of-memory killer may end other
        processes too.

        Raises:
            DeviceError: out of memory.
        """
        weights = FLOAT_BYTES * parameter_count(self._config.model, self._vocab_size).total
        # Weights, gradients, and the optimizer's moments.
        least = weights * (4 if self._config.optimizer.algorithm == "adamw" else 2)
        if self._device.type == "cpu" and least > (total := memory_total()):
            raise DeviceError(
                f"out of memory before building the model: {self._model_words()} needs"
                f" {memory(least)} for weights, gradients and the optimizer; this machine has"
                f" {memory(total)}",
                hint=_remedy(None),
            )
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"out of memory while building the model: {self._model_words()},"
                f" {memory(weights)} of weights{self._holders()}",
                hint=_remedy(None),
            ) from error

    def rehearse(self, trainer: Trainer, enter: Callable[[Phase], None]) -> float:
        """Try the largest step and the largest evaluation; returns the seconds of the step.

        Args:
            enter: called with the phase that begins.

        Raises:
            DeviceError: out of memory, with the shapes and a batch size that should fit.
        """
        enter("rehearsing")
        try:
            seconds = rehearse_step(trainer)
        except DeviceError as error:
            if str(error.__cause__) == NO_PRIMITIVE and self.needed <= self.available():
                raise RuntimeError(NO_PRIMITIVE) from error  # memory isn't the cause
            raise self.explained(error, trainer.step) from error
        enter("evaluating")
        try:
            rehearse_evaluation(trainer)
        except DeviceError as error:
            raise self._in_full(error, trainer.step, None) from error
        return seconds

    def explained(self, error: DeviceError, step: int) -> DeviceError:
        """An out-of-memory error with the model's shape, the free memory and a batch size that
        should fit.

        Args:
            step: of the checkpoint that a resume would continue from; 0: there is none.
        """
        if not is_out_of_memory(error.__cause__ or error):
            return error
        # The full batch worked before, whatever the estimate says.
        half = self._config.training.batch_size // 2
        return self._in_full(error, step, min(self._fitting_batch() or half, half) or None)

    def _in_full(self, error: DeviceError, step: int, batch: int | None) -> DeviceError:
        hint = _remedy(batch)
        if step:
            change = "" if batch is None else f" --set training.batch_size={batch}"
            hint = (
                f"step {step:,} is saved: `rnnlm-tui resume {self._run}` continues from it once"
                f" more memory is free, `rnnlm-tui train --from {self._run}@{step}{change}` starts"
                f" a new run from it; {hint}"
            )
        return DeviceError(
            f"{error.message} ({self._model_words()}, {memory(self.needed)} estimated,"
            f" {memory(self.available())} available{self._holders()})",
            hint=hint,
        )

    def _holders(self) -> str:
        """`, pid 4711 (alex) holds 70 GiB` of the GPU; empty if the driver names none."""
        if self._device.type != "cuda":
            return ""
        who = holder_words(uuid_of(self._device), computes=True)
        return f", {who}" if who else ""

    def _fitting_batch(self) -> int | None:
        """The largest training.batch_size that should fit; None: not even one row does."""
        return largest_fitting_batch(
            self._config,
            self._vocab_size,
            self.available(),
            sentences=self._sentences,
            on_gpu=self._device.type == "cuda",
            processes=self._processes,
        )

    def _model_words(self) -> str:
        model = self._config.model
        return (
            f"{model.cell_type}, {model.num_layers} x {model.hidden_size:,} units,"
            f" {counted(self._vocab_size, 'type')}"
        )


def _remedy(batch: int | None) -> str:
    if batch is None:
        return "a smaller model.hidden_size, model.num_layers or tokenizer.vocab_size needs less"
    return f"training.batch_size = {batch:,} should fit"
