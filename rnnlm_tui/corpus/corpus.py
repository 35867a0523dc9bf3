"""Prepare corpora: token ids, sentence offsets, tokenizer and manifest, built once and reused."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rnnlm_tui.corpus.build import Meter, ProgressCallback, claimed, discard, empty, publish, sweep
from rnnlm_tui.corpus.encode import LineEncoder, Repeats, encode_split
from rnnlm_tui.corpus.news import NEWS, ensure_news, news_files
from rnnlm_tui.corpus.ngram import (
    COUNTED_TOKENS,
    OrderScores,
    Tokens,
    array_maker,
    score_orders,
    sequences,
)
from rnnlm_tui.corpus.sources import Advance, Source, open_source
from rnnlm_tui.corpus.splits import (
    Piece,
    check_fills_batch,
    check_length,
    read_blocks,
    split_pools,
    split_shares,
    stage,
    units_of,
)
from rnnlm_tui.corpus.tokenizers import (
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAME,
    BuiltTokenizer,
    build_tokenizer,
    load_pretrained,
)
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import (
    BASELINE_ORDERS,
    CorpusConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.corpora import (
    CORPUS_FORMAT,
    EVALUATED,
    FOLDER_DIGITS,
    MANIFEST_NAME,
    PREVIEWED_CHARACTERS,
    PREVIEWED_LINES,
    SPLITS,
    UNFINISHED_NAME,
    UNFINISHED_PREFIX,
    Baseline,
    CorpusManifest,
    PreparedFrom,
    Split,
    SplitFacts,
    TextLayout,
    token_dtype,
    unused_corpus_fields,
    unused_tokenizer_fields,
)
from rnnlm_tui.schema.formatting import counted, share, user_path
from rnnlm_tui.system.files import make_private_directory, write_text_atomically
from rnnlm_tui.system.locks import folder_lock

_NOT_HASHED = {"source", "test_source", "layout"}
"""Paths, because the text itself is hashed, and the setting from which the layout is chosen."""

_PREPARE_AGAIN = "remove the folder; the next run prepares the corpus again"

FEW_DOCUMENTS = 8
"""With fewer raw documents, an empty prompt starts with a line break, not an end token.

