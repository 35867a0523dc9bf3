"""Trainer: one training step after the other, and the complete state for a bit-exact resume."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, Batches
from rnnlm_tui.engine.device import (
    check_precision,
    explained,
    pack_random_state,
    unpack_random_state,
)
from rnnlm_tui.engine.matmul import choose_matmul
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.optim import adamw, learning_rate, set_learning_rate, sgd
from rnnlm_tui.engine.step import GraphedUpdate, Update, faster_graph
from rnnlm_tui.errors import CheckpointError

GRAPH_BATCHES = 8
"""Batches on which a CUDA graph is measured."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer update. Loss and norm are scalars on the device; reading them waits for it."""

    step: int
    """1-based."""
    epoch: float
    """Passes over the training set so far."""
    tokens: int
    """Non-padding targets of this step."""
    tokens_seen: int
    """Of the whole run."""
    loss: Tensor
    """Mean over the targets, nats."""
    grad_norm: Tensor
    """L2 norm before clipping; if it isn't finite the update was skipped."""
    learning_rate: float
    seconds: float
    """Training time of this step."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A trainer's state without the weights, split into tensors and JSON values for its two
    files."""

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
        learning_rate: float,
        optimizer: str = "adamw",
        weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        max_grad_norm: float = 0.0,
        schedule: str = "constant",
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
        decay_after: int = 0,
        decay_factor: float = 1.0,
        matmul: str = "float32",
        precision: str = "float32",
        cuda_graphs: bool = False,
    ) -> None:
        """Move the model to its device first.

        Args:
            max_steps: exactly this many updates.
            learning_rate: the peak of the schedule.
            optimizer: `adamw`, or `sgd`, which ignores the betas and eps.
            max_grad_norm: clip gradients to this L2 norm; 0: off.
            schedule: `constant`, `cosine` or `decay`, after `warmup_steps`; see `engine.schedule`.
            matmul: `auto`, `float32` or `medium`; see `engine.matmul`.
            precision: `float32`, or on a CUDA GPU `bf16` for the head's products; layers, weights,
                loss
                and optimizer stay float32.
            cuda_graphs: replay the step as a CUDA graph if the first step measures that as faster.

        Raises:
            DeviceError: the device doesn't support the matmul mode or the precision.
        """
        self.model, self.batches, self.max_steps = model, batches, max_steps
        self.peak_rate, self.schedule, self.warmup_steps, self.final_fraction = (
            learning_rate,
            schedule,
            warmup_steps,
            final_fraction,
        )
        self.decay_after, self.decay_factor = decay_after, decay_factor
        self.device = model.output.weight.device
        check_precision(precision, self.device)
        self.precision, self.matmul = (
            precision,
            choose_matmul(matmul, model.output.weight, batches.batch_size * batches.longest),
        )
        self.optimizer: torch.optim.Optimizer = (
            sgd(model.parameters(), learning_rate=learning_rate, weight_decay=weight_decay)
            if optimizer == "sgd"
            else adamw(
                model.parameters(),
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                beta1=beta1,
                beta2=beta2,
                eps=eps,
            )
        )
        reduced = precision == "bf16" or (
            self.matmul.mode == "medium" and self.device.type == "cpu"
        )
        self.update = Update(model, self.optimizer, max_grad_norm, reduced=reduced)
        if self.device.type == "cuda":
            batches.reside_on(self.device)
        self._graph: GraphedUpdate | None = None
        self._tries_graph = cuda_graphs and self.device.type == "cuda"
        self.graph_note = ""
        """What the first step measured about CUDA graphs; empty: nothing yet."""
        self.step, self.tokens_seen, self.active_seconds = 0, 0, 0.0
        self.epoch, self.index = 0, 0
        self.state: State = ()
        model.train()

    @property
    def should_continue(self) -> bool:
        """There are steps left."""
        return self.step < self.max_steps

    @property
    def epochs_done(self) -> float:
        """Passes over the training set so far."""
        return self.epoch + self.index / self.batches.steps_per_epoch

    @property
    def next_learning_rate(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(
            self.step + 1,
            peak=self.peak_rate,
            kind=self.schedule,
            warmup_steps=self.warmup_steps,
            total_steps=self.max_steps,
            final_fraction=self.final_fraction,
            steps_per_epoch=self.batches.steps_per_epoch,
            decay_after=self.decay_after,
            decay_factor=self.decay_factor,
        )

    def set_learning_rate(self, peak: float) -> None:
        """Change the peak from the next update on; the schedule's shape stays."""
        self.peak_rate = peak

    def train_step(self) -> StepResult:
        """Do one update, without waiting for a GPU.

        Raises:
            RnnlmError: out of memory, or exact mode and an operation without a deterministic
                version.
                Nothing was updated.
        """
        if self._tries_graph:
            self._try_graph()
        began = time.perf_counter()
        batch = self.batches.batch(self.epoch, self.index)
        rate = self.next_learning_rate
        set_learning_rate(self.optimizer, rate)
        try:
            loss, norm = self._advance(batch.to(self.device))
        except (RuntimeError, MemoryError) as error:
            self.optimizer.zero_grad(
                set_to_none=True
            )  # a partial gradient must not reach the next step
            explanation = explained(error, (batch.inputs_BT.shape[0], batch.inputs_BT.shape[1]))
            if explanation is None:
                raise
            raise explanation from error
        self.step += 1
        self.index += 1
        if self.index == self.batches.steps_per_epoch:
            self.epoch, self.index = self.epoch + 1, 0
        self.tokens_seen += batch.tokens
        seconds = time.perf_counter() - began
        self.active_seconds += seconds
        return StepResult(
            self.step, self.epochs_done, batch.tokens, self.tokens_seen, loss, norm, rate, seconds
        )

    def weights_are_finite(self) -> bool:
        """Whether no weight is NaN or inf; waits for a GPU."""
        return all(
            torch.stack(
                [torch.isfinite(parameter).all() for parameter in self.model.parameters()]
            ).tolist()
        )

    def state_dict(self) -> TrainingState:
        """Everything but the weights: optimizer, schedule, data position, carried state, random
        generators, counters.

        Mixed precision adds nothing: bf16 has the range of float32, so there is no gradient scaler.
        """
        tensors: dict[str, Tensor] = {
            f"carried.{layer}.{part}": tensor
            for layer, state in enumerate(self.state)
            for part, tensor in enumerate(state)
        }
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        random_tensors, random_values = pack_random_state(self.device)
        values: dict[str, object] = {
            "step": self.step,
            "epoch": self.epoch,
            "index": self.index,
            "tokens_seen": self.tokens_seen,
            "active_seconds": self.active_seconds,
            "peak_learning_rate": self.peak_rate,
            "data": dict(self.batches.facts),
            "random": random_values,
        }
        return TrainingState({**tensors, **random_tensors}, values)

    def load_state_dict(self, state: TrainingState) -> None:
        """Continue from a state; load the weights first. Also restores the global random
        generators.

        Raises:
            CheckpointError: the state belongs to other batches or another model; nothing changed.
        """
        self._check_data(state.values["data"])
        optimizer_state = self._optimizer_state(state.tensors)
        carried = self._carried_state(state.tensors)
        numbers = state.values
        self.step, self.epoch, self.index = (
            int(str(numbers["step"])),
            int(str(numbers["epoch"])),
            int(str(numbers["index"])),
        )
        self.tokens_seen, self.active_seconds = (
            int(str(numbers["tokens_seen"])),
            float(str(numbers["active_seconds"])),
        )
        self.peak_rate = float(str(numbers["peak_learning_rate"]))
        self.state = carried
        self._graph = None  # it uses the tensors that are replaced here
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer_state, "param_groups": groups})
        unpack_random_state(state.tensors, state.values["random"], self.device)

    def _advance(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Update on a batch that is on the device; returns loss and norm."""
        state = self.state if batch.continues and self.state else None
        if self._graph is not None and self._graph.takes(batch):
            loss, norm = self._graph(batch, state)
            reached = self._graph.state
        else:
            before = self.model.initial_state(batch.inputs_BT.shape[0]) if state is None else state
            loss, norm, reached = self.update(
                batch.inputs_BT, batch.targets_BT, batch.rows_N, before
            )
        self.state = (
            () if self.batches.pads else reached
        )  # sentences start from zero: no state to keep
        return loss, norm

    def _try_graph(self) -> None:
        """Before the first step, measure a CUDA graph on the coming batches."""
        self._tries_graph = False
        coming = [
            self.batches.batch(self.epoch, index)
            for index in range(min(GRAPH_BATCHES, self.batches.steps_per_epoch))
        ]
        whole = [
            batch.to(self.device)
            for batch in coming
            if batch.inputs_BT.shape == coming[0].inputs_BT.shape or self.batches.pads
        ]
        rows = max(len(batch.inputs_BT) for batch in whole)
        alike = [batch for batch in whole if len(batch.inputs_BT) == rows]
        self._graph, self.graph_note = faster_graph(
            self.update, alike, length=self.batches.longest, pads=self.batches.pads
        )

    def _check_data(self, saved: object) -> None:
        facts = dict(self.batches.facts)
        if isinstance(saved, Mapping) and dict(saved) == facts:
            return
        then = saved if isinstance(saved, Mapping) else {}
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
        return tuple(tuple(tensors[name].to(self.device) for name in layer) for layer in names)

    def _optimizer_state(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Each parameter's state, by its index in the optimizer."""
        state: dict[int, dict[str, Tensor]] = {}
        for place, (name, parameter) in enumerate(self.model.named_parameters()):
            prefix = f"optimizer.{name}."
            own = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            wrong = [
                key for key, value in own.items() if value.dim() and value.shape != parameter.shape
            ]
            if wrong:
                raise CheckpointError(
                    f"optimizer state {wrong[0]} of {name} has shape {tuple(own[wrong[0]].shape)},"
                    f" the parameter {tuple(parameter.shape)}"
                )
            if own:
                state[place] = own
        return state
