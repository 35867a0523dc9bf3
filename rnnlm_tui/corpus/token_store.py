"""Prepared corpora on disk: token ids, sentence offsets, tokenizer and manifest, built once and found again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rnnlm_tui.contract.config import CorpusConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.contract.corpora import CORPUS_FORMAT, MANIFEST_NAME, SPLITS, CorpusManifest, Split, baseline_key, deciding_settings
from rnnlm_tui.corpus.baseline import COUNTED_TOKENS, EVALUATED, baseline_losses
from rnnlm_tui.corpus.building import building_folder, discard, publish, sweep, write_text_atomically
from rnnlm_tui.corpus.encoders import line_encoder
from rnnlm_tui.corpus.encoding import Encoded, encode_split, token_dtype
from rnnlm_tui.corpus.lengths import check_bytes, check_length
from rnnlm_tui.corpus.meter import Meter, ProgressCallback
from rnnlm_tui.corpus.news import NEWS, ensure_news, news_files
from rnnlm_tui.corpus.ngram import Tokens
from rnnlm_tui.corpus.sources import Source, open_source
from rnnlm_tui.corpus.staging import Piece, read_lines, split_pools, stage
from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, BuiltTokenizer, build_tokenizer, check_pretrained
from rnnlm_tui.errors import StorageError

RULES = 1
"""Raised when cleaning, splitting or tokenizing changes: a corpus made by older rules is then built anew."""


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus as a run reads it; token files are memory-mapped and never held."""

    path: Path
    manifest: CorpusManifest

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
        """Where each sentence begins in `tokens`, and behind them the number of tokens: `(sentences + 1,)`, read-only."""
        return np.memmap(self.path / f"{split}.offsets.bin", dtype=np.uint64, mode="r")

    def bytes_per_token(self, split: Split) -> float:
        """UTF-8 bytes of text for each token: bits per byte = loss / ln 2 / this."""
        facts = self.manifest.splits[split]
        return facts.bytes / facts.tokens

    def baseline_loss(self, split: Split, training: TrainingConfig) -> float:
        """Loss of the bigram model in nats per token in the data mode of `training`."""
        return self.manifest.bigram[baseline_key(split, training.data_mode, training.context_length)]


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
        raise StorageError(f"the manifest in {path} can't be read", hint="remove the folder: the corpus is then built anew") from error
    if manifest.format != CORPUS_FORMAT:
        raise StorageError(f"the corpus in {path} has format {manifest.format}, this version reads {CORPUS_FORMAT}")
    if manifest.token_dtype == "uint16" and token_dtype(manifest.vocab_size) != "uint16":
        raise StorageError(
            f"the manifest in {path} is wrong: {manifest.vocab_size:,} types don't fit into uint16", hint="remove the folder: the corpus is then built anew"
        )
    width = np.dtype(manifest.token_dtype).itemsize
    wanted = {TOKENIZER_NAME: None, TOKENIZER_CONFIG_NAME: None}
    sizes = {f"{split}.bin": facts.tokens * width for split, facts in manifest.splits.items()}
    sizes |= {f"{split}.offsets.bin": (facts.sentences + 1) * 8 for split, facts in manifest.splits.items()}
    for name, size in {**wanted, **sizes}.items():
        try:
            found = (path / name).stat().st_size
        except OSError as error:
            raise StorageError(f"the corpus in {path} lacks {name}", hint="remove the folder: the corpus is then built anew") from error
        if size is not None and found != size:
            raise StorageError(f"{name} in {path} has {found:,} bytes, its manifest says {size:,}", hint="remove the folder: the corpus is then built anew")
    return PreparedCorpus(path, manifest)


