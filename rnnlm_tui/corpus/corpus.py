"""Prepared corpora on disk: token ids, sentence offsets, tokenizer and manifest, built once and
found again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rnnlm_tui.corpus.build import (
    claimed,
    discard,
    empty,
    publish,
    root_lock,
    sweep,
    write_text_atomically,
)
from rnnlm_tui.corpus.download import Meter, ProgressCallback
from rnnlm_tui.corpus.encode import (
    EncodedSoFar,
    PreparationState,
    Repeats,
    encode_split,
    publish_progress,
    read_progress,
    read_state,
    remove_state,
    token_dtype,
    write_state,
)
from rnnlm_tui.corpus.news import NEWS, ensure_news, news_files
from rnnlm_tui.corpus.ngram import COUNTED_TOKENS, EVALUATED, Tokens, baseline_losses
from rnnlm_tui.corpus.sources import Source, open_source
from rnnlm_tui.corpus.splits import (
    Piece,
    Pool,
    check_bytes,
    check_length,
    only_first,
    pool_path,
    read_lines,
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
    check_pretrained,
    line_encoder,
    load_built,
)
from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.schema.config import CorpusConfig, DataMode, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.corpora import (
    CORPUS_FORMAT,
    FOLDER_DIGITS,
    MANIFEST_NAME,
    PREVIEWED_CHARACTERS,
    PREVIEWED_LINES,
    SPLITS,
    UNFINISHED_PREFIX,
    CorpusManifest,
    PreparedFrom,
    Split,
    SplitFacts,
    TextLayout,
    baseline_key,
    effective_settings,
    unused_corpus_fields,
    unused_tokenizer_fields,
)
from rnnlm_tui.schema.formatting import counted, share
from rnnlm_tui.schema.text import user_path

_PREPARE_AGAIN = "remove the folder; the next run prepares the corpus again"

FEW_DOCUMENTS = 8
"""With fewer documents, a model of raw text hardly learns what follows an end token, so an empty
prompt starts from a line break."""

RULES = 1
"""Raised when cleaning, splitting or tokenizing changes: a corpus made by older rules is then
prepared again."""

PLACES = {"source", "test_source"}
"""Paths of the text, which are not hashed because the text itself is."""

FORMER_FIELDS = {
    "source",
    "test_source",
    "text_field",
    "validation_fraction",
    "test_fraction",
    "lowercase",
    "mask_digits",
    "url",
    "sentences",
    "seed",
}
"""Corpus settings in earlier versions, whose hashes included paths."""


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus as a run reads it; token files are memory-mapped and never held."""

    path: Path
    manifest: CorpusManifest
    former_hash: str = field(default="", compare=False)
    """Its hash in earlier versions, which included paths; empty if they would have made other
    files."""

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def eos_id(self) -> int | None:
        return self.manifest.eos_id

    @property
    def pad_id(self) -> int:
        return self.manifest.pad_id

    def tokens(self, split: Split) -> Tokens:
        """All token ids of a split, one after the other, `(tokens,)`, read-only."""
        return np.memmap(self.path / f"{split}.bin", dtype=self.manifest.token_dtype, mode="r")

    def offsets(self, split: Split) -> NDArray[np.uint64]:
        """Where each sentence begins in `tokens`, and behind them the number of tokens: `(sentences
        + 1,)`, read-only."""
        return np.memmap(self.path / f"{split}.offsets.bin", dtype=np.uint64, mode="r")

    def bytes_per_token(self, split: Split) -> float:
        """UTF-8 bytes of text for each token, in the mean."""
        facts = self.manifest.splits[split]
        return facts.bytes / facts.tokens

    def scored_bytes(self, split: Split, targets: int, data_mode: DataMode) -> float:
        """UTF-8 bytes of the text behind the scored targets, by the split's mean bytes per token.

        A stream covers the whole text, so its first token counts too although it isn't a target. In
        sentences mode only targets count:
        neither the first token of a sentence nor what is cut off.
        """
        return self.bytes_per_token(split) * (targets + 1 if data_mode == "stream" else targets)

    def baseline_loss(self, split: Split, training: TrainingConfig) -> float:
        """Loss of the bigram model in nats per token in the data mode of `training`."""
        return self.manifest.bigram[
            baseline_key(split, training.data_mode, training.context_length)
        ]


