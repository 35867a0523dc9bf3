"""What a prepared corpus says of itself: the manifest beside its token files."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from rnnlm_tui.contract.config import CorpusConfig, DataMode, TokenizerConfig
from rnnlm_tui.contract.figures import counted

MANIFEST_NAME = "manifest.json"
CORPUS_FORMAT = 1
"""Raised when the files or the rules that make them change: an older corpus is then built anew."""

FEW_TOKENS = 2_000
"""A validation set with fewer is said to be noisy: the mean of so many losses has a standard error of some 0.05 nats."""

BUILT_IN_SOURCES: tuple[str, ...] = ("presidents", "python-docs", "elman", "news")
"""Values of `corpus.source` that are no paths; `news` is fetched at its first use."""

SET_SOURCE = "--set corpus.source=PATH"
"""How a hint says to take another text; the app has words of its own in its place."""

FOLDER_DIGITS = 16
"""Digits of its hash that name the folder of a prepared corpus."""

UNFINISHED_PREFIX = ".unfinished-"
"""Begins the name of the folder of an unfinished preparation; the name of the finished corpus follows."""

UNFINISHED_NAME = "unfinished.json"
"""The file in such a folder that records the source and what is prepared so far."""

TextLayout = Literal["sentences", "lines", "raw"]
"""How a text is kept: `corpus.layout` once `auto` has been decided."""

EosText = Literal["\n", " ", ""]
"""What an end token is in text: a line break, a space where sentences were split from running text, nothing at the end of a raw document."""

LAYOUT_CHOSEN = "chosen by the text: "
"""In the note of a layout that `auto` chose, what is before the reason."""

PREVIEWED_LINES, PREVIEWED_CHARACTERS = 8, 200
"""Lines from the beginning of a text that are shown as tokens, and how much of each."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitFacts(BaseModel):
    """One split of a prepared corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: int
    sentences: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the text, one more a sentence or line where the tokenizer ends them."""


class PreparedFrom(BaseModel):
    """Settings that were found to give the files of a prepared corpus: the same text at another place, the same tokenizer under another name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: CorpusConfig
    tokenizer: TokenizerConfig


class CorpusManifest(BaseModel):
    """A prepared corpus: written last, so a folder without it is half-made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = CORPUS_FORMAT
    hash: str
    """sha256 over the text, the tokenizer, the settings and the rules, never over a path; the folder's name is its first 16 digits."""
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    title: str
    """For people: `57 State of the Union addresses`."""
    source_hash: str
    """sha256 of the source as it was read."""
    vocab_size: int
    token_dtype: Literal["uint16", "uint32"]
    eos_id: int | None
    """The token that ends a sentence, a line, or a document of raw text; None where there is none."""
    pad_id: int
    eos_text: EosText
    """What an end token is when text is shown."""
    layout: TextLayout = "sentences"
    """How the text was kept; `corpus.layout` may have left it to the text."""
    splits: dict[Split, SplitFacts]
    bigram: dict[str, float]
    """Loss in nats per token of an absolute-discount bigram model of the training split, by `baseline_key`."""
    source_loss: float | None = None
    """Entropy of a generated source in nats per token: the floor of any model's loss."""
    notes: tuple[str, ...] = ()
    """What a person should know of the text, a sentence each: lines that were cut, words outside the vocabulary."""
    created: float
    also: tuple[PreparedFrom, ...] = ()
    """Other settings than `corpus` and `tokenizer` that were found to give these files."""
    first_lines: tuple[tuple[str, ...], ...] = ()
    """The beginning of the training text as its tokens' texts, a unit each; empty in corpora of earlier versions."""
    enlarged: bool = False
    """Validation or test set are larger than the settings say, for they would have been too small."""

    @property
    def known_notes(self) -> tuple[str, ...]:
        """The notes, with what the figures of a corpus of any version say."""
        tokens = self.splits["validation"].tokens
        noisy = f"the validation set has {counted(tokens, 'token')}: its loss is noisy, and the best checkpoint is chosen by it"
        return (*self.notes, noisy) if tokens < FEW_TOKENS else self.notes

    @property
    def folder(self) -> str:
        """The name of the corpus's folder, by which `corpus` lists it."""
        return self.hash[:FOLDER_DIGITS]

    def is_from(self, corpus: CorpusConfig, tokenizer: TokenizerConfig) -> bool:
        """Whether it was prepared from these settings, by the fields that matter for them."""
        wanted = deciding_settings(corpus, tokenizer)
        known = [(self.corpus, self.tokenizer), *((other.corpus, other.tokenizer) for other in self.also)]
        if corpus.layout in ("auto", "sentences"):  # from before there were layouts: what both may have chosen
            known = [(held if "layout" in held.model_fields_set else held.model_copy(update={"layout": corpus.layout}), other) for held, other in known]
        return any(deciding_settings(*settings) == wanted for settings in known)


def deciding_settings(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> dict[str, dict[str, object]]:
    """The settings that decide what is prepared, as JSON values: neither where a text is fetched from nor what its kind never reads."""
    return {
        "corpus": corpus.model_dump(mode="json", exclude=idle_settings(corpus)),
        "tokenizer": tokenizer.model_dump(mode="json", exclude=idle_tokenizer_settings(tokenizer)),
    }


def idle_settings(corpus: CorpusConfig) -> set[str]:
    """The fields of a corpus that decide nothing of what is prepared.

    The layout `sentences` is among them: there was no other before there was a setting.
    """
    layout = {"layout"} if corpus.layout == "sentences" or corpus.source in BUILT_IN_SOURCES else set()
    return layout | ({"url"} if "elman" in (corpus.source, corpus.test_source) else {"url", "sentences", "seed"})


def idle_tokenizer_settings(tokenizer: TokenizerConfig) -> set[str]:
    """The fields of a tokenizer that its kind never reads."""
    return (set() if tokenizer.kind == "pretrained" else {"name"}) | ({"vocab_size"} if tokenizer.kind == "byte" else set())


def baseline_key(split: Split, data_mode: DataMode, context_length: int) -> str:
    """Under which `CorpusManifest.bigram` holds a loss: `test.stream.0`, `validation.sentences.30`."""
    return f"{split}.{data_mode}.{context_length if data_mode == 'sentences' else 0}"
