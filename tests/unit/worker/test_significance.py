"""The interval of a difference between models: how often it covers the true one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rnnlm_tui.schema.significance import ComparedPart
from rnnlm_tui.worker.significance import LEAST_SENTENCES, Scored, _problem, paired_intervals

SIMULATED, AT_ONCE = 2_000, 200
TRUE = -0.05
"""Of the simulated models, in nats per token."""


def simulated(
    draw: np.random.Generator, sentences: int, noise: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses and sizes of sentences by two models: most of a loss is the sentence's own, lengths
    differ by a factor of ten, and the difference grows with the length and has heavy tails."""
    shape = AT_ONCE, sentences
    length = 2 + np.floor(draw.lognormal(2.7, 0.6, shape))
    hardness = draw.gamma(4, 1 / 4, shape)
    first = length * (3 + hardness) + np.sqrt(length) * draw.standard_t(3, shape)
    own = {"t3": draw.standard_t(3, shape), "skewed": draw.exponential(1, shape) - 1}[noise]
    other = first + TRUE * length + 0.1 * length * (hardness - 1) + 0.6 * np.sqrt(length) * own
    return np.stack([first, length], 2), np.stack([other, length], 2)


@pytest.mark.parametrize(
    ("sentences", "noise"), [(LEAST_SENTENCES, "t3"), (200, "t3"), (200, "skewed")]
)
def test_the_interval_covers_the_true_difference_in_94_to_96_percent(
    sentences: int, noise: str
) -> None:
    draw, covered = np.random.default_rng(4), 0
    for _ in range(SIMULATED // AT_ONCE):
        found, half = paired_intervals(*simulated(draw, sentences, noise), 1_000)
        covered += int((np.abs(found - TRUE) <= half).sum())
    assert 0.94 <= covered / SIMULATED <= 0.96


def test_texts_of_as_many_bytes_in_each_sentence_are_told_apart() -> None:
    def read(text: str) -> Scored:
        codec: Any = SimpleNamespace(eos_text="", unk_id=None)
        codec.decode = lambda ids: bytes(ids).decode()
        ids, part = np.array(list(text.encode())), ComparedPart(letter="B", address="", path="")
        ends, nats = np.array([0, 5, len(ids)]), np.ones(len(ids))
        return Scored(part, codec, ids, ends, nats, np.ones(len(ids)), ids[:0])

    first, same, other = (read(text) for text in ("a manabout", "a manabout", "A manabout"))
    assert not _problem(first, same)
    assert _problem(first, other) == "B isn't compared: its test text is another"
