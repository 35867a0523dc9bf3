"""Count models of a prepared corpus, of its tokens and of words, as a task of `worker.task`.

All training tokens are counted. If tokens may be parts of words, the words of the decoded text are
counted too: bits per byte compare the two. A word that isn't in the training split is spelled by a
count model of bytes, trained on the words that occur there once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import compress, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.build import Meter
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import (
    PreparedCorpus,
    add_to_manifest,
    baseline_of,
    load_prepared,
    score_corpus,
)
from rnnlm_tui.corpus.ngram import Make, OrderScores, Score, array_maker, score_orders, sequences
from rnnlm_tui.schema.config import BASELINE_ORDERS
from rnnlm_tui.schema.corpora import EVALUATED, SPLITS, Split
from rnnlm_tui.schema.metrics import Phase, bits_per_byte, perplexity
from rnnlm_tui.schema.protocol import (
    BaselineDone,
    BaselineRequest,
    CountModel,
    CountModels,
    decode_line,
)
from rnnlm_tui.worker.task import ReportProgress

_BYTE_END, _BYTE_START, _BYTES = 256, 257, 258
"""What ends and starts a spelled word, and the size of the vocabulary."""


def count_models(folder: Path, report: ReportProgress) -> BaselineDone:
    """Count all n-grams of a corpus, in each data mode in which it was used; keep the losses.

    Raises:
        StorageError: the corpus is damaged, or the disk is full.
        TokenizerError: its tokenizer is damaged.
    """

    def meter(phase: Phase, total: int) -> Meter:
        return Meter(phase, total, lambda at: report(at.phase, at.done, at.total))

    prepared, codec = load_prepared(folder), TextCodec(folder)
    splits = prepared.manifest.splits
    tokens, counted = sum(facts.tokens for facts in splits.values()), splits["train"].tokens
    words = None if codec.kind == "word" else _read_words(prepared, codec, meter("reading", tokens))
    modes, baselines = [], []
    for kept in [baseline.kept_tokens for baseline in prepared.manifest.baselines]:
        advance = meter("baseline", tokens * BASELINE_ORDERS).advance
        orders = list(score_corpus(prepared, kept, counted, advance))
        baselines.append(baseline_of(orders, kept, counted))
        models = _models("token", orders, [_size(prepared, codec, kept, one) for one in EVALUATED])
        if words is not None:
            models += _word_models(words, kept, array_maker(folder.parent))
        modes.append(CountModels(kept_tokens=kept, counted=counted, models=models))
    add_to_manifest(folder, baselines)
    return BaselineDone(modes=tuple(modes))


def task(request: bytes, report: ReportProgress) -> BaselineDone:
    """Count as a BaselineRequest asks."""
    return count_models(Path(decode_line(request, BaselineRequest).folder), report)


class _Size(NamedTuple):
    """How much of a split is predicted."""

    bytes: int
    unknown: int = 0


def _size(prepared: PreparedCorpus, codec: TextCodec, kept: int | None, split: Split) -> _Size:
    tokens = prepared.tokens(split)
    scored, _ = codec.token_bytes.scored(tokens, prepared.offsets(split), kept)
    return _Size(scored, 0 if codec.unk_id is None else int((tokens == codec.unk_id).sum()))


def _models(
    unit: Literal["token", "word"], orders: Iterable[OrderScores], sizes: Sequence[_Size]
) -> tuple[CountModel, ...]:
    models = []
    for number, order in enumerate(orders, start=1):
        per: dict[Split, float | None] = {}
        bits: dict[Split, float | None] = {}
        for split, score, size in zip(EVALUATED, order.scores, sizes, strict=True):
            loss = score.loss
            per[split] = bits[split] = None
            if loss is not None:
                per[split] = perplexity(loss)
                bits[split] = bits_per_byte(loss, score.targets, size.unknown, size.bytes)
        models.append(
            CountModel(
                unit=unit,
                order=number,
                perplexity=per,
                bits_per_byte=bits,
                ngrams=order.ngrams,
                seconds=order.seconds,
            )
        )
    return tuple(models)


class _Words(NamedTuple):
    """The words of a split."""

    ids: NDArray[np.uint32]
    offsets: NDArray[np.uint64]
    """The start of each sentence, and the end of the last one."""
    sizes: NDArray[np.uint32]
    """Bytes of each word with the space before it, except in front of a sentence."""
    unseen: list[str]
    """The words that the training split doesn't have, in order: their ids are equal."""


