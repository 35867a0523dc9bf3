"""Test whether models differ on the same test text, sentence by sentence, as a task of
`worker.task`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import TEXT_NOT_KEPT, counted, share
from rnnlm_tui.schema.metrics import MAX_UNKNOWN_SHARE, SAME_BYTES
from rnnlm_tui.schema.protocol import decode_line
from rnnlm_tui.schema.significance import (
    ComparedModel,
    ComparedPart,
    ComparedSentence,
    KindOfToken,
    SignificanceDone,
    SignificanceRequest,
    Unit,
)
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.task import ReportProgress

if TYPE_CHECKING:
    from torch import Tensor, device

    from rnnlm_tui.corpus.codec import TextCodec
    from rnnlm_tui.engine.batches import Batch
    from rnnlm_tui.schema.sampling import FolderReading
    from rnnlm_tui.worker.models import LoadedModel

METHOD = "paired bootstrap-t over sentences"
LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
LEAST_SENTENCES = 50
"""With fewer, the interval covers the true difference less often than it says."""
CELLS_AT_ONCE = 1 << 20
SHOWN_SENTENCES, SHOWN_CHARACTERS = 5, 300
"""Sentences that are named each way, and how much of each."""
TIMES = ("never", "1 to 9", "10 to 99", "100 to 999", "1,000 to 9,999", "10,000 or more")
PLACES = ("1", "2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 or later")
WORD_PARTS = ("first of a word", "continuation", "end of sentence")
"""Kinds of token, by how often it is in the training text, by its place, and by what it is."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A model's losses on its test text, token by token."""

    part: ComparedPart
    codec: TextCodec | None
    """None of a model of transformers, to which a sentence is one token here."""
    ids: NDArray[Any]
    offsets: NDArray[np.int64]
    """Start of each sentence, and the end of the last."""
    nats: Floats
    """NaN where nothing predicts a token."""
    sizes: NDArray[np.int64]
    """Bytes of each token; 0 if the tokenizer doesn't keep the text."""

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.nats)

    @property
    def sentence_of(self) -> NDArray[np.int64]:
        """The sentence that each token is in."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def by_sentence(self, values: NDArray[Any]) -> Floats:
        """The sum of each sentence."""
        return np.bincount(self.sentence_of, values, len(self.offsets) - 1).astype(np.float64)

    def losses(self, unit: Unit) -> tuple[Floats, Floats]:
        """The loss of each token, and how many tokens or bytes it counts as."""
        nats, is_scored = np.nan_to_num(self.nats), self.is_scored.astype(float)
        if unit == "nats per token":
            return nats, is_scored
        return nats / np.log(2), is_scored * self.sizes


def paired_intervals(
    first: Floats,
    other: Floats,
    *,
    resamples: int = RESAMPLES,
    report: ReportProgress = lambda *_: None,
) -> tuple[Floats, Floats]:
    """Difference of two models' losses, of each pair, and half the width of its interval.

    Sentences are drawn with replacement, the same for both models; a loss is the ratio of the sums.
    The interval is the symmetric bootstrap-t. On simulated heavy-tailed losses of 50 sentences,
    percentile, BCa and equal-tailed bootstrap-t intervals covered the true difference in as few as
    91 % of samples, this one in 94 to 96 %.

    Args:
        first, other: loss and size of each sentence, of shape (pairs, sentences, 2).
    """
    pairs, sentences, _ = other.shape
    both = np.stack([other, np.broadcast_to(first, other.shape)])
    sums = both.sum(2, keepdims=True)
    deviations = both[..., 0] - both[..., 1] * sums[..., 0] / sums[..., 1]
    influence = deviations[0] / sums[0, ..., 1] - deviations[1] / sums[1, ..., 1]
    table = np.stack([*np.moveaxis(both, 3, 1).reshape(4, pairs, -1), influence, influence**2])
    by_sentence = table.reshape(6 * pairs, sentences).T
    difference = (sums[0, ..., 0] / sums[0, ..., 1] - sums[1, ..., 0] / sums[1, ..., 1])[:, 0]
    draw, ratios = np.random.default_rng(SEED), []
    chunk = max(1, CELLS_AT_ONCE // sentences)
    for done in range(0, resamples, chunk):
        report("resampling", done, resamples)
        rows = min(chunk, resamples - done)
        drawn = draw.integers(0, sentences, (rows, sentences))
        drawn += sentences * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * sentences).reshape(rows, sentences)
        found = np.moveaxis((times.astype(float) @ by_sentence).reshape(rows, 6, pairs), 1, 0)
        error = np.sqrt(np.maximum(found[5] - found[4] ** 2 / sentences, np.finfo(float).tiny))
        ratios.append(np.abs(found[0] / found[1] - found[2] / found[3] - difference) / error)
    width = np.quantile(np.concatenate(ratios), LEVEL, 0)
    return difference, width * np.sqrt((influence**2).sum(1))


def task(request: bytes, report: ReportProgress) -> SignificanceDone:
    """Compare as a SignificanceRequest asks."""
    return compare(decode_line(request, SignificanceRequest), report)


def compare(request: SignificanceRequest, report: ReportProgress) -> SignificanceDone:
    """Score the test text with each model, and test the differences to the first one.

    Raises:
        InputError: no other model is comparable with the first, or there are too few sentences.
        RnnlmError: a checkpoint is damaged, its text has changed or can't be prepared.
    """
    from rnnlm_tui.engine.device import set_threads, use_device

    set_threads(0)
    device = use_device(request.device)
    first, times = _score_run(request.parts[0], device, report)
    scored = [first]
    for part in request.parts[1:]:
        if part.run:
            scored.append(_score_run(part, device, report)[0])
        else:
            scored.append(_score_folder(part, request.reading, device, first, report))
    problems = {one.part.letter: _problem(first, one) for one in scored}
    scored = [one for one in scored if not problems[one.part.letter]]
    left_out = tuple(filter(None, problems.values()))
    if len(scored) < 2:
        raise InputError("; ".join(left_out), hint="compare models on the same test text")
    alike = all(_have_same_tokens(first, one) for one in scored)
    unit: Unit = "nats per token" if alike else "bits per byte"
    sums = np.stack([np.stack([*map(one.by_sentence, one.losses(unit))], 1) for one in scored])
    used = np.flatnonzero(sums[..., 1].min(0) > 0)
    if len(used) < LEAST_SENTENCES:
        raise InputError(
            f"the test text has {counted(len(used), 'scored sentence')}: an interval needs at"
            f" least {LEAST_SENTENCES}",
            hint="use a longer text, or a larger corpus.test_fraction",
        )
    sums = sums[:, used]
    models = []
    for one, own, value, half in zip(
        scored, sums, *paired_intervals(sums[:1], sums, report=report), strict=True
    ):
        loss, size = own.sum(0)
        models.append(
            ComparedModel(
                letter=one.part.letter,
                address=one.part.address,
                loss=loss / size,
                size=size,
                difference=value,
                low=value - half,
                high=value + half,
                sentences=tuple(_sentences(first, used, own[:, 0] - sums[0, :, 0])),
            )
        )
    return SignificanceDone(
        unit=unit,
        sentences=len(used),
        method=METHOD,
        resamples=RESAMPLES,
        seed=SEED,
        models=tuple(models),
        kinds=tuple(_kinds(scored, unit, times)),
        left_out=left_out,
    )


def _score_run(
    part: ComparedPart, device: device, report: ReportProgress
) -> tuple[_Scored, NDArray[np.int64]]:
    """Score the test text of a run's corpus; also returns how often each token is in training."""
    from rnnlm_tui.worker.models import load_export
    from rnnlm_tui.worker.resuming import prepare_text

    run, folder = RunDirectory(Path(part.run)), Path(part.path)
    manifest = verify_checkpoint(folder)
    corpus = prepare_text(
        run, run.read_config(), manifest, lambda at: report(at.phase, at.done, at.total)
    )
    ids, offsets = np.array(corpus.tokens("test")), corpus.offsets("test")
    scored = _score(part, load_export(folder, device), ids, offsets, report)
    return scored, np.bincount(corpus.tokens("train"), minlength=corpus.manifest.vocab_size)


