"""Seekable batches for training, and batches that cover a held-out text once.

An (epoch, index) gives the same training batch in every process.
"""

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
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.memory import EVALUATED_SENTENCES, EVALUATED_STREAMS, EVALUATED_WINDOW

_BLOCK_SENTENCES = 1 << 20

Tokens = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.int64]
"""Token ids as the corpus stores them; usually memory-mapped."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's data."""

    inputs_BT: Tensor
    """Token ids, int64."""
    targets_BT: Tensor
    """The next token of each position, int64; -100 where the loss ignores it."""
    tokens: int
    """Targets that count."""
    starts_epoch: bool
    """The first batch of a pass."""
    continues: bool = False
    """The rows continue those of the batch before, so the state is carried; False: it starts at
    zero."""
    rows_N: Tensor | None = None
    """Indices in `targets_BT.t().flatten()` of the targets that count; None: all count."""
    starts_B: Tensor | None = None
    """For an evaluation: the position in the text of each row's first input, on the CPU."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; tensors that are there already are not copied."""
        rows_N = None if self.rows_N is None else _sent(self.rows_N, device)
        return Batch(
            _sent(self.inputs_BT, device),
            _sent(self.targets_BT, device),
            self.tokens,
            self.starts_epoch,
            self.continues,
            rows_N,
            self.starts_B,
        )


