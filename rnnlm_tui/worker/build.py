"""Build device, model, batches and trainer from a config, the same for a run, a probe and a
benchmark.

A run before its first step: progress is stored, and commands are answered in between.
"""

from __future__ import annotations

import time

import torch

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.batches import Batches, SentenceBatches, StreamBatches
from rnnlm_tui.engine.device import resolve_device, set_exactness, set_threads
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import planned_warmup, total_steps
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.worker.commands import CommandHandler, Inbox, StopRequested
from rnnlm_tui.worker.recorder import Recorder


def set_up_torch(config: RunConfig) -> torch.device:
    """Set threads and exact mode of this process; returns the device.

    Raises:
        DeviceError: no such device on this machine.
    """
    set_threads(config.training.threads)
    set_exactness(config.training.deterministic)
    return resolve_device(config.training.device)


def build_model(config: RunConfig, corpus: PreparedCorpus) -> RecurrentLanguageModel:
    """The model on the CPU, initialized with the config's seed."""
    return RecurrentLanguageModel(
        vocab_size=corpus.vocab_size,
        embedding_dim=config.model.embedding_dim,
        hidden_size=config.model.hidden_size,
        num_layers=config.model.num_layers,
        cell_type=config.model.cell_type,
        num_heads=config.model.num_heads,
        dropout=config.model.dropout,
        variational_dropout=config.model.variational_dropout,
        embedding_dropout=config.model.embedding_dropout,
        weight_dropout=config.model.weight_dropout,
        tie_weights=config.model.tie_weights,
        pad_id=corpus.pad_id if config.training.data_mode == "sentences" else None,
        initialization=config.model.initialization,
        init_scale=config.model.init_scale,
        seed=config.training.seed,
    )


def build_batches(config: RunConfig, corpus: PreparedCorpus) -> Batches:
    """Batches of the training split.

    Raises:
        CorpusError: it is shorter than one batch.
    """
    training = config.training
    if training.data_mode == "stream":
        return StreamBatches(corpus.tokens("train"), training.batch_size, training.bptt)
    return SentenceBatches(
        corpus.tokens("train"),
        corpus.offsets("train"),
        training.batch_size,
        training.context_length,
        corpus.pad_id,
        shuffle=training.shuffle,
        seed=training.seed,
    )


def build_trainer(
    config: RunConfig, model: RecurrentLanguageModel, batches: Batches, *, warmup: int | None = None
) -> Trainer:
    """A trainer before its first step; move the model to its device first.

    Args:
        warmup: warm-up steps; None: those of `planned_warmup`.
    """
    optimizer, schedule = config.optimizer, config.schedule
    steps = total_steps(config, batches.steps_per_epoch)
    return Trainer(
        model,
        batches,
        max_steps=steps,
        learning_rate=optimizer.learning_rate,
        optimizer=optimizer.algorithm,
        weight_decay=optimizer.weight_decay,
        beta1=optimizer.beta1,
        beta2=optimizer.beta2,
        eps=optimizer.eps,
        max_grad_norm=optimizer.max_grad_norm,
        schedule=schedule.kind,
        warmup_steps=planned_warmup(config, steps) if warmup is None else warmup,
        final_fraction=schedule.final_fraction,
        decay_after=schedule.decay_after,
        decay_factor=schedule.decay_factor,
        matmul="float32" if config.training.deterministic else config.training.matmul,
        precision=config.training.precision,
        cuda_graphs=config.training.cuda_graphs and not config.training.deterministic,
    )


PROGRESS_SECONDS = 0.2
"""Progress is stored this often; a new phase at once."""


class PreparingRun:
    """The target of commands before the first step: a stop leaves, a command that needs a model is
    refused."""

    def __init__(self, step: int, saved: str = "") -> None:
        self.status = "preparing"
        self.step = step
        """Step from which the attempt will continue."""
        self.saved = saved
        """The checkpoint from which it will continue, relative to the run directory; empty:
        none."""

    def pause(self) -> None:
        """Refused."""
        self._refuse()

    def resume(self) -> None:
        """Nothing is paused, so there is nothing to do."""

    def stop(self) -> str:
        """Leave at the next report of progress; nothing new is to be saved."""
        self.status = "stopping"
        return self.saved

    def checkpoint(self) -> str:
        """Refused."""
        return self._refuse()

    def evaluate(self) -> str:
        """Refused."""
        return self._refuse()

    def sample(self, prompt: str | None) -> str:
        """Refused."""
        del prompt
        return self._refuse()

    def set(self, path: str, value: float) -> None:
        """Refused."""
        del path, value
        self._refuse()

    def snapshot(self) -> str:
        """Refused."""
        return self._refuse()

    def _refuse(self) -> str:
        raise RunStateError("the run is still preparing", hint="try again when it is training")


class ProgressReporter:
    """Called while the corpus is built: stores the progress and handles commands."""

    def __init__(self, recorder: Recorder, inbox: Inbox, commands: CommandHandler) -> None:
        self._recorder = recorder
        self._inbox = inbox
        self._commands = commands
        self._phase = ""
        self._stored_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Raises StopRequested after a stop was handled."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._stored_at >= PROGRESS_SECONDS:
            self._phase, self._stored_at = progress.phase, now
            self._recorder.set_progress(progress)
        self.handle_commands()

    def handle_commands(self) -> None:
        """Handle the commands that wait; raises StopRequested after a stop."""
        while (pending := self._inbox.take()) is not None:
            self._commands.handle(pending)
        if self._commands.target.status == "stopping":
            raise StopRequested
