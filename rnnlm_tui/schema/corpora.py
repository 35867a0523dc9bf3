"""The manifest of a prepared corpus, stored next to its token files."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import (
    BUILT_IN_SOURCES,
    CorpusConfig,
    RunConfig,
    TokenizerConfig,
)
from rnnlm_tui.schema.formatting import counted, user_path
from rnnlm_tui.schema.record import Record

MANIFEST_NAME = "manifest.json"
CORPUS_FORMAT = 2
"""Increased when the files or how they are made change; older corpora are then prepared again."""

FEW_TOKENS = 2_000
"""A smaller validation set gets a warning.

With 2,000 tokens, the standard error of the mean loss is about 0.05 nats.
"""

PYTHON_SOURCE = "python:"
"""Begins a `corpus.source` that names a dataset of Python: `python:module:attribute@folder`."""
_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_DATASET = re.compile(rf"{PYTHON_SOURCE}({_DOTTED}):({_DOTTED})(?:@(.+))?")

SET_SOURCE = "--set corpus.source=PATH"
"""How hints name another text; the app replaces it with its own words."""

FOLDER_DIGITS = 16
"""Length of a prepared corpus's folder name: the first digits of its hash."""

UNFINISHED_PREFIX = ".unfinished-"
"""Prefix of an unfinished preparation's folder, followed by the name of the finished corpus."""

UNFINISHED_NAME = "source"
"""The file in that folder with the value of `corpus.source`."""

TextLayout = Literal["sentences", "lines", "raw"]
"""`corpus.layout` with `auto` resolved."""

EosText = Literal["\n", " ", ""]
"""The end token as text: a line break, a space in running text, or nothing in raw text."""

PREVIEWED_LINES, PREVIEWED_CHARACTERS = 8, 200
"""How many lines of a text are shown as tokens, and how many characters of each."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVALUATED: tuple[Split, ...] = ("validation", "test")


class DatasetName(NamedTuple):
    """A dataset of Python."""

    module: str
    attribute: str
    folder: Path | None
    """From which the module is imported; None: found on Python's path."""

    @classmethod
    def parse(cls, source: str) -> "DatasetName":
        """
        Raises:
            CorpusError: it isn't written like this.
        """
        match = _DATASET.fullmatch(source)
        if match is None:
            raise CorpusError(
                f'"{source}" doesn\'t name a dataset',
                hint=f"write {PYTHON_SOURCE}package.module:attribute",
            )
        folder = user_path(match[3]).absolute() if match[3] else None
        return cls(match[1], match[2], folder)

    def found_from(self, here: Path) -> "DatasetName":
        """The same with the folder `here`, if it has none and the module is there."""
        first = here / self.module.partition(".")[0]
        is_here = first.is_dir() or first.with_name(f"{first.name}.py").is_file()
        return self._replace(folder=here) if self.folder is None and is_here else self

    @property
    def source(self) -> str:
        """As written in `corpus.source`."""
        end = "" if self.folder is None else f"@{self.folder}"
        return f"{PYTHON_SOURCE}{self.module}:{self.attribute}{end}"

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def dataset_names(corpus: CorpusConfig) -> list[DatasetName]:
    """The datasets of Python among a config's sources.

    Raises:
        CorpusError: a name is invalid.
    """
    sources = (corpus.source, corpus.test_source)
    return [DatasetName.parse(one) for one in sources if one and one.startswith(PYTHON_SOURCE)]


def token_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The type of the token ids in files."""
    return "uint16" if vocab_size <= 65_536 else "uint32"


class SplitFacts(Record):
    """One split of a prepared corpus."""

    documents: int
    sentences: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the text, plus one for each sentence or line that gets an end token."""


