"""Batches of token ids, seekable: any (epoch, index) gives the same batch in every process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError

Tokens = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.int64]
"""Token ids as the corpus holds them; usually memory-mapped."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's data, on the CPU."""

    inputs_BT: Tensor
    """Token ids, int64."""
    targets_BT: Tensor
    """The next token of each position, int64; -100 where it doesn't count."""
    tokens: int
    """Targets that count."""
    starts_epoch: bool
    """The first batch of a pass."""
    continues: bool = False
    """The rows go on where the batch before ended, so the state is carried; False: it starts at zero."""
    rows_N: Tensor | None = None
    """Places of the targets that count in `targets_BT.t().flatten()`; None: all do."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; itself on the CPU."""
        if device.type == "cpu":
            return self
        rows_N = None if self.rows_N is None else self.rows_N.to(device, non_blocking=True)
        inputs_BT, targets_BT = self.inputs_BT.to(device, non_blocking=True), self.targets_BT.to(device, non_blocking=True)
        return Batch(inputs_BT, targets_BT, self.tokens, self.starts_epoch, self.continues, rows_N)


class Batches(Protocol):
    """What a trainer draws from."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that decides the batches; a resume needs the same."""
        ...

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` (from 0) of pass `epoch` (from 0)."""
        ...


class StreamBatches:
    """Contiguous text as `batch_size` parallel streams, cut into windows of `bptt` tokens; the state is carried.

    Stream b holds targets b*n+1 ... (b+1)*n of the text, n = (tokens - 1) // batch_size; the last window of a pass may be shorter,
    and up to batch_size - 1 tokens at the end of the text are left out.
    """

    def __init__(self, tokens: Tokens, batch_size: int, bptt: int) -> None:
        """
        Raises:
            CorpusError: fewer tokens than one for each stream and a next one.
        """
        self.batch_size, self.bptt = batch_size, bptt
        self._total = len(tokens)
        self._length = (len(tokens) - 1) // batch_size
        if self._length < 1:
            message = f"the training set has {len(tokens):,} tokens, {batch_size:,} streams need at least {batch_size + 1:,}"
            raise CorpusError(message, hint="take a longer text or a smaller training.batch_size")
        # Row b and row b+1 share one token: the last target of one is the first input of the next.
        width, item = self._length + 1, tokens.itemsize
        self._streams = np.lib.stride_tricks.as_strided(tokens, (batch_size, width), (self._length * item, item), writeable=False)

    @property
    def steps_per_epoch(self) -> int:
        """Windows of one pass."""
        return -(-self._length // self.bptt)

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that decides the batches."""
        return {"data_mode": "stream", "batch_size": self.batch_size, "bptt": self.bptt, "tokens": self._total}

    def batch(self, epoch: int, index: int) -> Batch:
        """Window `index` of every stream; each pass is the same, and its first window starts from a zero state."""
        del epoch
        start = index * self.bptt
        window = torch.from_numpy(self._streams[:, start : start + self.bptt + 1].astype(np.int64))
        return Batch(window[:, :-1], window[:, 1:], tokens=window[:, 1:].numel(), starts_epoch=index == 0, continues=index > 0)


class SentenceBatches:
    """One sentence a row, cut at `context_length` tokens, right-padded to the longest of the batch, from a zero state.

    Inputs are all tokens but the last, targets all but the first; a sentence under two tokens has no target and is skipped.
    """

    def __init__(
        self,
        tokens: Tokens,
        offsets: NDArray[np.uint64],
        batch_size: int,
        context_length: int,
        pad_id: int,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        """
        Args:
            offsets: start of each sentence in `tokens`; the end of the last may follow.
            shuffle: a new order each pass, by (seed, epoch); False: the order of the file.

        Raises:
            CorpusError: no sentence of two tokens.
        """
        starts = np.asarray(offsets, dtype=np.int64)
        ends = np.append(starts[1:], len(tokens))
        lengths = np.minimum(ends - starts, context_length)
        kept = lengths >= 2
        self._starts, self._lengths = starts[kept], lengths[kept].astype(np.int32)
        if not len(self._starts):
            raise CorpusError(f"none of the {len(starts):,} sentences has two tokens", hint="take another text or tokenizer")
        self._tokens, self._order, self._order_epoch = tokens, np.empty(0, dtype=np.int64), -1
        self.batch_size, self.context_length, self.pad_id, self.shuffle, self.seed = batch_size, context_length, pad_id, shuffle, seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass; the last may hold fewer sentences."""
        return -(-len(self._starts) // self.batch_size)

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that decides the batches."""
        order = {"shuffle": self.shuffle, "seed": self.seed if self.shuffle else None}
        size = {"batch_size": self.batch_size, "context_length": self.context_length, "sentences": len(self._starts), "tokens": len(self._tokens)}
        return {"data_mode": "sentences", **size, **order}

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of pass `epoch`."""
        first = index * self.batch_size
        last = min(first + self.batch_size, len(self._starts))
        chosen = self._permutation(epoch)[first:last] if self.shuffle else np.arange(first, last)
        lengths = self._lengths[chosen].astype(np.int64)
        columns = np.arange(int(lengths.max()))
        inside = columns < lengths[:, None]
        places = np.where(inside, self._starts[chosen][:, None] + columns, self._starts[chosen][:, None])
        block = self._tokens[places].astype(np.int64)
        inputs = np.where(inside[:, 1:], block[:, :-1], self.pad_id)
        targets = np.where(inside[:, 1:], block[:, 1:], IGNORED)
        rows = np.flatnonzero(inside[:, 1:].T)
        rows_N = None if len(rows) == targets.size else torch.from_numpy(rows)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), len(rows), starts_epoch=index == 0, rows_N=rows_N)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._order_epoch != epoch:
            self._order, self._order_epoch = np.random.default_rng([self.seed, epoch]).permutation(len(self._starts)), epoch
        return self._order


class StreamEvaluation:
    """Every target of a text exactly once: a few parallel streams, each warmed over the tokens before its part.

    The streams make it fast, the warm-up makes the figure that of one pass over the whole text to within rounding.
    """

    def __init__(self, tokens: Tokens, *, streams: int = 16, window: int = 128, warm_up: int = 128) -> None:
        """
        Args:
            warm_up: tokens that a stream reads, without counting them, before its part; the first has nothing before it.

        Raises:
            CorpusError: fewer than two tokens.
        """
        if len(tokens) < 2:
            raise CorpusError(f"{len(tokens)} tokens are too few to evaluate, two are needed")
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
    """Every sentence of a text once, in its order, each from a zero state."""

    def __init__(self, tokens: Tokens, offsets: NDArray[np.uint64], *, context_length: int, pad_id: int, batch_size: int = 128) -> None:
        self._batches = SentenceBatches(tokens, offsets, batch_size, context_length, pad_id, shuffle=False)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order."""
        return (self._batches.batch(0, index) for index in range(self._batches.steps_per_epoch))


def evaluation_batches(
    tokens: Tokens, offsets: NDArray[np.uint64], *, data_mode: str, context_length: int, pad_id: int, max_sentences: int = 0
) -> StreamEvaluation | SentenceEvaluation:
    """The batches that evaluate a split in a data mode, whole or its first `max_sentences` sentences (0: all)."""
    if max_sentences and max_sentences < len(offsets):
        tokens, offsets = tokens[: int(offsets[max_sentences])], offsets[:max_sentences]
    if data_mode == "stream":
        return StreamEvaluation(tokens)
    return SentenceEvaluation(tokens, offsets, context_length=context_length, pad_id=pad_id)