A model hardly learns what follows so few end tokens.
"""


@dataclass(frozen=True)
class PreparedCorpus:
    """A prepared corpus with memory-mapped token files."""

    path: Path
    manifest: CorpusManifest

    def tokens(self, split: Split) -> Tokens:
        """All token ids of a split, `(tokens,)`, read-only."""
        return np.memmap(
            self.path / f"{split}.bin", token_dtype(self.manifest.vocab_size), mode="r"
        )

    def offsets(self, split: Split) -> NDArray[np.uint64]:
        """Start of each sentence and number of tokens, `(sentences + 1,)`, read-only."""
        return np.memmap(self.path / f"{split}.offsets.bin", dtype=np.uint64, mode="r")


def load_prepared(path: Path) -> PreparedCorpus:
    """Open a prepared corpus.

    Raises:
        StorageError: the manifest is missing or has another format, or files have the wrong size.
    """
    try:
        manifest = CorpusManifest.model_validate_json((path / MANIFEST_NAME).read_bytes())
    except OSError as error:
        raise StorageError(
            f"can't open {path} as a prepared corpus: {error.strerror or error}"
        ) from error
    except ValidationError as error:
        raise StorageError(f"the manifest in {path} is invalid", hint=_PREPARE_AGAIN) from error
    if manifest.format != CORPUS_FORMAT:
        raise StorageError(
            f"the corpus in {path} has format {manifest.format}, but this version reads format"
            f" {CORPUS_FORMAT}"
        )
    width = np.dtype(token_dtype(manifest.vocab_size)).itemsize
    sizes = {f"{split}.bin": facts.tokens * width for split, facts in manifest.splits.items()}
    for split, facts in manifest.splits.items():
        sizes[f"{split}.offsets.bin"] = (facts.sentences + 1) * 8
    for name in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME, *sizes):
        try:
            found = (path / name).stat().st_size
        except OSError as error:
            raise StorageError(
                f"{name} is missing in the corpus {path}", hint=_PREPARE_AGAIN
            ) from error
        if found != sizes.get(name, found):
            raise StorageError(
                f"{name} in {path} has {counted(found, 'byte')}, must have {sizes[name]:,}",
                hint=_PREPARE_AGAIN,
            )
    return PreparedCorpus(path, manifest)


def prepare_corpus(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    training: TrainingConfig,
    root: Path,
    progress: ProgressCallback,
    known: Callable[[str], None] | None = None,
) -> PreparedCorpus:
    """Find the prepared corpus for these settings below `root`, or build it.

    The same text with the same settings is stored once, even for several paths. If several
    processes call this, one prepares the corpus, and the others wait and report its progress.
    Memory doesn't grow with the text. The source `news` is downloaded if missing, but only after a
    pretrained tokenizer was loaded successfully.

    Args:
        training: its data mode decides how the baseline is evaluated, its batch the minimum length.
        progress: called about ten times a second with phase and bytes; an exception stops the
            preparation or the wait.
        known: called with the corpus's hash before it is built; no corpus can be removed until it
            returns.

    Raises:
        CorpusError: the source is missing, can't be downloaded, isn't text, is empty or shorter
            than a batch.
        TokenizerError: the tokenizer can't be trained or loaded.
        StorageError: `root` can't be written, or its disk is too small.
    """
    load = partial(load_pretrained, tokenizer) if tokenizer.kind == "pretrained" else None
    if NEWS in (corpus.source, corpus.test_source) and news_files(root) is None:
        if load is not None:
            load()
        ensure_news(root, corpus.url, progress)
    source = open_source(corpus, root, load)
    meter = Meter("checking", source.size, progress)
    source_hash = source.fingerprint(meter.advance)
    meter.done()
    sweep(root)
    order = _Order(source, source_hash, corpus, tokenizer, training)
    make_private_directory(root)
    with folder_lock(root):
        prepared = _find(root, order.identity)
        if known is not None:
            known(order.identity)
    if prepared is None:
        prepared = _share_or_build(order, root, progress)
    check_length(prepared.manifest, training)
    return _completed(prepared, order, progress)


@dataclass(frozen=True)
class _Order:
    """A corpus to prepare."""

    source: Source
    source_hash: str
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    training: TrainingConfig

    @cached_property
    def identity(self) -> str:
        """The corpus's hash: SHA-256 of all that affects its files, without paths.

        That is the text and how it is read, the tokenizer and the settings. Fields with default
        values are left out, so that new fields don't change hashes.
        """
        pretrained = _tokenizer_files(self.tokenizer)
        facts = {
            "format": CORPUS_FORMAT,
            "source": self.source_hash,
            "reading": self.source.reading,
            "layout": self.source.layout,
            "corpus": self.corpus.model_dump(
                mode="json",
                exclude=_NOT_HASHED | unused_corpus_fields(self.corpus),
                exclude_defaults=True,
            ),
            "tokenizer": self.tokenizer.model_dump(
                mode="json",
                exclude=unused_tokenizer_fields(self.tokenizer)
                | ({"name"} if pretrained else set()),
                exclude_defaults=True,
            ),
            "pretrained": pretrained,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _tokenizer_files(tokenizer: TokenizerConfig) -> dict[str, str]:
    """The hashes of a local pretrained tokenizer's files."""
    folder = user_path(tokenizer.name or "")
    if tokenizer.kind != "pretrained" or not (folder / TOKENIZER_NAME).is_file():
        return {}
    names = (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME, "special_tokens_map.json")
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if (folder / name).is_file()
    }


def _find(root: Path, identity: str) -> PreparedCorpus | None:
    """The corpus with this hash, or None; a damaged corpus is removed."""
    folder = root / identity[:FOLDER_DIGITS]
    if not folder.exists():
        return None
    try:
        prepared = load_prepared(folder)
    except StorageError:
        discard(folder)
        return None
    return prepared if prepared.manifest.hash == identity else None


def _share_or_build(order: _Order, root: Path, progress: ProgressCallback) -> PreparedCorpus:
    """Prepare the corpus, or wait for another process that does."""
    folder = root / order.identity[:FOLDER_DIGITS]
    work = root / f"{UNFINISHED_PREFIX}{folder.name}"
    with claimed(
        work, lambda: _find(root, order.identity) is not None, progress, "reading"
    ) as shared:
        if shared is not None:
            try:
                empty(work)
                (work / UNFINISHED_NAME).write_text(order.corpus.source, encoding="utf-8")
                publish(_build(order, work, shared), folder)
            finally:
                empty(work)
    return load_prepared(folder)