def prepare_corpus(corpus: CorpusConfig, tokenizer: TokenizerConfig, training: TrainingConfig, root: Path, progress: ProgressCallback) -> PreparedCorpus:
    """The prepared corpus for these settings: found below `root`, or built there.

    Several processes may do this at once; each gets a whole corpus. Memory does not grow with the text. The source `news` is
    fetched first where it is not there; a tokenizer that can't be loaded is told before that.

    Args:
        training: its data mode decides where the baseline is evaluated, its batch what is too short.
        progress: told the phase and the bytes, some ten times a second; what it raises ends the building without a trace.

    Raises:
        CorpusError: a source that is missing, can't be fetched, is empty, no text, or shorter than a batch.
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
    identity = _identity(corpus, tokenizer, source_hash)
    folder = root / identity[:16]
    sweep(root)
    prepared = _find(folder, identity)
    if prepared is None:
        prepared = _build(source, source_hash, identity, corpus, tokenizer, training, folder, progress)
    check_length(prepared.manifest, training)
    return _with_baseline(prepared, training, progress)


def _identity(corpus: CorpusConfig, tokenizer: TokenizerConfig, source_hash: str) -> str:
    """sha256 over all that decides the files: the source's text (never where it was fetched from), tokenizer and rules."""
    own = Path(tokenizer.name or "").expanduser() / TOKENIZER_NAME
    facts = {
        "format": CORPUS_FORMAT,
        "rules": RULES,
        "source": source_hash,
        **deciding_settings(corpus, tokenizer),
        "pretrained": hashlib.sha256(own.read_bytes()).hexdigest() if tokenizer.kind == "pretrained" and own.is_file() else None,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _find(folder: Path, identity: str) -> PreparedCorpus | None:
    """The corpus in `folder` if it is whole; a damaged one is removed."""
    if not folder.exists():
        return None
    try:
        prepared = load_prepared(folder)
    except StorageError:
        discard(folder)
        return None
    return prepared if prepared.manifest.hash == identity else None


def _build(
    source: Source,
    source_hash: str,
    identity: str,
    corpus: CorpusConfig,
    config: TokenizerConfig,
    training: TrainingConfig,
    folder: Path,
    progress: ProgressCallback,
) -> PreparedCorpus:
    with building_folder(folder.parent, folder.name) as here:
        meter = Meter("reading", source.size, progress)
        pools = stage(source, corpus, here, meter.advance)
        meter.done()
        check_bytes(pools["train"].bytes, training)
        pieces = split_pools(pools, corpus)
        built = _tokenizer(config, corpus, pieces["train"], source, progress)
        built.save(here, source.eos_text)
        meter = Meter("encoding", sum(piece.end - piece.start for held in pieces.values() for piece in held), progress)
        encode = line_encoder(built)
        encoded = {split: encode_split(built, pieces[split], here, split, encode, meter.advance) for split in SPLITS}
        meter.done()
        for pool in pools.values():
            pool.path.unlink()
        manifest = CorpusManifest(
            hash=identity,
            corpus=corpus,
            tokenizer=config,
            title=source.title,
            source_hash=source_hash,
            vocab_size=built.vocab_size,
            token_dtype=token_dtype(built.vocab_size),
            eos_id=built.eos_id,
            pad_id=built.pad_id,
            eos_text=source.eos_text,
            splits={split: found.facts for split, found in encoded.items()},
            bigram={},
            source_loss=_source_loss(source, config, encoded),
            notes=(*source.notes, *_unknown_notes(encoded)),
            created=time.time(),
        )
        check_length(manifest, training)
        manifest = _with_losses(PreparedCorpus(here, manifest), training, progress)
        (here / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if not publish(here, folder):
            other = _find(folder, identity)
            if other is not None:
                return other
            if not publish(here, folder):
                raise StorageError(f"{folder} is in the way of the corpus", hint="remove it")
    return load_prepared(folder)


def _tokenizer(config: TokenizerConfig, corpus: CorpusConfig, pieces: list[Piece], source: Source, progress: ProgressCallback) -> BuiltTokenizer:
    size = sum(piece.end - piece.start for piece in pieces)
    meter = Meter("tokenizer", size, progress)

    def lines() -> Iterator[list[str]]:
        meter.restart()
        for batch in read_lines(pieces):
            yield [line.decode() for line in batch]
            meter.advance(sum(map(len, batch)) + len(batch))

    built = build_tokenizer(config, corpus, lines, size=size, tokenized=source.tokenized)
    meter.done()
    return built


def _source_loss(source: Source, config: TokenizerConfig, encoded: dict[Split, Encoded]) -> float | None:
    """Entropy of a generated source per token of a stream; known where a token is a word."""
    if source.grammar is None or config.kind != "word" or any(found.unknown for found in encoded.values()):
        return None
    return source.grammar.entropy() / (source.grammar.expected_words() + config.end_of_sentence)


def _unknown_notes(encoded: dict[Split, Encoded]) -> list[str]:
    found = encoded["test"]
    if not found.unknown:
        return []
    return [f"{found.unknown / found.facts.tokens:.1%} of the test tokens are outside the vocabulary: perplexities compare only under the same one"]


def _with_baseline(prepared: PreparedCorpus, training: TrainingConfig, progress: ProgressCallback) -> PreparedCorpus:
    """With the baseline for this data mode, computed and kept if an earlier run used another."""
    if all(baseline_key(split, training.data_mode, training.context_length) in prepared.manifest.bigram for split in EVALUATED):
        return prepared
    manifest = _with_losses(prepared, training, progress)
    write_text_atomically(prepared.path / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return PreparedCorpus(prepared.path, manifest)


def _with_losses(prepared: PreparedCorpus, training: TrainingConfig, progress: ProgressCallback) -> CorpusManifest:
    manifest = prepared.manifest
    tokens = sum(min(facts.tokens, COUNTED_TOKENS) if split == "train" else facts.tokens for split, facts in manifest.splits.items())
    width = prepared.bytes_per_token("train")
    meter = Meter("baseline", round(width * tokens), progress)
    losses = baseline_losses(
        lambda split: (prepared.tokens(split), prepared.offsets(split)), manifest.vocab_size, training, lambda count: meter.advance(round(width * count))
    )
    meter.done()
    return manifest.model_copy(update={"bigram": {**manifest.bigram, **losses}})