def load_prepared(path: Path) -> PreparedCorpus:
    """Open a prepared corpus.

    Raises:
        StorageError: no manifest, one of another format, or files that don't have the size it says.
    """
    try:
        manifest = CorpusManifest.model_validate_json((path / MANIFEST_NAME).read_bytes())
    except OSError as error:
        raise StorageError(f"{path} is no prepared corpus: {error.strerror or error}") from error
    except ValidationError as error:
        raise StorageError(f"the manifest in {path} can't be read", hint=_PREPARE_AGAIN) from error
    if manifest.format != CORPUS_FORMAT:
        raise StorageError(
            f"the corpus in {path} has format {manifest.format}, this version reads {CORPUS_FORMAT}"
        )
    if manifest.token_dtype == "uint16" and token_dtype(manifest.vocab_size) != "uint16":
        raise StorageError(
            f"the manifest in {path} is wrong: {counted(manifest.vocab_size, 'type')} don't fit"
            " into uint16",
            hint=_PREPARE_AGAIN,
        )
    width = np.dtype(manifest.token_dtype).itemsize
    sizes: dict[str, int | None] = {TOKENIZER_NAME: None, TOKENIZER_CONFIG_NAME: None}
    sizes |= {f"{split}.bin": facts.tokens * width for split, facts in manifest.splits.items()}
    sizes |= {
        f"{split}.offsets.bin": (facts.sentences + 1) * 8
        for split, facts in manifest.splits.items()
    }
    for name, size in sizes.items():
        try:
            found = (path / name).stat().st_size
        except OSError as error:
            raise StorageError(f"the corpus in {path} lacks {name}", hint=_PREPARE_AGAIN) from error
        if size is not None and found != size:
            raise StorageError(
                f"{name} in {path} has {counted(found, 'byte')}, its manifest says {size:,}",
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
    *,
    trained_on: str | None = None,
) -> PreparedCorpus:
    """The prepared corpus for these settings: found below `root`, or built there.

    The same text with the same settings is stored once, even at several paths. Several processes
    may ask for it at once: one
    prepares it, the others wait and report its progress. A preparation that was stopped or killed
    is resumed the next time.
    Memory does not grow with the text. The source `news` is downloaded first if it is missing, but
    not before a pretrained
    tokenizer was loaded successfully.

    Args:
        training: its data mode decides where the baseline is evaluated, its batch what is too
            short.
        progress: called about ten times a second with the phase and the bytes; an exception from it
            stops the preparation or the wait.
        known: called with the hash of the corpus before anything is built; no corpus can be removed
            until it returns.
        trained_on: the hash of the corpus of the run to resume; if an earlier version prepared it,
            it is prepared in the same way.

    Raises:
        CorpusError: a source that is missing, can't be fetched, is empty, no text, or shorter than
            a batch.
        TokenizerError: a tokenizer that can't be trained or loaded.
        StorageError: `root` can't be written, or its disk is too small.
    """
    if NEWS in (corpus.source, corpus.test_source) and news_files(root) is None:
        check_pretrained(tokenizer)
        ensure_news(root, corpus.url, progress)
    source = open_source(corpus, root)
    meter = Meter("checking", source.size, progress)
    source_hash = source.fingerprint(meter.advance)
    meter.done()
    sweep(root)
    identity, former = (
        _identity(corpus, tokenizer, source, source_hash),
        _former_identity(corpus, tokenizer, source, source_hash),
    )
    order = _Order(source, source_hash, identity, corpus, tokenizer, training)
    with root_lock(root):
        prepared = _find(root, identity)
        if former and trained_on == former and (prepared is None or prepared.manifest.enlarged):
            prepared, order = _find(root, former), replace(order, identity=former, enlarges=False)
        elif prepared is None and trained_on != identity:
            prepared = _find(root, former)
        if known is not None:
            known(order.identity if prepared is None else prepared.manifest.hash)
    if prepared is None:
        prepared = _share_or_build(order, root, progress)
    check_length(prepared.manifest, training)
    prepared = _with_settings(
        _with_baseline(prepared, training, progress), corpus, tokenizer, source.title
    )
    return replace(prepared, former_hash="" if prepared.manifest.enlarged else former)


