"""The token preview: split a text's beginning, as a task of `worker.task`.

It builds a config's tokenizer from the beginning of its text, and leaves no files. It needs the
tokenizers library: the app never imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import PREVIEWED_CHARACTERS, PREVIEWED_LINES
from rnnlm_tui.schema.protocol import TokensDone, decode_line
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.processes import lower_priority
from rnnlm_tui.worker.task import ReportProgress

MOST_CHARACTERS = 2_000_000
"""Characters of the text that a tokenizer is trained on: a fraction of a second."""
BATCH = 1_000
NICENESS = 5


def preview_tokens(config: RunConfig) -> TokensDone:
    """Split the first lines of a config's text into tokens.

    Raises:
        CorpusError: the text is missing or isn't text.
        TokenizerError: the tokenizer can't be loaded, or can't be trained on the text.
    """
    from rnnlm_tui.corpus.sources import open_source
    from rnnlm_tui.corpus.splits import clean
    from rnnlm_tui.corpus.tokenizers import build_tokenizer

    source = open_source(config.corpus, corpora_dir())
    units, whole = _beginning(
        unit
        for document in source.documents(lambda _: None)
        if document.split == "train"
        for unit in document.sentences
    )
    units = [clean(unit, source.layout, config.corpus) for unit in units]
    if not any(unit.strip() for unit in units):
        raise CorpusError(f"{source.title} has no text")

    def lines() -> Iterator[list[str]]:
        for start in range(0, len(units), BATCH):
            yield units[start : start + BATCH]

    built = build_tokenizer(
        config.tokenizer,
        config.corpus,
        lines,
        size=sum(map(len, units)),
        tokenized=source.tokenized,
        layout=source.layout,
    )
    return TokensDone(
        layout=source.layout,
        layout_reason=source.layout_reason,
        lines=tuple(
            built.token_texts(unit[:PREVIEWED_CHARACTERS]) for unit in units[:PREVIEWED_LINES]
        ),
        vocab_size=built.vocab_size,
        read_characters=sum(map(len, units)),
        whole=whole,
    )


def _beginning(units: Iterator[str]) -> tuple[list[str], bool]:
    """The first units of a text, and whether these are all."""
    taken: list[str] = []
    characters = 0
    for unit in units:
        taken.append(unit)
        characters += len(unit)
        if characters >= MOST_CHARACTERS:
            return taken, next(islice(units, 1), None) is None
    return taken, True


def task(request: bytes, _: ReportProgress) -> TokensDone:
    """Preview a config's tokens."""
    lower_priority(NICENESS)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return preview_tokens(decode_line(request, RunConfig))