def _score_folder(
    part: ComparedPart,
    reading: FolderReading,
    device: device,
    first: _Scored,
    report: ReportProgress,
) -> _Scored:
    """Score the text that the first model's tokens stand for with the model in a folder."""
    from rnnlm_tui.worker.causal_model import CausalModel, open_folder

    assert first.codec is not None
    places = pairwise(first.offsets.tolist())
    lines = [first.codec.decode(first.ids[start:end].tolist()) for start, end in places]
    model = open_folder(Path(part.path), device, reading)
    if isinstance(model, CausalModel):
        rows = []
        for score in model.score_lines(lines):
            report(f"scoring {part.address}", len(rows), len(lines))
            rows.append((score.nats if score.tokens else np.nan, score.bytes))
        nats, sizes = np.array(rows).T
        none = np.full(len(rows), -1)
        return _Scored(part, None, none, np.arange(len(rows) + 1), nats, sizes.astype(int))
    codec, ends = model.codec, first.ids[first.offsets[1:] - 1] == first.codec.eos_id
    encoded = [
        [*codec.encode(text.removesuffix(first.codec.eos_text)), codec.eos_id]
        if end and codec.eos_id is not None
        else codec.encode(text)
        for text, end in zip(lines, ends, strict=True)
    ]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint64)
    return _score(part, model, np.concatenate(encoded), offsets, report)