class Batches(Protocol):
    """The training batches of a trainer."""

    batch_size: int
    """Streams or sentences of a whole batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that determines the batches; a resume needs the same."""
        ...

    @property
    def longest(self) -> int:
        """Most positions T of any batch."""
        ...

    @property
    def pads(self) -> bool:
        """Padding changes nothing, since no state is carried."""
        ...

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` (from 0) of pass `epoch` (from 0)."""
        ...


class StreamBatches:
    """Contiguous text as `batch_size` parallel streams, cut into windows of `bptt` tokens; the
    state is carried.

    Stream b holds targets b*n+1 ... (b+1)*n of the text, n = (tokens - 1) // batch_size. The last
    window of a pass may be shorter, and up to batch_size - 1 tokens at the end of the text are left
    out.
    """

    def __init__(self, tokens: Tokens, batch_size: int, bptt: int) -> None:
        """
        Raises:
            CorpusError: not even one target for each stream.
        """
        self.batch_size, self.bptt = batch_size, bptt
        self._total = len(tokens)
        self._length = (len(tokens) - 1) // batch_size
        if self._length < 1:
            message = (
                f"the training set has {counted(len(tokens), 'token')},"
                f" {counted(batch_size, 'stream')} need at least {batch_size + 1:,}"
            )
            raise CorpusError(message, hint="use a longer text or a smaller training.batch_size")
        # Row b and row b+1 share one token: the last target of one is the first input of the next.
        width, item = self._length + 1, tokens.itemsize
        self._streams = np.lib.stride_tricks.as_strided(
            tokens, (batch_size, width), (self._length * item, item), writeable=False
        )

    @property
    def steps_per_epoch(self) -> int:
        """Windows of one pass."""
        return -(-self._length // self.bptt)

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that determines the batches."""
        return {
            "data_mode": "stream",
            "batch_size": self.batch_size,
            "bptt": self.bptt,
            "tokens": self._total,
        }

    @property
    def longest(self) -> int:
        """Most positions of a window."""
        return min(self.bptt, self._length)

    @property
    def pads(self) -> bool:
        """No: padding would change the state."""
        return False

    def batch(self, epoch: int, index: int) -> Batch:
        """Window `index` of every stream; each pass is the same, and its first window starts from a
        zero state."""
        del epoch
        start = index * self.bptt
        window = torch.from_numpy(self._streams[:, start : start + self.bptt + 1].astype(np.int64))
        targets_BT = window[:, 1:]
        return Batch(
            window[:, :-1],
            targets_BT,
            tokens=targets_BT.numel(),
            starts_epoch=index == 0,
            continues=index > 0,
        )


class SentenceBatches:
    """One sentence a row, cut at `context_length` tokens, right-padded to the longest, from a zero
    state.

    Inputs are all tokens but the last, targets all but the first. A sentence of one token is
    skipped.
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
        self._starts, self._lengths = _kept_sentences(offsets, len(tokens), context_length)
        self._longest = int(self._lengths.max(initial=1)) - 1
        if not len(self._starts):
            raise CorpusError(
                f"none of the {counted(len(offsets), 'sentence')} has two tokens",
                hint="use another text or tokenizer",
            )
        self._tokens, self._order, self._order_epoch = tokens, np.empty(0, dtype=np.int64), -1
        self.batch_size = batch_size
        self.context_length = context_length
        self.pad_id = pad_id
        self.shuffle = shuffle
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass; the last may hold fewer sentences."""
        return -(-len(self._starts) // self.batch_size)

    @property
    def facts(self) -> Mapping[str, object]:
        """Everything that determines the batches."""
        order = {"shuffle": self.shuffle, "seed": self.seed if self.shuffle else None}
        size = {
            "batch_size": self.batch_size,
            "context_length": self.context_length,
            "sentences": len(self._starts),
            "tokens": len(self._tokens),
        }
        return {"data_mode": "sentences", **size, **order}

    @property
    def longest(self) -> int:
        """Most positions of a batch."""
        return self._longest

    @property
    def pads(self) -> bool:
        """Yes: every sentence starts from a zero state."""
        return True

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of pass `epoch`."""
        first = index * self.batch_size
        last = min(first + self.batch_size, len(self._starts))
        chosen = self._permutation(epoch)[first:last] if self.shuffle else np.arange(first, last)
        lengths = self._lengths[chosen].astype(np.int64)
        columns = np.arange(int(lengths.max()))
        inside = columns < lengths[:, None]
        places = np.where(
            inside, self._starts[chosen][:, None] + columns, self._starts[chosen][:, None]
        )
        counted = inside[:, 1:]
        rows = np.flatnonzero(counted.T)
        rows_N = None if len(rows) == counted.size else torch.from_numpy(rows)
        counted_BT = torch.from_numpy(counted)
        block = torch.from_numpy(self._tokens[places].astype(np.int64))
        inputs_BT = torch.where(counted_BT, block[:, :-1], self.pad_id)
        targets_BT = torch.where(counted_BT, block[:, 1:], IGNORED)
        return Batch(
            inputs_BT,
            targets_BT,
            len(rows),
            starts_epoch=index == 0,
            rows_N=rows_N,
            starts_B=torch.from_numpy(self._starts[chosen]),
        )

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._order_epoch != epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self._starts))
            self._order_epoch = epoch
        return self._order


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, through pinned memory, so that nothing waits."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _kept_sentences(
    offsets: NDArray[np.uint64], total: int, context_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Start and kept length of each sentence with at least two tokens.

    Computed in blocks: tens of millions of sentences need hardly more memory than the result, 12
    bytes each.
    """
    starts: list[NDArray[np.int64]] = []
    lengths: list[NDArray[np.int32]] = []
    for first in range(0, len(offsets), _BLOCK_SENTENCES):
        bounds = offsets[first : first + _BLOCK_SENTENCES + 1].astype(np.int64)
        if first + _BLOCK_SENTENCES >= len(offsets):
            bounds = np.append(bounds, total)
        kept = np.minimum(np.diff(bounds), context_length)
        starts.append(bounds[:-1][kept >= 2])
        lengths.append(kept[kept >= 2].astype(np.int32))
    return np.concatenate(starts or [np.empty(0, np.int64)]), np.concatenate(
        lengths or [np.empty(0, np.int32)]
    )


class StreamEvaluation:
    """A text as a few parallel streams, each warmed up on the tokens before its part.

    The streams make it fast; the warm-up makes the loss that of one pass over the whole text,
    within rounding.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        streams: int = EVALUATED_STREAMS,
        window: int = EVALUATED_WINDOW,
        warm_up: int = 128,
    ) -> None:
        """
        Args:
            warm_up: tokens before its part that a stream reads without counting them.

        Raises:
            CorpusError: fewer than two tokens.
        """
        if len(tokens) < 2:
            raise CorpusError(
                f"{counted(len(tokens), 'token')}: too few to evaluate, at least 2 needed"
            )
        targets = len(tokens) - 1
        self._tokens, self._window = tokens, window
        part = max(-(-targets // streams), min(targets, 4 * warm_up))
        bounds = [(first, min(first + part, targets)) for first in range(0, targets, part)]
        self._begins = [max(0, first - warm_up) for first, _ in bounds]
        self._bounds = bounds

    def __iter__(self) -> Iterator[Batch]:
        """Windows in order; the state is carried from one to the next."""
        longest = max(
            last - begin for begin, (_, last) in zip(self._begins, self._bounds, strict=True)
        )
        for start in range(0, longest, self._window):
            width = min(self._window, longest - start)
            inputs = np.zeros((len(self._bounds), width), dtype=np.int64)
            targets = np.full((len(self._bounds), width), IGNORED, dtype=np.int64)
            for row, (begin, (first, last)) in enumerate(
                zip(self._begins, self._bounds, strict=True)
            ):
                here, end = begin + start, min(begin + start + width, last)
                if end > here:
                    inputs[row, : end - here] = self._tokens[here:end]
                    counted = max(here, first)
                    if end > counted:
                        targets[row, counted - here : end - here] = self._tokens[
                            counted + 1 : end + 1
                        ]
            rows = np.flatnonzero(targets.T != IGNORED)
            rows_N = None if len(rows) == targets.size else torch.from_numpy(rows)
            yield Batch(
                torch.from_numpy(inputs),
                torch.from_numpy(targets),
                len(rows),
                start == 0,
                start > 0,
                rows_N,
                torch.tensor(self._begins) + start,
            )


class SentenceEvaluation:
    """The sentences of a text in order, each from a zero state."""

    def __init__(
        self,
        tokens: Tokens,
        offsets: NDArray[np.uint64],
        *,
        context_length: int,
        pad_id: int,
        batch_size: int = EVALUATED_SENTENCES,
    ) -> None:
        self._batches = SentenceBatches(
            tokens, offsets, batch_size, context_length, pad_id, shuffle=False
        )

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order."""
        return (self._batches.batch(0, index) for index in range(self._batches.steps_per_epoch))


def evaluation_shape(data_mode: str, longest: int) -> tuple[int, int]:
    """Largest (B, T) of an evaluation batch, for sentences of `longest` positions."""
    return (
        (EVALUATED_STREAMS, EVALUATED_WINDOW)
        if data_mode == "stream"
        else (EVALUATED_SENTENCES, longest)
    )


def evaluation_batches(
    tokens: Tokens,
    offsets: NDArray[np.uint64],
    *,
    data_mode: str,
    context_length: int,
    pad_id: int,
    max_sentences: int = 0,
) -> StreamEvaluation | SentenceEvaluation:
    """Evaluation batches of a split, or of its first `max_sentences` sentences (0: all)."""
    if max_sentences and max_sentences < len(offsets):
        tokens, offsets = tokens[: int(offsets[max_sentences])], offsets[:max_sentences]
    if data_mode == "stream":
        return StreamEvaluation(tokens)
    return SentenceEvaluation(tokens, offsets, context_length=context_length, pad_id=pad_id)