@dataclass(frozen=True, slots=True)
class _Order:
    """A corpus to prepare."""

    source: Source
    source_hash: str
    identity: str
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    training: TrainingConfig
    enlarges: bool = True
    """Whether validation and test sets that would be too small are enlarged."""


def _identity(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, source: Source, source_hash: str
) -> str:
    """sha256 over everything that affects the files: the text and how it is read, the tokenizer,
    the settings and the rules, but no path.

    Fields at their defaults are left out, so that adding a field doesn't change hashes.
    """
    files = _tokenizer_files(tokenizer)
    facts = {
        "format": CORPUS_FORMAT,
        "rules": RULES,
        "source": source_hash,
        "reading": source.reading,
        "corpus": corpus.model_dump(
            mode="json",
            exclude=PLACES | {"layout"} | unused_corpus_fields(corpus),
            exclude_defaults=True,
        ),
        **({} if source.layout == "sentences" else {"layout": source.layout}),
        "tokenizer": tokenizer.model_dump(
            mode="json",
            exclude=unused_tokenizer_fields(tokenizer) | ({"name"} if files else set()),
            exclude_defaults=True,
        ),
        "pretrained": files,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _tokenizer_files(tokenizer: TokenizerConfig) -> dict[str, str]:
    """The hashes of a local pretrained tokenizer's files."""
    folder = user_path(tokenizer.name or "")
    if tokenizer.kind != "pretrained" or not (folder / TOKENIZER_NAME).is_file():
        return {}
    paths = (
        folder / name for name in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME, "special_tokens_map.json")
    )
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