def _score(
    part: ComparedPart,
    loaded: LoadedModel,
    ids: NDArray[Any],
    offsets: NDArray[np.uint64],
    report: ReportProgress,
) -> _Scored:
    """Score tokens as an evaluation does."""
    import torch

    from rnnlm_tui.engine.batches import evaluation_batches
    from rnnlm_tui.engine.evaluate import evaluate
    from rnnlm_tui.engine.loss import IGNORED

    nats, codec = np.full(len(ids), np.nan), loaded.codec
    batches = evaluation_batches(
        ids,
        offsets,
        data_mode=loaded.data_mode,
        context_length=loaded.context_length or max(2, len(ids)),
        pad_id=codec.pad_id,
    )

    def keep(batch: Batch, losses: Tensor, _hidden: Tensor) -> None:
        counts, starts = batch.targets_BT != IGNORED, batch.starts_B
        assert starts is not None
        places = starts[:, None] + torch.arange(1, counts.shape[1] + 1)
        nats[places[counts].numpy()] = losses[counts].numpy()
        report(f"scoring {part.address}", int((~np.isnan(nats)).sum()), len(ids))

    evaluate(loaded.model, batches, each=keep)
    starts = offsets.astype(np.int64)
    sizes = codec.token_bytes.of(ids, starts[:-1]) * codec.token_bytes.are_exact
    return _Scored(part, codec, ids, starts, nats, sizes)


def _have_same_tokens(first: _Scored, other: _Scored) -> bool:
    """Whether the same tokens of the text are scored."""
    return np.array_equal(first.ids, other.ids) and np.array_equal(first.is_scored, other.is_scored)


