"""A probe on random tokens: `python -m tests.fakes.random_corpus VOCABULARY` reads a config from
stdin and writes its Calibration to stdout."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import SPLITS
from rnnlm_tui.worker.probe import measure
from tests.fakes.manifests import corpus_manifest

SENTENCE_TOKENS = 33
SENTENCES = 4_000


def random_corpus(
    folder: Path,
    config: RunConfig,
    vocab_size: int,
    sentences: int = SENTENCES,
    *,
    as_in_text: bool = False,
) -> PreparedCorpus:
    """The token files and the manifest of a corpus of random tokens.

    Args:
        as_in_text: sentences of 4 to 30 tokens that fill 76 % of a batch, as the book's do, and
            frequencies that fall as in text. False: sentences of one length, all tokens alike.
    """
    draw = np.random.default_rng(1)
    lengths = np.full(sentences, SENTENCE_TOKENS)
    if as_in_text:
        lengths = np.where(draw.random(sentences) < 0.48, 30, draw.integers(4, 30, sentences))
    tokens = int(lengths.sum())
    manifest = corpus_manifest(
        config.corpus,
        config.tokenizer,
        tokens,
        sentences,
        title="random tokens",
        vocab_size=vocab_size,
        created=time.time(),
    )
    # The k-th most frequent token has a share of 1 / k: the logarithm of its rank is uniform.
    drawn = (
        (vocab_size - 2) ** draw.random(tokens) + 1
        if as_in_text
        else draw.integers(2, vocab_size, tokens)
    )
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.uint64)
    for split in SPLITS:
        drawn.astype(np.uint16).tofile(folder / f"{split}.bin")
        offsets.tofile(folder / f"{split}.offsets.bin")
    return PreparedCorpus(folder, manifest)


def changed(config: RunConfig, **sections: dict[str, object]) -> RunConfig:
    """The config with some fields of some sections changed, on one thread."""
    changes = {**sections, "training": {"threads": 1, **sections.get("training", {})}}
    found = {name: getattr(config, name) for name in changes}
    return config.model_copy(
        update={
            name: type(section).model_validate({**section.model_dump(), **changes[name]})
            for name, section in found.items()
        }
    )


def main() -> None:
    """Measure a step after another: memory stops growing with the second."""
    config = RunConfig.model_validate_json(sys.stdin.buffer.read())
    with tempfile.TemporaryDirectory() as folder:
        corpus = random_corpus(Path(folder), config, int(sys.argv[1]))
        sys.stdout.write(
            measure(config, corpus, lambda *_: None, warm_up=1, steps=1).model_dump_json()
        )


if __name__ == "__main__":
    main()
