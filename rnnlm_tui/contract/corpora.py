"""What a prepared corpus says of itself: the manifest beside its token files."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from rnnlm_tui.contract.config import CorpusConfig, DataMode, TokenizerConfig
from rnnlm_tui.contract.figures import counted

MANIFEST_NAME = "manifest.json"
CORPUS_FORMAT = 1
"""Raised when the files or the rules that make them change: older corpora are then prepared again."""

FEW_TOKENS = 2_000
"""A note warns about a validation set with fewer: the mean loss of 2,000 tokens has a standard error of about 0.05 nats."""

BUILT_IN_SOURCES: tuple[str, ...] = ("presidents", "python-docs", "elman", "news")
"""Values of `corpus.source` that are no paths; `news` is fetched at its first use."""

SET_SOURCE = "--set corpus.source=PATH"
"""How a hint says to take another text; the app has words of its own in its place."""

FOLDER_DIGITS = 16
"""Length of a prepared corpus's folder name, which begins its hash."""

UNFINISHED_PREFIX = ".unfinished-"
"""Begins the name of the folder of an unfinished preparation; the name of the finished corpus follows."""

UNFINISHED_NAME = "unfinished.json"
"""The file in such a folder that records the source and what is prepared so far."""

TextLayout = Literal["sentences", "lines", "raw"]
"""`corpus.layout` with `auto` resolved."""

EosText = Literal["\n", " ", ""]
"""An end token as text: a line break, a space between sentences of running text, or nothing at the end of a raw document."""

PREVIEWED_LINES, PREVIEWED_CHARACTERS = 8, 200
"""First lines of a text that are shown as tokens, and the most characters of each."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitFacts(BaseModel):
    """One split of a prepared corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: int
    sentences: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the text, plus one for each sentence or line that gets an end token."""


class PreparedFrom(BaseModel):
    """Other settings that give the files of a prepared corpus, such as another path of the same text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: CorpusConfig
    tokenizer: TokenizerConfig


class CorpusManifest(BaseModel):
    """A prepared corpus: written last, so a folder without it is unfinished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = CORPUS_FORMAT
    hash: str
    """sha256 over the text, the tokenizer, the settings and the rules, but no path; its first 16 digits name the folder."""
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    title: str
    """For people: `57 State of the Union addresses`."""
    source_hash: str
    """sha256 of the source as it was read."""
    vocab_size: int
    token_dtype: Literal["uint16", "uint32"]
    eos_id: int | None
    """The token that ends a sentence, a line, or a document of raw text; None without end tokens."""
    pad_id: int
    eos_text: EosText
    """An end token as text."""
    layout: TextLayout = "sentences"
    """The layout in use, also where `corpus.layout` is auto."""
    layout_reason: str = ""
    """Why auto chose the layout; empty if the user chose it."""
    splits: dict[Split, SplitFacts]
    bigram: dict[str, float]
    """Loss in nats per token of an absolute-discount bigram model of the training split, by `baseline_key`."""
    source_loss: float | None = None
    """Entropy of a generated source in nats per token: the floor of any model's loss."""
    notes: tuple[str, ...] = ()
    """What a person should know of the text, a sentence each: lines that were cut, words outside the vocabulary."""
    created: float
    also: tuple[PreparedFrom, ...] = ()
    """Other settings than `corpus` and `tokenizer` that give these files."""
    first_lines: tuple[tuple[str, ...], ...] = ()
    """The first units of the training text, each as the texts of its tokens; empty in corpora of earlier versions."""
    enlarged: bool = False
    """The validation or test set is larger than its configured share, which would have been too small."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The stored notes, and a warning about a small validation set, which earlier versions did not store."""
        tokens = self.splits["validation"].tokens
        noisy = f"the validation set has {counted(tokens, 'token')}: its loss is noisy, and the best checkpoint is chosen by it"
        return (*self.notes, noisy) if tokens < FEW_TOKENS else self.notes

    @property
    def folder(self) -> str:
        """Folder name, which is also the corpus's name in `rnnlm-tui corpus`."""
        return self.hash[:FOLDER_DIGITS]

    def is_from(self, corpus: CorpusConfig, tokenizer: TokenizerConfig) -> bool:
        """Whether these settings give this corpus; fields that decide nothing are ignored."""
        wanted = effective_settings(corpus, tokenizer)
        known = [(self.corpus, self.tokenizer), *((other.corpus, other.tokenizer) for other in self.also)]
        if corpus.layout in ("auto", "sentences"):  # corpora of earlier versions have no layout: either choice may have given them
            known = [(held if "layout" in held.model_fields_set else held.model_copy(update={"layout": corpus.layout}), other) for held, other in known]
        return any(effective_settings(*settings) == wanted for settings in known)


def effective_settings(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> dict[str, dict[str, object]]:
    """The settings that decide what is prepared, as JSON values: neither where a text is fetched from nor what its kind never reads."""
    return {
        "corpus": corpus.model_dump(mode="json", exclude=unused_corpus_fields(corpus)),
        "tokenizer": tokenizer.model_dump(mode="json", exclude=unused_tokenizer_fields(tokenizer)),
    }


def unused_corpus_fields(corpus: CorpusConfig) -> set[str]:
    """Corpus fields that don't affect the prepared files.

    The layout `sentences` is one of them, so that corpora from before the setting keep their hash.
    """
    layout = {"layout"} if corpus.layout == "sentences" or corpus.source in BUILT_IN_SOURCES else set()
    return layout | ({"url"} if "elman" in (corpus.source, corpus.test_source) else {"url", "sentences", "seed"})


def unused_tokenizer_fields(tokenizer: TokenizerConfig) -> set[str]:
    """Tokenizer fields that its kind ignores."""
    return (set() if tokenizer.kind == "pretrained" else {"name"}) | ({"vocab_size"} if tokenizer.kind == "byte" else set())


def baseline_key(split: Split, data_mode: DataMode, context_length: int) -> str:
    """Under which `CorpusManifest.bigram` holds a loss: `test.stream.0`, `validation.sentences.30`."""
    return f"{split}.{data_mode}.{context_length if data_mode == 'sentences' else 0}"
