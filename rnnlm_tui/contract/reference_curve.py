"""The course of the book's own run, REFERENCE: perplexity by training sentences seen, and which configs may be laid beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig

REFERENCE_NAME = "reference"
"""What charts and `show` call it."""
SENTENCES_PER_EVALUATION = 200_064
"""1,563 batches of 128 sentences: the reference was evaluated that often."""
SENTENCES = 22_034_911
"""Lines of the news training set: the reference saw each of them once."""
MAX_VALIDATION_SHARE = 0.01
"""Share of the training set that a run may keep for validation and still learn from the text that the reference learned from."""


class ReferencePoint(NamedTuple):
    """One evaluation of the reference."""

    sentences: int
    """Training sentences seen."""
    perplexity: float
    """On the first 1,024 lines of the news test set: the exponential of the mean loss of a non-padding token."""


_BY_EVALUATION: tuple[tuple[int, float], ...] = (
    (1, 266.13), (2, 183.23), (3, 153.22), (4, 136.38), (5, 125.34), (7, 111.36), (10, 100.92), (15, 92.16), (20, 86.77), (30, 81.56),
    (40, 78.91), (50, 76.79), (60, 76.19), (70, 73.88), (80, 73.83), (90, 72.79), (100, 72.88), (110, 72.55),
)  # fmt: skip

REFERENCE: tuple[ReferencePoint, ...] = (
    *(ReferencePoint(number * SENTENCES_PER_EVALUATION, value) for number, value in _BY_EVALUATION),
    ReferencePoint(SENTENCES, 72.41),
)
"""Burkov, The Hundred-Page Language Models Book, chapter 3: the recurrent model of notebook 3.1, one epoch on an A100, 72.41 (loss 4.2824) at the end.

These are 18 of its 110 evaluations and the one at the end. Single ones stray from this course (92.0 at 5 M sentences, 78.0 at 18.2 M) and are left out.
"""

_MAY_DIFFER: dict[str, set[str] | bool] = {
    "preset": True,
    "checkpoint": True,
    "sampling": True,
    "corpus": {"url", "text_field", "layout", "validation_fraction", "test_fraction", "sentences", "seed"},
    "tokenizer": {"name"},
    "model": {"num_heads", "init_scale"},
    "schedule": {"final_fraction", "decay_after", "decay_factor"},
    "training": {"epochs", "max_steps", "bptt", "seed", "deterministic", "device", "precision", "matmul", "cuda_graphs", "threads"},
    "evaluation": {"every", "prompts"},
}
"""Whole sections, and fields of the others, that leave a run comparable; `follows_reference` says why."""


def follows_reference(config: RunConfig) -> bool:
    """Whether a run of this config learns and is measured as the reference was, so that equal sentences seen may be compared.

    It must have the book's text, vocabulary, model, optimizer, batches and evaluation. What may differ is how long it trains (the rate is
    constant, so a shorter or longer run takes the same course), how the arithmetic is done (device, precision, threads), the seed, where
    text and tokenizer come from, how often it is evaluated, saved and sampled, the part that is split off for validation as long as it is
    small, and fields without a meaning for this model and text. The preset's name decides nothing: what is in the config does.
    """
    from rnnlm_tui.contract.presets import BOOK

    return config.corpus.validation_fraction <= MAX_VALIDATION_SHARE and _compared(config) == _compared(BOOK)


def _compared(config: RunConfig) -> dict[str, object]:
    return config.model_dump(exclude=_MAY_DIFFER)


def first_pass_sentences(batch_size: int, steps_per_epoch: float | None = None) -> int:
    """Training sentences up to which a run may be laid beside the reference: one pass over its own text, and no more than the reference saw.

    The last batch of a pass counts as a full one. Without `steps_per_epoch` the run's own pass is taken for as long as the reference's.
    """
    most = math.ceil(SENTENCES / batch_size)
    return batch_size * (most if steps_per_epoch is None else min(most, round(steps_per_epoch)))


def reference_points(batch_size: int, steps_per_epoch: float | None = None) -> tuple[ReferencePoint, ...]:
    """The reference's points as far as a run's first pass goes.

    What is split off for validation makes the run's pass a little shorter than the reference's: the reference's end is kept all the same.
    """
    end = first_pass_sentences(batch_size, steps_per_epoch) / (1 - 2 * MAX_VALIDATION_SHARE)
    return tuple(point for point in REFERENCE if point.sentences <= end)


def nearest_reference_point(sentences: float) -> ReferencePoint:
    """The reference's evaluation at the number of training sentences nearest to this one: measured, never interpolated; of two as near, the earlier."""
    return min(REFERENCE, key=lambda point: abs(point.sentences - sentences))