def _problem(first: _Scored, other: _Scored) -> str:
    """Why the losses of two models aren't comparable; empty if they are."""
    if _have_same_tokens(first, other):
        return ""
    why = f"{other.part.letter} isn't compared: "
    for one in (first, other):
        if not one.sizes.any():
            return f"{why}for {one.part.letter} {TEXT_NOT_KEPT}"
        unknown = one.codec and one.codec.unk_id
        part = float((one.ids[one.is_scored] == unknown).mean()) if unknown is not None else 0.0
        if part > MAX_UNKNOWN_SHARE:
            return f"{why}{share(part)} of {one.part.letter}'s tokens are unknown"
    mine, theirs = (one.by_sentence(one.sizes * one.is_scored) for one in (first, other))
    if len(mine) == len(theirs) and np.abs(mine - theirs).sum() <= SAME_BYTES * mine.sum():
        return ""
    sizes = (
        f"{counted(len(one), 'sentence')}, {counted(int(one.sum()), 'byte')}"
        for one in (theirs, mine)
    )
    return f"{why}it scores another text, or part of it: {' instead of '.join(sizes)}"


def _sentences(
    first: _Scored, used: NDArray[np.int64], differences: Floats
) -> Iterator[ComparedSentence]:
    """The sentences with the largest differences each way."""
    assert first.codec is not None
    order = np.argsort(differences, kind="stable")
    for at in (*order[:SHOWN_SENTENCES], *order[-SHOWN_SENTENCES:]):
        place = int(used[at])
        ids = first.ids[first.offsets[place] : first.offsets[place + 1]][:SHOWN_CHARACTERS]
        text = " ".join(first.codec.decode(ids.tolist()).split())[:SHOWN_CHARACTERS]
        yield ComparedSentence(number=place + 1, text=text, difference=differences[at])


def _kinds(
    scored: Sequence[_Scored], unit: Unit, times: NDArray[np.int64]
) -> Iterator[KindOfToken]:
    """The losses by kind of token, of the kinds that occur."""
    first, chosen = scored[0], scored[0].is_scored
    sizes = first.losses(unit)[1][chosen]
    losses = [_on_tokens_of(first, one, unit)[chosen] for one in scored]
    place = np.arange(len(first.ids)) - first.offsets[:-1][first.sentence_of] + 1
    families = (
        ("times in training", TIMES, np.digitize(times[first.ids], (1, 10, 100, 1_000, 10_000))),
        ("place in the sentence", PLACES, np.digitize(place, (2, 4, 8, 16, 32))),
        ("part of a word", WORD_PARTS, _word_parts(first)),
    )
    for family, kinds, codes in families:
        of = codes[chosen]
        for code in np.unique(of[sizes > 0]):
            yield KindOfToken(
                family=family,
                kind=kinds[code],
                tokens=int((of == code).sum()),
                losses=tuple(one[of == code].sum() / sizes[of == code].sum() for one in losses),
            )


def _on_tokens_of(first: _Scored, other: _Scored, unit: Unit) -> Floats:
    """The other's losses on the first one's tokens, spread evenly over bytes where they differ."""
    losses, _ = other.losses(unit)
    if other.codec is None:
        return np.full(len(first.ids), np.nan)
    if unit == "nats per token":
        return losses
    # sentences end at the same place for both, although unknown tokens have other bytes
    scale = first.by_sentence(first.sizes) / np.maximum(other.by_sentence(other.sizes), 1)
    ends = np.cumsum(other.sizes * scale[other.sentence_of])
    sums = np.interp(np.cumsum(first.sizes), [0, *ends], [0, *np.cumsum(losses)])
    return np.diff(sums, prepend=0.0)


def _word_parts(first: _Scored) -> NDArray[np.int64]:
    """The index in `WORD_PARTS` of each token."""
    ids, codec = first.ids, first.codec
    assert codec is not None
    known = np.unique(ids).tolist()
    before = next((one for one in known if codec.decode([one]).strip().isalpha()), known[0])
    begins, blank = np.zeros((2, max(known) + 1), bool)
    for one in known:
        text = codec.incremental([before]).peek(one)
        begins[one], blank[one] = text[:1].isspace() and text.strip() != "", text[-1:].isspace()
    is_first = begins[ids]
    is_first[1:] |= blank[ids[:-1]]
    is_first[first.offsets[:-1][np.diff(first.offsets) > 0]] = True
    return np.where(ids == codec.eos_id, 2, np.where(is_first, 0, 1))
