"""Evaluation batches: every target of a held-out text exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from rnnlm_tui.contract.chunks import EVALUATED_SENTENCES, EVALUATED_STREAMS, EVALUATED_WINDOW
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.engine.batches import Batch, SentenceBatches, Tokens
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError


class StreamEvaluation:
    """A text as a few parallel streams, each warmed up on the tokens before its part.

    The streams make it fast; the warm-up makes the loss that of one pass over the whole text, within
    rounding.
    """

    def __init__(self, tokens: Tokens, *, streams: int = EVALUATED_STREAMS, window: int = EVALUATED_WINDOW, warm_up: int = 128) -> None:
        """
        Args:
            warm_up: tokens before its part that a stream reads without counting them.

        Raises:
            CorpusError: fewer than two tokens.
        """
        if len(tokens) < 2:
            raise CorpusError(f"{counted(len(tokens), 'token')}: too few to evaluate, at least 2 needed")
        targets = len(tokens) - 1
        self._tokens, self._window = tokens, window
        part = max(-(-targets // streams), min(targets, 4 * warm_up))
        bounds = [(first, min(first + part, targets)) for first in range(0, targets, part)]
        self._begins = [max(0, first - warm_up) for first, _ in bounds]
        self._bounds = bounds

    def __iter__(self) -> Iterator[Batch]:
        """Windows in order; the state is carried from one to the next."""
        longest = max(last - begin for begin, (_, last) in zip(self._begins, self._bounds, strict=True))
        for start in range(0, longest, self._window):
            width = min(self._window, longest - start)
            inputs = np.zeros((len(self._bounds), width), dtype=np.int64)
            targets = np.full((len(self._bounds), width), IGNORED, dtype=np.int64)
            for row, (begin, (first, last)) in enumerate(zip(self._begins, self._bounds, strict=True)):
                here, end = begin + start, min(begin + start + width, last)
                if end > here:
                    inputs[row, : end - here] = self._tokens[here:end]
                    counted = max(here, first)
                    if end > counted:
                        targets[row, counted - here : end - here] = self._tokens[counted + 1 : end + 1]
            rows = np.flatnonzero(targets.T != IGNORED)
            rows_N = None if len(rows) == targets.size else torch.from_numpy(rows)
            yield Batch(torch.from_numpy(inputs), torch.from_numpy(targets), len(rows), start == 0, start > 0, rows_N)


class SentenceEvaluation:
    """The sentences of a text in order, each from a zero state."""

    def __init__(self, tokens: Tokens, offsets: NDArray[np.uint64], *, context_length: int, pad_id: int, batch_size: int = EVALUATED_SENTENCES) -> None:
        self._batches = SentenceBatches(tokens, offsets, batch_size, context_length, pad_id, shuffle=False)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order."""
        return (self._batches.batch(0, index) for index in range(self._batches.steps_per_epoch))


def evaluation_shape(data_mode: str, longest: int) -> tuple[int, int]:
    """Largest (B, T) of an evaluation batch, for sentences of `longest` positions."""
    return (EVALUATED_STREAMS, EVALUATED_WINDOW) if data_mode == "stream" else (EVALUATED_SENTENCES, longest)


def evaluation_batches(
    tokens: Tokens, offsets: NDArray[np.uint64], *, data_mode: str, context_length: int, pad_id: int, max_sentences: int = 0
) -> StreamEvaluation | SentenceEvaluation:
    """Evaluation batches of a split, or of its first `max_sentences` sentences (0: all)."""
    if max_sentences and max_sentences < len(offsets):
        tokens, offsets = tokens[: int(offsets[max_sentences])], offsets[:max_sentences]
    if data_mode == "stream":
        return StreamEvaluation(tokens)
    return SentenceEvaluation(tokens, offsets, context_length=context_length, pad_id=pad_id)
