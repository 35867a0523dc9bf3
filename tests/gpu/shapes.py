"""The two models whose training is measured on a GPU, with their batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import positions_per_step
from rnnlm_tui.schema.presets import BOOK, PRESETS, PTB_TRAINING_TOKENS
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.validation import merge, parse_config


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and its batches."""

    config: RunConfig
    vocab_size: int
    used: float
    """Share of the positions that hold a target that counts."""
    steps_per_epoch: int

    @property
    def head(self) -> tuple[int, int, int]:
        """Rows, vocabulary and width of a step's output layer."""
        rows = round(positions_per_step(self.config) * self.used)
        return rows, self.vocab_size, self.config.model.hidden_size


def _shapes() -> dict[str, Shape]:
    lstm = parse_config(
        merge(
            PRESETS["ptb-small"],
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
    return {
        "book": Shape(BOOK, BOOK.tokenizer.vocab_size, 0.76, sentences),
        "lstm 2x1024": Shape(lstm, lstm.tokenizer.vocab_size, 1.0, windows),
    }


SHAPES: Mapping[str, Shape] = MappingProxyType(_shapes())
"""The book's model on its news sentences, and a large LSTM on the words of the Penn Treebank."""
TINY: Mapping[str, object] = {
    "model.embedding_dim": 8,
    "model.hidden_size": 8,
    "training.batch_size": 4,
    "training.bptt": 6,
    "training.context_length": 7,
}
"""Changes for a dry run."""
