"""The learning curve of the book's run, and which runs can be compared with it."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig

REFERENCE_NAME = "reference"
"""Its name in charts and `show`."""
SENTENCES_PER_EVALUATION = 200_064
"""The reference was evaluated every 1,563 batches of 128 sentences."""
SENTENCES = 22_034_911
"""Lines of the news training set; the reference saw each of them once."""
MAX_VALIDATION_SHARE = 0.01
"""A comparable run may use at most this fraction of the training set for validation."""


class ReferencePoint(NamedTuple):
    """One evaluation of the reference."""

    sentences: int
    """Training sentences seen."""
    perplexity: float
    """On the first 1,024 lines of the news test set: exp of the mean loss per non-padding token."""


_BY_EVALUATION: tuple[tuple[int, float], ...] = (
    (1, 266.13), (2, 183.23), (3, 153.22), (4, 136.38), (5, 125.34), (7, 111.36),
    (10, 100.92), (15, 92.16), (20, 86.77), (30, 81.56), (40, 78.91), (50, 76.79),
    (60, 76.19), (70, 73.88), (80, 73.83), (90, 72.79), (100, 72.88), (110, 72.55),
)  # fmt: skip

REFERENCE: tuple[ReferencePoint, ...] = (
    *(ReferencePoint(number * SENTENCES_PER_EVALUATION, value) for number, value in _BY_EVALUATION),
    ReferencePoint(SENTENCES, 72.41),
)
"""The RNN of notebook 3.1 in Burkov, The Hundred-Page Language Models Book, chapter 3.

It was trained for one epoch on an A100 and ended at 72.41 (loss 4.2824). These are 18 of its 110
evaluations and the last one. Outliers (92.0 at 5 M sentences, 78.0 at 18.2 M) are left out.
"""

_MAY_DIFFER: dict[str, set[str] | bool] = {
    "preset": True,
    "checkpoint": True,
    "sampling": True,
    "corpus": {
        "url",
        "text_field",
        "layout",
        "validation_fraction",
        "test_fraction",
        "sentences",
        "seed",
    },
    "tokenizer": {"name"},
    "model": {"num_heads", "init_scale"},
    "schedule": {"final_fraction", "decay_after", "decay_factor"},
    "training": {
        "epochs",
        "max_steps",
        "bptt",
        "seed",
        "deterministic",
        "device",
        "precision",
        "matmul",
        "accumulate",
        "threads",
    },
    "distributed": True,
    "evaluation": {"every", "prompts"},
}
"""Sections (True) and fields that don't matter for `follows_reference`."""


def follows_reference(config: "RunConfig") -> bool:
    """Whether a run with this config can be compared with the reference.

    It must have the book's text, vocabulary, model, optimizer, batches and evaluation. These may
    differ: the length (the learning rate is constant), device, precision, threads, processes, seed,
    where text and tokenizer are loaded from, how often it is evaluated, saved and sampled, a small
    validation set, and fields without an effect on this model and text. The preset's name doesn't
    matter.
    """
    from rnnlm_tui.schema.presets import BOOK

    is_whole = config.corpus.validation_fraction <= MAX_VALIDATION_SHARE
    book = BOOK.model_dump(exclude=_MAY_DIFFER)
    return is_whole and config.model_dump(exclude=_MAY_DIFFER) == book


def first_pass_sentences(batch_size: int, steps_per_epoch: float | None = None) -> int:
    """The number of training sentences up to which a run can be compared: its first epoch.

    It is at most the reference's epoch. The last batch counts as a full one.

    Args:
        steps_per_epoch: of the run; None to assume an epoch as long as the reference's.
    """
    most = math.ceil(SENTENCES / batch_size)
    return batch_size * (most if steps_per_epoch is None else min(most, round(steps_per_epoch)))


def reference_points(
    batch_size: int, steps_per_epoch: float | None = None
) -> tuple[ReferencePoint, ...]:
    """The reference's points within a run's first epoch.

    The validation set makes the run's epoch a little shorter; the reference's last point is still
    included.
    """
    end = first_pass_sentences(batch_size, steps_per_epoch) / (1 - 2 * MAX_VALIDATION_SHARE)
    return tuple(point for point in REFERENCE if point.sentences <= end)


def nearest_reference_point(sentences: float) -> ReferencePoint:
    """The reference's evaluation closest to this number of sentences, not interpolated."""
    return min(REFERENCE, key=lambda point: abs(point.sentences - sentences))
