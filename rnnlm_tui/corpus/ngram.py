"""Count models: interpolated modified Kneser-Ney of orders 1 to 5 (Chen and Goodman 1999).

The id of an n-gram is its place in the sorted table of keys `id of its first n - 1 tokens * width +
last token`; 0 is no n-gram. So a key is one integer at any order, and the tables of an order need
only those of the order below. Texts have less than 2^31 tokens.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnnlm_tui.corpus.sources import Advance
from rnnlm_tui.schema.config import BASELINE_ORDERS
from rnnlm_tui.system.disk import require_space
from rnnlm_tui.system.files import storage_errors

Tokens = NDArray[np.uint16] | NDArray[np.uint32]
Make = Callable[[int, DTypeLike], NDArray[Any]]
"""Returns an array of zeros."""

COUNTED_TOKENS = 1 << 21
"""Preparing a corpus counts at most this many training tokens: about 3 s of processor time."""

_CHUNK = 1 << 20
_MOST_BYTES = 1 << 28
"""Larger arrays are files on disk."""
_SAMPLES = 256
"""Keys of each chunk by which tables are cut into ranges of about a chunk."""
_FALLBACK = np.array([0, 0.5, 1, 1.5])
"""The discounts where the counts of counts give none: KenLM's."""


class Score(NamedTuple):
    """What a model predicts of a text."""

    nats: float
    targets: int

    @property
    def loss(self) -> float | None:
        """Mean cross-entropy in nats; None without targets."""
        return self.nats / self.targets if self.targets else None


class OrderScores(NamedTuple):
    """The model of one order, which uses the n-grams of the lower ones too."""

    ngrams: int
    """Distinct n-grams of this order."""
    seconds: float
    """Time since the start."""
    scores: list[Score]
    """Of each evaluated text."""


def array_maker(folder: Path) -> Make:
    """Return a function that makes arrays: large ones are nameless files in a folder's file system,
    which vanish with the array. It raises StorageError if the disk is too small for one."""

    def make(count: int, dtype: DTypeLike) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        if size <= _MOST_BYTES:
            return np.zeros(count, dtype)
        require_space(folder, size, "counting n-grams")
        with storage_errors("write to", folder), tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=count)

    return make


def sequences(
    tokens: Tokens,
    offsets: NDArray[np.uint64],
    kept: int | None,
    begin: int,
    make: Make,
    limit: int | None = None,
) -> NDArray[np.int32]:
    """Lay out a text: the token `begin`, which is no target, before each sentence or the stream.

    Args:
        offsets: the start of each sentence, and the end of the last one: (sentences + 1,).
        kept: tokens of a sentence that are kept; None: the text is one stream.
        limit: leave out what follows this many tokens.
    """
    if kept is None:
        stream = tokens[:limit]
        laid_out = make(len(stream) + 1, np.int32)
        laid_out[0], laid_out[1:] = begin, stream
        return laid_out
    if limit is not None:
        offsets = offsets[: max(2, _place(offsets, limit))]
    lengths = np.minimum(np.diff(offsets).astype(np.int64), kept)
    laid_out, filled, first = make(int(lengths.sum()) + len(lengths), np.int32), 0, 0
    while first < len(lengths):
        last = max(first + 1, _place(offsets, int(offsets[first]) + _CHUNK) - 1)
        bounds = offsets[first : last + 1].astype(np.int64)
        part = tokens[bounds[0] : bounds[-1]].astype(np.int32)
        place = np.arange(len(part)) - np.repeat(bounds[:-1] - bounds[0], np.diff(bounds))
        starts = np.concatenate(([0], np.cumsum(lengths[first:last])[:-1]))
        part = np.insert(part[place < kept], starts, begin)
        laid_out[filled : filled + len(part)] = part
        filled, first = filled + len(part), last
    return laid_out


def _place(offsets: NDArray[np.uint64], limit: int) -> int:
    """The number of offsets up to `limit`.

    With a plain int, numpy would first copy all offsets as floats.
    """
    return int(np.searchsorted(offsets, np.uint64(limit), side="right"))


