"""Seekable batches for training, and batches that cover a held-out text once.

An (epoch, index) gives the same training batch in every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import WARM_UP
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
    continues: bool = False
    """The rows continue those of the batch before, so the state is carried; False: it starts at
    zero."""
    rows_N: Tensor | None = None
    """Indices in `targets_BT.t().flatten()` of the targets that count; None: all count."""
    starts_B: Tensor | None = None
    """For an evaluation: the position in the text of each row's first input, on the CPU."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; tensors that are there already are not copied."""
        return replace(
            self,
            inputs_BT=_sent(self.inputs_BT, device),
            targets_BT=_sent(self.targets_BT, device),
            rows_N=None if self.rows_N is None else _sent(self.rows_N, device),
        )


def rows_of_share(rows: int, index: int, count: int) -> slice:
    """The rows of share `index` of `count`: they follow one another, and differ by at most one."""
    return slice(index * rows // count, (index + 1) * rows // count)


def share(batch: Batch, index: int, count: int, *, pads: bool = False) -> Batch:
    """Share `index` of `count` of a batch on the CPU.

    If there are fewer rows than shares, one without rows computes the first row, and `tokens` is 0.

    Args:
        pads: what follows a row's last target is padding, so the share ends with its longest row.
    """
    if count == 1:
        return batch
    rows = rows_of_share(len(batch.inputs_BT), index, count)
    is_empty = rows.start == rows.stop
    rows = slice(0, 1) if is_empty else rows
    inputs_BT, targets_BT = batch.inputs_BT[rows], batch.targets_BT[rows]
    counted_BT, rows_N = targets_BT != IGNORED, None
    if pads:
        longest = int(counted_BT.sum(1).max())
        inputs_BT, targets_BT = inputs_BT[:, :longest], targets_BT[:, :longest]
        counted_BT = counted_BT[:, :longest]
    if not bool(counted_BT.all()):
        rows_N = counted_BT.t().flatten().nonzero().flatten()
    return Batch(
        inputs_BT,
        targets_BT,
        0 if is_empty else int(counted_BT.sum()),
        continues=batch.continues,
        rows_N=rows_N,
        starts_B=None if batch.starts_B is None else batch.starts_B[rows],
    )


class Batches(Protocol):
    """The training batches of a trainer."""

    batch_size: int
    """Streams or sentences of a whole batch."""
    steps_per_epoch: int
    """Batches of one pass."""
    longest: int
    """Most positions T of any batch."""
    pads: bool
    """Padding changes nothing, since no state is carried."""
    facts: Mapping[str, object]
    """Everything that determines the batches; a resume needs the same."""

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

    pads = False

    def __init__(self, tokens: Tokens, batch_size: int, bptt: int) -> None:
        """
        Raises:
            CorpusError: not even one target for each stream.
        """
        length = (len(tokens) - 1) // batch_size
        if length < 1:
            message = (
                f"the training set has {counted(len(tokens), 'token')},"
                f" {counted(batch_size, 'stream')} need at least {batch_size + 1:,}"
            )
            raise CorpusError(message, hint="use a longer text or a smaller training.batch_size")
        # Row b and row b+1 share one token: the last target of one is the first input of the next.
        self._streams = np.lib.stride_tricks.as_strided(
            tokens,
            (batch_size, length + 1),
            (length * tokens.itemsize, tokens.itemsize),
            writeable=False,
        )
        self.batch_size, self.bptt = batch_size, bptt
        self.steps_per_epoch, self.longest = -(-length // bptt), min(bptt, length)
        self.facts: Mapping[str, object] = {
            "data_mode": "stream",
            "batch_size": batch_size,
            "bptt": bptt,
            "tokens": len(tokens),
        }

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
            continues=index > 0,
        )


class SentenceBatches:
    """One sentence a row, cut at `context_length` tokens, right-padded to the longest, from a zero
    state.

    Inputs are all tokens but the last, targets all but the first. A sentence of one token is
    skipped.
    """

    pads = True

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
        if not len(self._starts):
            raise CorpusError(
                f"none of the {counted(len(offsets), 'sentence')} has two tokens",
                hint="use another text or tokenizer",
            )
        self._tokens, self._order, self._order_epoch = tokens, np.empty(0, dtype=np.int64), -1
        self._pad_id, self._shuffle, self._seed = pad_id, shuffle, seed
        self.batch_size, self.longest = batch_size, int(self._lengths.max()) - 1
        self.steps_per_epoch = -(-len(self._starts) // batch_size)
        self.facts: Mapping[str, object] = {
            "data_mode": "sentences",
            "batch_size": batch_size,
            "context_length": context_length,
            "sentences": len(self._starts),
            "tokens": len(tokens),
            "shuffle": shuffle,
            "seed": seed if shuffle else None,
        }

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of pass `epoch`."""
        first = index * self.batch_size
        last = min(first + self.batch_size, len(self._starts))
        chosen = self._permutation(epoch)[first:last] if self._shuffle else np.arange(first, last)
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
        inputs_BT = torch.where(counted_BT, block[:, :-1], self._pad_id)
        targets_BT = torch.where(counted_BT, block[:, 1:], IGNORED)
        return Batch(
            inputs_BT,
            targets_BT,
            len(rows),
            rows_N=rows_N,
            starts_B=torch.from_numpy(self._starts[chosen]),
        )

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._order_epoch != epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts))
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


def stream_evaluation(
    tokens: Tokens,
    *,
    streams: int = EVALUATED_STREAMS,
    window: int = EVALUATED_WINDOW,
    warm_up: int = WARM_UP,
) -> Iterator[Batch]:
    """A text as a few parallel streams, each warmed up on the tokens before its part: windows in
    order, the state is carried from one to the next.

    The streams make it fast; the warm-up makes the loss that of one pass over the whole text,
    within rounding.

    Args:
        warm_up: tokens before its part that a stream reads without counting them.

    Raises:
        CorpusError: fewer than two tokens.
    """
    if len(tokens) < 2:
        raise CorpusError(
            f"{counted(len(tokens), 'token')}: too few to evaluate, at least 2 needed"
        )
    total = len(tokens) - 1
    part = max(-(-total // streams), min(total, 4 * warm_up))
    bounds = [(first, min(first + part, total)) for first in range(0, total, part)]
    begins = [max(0, first - warm_up) for first, _ in bounds]
    longest = max(last - begin for begin, (_, last) in zip(begins, bounds, strict=True))
    for start in range(0, longest, window):
        width = min(window, longest - start)
        inputs = np.zeros((len(bounds), width), dtype=np.int64)
        targets = np.full((len(bounds), width), IGNORED, dtype=np.int64)
        for row, (begin, (first, last)) in enumerate(zip(begins, bounds, strict=True)):
            here, end = begin + start, min(begin + start + width, last)
            known = max(here, first)
            if end > here:
                inputs[row, : end - here] = tokens[here:end]
            if end > known:
                targets[row, known - here : end - here] = tokens[known + 1 : end + 1]
        rows = np.flatnonzero(targets.T != IGNORED)
        yield Batch(
            torch.from_numpy(inputs),
            torch.from_numpy(targets),
            len(rows),
            continues=start > 0,
            rows_N=None if len(rows) == targets.size else torch.from_numpy(rows),
            starts_B=torch.tensor(begins) + start,
        )


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
    streams: int = EVALUATED_STREAMS,
    warm_up: int = WARM_UP,
) -> Iterator[Batch]:
    """Evaluation batches of a split, or of its first `max_sentences` sentences (0: all), each from
    a zero state where sentences are separate.

    Args:
        warm_up: as of `stream_evaluation`: `ModelConfig.warm_up`.
    """
    if max_sentences and max_sentences < len(offsets):
        tokens, offsets = tokens[: int(offsets[max_sentences])], offsets[:max_sentences]
    if data_mode == "stream":
        return stream_evaluation(tokens, streams=streams, warm_up=warm_up)
    batches = SentenceBatches(
        tokens, offsets, EVALUATED_SENTENCES, context_length, pad_id, shuffle=False
    )
    return (batches.batch(0, index) for index in range(batches.steps_per_epoch))
