"""Find prepared corpora by their manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import CORPUS_FORMAT, CorpusManifest
from rnnlm_tui.store.corpora import find_corpus, list_corpora
from rnnlm_tui.store.runs import create_run
from tests.fakes.manifests import corpus_manifest, store_manifest


def prepare(
    home: Path,
    name: str,
    *,
    created: float = 1.0,
    corpus: CorpusConfig | None = None,
    tokenizer: TokenizerConfig | None = None,
) -> CorpusManifest:
    manifest = corpus_manifest(corpus, tokenizer, created=created)
    store_manifest(home, manifest, name)
    return manifest


def test_without_a_home_there_are_no_corpora() -> None:
    assert list_corpora() == []
    assert find_corpus(CorpusConfig(), TokenizerConfig()) is None


def test_corpora_are_listed_newest_first_without_unfinished_or_damaged_ones(home: Path) -> None:
    old, new = prepare(home, "a", created=1.0), prepare(home, "b", created=2.0)
    prepare(home, ".tmp-c", created=3.0)
    prepare(home, "d")
    (home / "corpora" / "d" / "manifest.json").write_text("{", encoding="utf-8")
    (home / "corpora" / "e").mkdir()
    text = (home / "corpora" / "a" / "manifest.json").read_text(encoding="utf-8")
    prepare(home, "f")
    (home / "corpora" / "f" / "manifest.json").write_text(
        text.replace(f'"format":{CORPUS_FORMAT}', '"format":999'), encoding="utf-8"
    )
    assert list_corpora() == [new, old]


def test_the_newest_corpus_with_the_same_settings_is_found(home: Path) -> None:
    prepare(home, "a", created=1.0)
    new = prepare(home, "b", created=2.0)
    prepare(home, "c", created=3.0, corpus=CorpusConfig(lowercase=True))
    prepare(home, "d", created=4.0, tokenizer=TokenizerConfig(kind="character"))
    assert find_corpus(CorpusConfig(), TokenizerConfig()) == new


@pytest.mark.parametrize("source", ["book.txt", "./book.txt", "texts/*.txt", "python:data:Texts"])
def test_a_corpus_is_found_by_a_relative_path_of_its_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("book.txt", "data.py"):
        (tmp_path / name).touch()
    (tmp_path / "words").mkdir()
    given = CorpusConfig(source=source), TokenizerConfig(kind="pretrained", name="words")
    config = create_run(RunConfig(corpus=given[0], tokenizer=given[1])).read_config()
    assert str(tmp_path) in config.corpus.source
    stored = prepare(home, "a", corpus=config.corpus, tokenizer=config.tokenizer)
    assert find_corpus(*given) == stored


@pytest.mark.parametrize("source", ["python:", "python:own_data", "x" * 300, "a/" * 3_000])
def test_what_is_no_path_yet_has_no_corpus(home: Path, source: str) -> None:
    tokenizer = TokenizerConfig(kind="pretrained", name=source)
    assert find_corpus(CorpusConfig(source=source), tokenizer) is None
