"""Test whether models differ on the same test text, sentence by sentence, as a task of
`worker.task`.

The interval is that of a paired bootstrap-t over sentences: sentences are drawn with replacement,
the same for both models, and the loss is the ratio of the sums. Of the methods tried on simulated
heavy-tailed losses (percentile, BCa, bootstrap-t with two tails or with the absolute value) only
the last covers the true difference in 94 to 96 % of samples from 50 sentences on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.corpora import unused_corpus_fields
from rnnlm_tui.schema.formatting import TEXT_NOT_KEPT, counted, share
from rnnlm_tui.schema.metrics import MAX_UNKNOWN_SHARE, SAME_BYTES
from rnnlm_tui.schema.protocol import decode_line
from rnnlm_tui.schema.significance import (
    ComparedModel,
    ComparedPart,
    ComparedSentence,
    Difference,
    KindOfToken,
    SignificanceDone,
    SignificanceRequest,
    Unit,
)
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.task import ReportProgress

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import FolderReading
    from rnnlm_tui.worker.models import LoadedModel

METHOD = "paired bootstrap-t over sentences"
LEVEL = 0.95
RESAMPLES, LEAST_RESAMPLES, MOST_DRAWS = 10_000, 1_000, 10**9
"""Resamples, and how many at least of a text with so many sentences that it would take minutes."""
SEED = 0
LEAST_SENTENCES = 50
"""With fewer, the interval is too narrow for losses with heavy tails."""
CELLS_AT_ONCE = 1 << 20
SHOWN_SENTENCES, SHOWN_CHARACTERS = 5, 300
"""Sentences that are named each way, and how much of each."""
REPORT_SECONDS = 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A model's losses on its test text, token by token."""

    part: ComparedPart
    codec: TextCodec | None
    """None of a model of transformers, whose sentences are one token each here."""
    ids: NDArray[Any]
    offsets: NDArray[np.uint64]
    """Start of each sentence, and the end of the last."""
    nats: Floats
    """0 where a token isn't scored."""
    is_scored: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    """Bytes of each token."""
    scored_bytes: int
    """0 if the tokenizer doesn't keep the text."""
    tokens: int
    """How many are scored."""

    @property
    def sentence_of(self) -> NDArray[np.int64]:
        """The sentence that each token is in."""
        lengths = np.diff(self.offsets).astype(np.int64)
        return np.repeat(np.arange(len(lengths)), lengths)

    @property
    def unknown(self) -> float:
        """Share of unknown tokens among the scored ones."""
        unknown = None if self.codec is None else self.codec.unk_id
        return 0.0 if unknown is None else float((self.ids[self.is_scored] == unknown).mean())

    def by_sentence(self, values: NDArray[Any]) -> Floats:
        """The sum of each sentence."""
        return np.bincount(self.sentence_of, values, len(self.offsets) - 1).astype(np.float64)

    def losses(self, unit: Unit) -> tuple[Floats, Floats]:
        """The loss of each token, and how many tokens or bytes it counts as."""
        if unit == "nats per token":
            return self.nats, self.is_scored.astype(float)
        return self.nats / np.log(2), self.sizes * self.is_scored.astype(float)


