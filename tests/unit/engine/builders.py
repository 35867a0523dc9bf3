"""Small models, texts and trainers for the tests of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rnnlm_tui.engine.batches import Batches, SentenceBatches, StreamBatches
from rnnlm_tui.engine.model import ModelShape, RecurrentLanguageModel
from rnnlm_tui.engine.token_sampling import PLAIN
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.cells import RECURRENT_WEIGHT_CELLS
from rnnlm_tui.schema.config import OptimizerConfig, SamplingConfig, ScheduleConfig
from rnnlm_tui.schema.estimates import Schedule

VOCAB_SIZE = 23
CPU = torch.device("cpu")


def built_model(**shape: Any) -> RecurrentLanguageModel:
    """A model of this shape and `seed` (0); without more, it has no dropout and is untied."""
    values = {"dropout": 0.0, "tie_weights": False, **shape}
    return RecurrentLanguageModel(ModelShape.model_validate(values), values.get("seed", 0))


def small_model(
    *,
    vocab_size: int = VOCAB_SIZE,
    width: int = 12,
    num_layers: int = 2,
    cell_type: str = "elman",
    dropout: float = 0.0,
    all_dropouts: bool = False,
    tie_weights: bool = False,
    pad_id: int | None = None,
    seed: int = 3,
) -> RecurrentLanguageModel:
    """`all_dropouts`: the same units at every time step, whole words and state-to-state weights
    (where the cell has any) as well."""
    return built_model(
        vocab_size=vocab_size,
        embedding_dim=width,
        hidden_size=width,
        num_layers=num_layers,
        cell_type=cell_type,
        dropout=dropout,
        variational_dropout=all_dropouts,
        embedding_dropout=0.1 if all_dropouts else 0.0,
        weight_dropout=0.3 if all_dropouts and cell_type in RECURRENT_WEIGHT_CELLS else 0.0,
        tie_weights=tie_weights,
        pad_id=pad_id,
        attention_window=16,  # less than the texts of most tests have
        seed=seed,
    )


def plain(**changes: object) -> SamplingConfig:
    """Settings that sample from the model's own distribution, except for these changes."""
    return SamplingConfig.model_validate({**PLAIN.model_dump(), **changes})


def text(count: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> NDArray[np.uint16]:
    """Token ids from 1 on: 0 is the padding."""
    return np.random.default_rng(seed).integers(1, vocab_size, count).astype(np.uint16)


def sentences(count: int, seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """Tokens, and the start of each sentence with the end of the last: lengths 2 to 11."""
    lengths = np.random.default_rng(seed).integers(2, 12, count)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.uint64)
    return text(int(offsets[-1]), seed), offsets


def batches_of(data_mode: str) -> Batches:
    """Five steps a pass, the last of them smaller."""
    if data_mode == "stream":
        return StreamBatches(text(200), batch_size=4, bptt=10)
    tokens, offsets = sentences(37)
    return SentenceBatches(tokens, offsets, batch_size=8, context_length=7, pad_id=0, seed=5)


def optimizer_config(algorithm: str, max_grad_norm: float = 0.0) -> OptimizerConfig:
    """Without weight decay for SGD, as `PlainTraining` has it."""
    decay = 0.01 if algorithm == "adamw" else 0.0
    values = {"algorithm": algorithm, "weight_decay": decay, "max_grad_norm": max_grad_norm}
    return OptimizerConfig.model_validate(values)


def trainer_of(
    data_mode: str,
    *,
    max_steps: int = 20,
    cell_type: str = "elman",
    dropout: float = 0.2,
    seed: int = 3,
    optimizer: str = "adamw",
    all_dropouts: bool = False,
    max_grad_norm: float = 0.5,
    device: torch.device = CPU,
    precision: str = "float32",
) -> Trainer:
    """A fresh trainer with dropout, clipping and a cosine schedule; seeds the global generators."""
    torch.manual_seed(seed)
    model = small_model(
        cell_type=cell_type, dropout=dropout, all_dropouts=all_dropouts, tie_weights=True, seed=seed
    )
    return Trainer(
        model.to(device),
        batches_of(data_mode),
        max_steps=max_steps,
        schedule=Schedule(
            0.01 if optimizer == "adamw" else 1.0, 3, ScheduleConfig(final_fraction=0.1)
        ),
        optimizer=optimizer_config(optimizer, max_grad_norm),
        precision=precision,
    )


def train(trainer: Trainer, steps: int) -> list[float]:
    """The losses of these steps, or of those that are left."""
    losses = list[float]()
    while trainer.should_continue and len(losses) < steps:
        losses.append(trainer.train_step().loss.item())
    return losses


def weights(trainer: Trainer) -> list[bytes]:
    """The bytes of all weights."""
    return [one.detach().cpu().numpy().tobytes() for one in trainer.model.parameters()]


def tokenizer_folder(folder: Path) -> Path:
    """A folder with the two files that a checkpoint copies."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"rnnlm_kind": "word"}', encoding="utf-8")
    return folder