class PreparedFrom(Record):
    """Other settings that lead to the same prepared corpus, such as another path of the text."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig


class Baseline(Record):
    """Losses of the count models of orders 1, 2 and so on in one data mode."""

    kept_tokens: int | None
    """As `TrainingConfig.kept_tokens`."""
    counted: int
    """Training tokens that were counted, from the first on."""
    losses: dict[Split, tuple[float | None, ...]]
    """In nats per token; None if nothing of the split is predicted."""


class CorpusManifest(Record):
    """A prepared corpus. The manifest is written last: a folder without it is unfinished."""

    format: int = CORPUS_FORMAT
    hash: str
    """SHA-256 of text, tokenizer, settings and rules; its first digits name the folder."""
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    title: str
    """Display name, such as `57 State of the Union addresses`."""
    source_hash: str
    """SHA-256 of the source."""
    vocab_size: int
    eos_id: int | None
    """The token after a sentence, a line, or a document of raw text; None without end tokens."""
    pad_id: int
    eos_text: EosText
    """The end token as text."""
    layout: TextLayout = "sentences"
    """The layout used, with `auto` resolved."""
    layout_reason: str = ""
    """Why `auto` chose this layout; empty if the user chose it."""
    splits: dict[Split, SplitFacts]
    baselines: tuple[Baseline, ...] = ()
    """One for each data mode in which it was used."""
    source_loss: float | None = None
    """Entropy of a generated source in nats per token, the lower bound of any model's loss."""
    notes: tuple[str, ...] = ()
    """Notes for the user, such as lines that were cut and words outside the vocabulary."""
    created: float
    also: tuple[PreparedFrom, ...] = ()
    """Other settings that lead to the same files."""
    first_lines: tuple[tuple[str, ...], ...] = ()
    """The first units of the training text, split into tokens."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The stored notes, and warnings about a small validation set and a baseline that counts
        a part of the text."""
        tokens, train = self.splits["validation"].tokens, self.splits["train"].tokens
        notes = list(self.notes)
        if tokens < FEW_TOKENS:
            notes.append(
                f"the validation set has only {counted(tokens, 'token')}: the loss that selects the"
                " best checkpoint is noisy"
            )
        part = min((one.counted for one in self.baselines), default=train)
        if part < train:
            notes.append(
                f"the baseline counts the first {part:,} of {counted(train, 'training token')}:"
                f" `rnnlm-tui baseline {self.folder}` counts all"
            )
        return tuple(notes)

    def baseline_loss(self, config: RunConfig, split: Split) -> float | None:
        """Loss of a config's baseline in nats per token; None if it isn't known."""
        kept, order = config.training.kept_tokens, config.evaluation.baseline
        found = (one.losses[split][order - 1] for one in self.baselines if one.kept_tokens == kept)
        return next(found, None)

    @property
    def folder(self) -> str:
        """The folder's name, also shown by `rnnlm-tui corpus`."""
        return self.hash[:FOLDER_DIGITS]

    def is_from(self, corpus: CorpusConfig, tokenizer: TokenizerConfig) -> bool:
        """Whether these settings lead to this corpus; fields without an effect are ignored."""
        wanted = effective_settings(corpus, tokenizer)
        known: tuple[CorpusManifest | PreparedFrom, ...] = (self, *self.also)
        return any(effective_settings(one.corpus, one.tokenizer) == wanted for one in known)


def effective_settings(
    corpus: CorpusConfig, tokenizer: TokenizerConfig
) -> dict[str, dict[str, object]]:
    """The settings that affect the prepared files, as JSON values."""
    return {
        "corpus": corpus.model_dump(mode="json", exclude=unused_corpus_fields(corpus)),
        "tokenizer": tokenizer.model_dump(mode="json", exclude=unused_tokenizer_fields(tokenizer)),
    }


def unused_corpus_fields(corpus: CorpusConfig) -> set[str]:
    """Corpus fields that don't affect the prepared files."""
    layout = {"layout"} if corpus.source in BUILT_IN_SOURCES else set()
    return layout | (
        {"url"} if "elman" in (corpus.source, corpus.test_source) else {"url", "sentences", "seed"}
    )


def unused_tokenizer_fields(tokenizer: TokenizerConfig) -> set[str]:
    """Tokenizer fields that its kind ignores."""
    return (set() if tokenizer.kind == "pretrained" else {"name"}) | (
        {"vocab_size"} if tokenizer.kind == "byte" else set()
    )