def score_orders(
    texts: Sequence[NDArray[np.int32]],
    begin: int,
    make: Make,
    *,
    base: NDArray[np.float64] | None = None,
    advance: Advance = lambda _: None,
) -> Iterator[OrderScores]:
    """Count the first text, and score the others with the models of order 1, 2 and so on.

    The model of order n has the counts of its n-grams, and of shorter ones the number of different
    tokens before them (their count if they begin a sequence). Discounts and probabilities are those
    of KenLM's lmplz.

    Args:
        texts: made by `sequences`; all tokens but the first of each sequence are scored.
        begin: the token that begins a sequence: the size of the vocabulary.
        base: with what the unigrams are interpolated, (vocabulary,); None: the uniform
            distribution.
        advance: called with the number of tokens just processed, once for each order.
    """
    start = time.monotonic()
    below = [
        np.broadcast_to(1 / begin, len(text)) if base is None else np.append(base, 0)[text]
        for text in texts[1:]
    ]
    order = _unigrams(texts, begin, make)
    for text in texts:
        advance(len(text))
    for number in range(1, BASELINE_ORDERS + 1):
        if number > 1:
            longer = _longer(order, texts, begin, make, advance)
            below = _probabilities(order, order.continuations(longer, make), below, begin, make)
            order = longer
        found = _probabilities(order, order.counts, below, begin, make)
        scores = [_score(*pair, begin) for pair in zip(found, texts[1:], strict=True)]
        yield OrderScores(int((order.counts > 0).sum()), time.monotonic() - start, scores)


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int32]
    ids: list[NDArray[np.int32]]
    """Of each text, the n-gram that ends at each token."""
    contexts: list[NDArray[np.int32]]
    """Of each text, the shorter n-gram that ends at each token."""
    contexts_count: int
    """How many ids of shorter n-grams there are."""

    def continuations(self, longer: _Order, make: Make) -> NDArray[np.int32]:
        """How many different tokens come before each n-gram; its count if none does."""
        suffixes = make(len(longer.keys), np.int32)
        for part in _parts(len(self.ids[0])):
            suffixes[longer.ids[0][part]] = self.ids[0][part]
        suffixes[0] = 0
        counts = make(len(self.keys), np.int32)
        for part in _parts(len(suffixes)):
            found, times = np.unique(suffixes[part], return_counts=True)
            counts[found] += times.astype(np.int32)
        counts[0] = 0
        for part in _parts(len(counts)):
            counts[part] = np.where(counts[part] == 0, self.counts[part], counts[part])
        return counts


def _probabilities(
    order: _Order,
    counts: NDArray[np.int32],
    below: Sequence[NDArray[np.float64]],
    begin: int,
    make: Make,
) -> list[NDArray[np.float64]]:
    """The probability of each token of the evaluated texts.

    P(w | h) = (n(hw) - D(n(hw)) + sum over v of D(n(hv)) * P(w | h without its first token)) / sum
    over v of n(hv).

    Args:
        counts: n.
        below: the probabilities of the order below.
    """
    discounts = _discounts(counts)
    totals, held = (make(order.contexts_count, np.float64) for _ in range(2))
    for part in _parts(len(counts)):
        prefixes, times = order.keys[part] // (begin + 1), counts[part]
        first, last = int(prefixes[0]), int(prefixes[-1]) + 1
        totals[first:last] += np.bincount(prefixes - first, times)
        held[first:last] += np.bincount(prefixes - first, discounts[np.minimum(times, 3)])
    found = []
    for text, lower in enumerate(below, start=1):
        result = make(len(lower), np.float64)
        for here, before in _targets(len(lower)):
            contexts, times = order.contexts[text][before], counts[order.ids[text][here]]
            mixed = times - discounts[np.minimum(times, 3)] + held[contexts] * lower[here]
            total = totals[contexts]
            result[here] = np.where(total > 0, mixed / np.maximum(total, 1), lower[here])
        found.append(result)
    return found


