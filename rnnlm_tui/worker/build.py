"""Build device, model, batches and trainer from a config: for a run, a probe and a benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.batches import (
    Batch,
    Batches,
    SentenceBatches,
    StreamBatches,
    evaluation_batches,
)
from rnnlm_tui.engine.device import check_workspace, set_exactness, set_threads, use_device
from rnnlm_tui.engine.distributed import Ranks
from rnnlm_tui.engine.model import ModelShape, RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import Split
from rnnlm_tui.schema.estimates import Schedule, planned_warmup, total_steps
from rnnlm_tui.system.machine import usable_cores


def set_up_torch(config: RunConfig, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """Set threads and exact mode of this process; returns the device, started.

    Args:
        local_rank: this process's number among those of the run on this machine, which each have
            their own GPU, or share its cores.

    Raises:
        DeviceError: no such device on this machine, or it can't be used.
        InputError: exact mode, and the environment prevents it.
    """
    set_threads(config.training.threads or max(1, usable_cores() // local_size))
    set_exactness(config.training.deterministic)
    device = use_device(config.training.device, local_rank if local_size > 1 else None)
    if config.training.deterministic:
        check_workspace(device)
    return device


def build_model(config: RunConfig, corpus: PreparedCorpus) -> RecurrentLanguageModel:
    """The model on the CPU, initialized with the config's seed."""
    pad_id = corpus.manifest.pad_id if config.training.data_mode == "sentences" else None
    shape = ModelShape(
        **config.model.model_dump(), vocab_size=corpus.manifest.vocab_size, pad_id=pad_id
    )
    return RecurrentLanguageModel(shape, config.training.seed)


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
        corpus.manifest.pad_id,
        shuffle=training.shuffle,
        seed=training.seed,
    )


def split_batches(
    config: RunConfig, corpus: PreparedCorpus, split: Split, most: int = 0
) -> Iterator[Batch]:
    """Evaluation batches of a split, or of its first `most` sentences (0: all)."""
    return evaluation_batches(
        corpus.tokens(split),
        corpus.offsets(split),
        data_mode=config.training.data_mode,
        context_length=config.training.context_length,
        pad_id=corpus.manifest.pad_id,
        max_sentences=most,
        warm_up=config.model.warm_up,
    )


def build_trainer(
    config: RunConfig,
    model: RecurrentLanguageModel,
    batches: Batches,
    *,
    warmup: int | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """A trainer before its first step; move the model to its device first.

    Args:
        warmup: warm-up steps; None: those of `planned_warmup`.
        ranks: the processes that share each batch; None: this one is alone.
    """
    steps = total_steps(config, batches.steps_per_epoch)
    exact = config.training.deterministic
    return Trainer(
        model,
        batches,
        max_steps=steps,
        schedule=Schedule(
            config.optimizer.learning_rate,
            planned_warmup(config, steps) if warmup is None else warmup,
            config.schedule,
        ),
        optimizer=config.optimizer,
        matmul="float32" if exact else config.training.matmul,
        precision=config.training.precision,
        accumulate=config.training.accumulate,
        ranks=ranks,
    )
