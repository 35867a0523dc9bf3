"""The training tasks of a `bench`: the engine's Trainer, and the plain ways that it is compared with."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from rnnlm_tui.contract.bench import BenchTask, Numbers, Saved, TaskReady, TurnDone, TurnRequest
from rnnlm_tui.corpus.token_store import load_prepared
from rnnlm_tui.engine.baselines import LibraryModel, NaiveModel, PlainTraining
from rnnlm_tui.engine.device import seed_everything, wait
from rnnlm_tui.engine.matmul import Matmul, set_gpu_precision
from rnnlm_tui.engine.memory import peak_bytes
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.worker.bench_corpus import with_vocab_size
from rnnlm_tui.worker.building import build_batches, build_model, build_trainer, set_up_torch


class TrainingTask:
    """Each turn continues training where the last one ended."""

    def __init__(self, task: BenchTask) -> None:
        config = task.config
        engine = task.role == "engine training"
        # The plain ways get torch's defaults except for the threads: with the engine's, the ratio isn't one of cores.
        self._device = set_up_torch(config)
        if not engine:
            set_gpu_precision(self._device, rounded=False)
        corpus = with_vocab_size(load_prepared(Path(task.folder)), task.vocab_size)
        model = build_model(config, corpus)
        batches = build_batches(config, corpus)
        self._training: Trainer | PlainTraining
        if engine:
            self._model: torch.nn.Module = model.to(self._device)
            self._training = build_trainer(config, model, batches)
        else:
            plain = NaiveModel(model) if task.role == "naive training" else LibraryModel(model)
            self._model = plain.to(self._device)
            optimizer = config.optimizer
            self._training = PlainTraining(
                plain,
                batches,
                algorithm=optimizer.algorithm,
                learning_rate=optimizer.learning_rate,
                max_grad_norm=optimizer.max_grad_norm,
                fused=task.role == "library training",
            )
        del model
        seed_everything(config.training.seed)

    def ready(self) -> TaskReady:
        """The first answer: how the task computes."""
        return TaskReady(threads=torch.get_num_threads(), numbers=self._numbers())

    def turn(self, request: TurnRequest) -> TurnDone:
        """Whole steps until the time is up; waits for the device at the end."""
        steps = tokens = 0
        first: torch.Tensor | None = None
        wait(self._device)
        began = time.perf_counter()
        while steps < request.least or time.perf_counter() - began < request.seconds:
            if isinstance(self._training, Trainer):
                result = self._training.train_step()
                counted, loss = result.tokens, result.loss
            else:
                counted, loss = self._training.train_step()
            first = loss if first is None else first
            steps, tokens = steps + 1, tokens + counted
        wait(self._device)
        seconds = time.perf_counter() - began
        note = self._training.graph_note if isinstance(self._training, Trainer) else ""
        peak = peak_bytes(self._device)
        return TurnDone(steps=steps, tokens=tokens, seconds=seconds, peak_bytes=peak, first=None if first is None else float(first), note=note)

    def save(self, path: str) -> Saved:
        """Write the weights by the engine's names; for engine tasks only."""
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in self._model.state_dict().items()}, path)
        return Saved()

    def _numbers(self) -> Numbers:
        if not isinstance(self._training, Trainer):
            return "float32"
        return "bf16" if self._training.precision == "bf16" else numbers_of(self._training.matmul, self._device)


def numbers_of(matmul: Matmul, device: torch.device) -> Numbers:
    """The number format of a matmul mode on a device."""
    if matmul.mode == "float32":
        return "float32"
    return "tf32" if device.type == "cuda" else "medium"