def _build(order: _Order, work: Path, progress: ProgressCallback) -> Path:
    """Build the corpus in a folder inside `work`, and return it."""
    source, config, here = order.source, order.tokenizer, work / "corpus"
    here.mkdir()
    meter = Meter("reading", source.size, progress)
    pools = stage(source, order.corpus, work, meter.advance)
    meter.done()
    check_fills_batch(source.title, pools["train"].bytes, "byte", order.training)
    shares = split_shares(pools, order.corpus)
    pieces = split_pools(pools, shares)
    built = _tokenizer(config, order.corpus, pieces["train"], source, progress)
    few = sum(piece.documents for piece in pieces["train"]) < FEW_DOCUMENTS
    built.save(
        here,
        source.eos_text,
        source.layout,
        start="\n" if source.layout == "raw" and few else None,
    )
    repeats = Repeats()
    splits, unknown = _encode(built, pieces, here, source.layout, repeats, progress)
    manifest = CorpusManifest(
        hash=order.identity,
        corpus=order.corpus,
        tokenizer=config,
        title=source.title,
        source_hash=order.source_hash,
        vocab_size=built.vocab_size,
        eos_id=built.eos_id,
        pad_id=built.pad_id,
        eos_text=source.eos_text,
        layout=source.layout,
        layout_reason=source.layout_reason,
        splits=splits,
        source_loss=None if any(unknown.values()) else _source_loss(source, config),
        notes=(
            *source.notes,
            *_enlarged_notes(shares, order.corpus),
            *(() if source.grammar else repeats.notes(source.layout)),
            *_unknown_notes(unknown["test"], splits["test"].tokens),
        ),
        created=time.time(),
        first_lines=_first_lines(built, pieces["train"], source.layout),
    )
    check_length(manifest, order.training)
    manifest = manifest.model_copy(
        update={"baselines": (_baseline(PreparedCorpus(here, manifest), order, progress),)}
    )
    (here / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return here


def _encode(
    built: BuiltTokenizer,
    pieces: dict[Split, list[Piece]],
    here: Path,
    layout: TextLayout,
    repeats: Repeats,
    progress: ProgressCallback,
) -> tuple[dict[Split, SplitFacts], dict[Split, int]]:
    """Encode the splits; returns their facts, and the tokens outside the vocabulary of each.

    The training split is the last, to find held-out sentences (`repeats`) in it.
    """
    size = sum(piece.end - piece.start for held in pieces.values() for piece in held)
    meter = Meter("encoding", size, progress)
    encode = LineEncoder(built, layout)
    facts, unknown = {}, {}
    for split in reversed(SPLITS):
        look = repeats.look if split == "train" else partial(repeats.hold, split)
        facts[split], unknown[split] = encode_split(
            split, pieces[split], encode, here, meter.advance, look
        )
    meter.done()
    return {split: facts[split] for split in SPLITS}, unknown


def _tokenizer(
    config: TokenizerConfig,
    corpus: CorpusConfig,
    pieces: list[Piece],
    source: Source,
    progress: ProgressCallback,
) -> BuiltTokenizer:
    size = sum(piece.end - piece.start for piece in pieces)
    meter = Meter("tokenizer", size, progress)

    def lines() -> Iterator[list[str]]:
        meter.restart()
        for block in read_blocks(pieces):
            yield units_of(block, source.layout)[0]
            meter.advance(len(block))

    built = build_tokenizer(
        config, corpus, lines, size=size, tokenized=source.tokenized, layout=source.layout
    )
    meter.done()
    return built


def _first_lines(
    built: BuiltTokenizer, pieces: list[Piece], layout: TextLayout
) -> tuple[tuple[str, ...], ...]:
    """The first units of the training split as token texts."""
    units, _ = units_of(next(read_blocks(pieces), b""), layout)
    return tuple(built.token_texts(unit[:PREVIEWED_CHARACTERS]) for unit in units[:PREVIEWED_LINES])


def _source_loss(source: Source, config: TokenizerConfig) -> float | None:
    """Entropy of a generated source per token of a stream; None unless tokens are words."""
    if source.grammar is None or config.kind != "word":
        return None
    return source.grammar.entropy() / (source.grammar.expected_words() + config.end_of_sentence)


def _enlarged_notes(shares: dict[Split, float], corpus: CorpusConfig) -> list[str]:
    wanted = {"validation": corpus.validation_fraction, "test": corpus.test_fraction}
    return [
        f"{split} uses {share(taken)} of the text instead of {share(wanted[split])}: a smaller set"
        " would be too noisy"
        for split, taken in shares.items()
        if taken > wanted[split]
    ]


def _unknown_notes(unknown: int, tokens: int) -> list[str]:
    if not unknown:
        return []
    return [
        f"{share(unknown / tokens)} of the test tokens are outside the vocabulary: only compare"
        " perplexities with the same vocabulary"
    ]


def _completed(
    prepared: PreparedCorpus, order: _Order, progress: ProgressCallback
) -> PreparedCorpus:
    """The corpus with the baseline for this data mode, computed if missing, and with these settings
    and title. The manifest records both."""
    manifest, kept = prepared.manifest, order.training.kept_tokens
    missing = all(one.kept_tokens != kept for one in manifest.baselines)
    baselines = (_baseline(prepared, order, progress),) if missing else ()
    these = PreparedFrom(corpus=order.corpus, tokenizer=order.tokenizer)
    new = () if manifest.is_from(order.corpus, order.tokenizer) else (these,)
    if baselines or new:
        manifest = add_to_manifest(prepared.path, baselines, new)
    settings = {"corpus": order.corpus, "tokenizer": order.tokenizer, "title": order.source.title}
    return PreparedCorpus(prepared.path, manifest.model_copy(update=settings))


def add_to_manifest(
    folder: Path, baselines: Sequence[Baseline] = (), also: Sequence[PreparedFrom] = ()
) -> CorpusManifest:
    """Add to a corpus's manifest, which another process may have changed; returns the new one.

    Of the baselines of a data mode, the one that counts most is kept.

    Raises:
        StorageError: the corpus was removed, or can't be written.
    """
    with folder_lock(folder.parent):
        manifest = load_prepared(folder).manifest
        by_counts = sorted((*manifest.baselines, *baselines), key=attrgetter("counted"))
        of_modes = {one.kept_tokens: one for one in by_counts}
        others = (other for other in manifest.also if other not in also)
        manifest = manifest.model_copy(
            update={"baselines": tuple(of_modes.values()), "also": (*others, *also)}
        )
        write_text_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _baseline(prepared: PreparedCorpus, order: _Order, progress: ProgressCallback) -> Baseline:
    """Losses of the count models of the first `COUNTED_TOKENS` training tokens."""
    splits, kept = prepared.manifest.splits, order.training.kept_tokens
    counted = min(splits["train"].tokens, COUNTED_TOKENS)
    tokens = counted + sum(splits[split].tokens for split in EVALUATED)
    width = splits["train"].bytes / splits["train"].tokens / BASELINE_ORDERS
    meter = Meter("baseline", round(width * tokens * BASELINE_ORDERS), progress)
    orders = score_corpus(
        prepared, kept, counted, lambda count: meter.advance(round(width * count))
    )
    found = baseline_of(list(orders), kept, counted)
    meter.done()
    return found


def score_corpus(
    prepared: PreparedCorpus, kept: int | None, counted: int, advance: Advance
) -> Iterator[OrderScores]:
    """Score validation and test set with the count models of the training set's first tokens.

    Args:
        kept: as `TrainingConfig.kept_tokens`.
        counted: how many training tokens are counted.
        advance: as of `score_orders`.
    """
    make, begin = array_maker(prepared.path.parent), prepared.manifest.vocab_size
    texts = [
        sequences(
            prepared.tokens(split),
            prepared.offsets(split),
            kept,
            begin,
            make,
            counted if split == "train" else None,
        )
        for split in ("train", *EVALUATED)
    ]
    return score_orders(texts, begin, make, advance=advance)


def baseline_of(orders: Sequence[OrderScores], kept: int | None, counted: int) -> Baseline:
    """The losses of `score_corpus`, as a manifest has them."""
    losses = {
        split: tuple(order.scores[place].loss for order in orders)
        for place, split in enumerate(EVALUATED)
    }
    return Baseline(kept_tokens=kept, counted=counted, losses=losses)
