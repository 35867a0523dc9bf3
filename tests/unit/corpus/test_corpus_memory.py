"""The memory of preparing a corpus doesn't grow with the text."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from rnnlm_tui.corpus import corpus, encode, ngram, splits, text_files
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig
from tests.fakes.llama_tokenizer import write_tokenizer

SENTENCES = 6_000
GROWTH = 1.15
"""How much higher the peak may be for four times the text, because of buffers."""


def write_news(folder: Path, sentences: int) -> None:
    """A training and a test text of random sentences with ever new pairs of words."""
    draw = random.Random(5)
    folder.mkdir(parents=True)
    for name, count in (("train", sentences), ("test", sentences // 10)):
        with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:
            file.writelines(
                " ".join(
                    f"w{min(int(draw.expovariate(0.01)), 3_000)}"
                    for _ in range(draw.randint(3, 20))
                )
                + " .\n"
                for _ in range(count)
            )


def prepare(home: Path, tokenizer: TokenizerConfig) -> None:
    training = TrainingConfig(data_mode="sentences", batch_size=128)
    prepare_corpus(
        CorpusConfig(source="news"), tokenizer, training, home / "corpora", lambda _: None
    )


def peak_of_preparing(home: Path, sentences: int, tokenizer: TokenizerConfig) -> int:
    """Peak memory of Python and numpy in bytes, without memory-mapped token files."""
    write_news(home / "corpora" / "news", sentences)
    tracemalloc.start()
    try:
        prepare(home, tokenizer)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["word", "pretrained"])
def test_four_times_the_text_needs_no_more_memory(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every buffer and bound is made so small that the smaller text fills it already.
    monkeypatch.setattr(corpus, "COUNTED_TOKENS", 30_000)
    monkeypatch.setattr(ngram, "_MOST_BYTES", 1 << 16)
    monkeypatch.setattr(ngram, "_CHUNK", 4_000)
    monkeypatch.setattr(text_files, "_BLOCK", 1 << 16)
    monkeypatch.setattr(splits, "_BATCH_LINES", 256)
    monkeypatch.setattr(encode, "COUNTED_REPEATS", 100)
    if kind == "word":
        tokenizer = TokenizerConfig(kind="word", vocab_size=5_000)
    else:
        write_news(tmp_path / "learned", 2_000)
        size = write_tokenizer(
            tmp_path / "tokenizer",
            (tmp_path / "learned" / "train.txt").read_text(encoding="utf-8").splitlines(),
            700,
        )
        tokenizer = TokenizerConfig(
            kind="pretrained",
            name=str(tmp_path / "tokenizer"),
            vocab_size=size,
            end_of_sentence=False,
        )
    write_news(tmp_path / "first" / "corpora" / "news", 500)
    prepare(tmp_path / "first", tokenizer)  # what is imported once does not count
    small = peak_of_preparing(tmp_path / "small", SENTENCES, tokenizer)
    large = peak_of_preparing(tmp_path / "large", 4 * SENTENCES, tokenizer)
    assert large < GROWTH * small