def _former_identity(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, source: Source, source_hash: str
) -> str:
    """The hash that earlier versions gave a corpus, over its paths too; empty if they could not
    have prepared it."""
    known = FORMER_FIELDS | {"layout"}  # theirs were sentences
    if source.layout != "sentences" or corpus.model_dump(
        exclude=known
    ) != CorpusConfig().model_dump(exclude=known):
        return ""
    settings = effective_settings(corpus, tokenizer)
    facts = {
        "format": 1,
        "rules": 1,
        "source": source_hash,
        "corpus": {
            name: value for name, value in settings["corpus"].items() if name in FORMER_FIELDS
        },
        "tokenizer": settings["tokenizer"],
        "pretrained": _tokenizer_files(tokenizer).get(TOKENIZER_NAME),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _find(root: Path, identity: str) -> PreparedCorpus | None:
    """The corpus with this hash, or None; a damaged one is removed."""
    folder = root / identity[:FOLDER_DIGITS]
    if not identity or not folder.exists():
        return None
    try:
        prepared = load_prepared(folder)
    except StorageError:
        discard(folder)
        return None
    return prepared if prepared.manifest.hash == identity else None


def _share_or_build(order: _Order, root: Path, progress: ProgressCallback) -> PreparedCorpus:
    """Wait for the process that is preparing the corpus, or prepare it here, resuming an
    interrupted preparation."""
    folder = root / order.identity[:FOLDER_DIGITS]
    work = root / f"{UNFINISHED_PREFIX}{folder.name}"
    with claimed(
        work, lambda: _find(root, order.identity) is not None, lambda: progress(read_progress(work))
    ) as is_ours:
        if is_ours:
            try:
                _build(order, work, folder, publish_progress(work, progress))
            except (
                RnnlmError,
                OSError,
            ):  # an invalid text or a full disk would fail again, so keep nothing
                empty(work)
                raise
    return load_prepared(folder)


def _build(order: _Order, here: Path, folder: Path, progress: ProgressCallback) -> None:
    source, config = order.source, order.tokenizer
    state = read_state(here)
    if state.pools is None:
        empty(here)
        meter = Meter("reading", source.size, progress)
        pools = stage(source, order.corpus, here, meter.advance)
        meter.done()
        check_bytes(pools["train"].bytes, order.training)
        state = PreparationState(
            source=order.corpus.source,
            pools={split: pool.facts for split, pool in pools.items()},
            notes=tuple(source.notes),
        )
        write_state(here, state)
    pools = {
        split: Pool(pool_path(here, split), facts) for split, facts in (state.pools or {}).items()
    }
    shares = split_shares(pools, order.corpus, enlarges=order.enlarges)
    pieces = split_pools(pools, shares)
    if state.tokenizer:
        built = load_built(here)
    else:
        built = _tokenizer(config, order.corpus, pieces["train"], source, progress)
        few = sum(piece.documents for piece in pieces["train"]) < FEW_DOCUMENTS
        built.save(
            here,
            source.eos_text,
            source.layout,
            start="\n" if source.layout == "raw" and few else None,
        )
        state = state.model_copy(update={"tokenizer": True})
        write_state(here, state)
    repeats = Repeats()
    encoded = _encode(built, pieces, here, state, source.layout, repeats, progress)
    enlarged = _enlarged_notes(shares, order.corpus)
    manifest = CorpusManifest(
        hash=order.identity,
        corpus=order.corpus,
        tokenizer=config,
        title=source.title,
        source_hash=order.source_hash,
        vocab_size=built.vocab_size,
        token_dtype=token_dtype(built.vocab_size),
        eos_id=built.eos_id,
        pad_id=built.pad_id,
        eos_text=source.eos_text,
        layout=source.layout,
        layout_reason=source.layout_reason,
        splits={
            split: SplitFacts(
                documents=sum(piece.documents for piece in pieces[split]),
                sentences=found.sentences,
                tokens=found.tokens,
                bytes=found.bytes,
            )
            for split, found in ((split, encoded[split]) for split in SPLITS)
        },
        bigram={},
        source_loss=_source_loss(source, config, encoded),
        notes=(
            *state.notes,
            *enlarged,
            *(
                []
                if source.grammar
                else repeats.notes("sentences" if source.layout == "sentences" else "lines")
            ),
            *_unknown_notes(encoded),
        ),
        created=time.time(),
        first_lines=_first_lines(built, pieces["train"], source.layout),
        enlarged=bool(enlarged),
    )
    check_length(manifest, order.training)
    manifest = manifest.model_copy(
        update={"bigram": _losses(PreparedCorpus(here, manifest), order.training, progress)}
    )
    (here / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    remove_state(here)
    if not publish(here, folder):
        discard(folder)
        if not publish(here, folder):
            raise StorageError(f"{folder} is in the way of the corpus", hint="remove it")


def _encode(
    built: BuiltTokenizer,
    pieces: dict[Split, list[Piece]],
    here: Path,
    state: PreparationState,
    layout: TextLayout,
    repeats: Repeats,
    progress: ProgressCallback,
) -> dict[Split, EncodedSoFar]:
    """Encode the splits, continuing where an interrupted preparation stopped; the training split
    last, to find `repeats` of the others in it."""
    encoded = dict(state.encoded)
    before = sum(found.text for found in encoded.values())
    meter = Meter(
        "encoding",
        sum(piece.end - piece.start for held in pieces.values() for piece in held),
        progress,
        before,
    )
    encode = line_encoder(built, layout)
    for split in reversed(SPLITS):
        look = repeats.look if split == "train" else partial(repeats.hold, split)
        if split in encoded:
            for batch in read_lines(only_first(pieces[split], encoded[split].text)):
                look(batch)

        def keep(found: EncodedSoFar, split: Split = split) -> None:
            encoded[split] = found
            write_state(here, state.model_copy(update={"encoded": dict(encoded)}))

        encoded[split] = encode_split(
            built,
            pieces[split],
            here,
            split,
            encode,
            meter.advance,
            layout,
            before=encoded.get(split),
            keep=keep,
            look=look,
        )
    meter.done()
    return encoded


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
        for staged in read_lines(pieces):
            yield [unit.decode() for unit in units_of(staged, source.layout)[0]]
            meter.advance(sum(map(len, staged)) + len(staged))

    built = build_tokenizer(
        config, corpus, lines, size=size, tokenized=source.tokenized, layout=source.layout
    )
    meter.done()
    return built


def _first_lines(
    built: BuiltTokenizer, pieces: list[Piece], layout: TextLayout
) -> tuple[tuple[str, ...], ...]:
    """The first units of the training split as the texts of their tokens; a character of several
    tokens goes to the first."""
    units, _ = units_of(next(read_lines(pieces), [])[:PREVIEWED_LINES], layout)
    lines: list[tuple[str, ...]] = []
    for unit in (unit.decode()[:PREVIEWED_CHARACTERS] for unit in units):
        end, texts = 0, []
        for first, last in built.tokenizer.encode(unit, add_special_tokens=False).offsets:
            if last > end:
                texts.append(unit[max(first, end) : last])
                end = last
        lines.append(tuple(texts))
    return tuple(lines)


def _source_loss(
    source: Source, config: TokenizerConfig, encoded: dict[Split, EncodedSoFar]
) -> float | None:
    """Entropy of a generated source per token of a stream; known where a token is a word."""
    if (
        source.grammar is None
        or config.kind != "word"
        or any(found.unknown for found in encoded.values())
    ):
        return None
    return source.grammar.entropy() / (source.grammar.expected_words() + config.end_of_sentence)


def _enlarged_notes(shares: dict[Split, float], corpus: CorpusConfig) -> list[str]:
    wanted: dict[Split, float] = {
        "validation": corpus.validation_fraction,
        "test": corpus.test_fraction,
    }
    return [
        f"{split} takes {share(taken)} of the text instead of {share(wanted[split])}: a smaller set"
        " would be too noisy"
        for split, taken in shares.items()
        if taken > wanted[split]
    ]


def _unknown_notes(encoded: dict[Split, EncodedSoFar]) -> list[str]:
    found = encoded["test"]
    if not found.unknown:
        return []
    return [
        f"{share(found.unknown / found.tokens)} of the test tokens are outside the vocabulary:"
        " perplexities compare only under the same one"
    ]


def _with_baseline(
    prepared: PreparedCorpus, training: TrainingConfig, progress: ProgressCallback
) -> PreparedCorpus:
    """With the baseline for this data mode, computed and kept if an earlier run used another."""
    if all(
        baseline_key(split, training.data_mode, training.context_length) in prepared.manifest.bigram
        for split in EVALUATED
    ):
        return prepared
    losses = _losses(prepared, training, progress)
    return _changed(
        prepared,
        lambda manifest: manifest.model_copy(update={"bigram": {**manifest.bigram, **losses}}),
    )


def _with_settings(
    prepared: PreparedCorpus, corpus: CorpusConfig, tokenizer: TokenizerConfig, title: str
) -> PreparedCorpus:
    """The corpus with these settings and title, which its manifest records as another way to its
    files."""
    if not prepared.manifest.is_from(corpus, tokenizer):
        these = PreparedFrom(corpus=corpus, tokenizer=tokenizer)
        prepared = _changed(
            prepared,
            lambda manifest: manifest.model_copy(
                update={"also": (*(other for other in manifest.also if other != these), these)}
            ),
        )
    return PreparedCorpus(
        prepared.path,
        prepared.manifest.model_copy(
            update={"corpus": corpus, "tokenizer": tokenizer, "title": title}
        ),
    )


def _changed(
    prepared: PreparedCorpus, change: Callable[[CorpusManifest], CorpusManifest]
) -> PreparedCorpus:
    """Change the manifest as it is on disk now, because another run may have changed it."""
    with root_lock(prepared.path.parent):
        manifest = change(load_prepared(prepared.path).manifest)
        write_text_atomically(
            prepared.path / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n"
        )
    return PreparedCorpus(prepared.path, manifest)


def _losses(
    prepared: PreparedCorpus, training: TrainingConfig, progress: ProgressCallback
) -> dict[str, float]:
    manifest = prepared.manifest
    tokens = sum(
        min(facts.tokens, COUNTED_TOKENS) if split == "train" else facts.tokens
        for split, facts in manifest.splits.items()
    )
    width = prepared.bytes_per_token("train")
    meter = Meter("baseline", round(width * tokens), progress)
    losses = baseline_losses(
        lambda split: (prepared.tokens(split), prepared.offsets(split)),
        manifest.vocab_size,
        training,
        lambda count: meter.advance(round(width * count)),
    )
    meter.done()
    return losses