def _discounts(counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """How much is subtracted from counts of 0, 1, 2 and more."""
    times = np.zeros(6, np.int64)
    for part in _parts(len(counts)):
        times += np.bincount(np.minimum(counts[part], 5), minlength=6)
    once, twice, thrice, more = (int(number) for number in times[1:5])
    if not once or not twice or not thrice:
        return _FALLBACK
    ratio = once / (once + 2 * twice)
    ratios = np.array([0, twice / once, thrice / twice, more / thrice])
    found = np.arange(4) - np.arange(1, 5) * ratio * ratios
    return found if (found >= 0).all() and found[3] < 3 else _FALLBACK


def _unigrams(texts: Sequence[NDArray[np.int32]], begin: int, make: Make) -> _Order:
    counts = np.zeros(begin + 2, np.int32)
    for part in _parts(len(texts[0])):
        counts[1:] += np.bincount(texts[0][part], minlength=begin + 1).astype(np.int32)
    counts[begin + 1] = 0
    ids, contexts = [], []
    for text in texts:
        ids.append(make(len(text), np.int32))
        for part in _parts(len(text)):
            ids[-1][part] = text[part] + 1
        contexts.append(np.broadcast_to(np.int32(1), len(text)))
    return _Order(np.append(0, np.arange(begin + 1) + begin + 1), counts, ids, contexts, 2)


def _longer(
    order: _Order, texts: Sequence[NDArray[np.int32]], begin: int, make: Make, advance: Advance
) -> _Order:
    """The n-grams that are one token longer."""

    def keys(text: int, here: slice, before: slice) -> NDArray[np.int64]:
        last, prefixes = texts[text][here], order.ids[text][before].astype(np.int64)
        return np.where((prefixes == 0) | (last == begin), 0, prefixes * (begin + 1) + last)

    ids = [make(len(text), np.int32) for text in texts]
    distinct, filled = make(len(texts[0]) + 1, np.int64), 1
    runs = [(distinct[:1], np.zeros(1, np.int32))]
    for here, before in _targets(len(texts[0])):
        found, ids[0][here], times = _groups(keys(0, here, before))
        run = distinct[filled : filled + len(found)]
        run[:] = found
        runs.append((run, times.astype(np.int32)))
        filled += len(found)
        advance(here.stop - here.start)
    table, counts = _merged(runs, make)
    counts[0] = 0
    for (here, _), (run, _) in zip(_targets(len(texts[0])), runs[1:], strict=True):
        ids[0][here] = np.searchsorted(table, run)[ids[0][here]]
    for text in range(1, len(texts)):
        for here, before in _targets(len(texts[text])):
            wanted, places, _ = _groups(keys(text, here, before))
            at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
            ids[text][here] = np.where(table[at] == wanted, at, 0)[places]
            advance(len(places))
    return _Order(table, counts, ids, order.ids, len(order.keys))


def _merged(
    runs: Sequence[tuple[NDArray[np.int64], NDArray[np.int32]]], make: Make
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Merge sorted tables of counts, one range of keys after another."""
    size = sum(len(keys) for keys, _ in runs)
    table, sums, filled = make(size, np.int64), make(size, np.int32), 0
    step = max(1, _CHUNK // _SAMPLES)
    ends = np.sort(np.concatenate([keys[::step] for keys, _ in runs]))[_SAMPLES::_SAMPLES]
    bounds = [[0, *np.searchsorted(keys, ends), len(keys)] for keys, _ in runs]
    for number in range(len(ends) + 1):
        parts = [slice(*bound[number : number + 2]) for bound in bounds]
        keys = np.concatenate([run[part] for (run, _), part in zip(runs, parts, strict=True)])
        counts = np.concatenate([run[part] for (_, run), part in zip(runs, parts, strict=True)])
        found, places, _ = _groups(keys)
        table[filled : filled + len(found)] = found
        sums[filled : filled + len(found)] = np.bincount(places, counts)
        filled += len(found)
    return table[:filled], sums[:filled]


def _groups(
    keys: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """`np.unique` with its inverse and counts; it sorts keys and places as one number, which takes
    a third of the time."""
    bits = len(keys).bit_length()
    if not len(keys) or int(keys.max()) >> (63 - bits):
        return np.unique(keys, return_inverse=True, return_counts=True)
    packed = np.sort(keys << bits | np.arange(len(keys)))
    ordered = packed >> bits
    is_new = np.append(True, ordered[1:] != ordered[:-1])
    starts, inverse = np.flatnonzero(is_new), np.empty(len(keys), np.intp)
    inverse[packed & ((1 << bits) - 1)] = np.cumsum(is_new) - 1
    return ordered[starts], inverse, np.diff(starts, append=len(keys))


def _score(probabilities: NDArray[np.float64], text: NDArray[np.int32], begin: int) -> Score:
    nats, targets = 0.0, 0
    for here, before in _targets(len(text)):
        scored = probabilities[here][(text[here] != begin) & (text[before] != begin)]
        nats -= float(np.log(scored).sum())
        targets += len(scored)
    return Score(nats, targets)


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))


def _targets(count: int) -> Iterator[tuple[slice, slice]]:
    """The places after the first, and those before them."""
    for part in _parts(count - 1):
        yield slice(part.start + 1, part.stop + 1), part
