"""Worked out, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from collections.abc import Mapping

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import BOOK, PTB_SMALL
from rnnlm_tui.schema.validation import merge, parse_config


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and its batches, for which figures are worked out and measured."""

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
    shapes = (
        Shape("book", BOOK, 32_011, 0.76, 172_148),
        Shape("lstm 2x1024", lstm, 10_001, 1.0, 208),
    )
    return {shape.name: shape for shape in shapes}


SHAPES: Mapping[str, Shape] = MappingProxyType(_shapes())