def _read_words(
    prepared: PreparedCorpus, codec: TextCodec, meter: Meter
) -> tuple[list[str], dict[Split, _Words]]:
    """The words of the training split by their ids, and those of all splits.

    Words are what white space separates. The empty word, whose id is 0, ends a sentence.
    """
    known, found = {"": 0}, {}
    for split in SPLITS:
        tokens, starts = prepared.tokens(split), prepared.offsets(split)
        ids, offsets, sizes, unseen = array("I"), array("Q", [0]), array("I"), list[str]()
        unknown = len(known)
        for start, end in pairwise(starts.tolist()):
            words = codec.decode(tokens[start:end].tolist()).split()
            lengths = [len(word.encode()) + bool(place) for place, word in enumerate(words)]
            if end > start and tokens[end - 1] == codec.eos_id:
                words, lengths = [*words, ""], [*lengths, len(codec.eos_text)]
            if split == "train":
                ids.extend([known.setdefault(word, len(known)) for word in words])
            else:
                ids.extend([known.get(word, unknown) for word in words])
                unseen += [word for word in words if word not in known]
            sizes.extend(lengths)
            if words:
                offsets.append(len(ids))
            meter.advance(end - start)
        found[split] = _Words(
            np.array(ids, np.uint32),
            np.array(offsets, np.uint64),
            np.array(sizes, np.uint32),
            unseen,
        )
    meter.done()
    return list(known), found


def _word_models(
    words: tuple[list[str], dict[Split, _Words]], kept: int | None, make: Make
) -> tuple[CountModel, ...]:
    """The models of whole sentences, or of the stream, of words.

    The unigrams are interpolated with the model that spells words. Training words need no share of
    it, which would be tiny.
    """
    known, splits = words
    unknown = len(known)
    sizes: list[_Size] = []
    spelled: list[Iterable[str]] = []
    for split in EVALUATED:
        of_split = splits[split]
        scored = np.ones(len(of_split.ids), bool)
        scored[:1] = False
        if kept is not None:
            scored[of_split.offsets[:-1]] = False
        sizes.append(_Size(int(of_split.sizes[scored].sum())))
        spelled.append(compress(of_split.unseen, scored[of_split.ids == unknown].tolist()))
    once = np.flatnonzero(np.bincount(splits["train"].ids) == 1).tolist()
    spelled.insert(0, [known[word] for word in once])
    *_, spelling = score_orders([_spelled(one, make) for one in spelled], _BYTES, make)
    of_words = [
        sequences(part.ids, part.offsets, None if kept is None else 1 << 31, unknown + 1, make)
        for part in splits.values()
    ]
    base = np.zeros(unknown + 1)
    base[unknown] = 1
    orders = (
        order._replace(
            scores=[
                Score(score.nats + letters.nats, score.targets)
                for score, letters in zip(order.scores, spelling.scores, strict=True)
            ]
        )
        for order in score_orders(of_words, unknown + 1, make, base=base)
    )
    return _models("word", orders, sizes)


def _spelled(words: Iterable[str], make: Make) -> NDArray[np.int32]:
    """Words as sequences of bytes."""
    ids, offsets = array("I"), array("Q", [0])
    for word in words:
        ids.extend((_BYTE_START, *word.encode(), _BYTE_END))
        offsets.append(len(ids))
    return sequences(np.array(ids, np.uint32), np.array(offsets, np.uint64), 1 << 31, _BYTES, make)
