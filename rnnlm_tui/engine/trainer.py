"""Trainer: one training step after the other, and the complete state for a bit-exact resume."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, Batches, rows_of_share, share
from rnnlm_tui.engine.device import (
    check_precision,
    errors_explained,
    random_state,
    set_random_state,
)
from rnnlm_tui.engine.distributed import Order, Ranks
from rnnlm_tui.engine.matmul import choose_matmul, set_gpu_precision
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.optim import build_optimizer, set_learning_rate
from rnnlm_tui.engine.step import Update
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.config import OptimizerConfig
from rnnlm_tui.schema.estimates import Schedule


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer update."""

    step: int
    """1-based."""
    epoch: float
    """Passes over the training set so far."""
    tokens: int
    """Non-padding targets of this step."""
    tokens_seen: int
    """Of the whole run."""
    learning_rate: float
    seconds: float
    """Training time of this step; on a GPU, the time to launch it."""
    loss: Tensor
    """Mean over the targets, nats: a scalar on the device. Reading its value waits for the
    device."""
    grad_norm: Tensor
    """L2 norm before clipping, as `loss`; if it isn't finite the update was skipped."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A trainer's state without the weights: the tensors and JSON values of its two files."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, object]
    """Plain JSON."""


class Trainer:
    """Trains a model: call `train_step` while `should_continue`."""

    def __init__(
        self,
        model: RecurrentLanguageModel,
        batches: Batches,
        *,
        max_steps: int,
        schedule: Schedule,
        optimizer: OptimizerConfig | None = None,
        matmul: str = "float32",
        precision: str = "float32",
        accumulate: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        """Move the model to its device first.

        Args:
            max_steps: exactly this many updates.
            optimizer: whose peak rate is that of `schedule`; None: AdamW without clipping.
            matmul: `auto`, `float32` or `medium`; see `engine.matmul`.
            precision: `bf16`, on a CUDA GPU, decides that the head's products are in bf16, and
                `matmul` concerns only the layers'; weights, loss and optimizer stay float32.
            accumulate: parts in which this process computes its share of a batch.
            ranks: the processes that share each batch, which all make their trainer now; the
                weights become those of rank 0.

        Raises:
            DeviceError: the device doesn't support the matmul mode or the precision.
        """
        self.model = model
        self.batches = batches
        self.max_steps = max_steps
        """Updates of the whole run; the schedule stretches or shrinks with a new value."""
        self.schedule = schedule
        self.device = model.output.weight.device
        check_precision(precision, self.device)
        self.precision = precision
        rows = batches.batch_size * batches.longest
        if ranks is None or ranks.leads:
            self.matmul = choose_matmul(matmul, model.output.weight, rows, precision=precision)
        if ranks is not None:  # `auto` may measure differently elsewhere
            self.matmul = ranks.same(self.matmul if ranks.leads else None)
            set_gpu_precision(self.device, rounded=self.matmul.mode != "float32")
        self.ranks, self.accumulate = ranks, accumulate
        settings = OptimizerConfig(max_grad_norm=0.0) if optimizer is None else optimizer
        self.optimizer = build_optimizer(model.parameters(), settings, schedule.peak)
        self.update = Update(
            model,
            self.optimizer,
            settings.max_grad_norm,
            reduced=self.matmul.reduced,
            carries=not batches.pads,  # sentences start from zero
            ranks=ranks,
            module=None if ranks is None else ranks.spread(model),
        )
        self.step, self.tokens_seen, self.active_seconds = 0, 0, 0.0
        self.epoch, self.index = 0, 0
        self.state: State = ()
        model.train()

    @property
    def should_continue(self) -> bool:
        """There are steps left."""
        return self.step < self.max_steps

    @property
    def parts(self) -> int:
        """Parts of a batch that are computed one at a time, of all processes."""
        return self.accumulate * (1 if self.ranks is None else self.ranks.size)

    @property
    def epochs_done(self) -> float:
        """Passes over the training set so far."""
        return self.epoch + self.index / self.batches.steps_per_epoch

    def set_peak_learning_rate(self, peak: float) -> None:
        """Change the peak from the next update on; the schedule's shape stays."""
        self.schedule = self.schedule._replace(peak=peak)

    def set_max_grad_norm(self, max_grad_norm: float) -> None:
        """Change the clipping from the next update on; 0: none."""
        self.update = replace(self.update, max_grad_norm=max_grad_norm)

    def train_step(self) -> StepResult:
        """Do one update, without waiting for a GPU.

        Raises:
            RnnlmError: out of memory, or exact mode and an operation without a deterministic
                version. Nothing was updated.
        """
        began = time.perf_counter()
        rate = self.schedule.rate(
            self.step + 1,
            total_steps=self.max_steps,
            steps_per_epoch=self.batches.steps_per_epoch,
        )
        batch = self.batches.batch(self.epoch, self.index)
        if self.ranks is not None:
            clip, dropout = self.update.max_grad_norm, self.model.dropout
            self.ranks.send_order(Order.STEP, rate, clip, dropout)
        loss, norm = self._updated(batch, rate)
        self._advance(batch.tokens)
        seconds = time.perf_counter() - began
        self.active_seconds += seconds
        return StepResult(
            step=self.step,
            epoch=self.epochs_done,
            tokens=batch.tokens,
            tokens_seen=self.tokens_seen,
            learning_rate=rate,
            seconds=seconds,
            loss=loss,
            grad_norm=norm,
        )

    def follow_step(self, rate: float, max_grad_norm: float, dropout: float, *, seed: int) -> None:
        """Do the step of rank 0, on another rank.

        Args:
            seed: of this rank's random numbers, which depend on it and the step alone, so that
                nothing has to be saved for a resume.

        Raises: as `train_step`.
        """
        self.model.dropout = dropout
        self.set_max_grad_norm(max_grad_norm)
        own = np.random.SeedSequence([seed, self.step]).generate_state(1, np.uint64)
        torch.manual_seed(int(own[0] >> 1))
        batch = self.batches.batch(self.epoch, self.index)
        self._updated(batch, rate)
        self._advance(batch.tokens)

    def keep_company(self) -> None:
        """Rank 0, while it doesn't train: the others hear that it lives, and it that they do."""
        if self.ranks is not None:
            self.ranks.send_order(Order.WAIT)

    def send_carried(self) -> None:
        """Give rank 0 the carried state of this rank's rows."""
        self._whole_state()

    def state_dict(self) -> TrainingState:
        """Everything but the weights: optimizer, schedule, position, carried state, generators,
        counters. Of several ranks, rank 0 has the state of all.

        Mixed precision adds nothing: bf16 has the range of float32, so there is no gradient scaler.
        """
        tensors: dict[str, Tensor] = {}
        if self.ranks is not None:
            self.ranks.send_order(Order.COLLECT)
        for layer, state in enumerate(self._whole_state()):
            for part, tensor in enumerate(state):
                tensors[f"carried.{layer}.{part}"] = tensor
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        values: dict[str, object] = {
            "step": self.step,
            "epoch": self.epoch,
            "index": self.index,
            "tokens_seen": self.tokens_seen,
            "active_seconds": self.active_seconds,
            "peak_learning_rate": self.schedule.peak,
            "data": dict(self.batches.facts),
        }
        return TrainingState({**tensors, **random_state(self.device)}, values)

    def load_state_dict(self, state: TrainingState) -> None:
        """Continue from a state; load the weights first. Also restores the global random
        generators.

        Raises:
            CheckpointError: the state belongs to other batches or another model; nothing changed.
        """
        self._check_data(state.values["data"])
        optimizer_state = self._optimizer_state(state.tensors)
        carried = self._carried_state(state.tensors)
        numbers = {name: str(value) for name, value in state.values.items()}
        self.step, self.tokens_seen = int(numbers["step"]), int(numbers["tokens_seen"])
        self.epoch, self.index = int(numbers["epoch"]), int(numbers["index"])
        self.active_seconds = float(numbers["active_seconds"])
        self.set_peak_learning_rate(float(numbers["peak_learning_rate"]))
        self.state = carried
        self._load_into_optimizer(optimizer_state)
        set_random_state(state.tensors, self.device)

    def load_optimizer_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with the optimizer's state of another run; its settings and rate stay this run's.

        Args:
            tensors: those of a `TrainingState`; only the optimizer's are used.

        Raises:
            CheckpointError: a shape differs from its parameter's; nothing changed.
        """
        self._load_into_optimizer(self._optimizer_state(tensors))

    def _load_into_optimizer(self, state: dict[int, dict[str, Tensor]]) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _updated(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """Update on a batch; returns loss and gradient norm."""
        set_learning_rate(self.optimizer, rate)
        rows, length = batch.inputs_BT.shape
        first = 0 if self.ranks is None else self.ranks.rank * self.accumulate
        try:
            with errors_explained("a step", (-(-rows // self.parts), length), self.parts):
                parts = [
                    share(batch, first + part, self.parts, pads=self.batches.pads).to(self.device)
                    for part in range(self.accumulate)
                ]
                carried = self.state if self.index else ()
                loss, norm, self.state = self.update.do(parts, batch.tokens, carried)
        finally:
            self.update.forget_gradients()
        return loss, norm

    def _whole_state(self) -> State:
        """The carried state of all ranks' rows; on another rank than 0, of its own."""
        if self.ranks is None:
            return self.state
        rows = self.batches.batch_size
        return tuple(
            tuple(self.ranks.collect(tensor, rows) for tensor in layer) for layer in self.state
        )

    def _advance(self, tokens: int) -> None:
        """Count a step and move to the next batch."""
        self.step += 1
        self.tokens_seen += tokens
        self.index += 1
        if self.index == self.batches.steps_per_epoch:
            self.epoch, self.index = self.epoch + 1, 0

    def _check_data(self, saved: object) -> None:
        facts = dict(self.batches.facts)
        then = dict(saved) if isinstance(saved, Mapping) else {}
        if then == facts:
            return
        differences = [
            f"{key} was {then.get(key)}, is {value}"
            for key, value in facts.items()
            if then.get(key) != value
        ]
        raise CheckpointError(
            f"the checkpoint was trained on other data: {', '.join(differences)}",
            hint="resume with the same settings, or start a new run from it",
        )

    def _carried_state(self, tensors: Mapping[str, Tensor]) -> State:
        """The recurrent state between two windows; empty: none was carried."""
        names = [
            [f"carried.{layer}.{part}" for part in range(len(zeros))]
            for layer, zeros in enumerate(self.model.initial_state(1))
        ]
        if not any(name in tensors for layer in names for name in layer):
            return ()
        ranks, whole = self.ranks, self.batches.batch_size
        own = slice(None) if ranks is None else rows_of_share(whole, ranks.rank, ranks.size)
        return tuple(tuple(tensors[name][own].to(self.device) for name in layer) for layer in names)

    def _optimizer_state(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Each parameter's state, by its index in the optimizer."""
        state: dict[int, dict[str, Tensor]] = {}
        for index, (name, parameter) in enumerate(self.model.named_parameters()):
            prefix = f"optimizer.{name}."
            own = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            for key, value in own.items():
                if value.dim() and value.shape != parameter.shape:
                    shapes = f"{tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                    raise CheckpointError(f"optimizer state {key} of {name} has shape {shapes}")
            if own:
                state[index] = own
        return state
