"""Training batches that are put together on the device, from token ids that stay in its memory.

Every operation has the same shapes for every batch and nothing is read back, so that a CUDA graph
can record `assemble` together with the step that uses the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.schema.memory import RESIDENT_SHARE, resident_bytes

PIECE_TOKENS = 8 << 20
"""Token ids that are copied to the device at once: 16 MiB of host memory, or 32 with ids of four
bytes."""
LOW_BITS = 0xFFFF
"""Ids of two bytes are stored as int16, because torch has few operations for uint16: these bits of
the widened number are the id."""

Tokens = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.int64]
"""Token ids as the corpus stores them; usually memory-mapped."""


class ResidentBatches(Protocol):
    """Batches of one shape (B, T) on the device, in the order of a pass."""

    shape: tuple[int, int]
    """(B, T): rows and positions of every assembled batch."""
    seeks: int
    """Calls of `seek` so far: if there were more than your own, the next batch isn't yours."""

    def seek(self, epoch: int, index: int) -> None:
        """Make batch `index` of pass `epoch` the next one, without waiting for the device.

        Needed at the start of each pass, after a resume and after any other jump. In between
        `assemble` counts on by itself, on the device.
        """
        ...

    def assemble(self, rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put the next batch together: inputs_BT, targets_BT and rows_N, int64 on the device.

        Only launches operations, whose shapes depend on `rows` alone. Missing sentences and
        positions after a sentence's end are padding with ignored targets. After the last batch of
        a pass comes its first again, in the same order.

        Args:
            rows: length of rows_N, at least `rows` of the batch and at most B x T. The first
                entries are the indices in `targets_BT.t().flatten()` of the targets that count,
                ascending; the others point to an ignored target. With B x T rows_N is None, which
                means all positions.
        """
        ...

    def fits(self, index: int) -> bool:
        """Whether batch `index` has this shape or may be padded to it. Others only come from
        `batch`."""
        ...

    def rows(self, epoch: int, index: int) -> int:
        """Targets that count in batch `index` of pass `epoch`, known without the device."""
        ...

    def row_counts(self, epoch: int) -> NDArray[np.int64]:
        """`rows` of every batch of a pass."""
        ...

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Batch `index` of pass `epoch` without superfluous positions, as `assemble` gives it."""
        ...


class ResidentStreams:
    """Windows of `bptt` tokens of B parallel streams.

    Stream b starts at token b x `length`; each pass is the same.
    """

    def __init__(
        self, tokens: Tokens, batch_size: int, bptt: int, length: int, device: torch.device
    ) -> None:
        """
        Args:
            length: targets of a stream.
        """
        self.shape, self.seeks = (batch_size, min(bptt, length)), 0
        self._steps, self._bptt, self._length = -(-length // bptt), bptt, length
        self._tokens = _TokensOnDevice(tokens, device)
        self._index_1 = torch.zeros(1, dtype=torch.int64, device=device)
        starts_B1 = torch.arange(batch_size, device=device).unsqueeze(1) * length
        self._places_BW = starts_B1 + torch.arange(self.shape[1] + 1, device=device)

    def seek(self, epoch: int, index: int) -> None:
        """As `ResidentBatches.seek`."""
        del epoch
        self.seeks += 1
        self._index_1.fill_(index)

    def assemble(self, rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `ResidentBatches.assemble`; every target counts, except that a shorter window is
        filled up with the tokens after it."""
        del rows
        # The last window may reach beyond the text.
        places_BW = torch.add(self._places_BW, self._index_1, alpha=self._bptt)
        block_BW = self._tokens.at(places_BW.clamp_(max=self._tokens.last))
        self._index_1.add_(1).remainder_(self._steps)
        return block_BW[:, :-1], block_BW[:, 1:], None

    def fits(self, index: int) -> bool:
        """Whether it is a whole window: padding would change the carried state."""
        return self._width(index) == self.shape[1]

    def rows(self, epoch: int, index: int) -> int:
        """As `ResidentBatches.rows`."""
        del epoch
        return self.shape[0] * self._width(index)

    def row_counts(self, epoch: int) -> NDArray[np.int64]:
        """As `ResidentBatches.row_counts`."""
        return np.array([self.rows(epoch, index) for index in range(self._steps)], np.int64)

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `ResidentBatches.batch`."""
        self.seek(epoch, index)
        inputs_BT, targets_BT, _ = self.assemble(self.rows(epoch, index))
        width = self._width(index)
        return inputs_BT[:, :width], targets_BT[:, :width], None

    def _width(self, index: int) -> int:
        return min(self._bptt, self._length - index * self._bptt)


class ResidentSentences:
    """One sentence a row, right-padded to the longest of all.

    The device holds the pass as a table of pairs: for each batch the start of every sentence and
    how many targets it has, and as the last pair a position to ignore and the index of the next
    batch. A last batch with fewer sentences is filled with sentences of no target.
    """

    def __init__(
        self,
        tokens: Tokens,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int32],
        order: Callable[[int], NDArray[np.int64] | None],
        *,
        batch_size: int,
        pad_id: int,
        device: torch.device,
    ) -> None:
        """
        Args:
            starts, lengths: of each sentence, its first token and the tokens that are kept.
            order: sentences of a pass, in order; None: the order of the file.
        """
        rows, longest = min(batch_size, len(starts)), int(lengths.max()) - 1
        self.shape, self.seeks = (rows, longest), 0
        self._starts, self._lengths, self._order = starts, lengths, order
        self._tokens = _TokensOnDevice(tokens, device)
        self._counted: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        self._on_device: int | None = None
        steps = -(-len(starts) // rows)
        # Half the memory, and the device's faster numbers, for all but the largest texts.
        number = torch.int32 if len(tokens) <= 2**31 - 1 else torch.int64
        self._pass_SR2 = torch.zeros(steps, rows + 1, 2, dtype=number, device=device)
        self._index_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._columns_W = torch.arange(longest + 1, dtype=number, device=device)
        # On the device, where `torch.where` would otherwise make a tensor of the number each time.
        self._pad_id, self._ignored = (
            torch.tensor(token, device=device) for token in (pad_id, IGNORED)
        )
        self._ranks_N = torch.arange(1, rows * longest + 1, device=device)

    def seek(self, epoch: int, index: int) -> None:
        """As `ResidentBatches.seek`; copies the order of a new pass to the device, once."""
        self.seeks += 1
        if self._on_device != epoch:
            table = torch.zeros_like(
                self._pass_SR2, device="cpu", pin_memory=self._pass_SR2.device.type == "cuda"
            )
            self._fill(table.numpy(), epoch)
            self._pass_SR2.copy_(table, non_blocking=True)
            self._on_device = epoch
        self._index_1.fill_(index)

    def assemble(self, rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `ResidentBatches.assemble`."""
        batch_R2 = self._pass_SR2.index_select(0, self._index_1).squeeze(0)
        starts_B, targets_B = batch_R2[:-1].unbind(1)
        ignored, after = batch_R2[-1].unbind()
        self._index_1.copy_(after)
        counted_TB = self._columns_W[:-1].unsqueeze(1) < targets_B
        # Positions after the end repeat the last token, so that none is beyond the text.
        columns_BW = torch.minimum(self._columns_W, targets_B.unsqueeze(1))
        block_BW = self._tokens.at(starts_B.unsqueeze(1) + columns_BW)
        inputs_BT = torch.where(counted_TB.t(), block_BW[:, :-1], self._pad_id)
        targets_BT = torch.where(counted_TB.t(), block_BW[:, 1:], self._ignored)
        whole = self._ranks_N.shape[0]
        if rows == whole:
            return inputs_BT, targets_BT, None
        # The k-th target that counts is where the running count reaches k: no sort, and no write
        # whose order could matter. Beyond the last one it finds nothing.
        found_N = torch.searchsorted(counted_TB.flatten().cumsum(0), self._ranks_N[:rows])
        return inputs_BT, targets_BT, torch.where(found_N < whole, found_N, ignored)

    def _fill(self, table_SR2: NDArray[np.integer[Any]], epoch: int) -> None:
        """Write a pass into a table of zeros."""
        steps, (rows, longest) = len(table_SR2), self.shape
        order, count = self._order(epoch), len(self._starts)
        pairs = np.zeros((steps * rows, 2), table_SR2.dtype)
        pairs[:count, 0] = self._starts if order is None else self._starts[order]
        pairs[:count, 1] = (self._lengths if order is None else self._lengths[order]) - 1
        table_SR2[:, :-1] = pairs.reshape(steps, rows, 2)
        # If any position is padding, then the last one of the shortest sentence.
        shortest_S = table_SR2[:, :-1, 1].argmin(1)
        table_SR2[:, -1, 0] = (longest - 1) * rows + shortest_S
        table_SR2[:, -1, 1] = np.arange(1, steps + 1) % steps

    def fits(self, index: int) -> bool:
        """Every batch: sentences may be padded."""
        del index
        return True

    def rows(self, epoch: int, index: int) -> int:
        """As `ResidentBatches.rows`."""
        return int(self.row_counts(epoch)[index])

    def row_counts(self, epoch: int) -> NDArray[np.int64]:
        """As `ResidentBatches.row_counts`."""
        return self._counts(epoch)[0]

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `ResidentBatches.batch`."""
        counts_S, longest_S = self._counts(epoch)
        rows, longest = int(counts_S[index]), int(longest_S[index])
        self.seek(epoch, index)
        inputs_BT, targets_BT, rows_N = self.assemble(rows)
        if rows == self.shape[0] * longest:
            rows_N = None
        return inputs_BT[:, :longest], targets_BT[:, :longest], rows_N

    def _counts(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Targets of each batch of a pass, and of its longest sentence."""
        if self._counted is None or self._counted[0] != epoch:
            order = self._order(epoch)
            lengths = self._lengths if order is None else self._lengths[order]
            targets = lengths.astype(np.int64) - 1
            firsts = np.arange(0, len(targets), self.shape[0])
            counts_S = np.add.reduceat(targets, firsts)
            self._counted = epoch, counts_S, np.maximum.reduceat(targets, firsts)
        return self._counted[1:]


class _TokensOnDevice:
    """All token ids of a text in the device's memory, in two or four bytes each."""

    def __init__(self, tokens: Tokens, device: torch.device) -> None:
        """Copy them in pieces, so that host memory doesn't grow with the text."""
        narrow = tokens.dtype == np.uint16
        number = torch.int16 if narrow else torch.int32
        self._ids = torch.empty(len(tokens), dtype=number, device=device)
        self._narrow, self.last = narrow, len(tokens) - 1
        buffer = torch.empty(
            min(PIECE_TOKENS, len(tokens)), dtype=number, pin_memory=device.type == "cuda"
        )
        for first in range(0, len(tokens), PIECE_TOKENS):
            piece = tokens[first : first + PIECE_TOKENS]
            part = buffer[: len(piece)]
            part.numpy()[:] = piece.view(np.int16) if narrow else piece
            self._ids[first : first + len(piece)].copy_(part)  # waits: the buffer is used again

    def at(self, places: Tensor) -> Tensor:
        """The ids at these places, int64, in the shape of `places`."""
        ids = self._ids.index_select(0, places.flatten()).view(places.shape).long()
        return ids.bitwise_and_(LOW_BITS) if self._narrow else ids


def fits_in_memory(tokens: Tokens, sentences: int, device: torch.device) -> bool:
    """Whether token ids and the table of a pass take little of a GPU's free memory."""
    if device.type != "cuda":
        return True
    needed = resident_bytes(len(tokens), sentences, narrow=tokens.dtype == np.uint16)
    return needed <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
