"""The two models whose training is measured on a GPU, with their batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import BOOK, PTB_SMALL, PTB_TRAINING_TOKENS
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.validation import merge, parse_config


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and its batches."""

    name: str
    config: RunConfig
    vocab_size: int
    used: float
    """Share of the positions that hold a target that counts."""
    steps_per_epoch: int


def _shapes() -> dict[str, Shape]:
    lstm = parse_config(
        merge(
            PTB_SMALL,
            {
                "model.embedding_dim": 1_024,
                "model.hidden_size": 1_024,
                "model.initialization": "default",
                "training.batch_size": 64,
                "training.bptt": 70,
                "optimizer.algorithm": "adamw",
                "optimizer.learning_rate": 1e-3,
                "optimizer.max_grad_norm": 0.25,
                "schedule.kind": "constant",
            },
        )
    )
    sentences = math.ceil(SENTENCES / BOOK.training.batch_size)
    windows = math.ceil((PTB_TRAINING_TOKENS - 1) // 64 / 70)
    shapes = (
        Shape("book", BOOK, BOOK.tokenizer.vocab_size, 0.76, sentences),
        Shape("lstm 2x1024", lstm, lstm.tokenizer.vocab_size, 1.0, windows),
    )
    return {shape.name: shape for shape in shapes}


SHAPES: Mapping[str, Shape] = MappingProxyType(_shapes())