def paired_intervals(
    first: Floats,
    other: Floats,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    report: ReportProgress = lambda *_: None,
) -> tuple[Floats, Floats]:
    """The difference of two ratios of sums for each pair of models, and half of its interval's
    width: the symmetric bootstrap-t interval.

    Args:
        first: loss and size of each sentence; the difference is the other's ratio less this.
        other: those of the other model on the same sentences.
    """
    both = np.concatenate([other, np.broadcast_to(first, other.shape)], 2)
    pairs, sentences, _ = both.shape
    sums = both.sum(1)
    overall = sums[:, ::2] / sums[:, 1::2]
    both[..., ::2] -= overall[:, None] * both[..., 1::2]  # deviations, so that squares are small
    squares = (both[..., :, None] * both[..., None, :]).reshape(pairs, sentences, 16)
    table = np.concatenate([both, squares], 2).transpose(1, 0, 2).reshape(sentences, -1)

    _, error = _differences(table.sum(0, keepdims=True), pairs)
    draw, ratios = np.random.default_rng(seed), []
    chunk = max(1, CELLS_AT_ONCE // sentences)
    for done in range(0, resamples, chunk):
        report("resampling", done, resamples)
        rows = min(chunk, resamples - done)
        drawn = (
            draw.integers(0, sentences, (rows, sentences)) + sentences * np.arange(rows)[:, None]
        )
        times = np.bincount(drawn.ravel(), minlength=rows * sentences).reshape(rows, sentences)
        differences, errors = _differences(times.astype(float) @ table, pairs)
        ratios.append(np.abs(differences) / np.maximum(errors, np.finfo(float).tiny))
    return overall[:, 0] - overall[:, 1], np.quantile(np.concatenate(ratios), LEVEL, 0) * error[0]


def _differences(table: Floats, pairs: int) -> tuple[Floats, Floats]:
    """Differences of ratios, from the whole sample's, and their standard errors, from sums of
    deviations, sizes and all their products: the delta method."""
    sums = table.reshape(len(table), pairs, 20)
    products = sums[..., 4:].reshape(len(table), pairs, 4, 4)
    losses, sizes = sums[..., 0:4:2], sums[..., 1:4:2]
    ratios = losses / sizes
    signs = np.array([1.0, -1.0])
    weights = np.stack([signs / sizes, -signs * ratios / sizes], -1).reshape(*sizes.shape[:2], 4)
    variances = np.einsum("rpi,rpij,rpj->rp", weights, products, weights)
    return ratios[..., 0] - ratios[..., 1], np.sqrt(np.maximum(variances, 0.0))


def compare(request: SignificanceRequest, report: ReportProgress) -> SignificanceDone:
    """Score the test text with each model, and test the differences to the first one.

    Raises:
        InputError: no other model is comparable with the first, or there are too few sentences.
        RnnlmError: a checkpoint is damaged, its text has changed or can't be prepared.
    """
    from rnnlm_tui.engine.device import set_threads, use_device

    set_threads(0)
    device = use_device(request.device)
    first, corpus = _score_run(request.parts[0], device, report)
    scored, left_out = [first], list[str]()
    for part in request.parts[1:]:
        if part.run:
            one, its_corpus = _score_run(part, device, report)
            if _text_of(its_corpus) != _text_of(corpus):
                size = _size(its_corpus)
                left_out.append(f"{part.letter} isn't compared: its test text is another ({size})")
                continue
        else:
            one = _score_folder(part, request.reading, device, first, report)
        scored.append(one)
    same_tokens = all(_same_tokens(first, one) for one in scored[1:])
    unit: Unit = "nats per token" if same_tokens else "bits per byte"
    if not same_tokens:
        problems = {one.part.letter: _problem(first, one) for one in scored[1:]}
        left_out += filter(None, problems.values())
        scored = [one for one in scored if not problems.get(one.part.letter)]
    if len(scored) < 2:
        raise InputError("; ".join(left_out), hint="compare models on the same test text")
    sums = np.stack([np.stack([one.by_sentence(v) for v in one.losses(unit)], 1) for one in scored])
    used = sums[:, :, 1].min(0) > 0
    sentences = int(used.sum())
    if sentences < LEAST_SENTENCES:
        raise InputError(
            f"the test text has {counted(sentences, 'scored sentence')}: an interval needs at"
            f" least {LEAST_SENTENCES}",
            hint="use a longer text, or a larger corpus.test_fraction",
        )
    resamples = min(RESAMPLES, max(LEAST_RESAMPLES, MOST_DRAWS // sentences))
    found = paired_intervals(sums[:1, used], sums[1:, used], resamples=resamples, report=report)
    totals = sums[:, used].sum(1)
    return SignificanceDone(
        unit=unit,
        sentences=sentences,
        method=METHOD,
        resamples=resamples,
        seed=SEED,
        models=tuple(
            ComparedModel(
                letter=one.part.letter,
                address=one.part.address,
                loss=total / size,
                tokens=one.tokens,
                scored_bytes=one.scored_bytes,
            )
            for one, (total, size) in zip(scored, totals, strict=True)
        ),
        differences=tuple(
            Difference(
                letter=one.part.letter,
                value=value,
                low=value - half,
                high=value + half,
                **_sentences(first, sums[0, :, 0], losses[:, 0]),
            )
            for one, losses, value, half in zip(scored[1:], sums[1:], *found, strict=True)
        ),
        kinds=tuple(_kinds(scored, unit, corpus)),
        left_out=tuple(left_out),
    )


def task(request: bytes, report: ReportProgress) -> SignificanceDone:
    """Compare as a SignificanceRequest asks."""
    return compare(decode_line(request, SignificanceRequest), report)


def _score_run(
    part: ComparedPart, device: Any, report: ReportProgress
) -> tuple[_Scored, PreparedCorpus]:
    """Score the test text of a run's corpus with its checkpoint."""
    from rnnlm_tui.worker.models import load_export
    from rnnlm_tui.worker.resuming import prepare_text

    run, folder = RunDirectory(Path(part.run)), Path(part.path)
    manifest = verify_checkpoint(folder)
    corpus = prepare_text(
        run, run.read_config(), manifest, lambda at: report(at.phase, at.done, at.total)
    )
    ids = np.array(corpus.tokens("test"))
    return _scored(part, load_export(folder, device), ids, corpus.offsets("test"), report), corpus


def _score_folder(
    part: ComparedPart, reading: FolderReading, device: Any, first: _Scored, report: ReportProgress
) -> _Scored:
    """Score the text that the first model's tokens stand for with the model in a folder."""
    from rnnlm_tui.worker.causal_model import CausalModel, open_folder

    assert first.codec is not None
    lines = [
        first.codec.decode(first.ids[start:end].tolist())
        for start, end in pairwise(first.offsets.tolist())
    ]
    model = open_folder(Path(part.path), device, reading)
    if isinstance(model, CausalModel):
        rows = list[tuple[float, int, int]]()
        for score in model.score_lines(lines):
            rows.append(score)
            report(f"scoring {part.address}", len(rows), len(lines))
        nats, tokens, sizes = map(np.array, zip(*rows, strict=True))
        return _Scored(
            part=part,
            codec=None,
            ids=np.full(len(rows), -1),
            offsets=np.arange(len(rows) + 1, dtype=np.uint64),
            nats=nats,
            is_scored=tokens > 0,
            sizes=sizes,
            scored_bytes=int(sizes.sum()),
            tokens=int(tokens.sum()),
        )
    end, eos = first.codec.eos_text, [] if model.codec.eos_id is None else [model.codec.eos_id]
    encoded = [
        model.codec.encode(text.removesuffix(end)) + (eos if text.endswith(end) else [])
        for text in lines
    ]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint64)
    return _scored(part, model, np.concatenate(encoded), offsets, report)


def _scored(
    part: ComparedPart,
    loaded: LoadedModel,
    ids: NDArray[Any],
    offsets: NDArray[np.uint64],
    report: ReportProgress,
) -> _Scored:
    """Score tokens as an evaluation does."""
    from rnnlm_tui.engine.batches import Batch, evaluation_batches
    from rnnlm_tui.engine.evaluate import evaluate, scored_places

    losses, done, next_report = np.full(len(ids), np.nan), 0, 0.0
    is_stream, context = loaded.data_mode == "stream", loaded.context_length or max(2, len(ids))
    pad = loaded.codec.pad_id

    def batches() -> Iterator[Batch]:
        nonlocal done, next_report
        for batch in evaluation_batches(
            ids, offsets, data_mode=loaded.data_mode, context_length=context, pad_id=pad
        ):
            if perf_counter() >= next_report:
                report(f"scoring {part.address}", done, len(ids))
                next_report = perf_counter() + REPORT_SECONDS
            yield batch
            done += batch.tokens

    def keep(batch: Batch, by_position: Any) -> None:
        places, nats = scored_places(batch, by_position)
        losses[places] = nats

    evaluate(loaded.model, batches(), each=keep)
    token_bytes = loaded.codec.token_bytes
    scored_bytes, _ = token_bytes.scored(ids, offsets, None if is_stream else context)
    is_scored = ~np.isnan(losses)
    return _Scored(
        part=part,
        codec=loaded.codec,
        ids=ids,
        offsets=offsets,
        nats=np.nan_to_num(losses),
        is_scored=is_scored,
        sizes=token_bytes.of(ids, offsets[:-1].astype(np.int64)),
        scored_bytes=scored_bytes,
        tokens=int(is_scored.sum()),
    )


def _text_of(corpus: PreparedCorpus) -> tuple[object, ...]:
    """What is equal only for the same test text, whatever its path and tokens."""
    manifest = corpus.manifest
    unused = {"source", "test_source", "layout"} | unused_corpus_fields(manifest.corpus)
    settings = manifest.corpus.model_dump(exclude=unused)
    return manifest.source_hash, manifest.layout, settings, manifest.splits["test"].sentences


def _size(corpus: PreparedCorpus) -> str:
    test = corpus.manifest.splits["test"]
    return f"{counted(test.sentences, 'sentence')}, {counted(test.bytes, 'byte')}"


def _same_tokens(first: _Scored, other: _Scored) -> bool:
    """Whether the same tokens of the text are scored."""
    return np.array_equal(first.ids, other.ids) and np.array_equal(first.is_scored, other.is_scored)


def _problem(first: _Scored, other: _Scored) -> str:
    """Why bits per byte of two models aren't comparable; empty if they are."""
    for one in (first, other):
        if not one.scored_bytes:
            return f"{other.part.letter} isn't compared: for {one.part.letter} {TEXT_NOT_KEPT}"
        if one.unknown > MAX_UNKNOWN_SHARE:
            words = f"{share(one.unknown)} of {one.part.letter}'s tokens are unknown"
            return f"{other.part.letter} isn't compared: {words}"
    sizes = first.scored_bytes, other.scored_bytes
    if max(sizes) - min(sizes) <= SAME_BYTES * max(sizes):
        return ""
    parts = (f"{one.part.letter} scored {one.scored_bytes:,}" for one in (first, other))
    return f"{other.part.letter} isn't compared: {', '.join(parts)} bytes of the text"


def _sentences(
    first: _Scored, firsts: Floats, others: Floats
) -> dict[str, tuple[ComparedSentence, ...]]:
    """The sentences on which another model is better than the first by most, and worse."""
    assert first.codec is not None
    decode, offsets = first.codec.decode, first.offsets
    differences = others - firsts
    order = np.argsort(differences)

    def told(places: Iterable[int]) -> tuple[ComparedSentence, ...]:
        return tuple(
            ComparedSentence(
                number=place + 1,
                text=decode(
                    first.ids[offsets[place] : offsets[place + 1]][:SHOWN_CHARACTERS].tolist()
                ).strip()[:SHOWN_CHARACTERS],
                first=firsts[place],
                other=others[place],
            )
            for place in map(int, places)
        )

    return {
        "better": told(place for place in order[:SHOWN_SENTENCES] if differences[place] < 0),
        "worse": told(
            place for place in order[: -SHOWN_SENTENCES - 1 : -1] if differences[place] > 0
        ),
    }


def _kinds(scored: Sequence[_Scored], unit: Unit, corpus: PreparedCorpus) -> Iterator[KindOfToken]:
    """The losses by kind of token, of the kinds that occur."""
    first = scored[0]
    _, sizes = first.losses(unit)
    losses = [None if one.codec is None else _on_tokens_of(first, one, unit) for one in scored]
    times = np.bincount(corpus.tokens("train"), minlength=corpus.manifest.vocab_size)[first.ids]
    starts = first.offsets.astype(np.int64)[:-1]
    place = np.arange(len(first.ids)) - starts[first.sentence_of] + 1
    families = (
        ("times in training", _digits(times, 10), _TIMES),
        ("place in the sentence", _digits(place, 2) - 1, _PLACES),
        ("part of a word", _word_parts(first, starts), _WORD_PARTS),
    )
    for family, codes, kinds in families:
        codes = np.minimum(codes, len(kinds) - 1)[first.is_scored]
        tokens, size = np.bincount(codes), np.bincount(codes, sizes[first.is_scored])
        sums = [None if one is None else np.bincount(codes, one[first.is_scored]) for one in losses]
        for code in np.flatnonzero(size):
            yield KindOfToken(
                family=family,
                kind=kinds[code],
                tokens=tokens[code],
                losses=tuple(None if one is None else one[code] / size[code] for one in sums),
            )


_TIMES = ("never", "1 to 9", "10 to 99", "100 to 999", "1,000 to 9,999", "10,000 or more")
_PLACES = ("1", "2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 or later")
_WORD_PARTS = ("first of a word", "continuation", "end of sentence")


def _digits(numbers: NDArray[Any], base: int) -> NDArray[np.int64]:
    """How many digits whole numbers have; 0 has none."""
    powers = np.array([base**power for power in range(7)])
    return np.searchsorted(powers, numbers, side="right")


def _on_tokens_of(first: _Scored, other: _Scored, unit: Unit) -> Floats:
    """The other's losses on the first one's tokens, spread evenly over bytes where they differ."""
    losses, _ = other.losses(unit)
    if unit == "nats per token":
        return losses
    # unknown tokens have other bytes than the text: both models' sentences end at the same place
    scale = first.by_sentence(first.sizes) / np.maximum(other.by_sentence(other.sizes), 1)
    ends = np.cumsum(other.sizes * scale[other.sentence_of])
    total = np.interp(np.cumsum(first.sizes), [0, *ends], [0, *np.cumsum(losses)])
    return np.diff(total, prepend=0.0)


def _word_parts(first: _Scored, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index in `_WORD_PARTS` of each token."""
    ids, codec = first.ids, first.codec
    assert codec is not None
    known = [int(one) for one in np.unique(ids)]
    before = next((one for one in known if codec.decode([one]).strip().isalpha()), known[0])
    begins, blank = np.zeros((2, codec.vocab_size), bool)
    for one in known:
        text = codec.incremental([before]).peek(one)
        begins[one], blank[one] = text[:1].isspace() and text.strip() != "", text[-1:].isspace()
    is_first = begins[ids]
    is_first[1:] |= blank[ids[:-1]]
    is_first[starts[starts < len(ids)]] = True
    is_end = np.full(len(ids), False) if codec.eos_id is None else ids == codec.eos_id
    return np.where(is_end, 2, np.where(is_first, 0, 1))
