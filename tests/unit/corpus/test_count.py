"""A counted text has as many sentences, tokens and types as the prepared one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.corpus.count import MOST_BYTES, TextSize, changed_after, count_text
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig

PROSE = "The cat  sat on the måt, ☃ and 42 dogs barked.\n\n  Then it rained (a lot).\n"
SEPARATED = "the cat sat on the mat , and 42 dogs barked\nthen it rained <unk> a lot\n"
CODE = "def f(x):\n    if x:\n\treturn 'é'\n\n\n    # done\n"
TRAINING = TrainingConfig(batch_size=1, bptt=4)

TEXTS: dict[str, dict[str, str]] = {
    "sentences": {"a.txt": PROSE * 60},
    "separated words": {"a.txt": SEPARATED * 80},
    "code": {"a.py": CODE * 90, "b.py": CODE * 30},
    "folder": {f"{number}.txt": PROSE * (5 + number) for number in range(12)},
    "with its own sets": {
        "ptb.train.txt": SEPARATED * 50,
        "ptb.valid.txt": SEPARATED * 3,
        "ptb.test.txt": SEPARATED * 4,
    },
    "records": {"a.jsonl": '{"text": "One line. And \\u2603.\\nAnother one"}\n' * 70},
}


def written(folder: Path, name: str) -> str:
    """Write a text; returns its source."""
    if name not in TEXTS:
        return name
    place = folder / "text"
    place.mkdir()
    for file, text in TEXTS[name].items():
        (place / file).write_text(text, encoding="utf-8")
    files = list(place.iterdir())
    return str(place if len(files) > 1 else files[0])


@pytest.mark.parametrize("name", [*TEXTS, "elman"])
@pytest.mark.parametrize("kind", ["byte", "character", "word", "bpe"])
@pytest.mark.parametrize("end", [True, False])
def test_a_counted_text_has_the_size_of_the_prepared_one(
    tmp_path: Path, name: str, kind: str, *, end: bool
) -> None:
    corpus = CorpusConfig(
        source=written(tmp_path, name), sentences=300, lowercase=end, mask_digits=end
    )
    size = 260 if kind == "bpe" else 20 if end else 400
    tokenizer = TokenizerConfig.model_validate(
        {"kind": kind, "vocab_size": size, "end_of_sentence": end}
    )
    found = count_text(corpus, tokenizer, tmp_path / "corpora")
    manifest = prepare_corpus(
        corpus, tokenizer, TRAINING, tmp_path / "corpora", lambda _: None
    ).manifest
    train = manifest.splits["train"]
    learned = kind == "bpe" or (
        kind == "word" and name not in ("separated words", "with its own sets", "records", "elman")
    )
    assert found == TextSize(
        train.sentences,
        None if learned else train.tokens,
        None if learned else manifest.vocab_size,
    )


def test_a_changed_text_is_counted_again(tmp_path: Path) -> None:
    source = Path(written(tmp_path, "sentences"))
    corpus, tokenizer = CorpusConfig(source=str(source)), TokenizerConfig(kind="byte")
    first = count_text(corpus, tokenizer, tmp_path)
    assert count_text(corpus, tokenizer, tmp_path) is first
    source.write_text(PROSE * 90, encoding="utf-8")
    second = count_text(corpus, tokenizer, tmp_path)
    assert first is not None
    assert second is not None
    assert second.sentences > first.sentences
    written_at = source.stat().st_mtime
    assert changed_after(corpus, written_at - 1)
    assert not changed_after(corpus, written_at + 1)


def test_large_compressed_missing_and_broken_texts_are_not_counted(tmp_path: Path) -> None:
    large, packed, binary = (tmp_path / name for name in ("large.txt", "a.txt.gz", "b.txt"))
    with large.open("wb") as file:
        os.truncate(file.fileno(), MOST_BYTES + 1)
    packed.write_bytes(b"x")
    binary.write_bytes(b"\xff\xfe\x00" * 99)
    for source in (large, packed, binary, tmp_path / "none.txt", "news"):
        assert count_text(CorpusConfig(source=str(source)), TokenizerConfig(), tmp_path) is None
