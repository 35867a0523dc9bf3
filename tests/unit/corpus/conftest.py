"""Small texts and tokenizers built from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, build_tokenizer
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import TextLayout

LINES: tuple[str, ...] = (
    "The state of the Union is strong, and it's getting stronger.",
    'He said: "We must go (now)!" They don\'t know.',
    "In 1990 it cost $3.5 million -- half-paid, e.g. by  two spaces and\ta tab.",
    "Zoë ate 漢字 & naïve cafés; ½ off 🙂!",
    "a b c x y z",
    "trailing -",
)


class Builder:
    """Build tokenizers from LINES or other lines."""

    def __call__(
        self,
        kind: str,
        vocab_size: int = 300,
        *,
        tokenized: bool | None = False,
        corpus: CorpusConfig | None = None,
        lines: tuple[str, ...] = LINES,
        eos: bool = True,
        layout: TextLayout = "sentences",
    ) -> BuiltTokenizer:
        config = TokenizerConfig.model_validate(
            {"kind": kind, "vocab_size": vocab_size, "end_of_sentence": eos}
        )

        def start() -> Iterator[list[str]]:
            return iter([list(lines)])

        return build_tokenizer(
            config,
            corpus or CorpusConfig(),
            start,
            size=sum(map(len, lines)),
            tokenized=tokenized,
            layout=layout,
        )


@pytest.fixture
def build() -> Builder:
    return Builder()
