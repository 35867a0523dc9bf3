"""Previews of texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client import corpora as module
from rnnlm_tui.client.corpora import preview, visible
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import corpora_dir

CODE = "def f(x):\n\tif x:   \n        return -1\n\n\n" * 400


def config(path: Path, **changes: object) -> RunConfig:
    return parse_config(
        merge(RunConfig(), {"corpus.source": str(path), "tokenizer.vocab_size": 270, **changes})
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def test_a_preview_has_words_before_and_tokens_after_the_preparation(
    source: Path,
) -> None:
    wanted = config(source)
    before = preview(wanted)
    assert before is not None
    assert (before.layout, before.reason, before.exact) == ("raw", "the file is code (.py)", False)
    assert before.lines[:3] == (
        ("def", " f", "(", "x", ")", ":", "\n"),
        ("\t", "if", " x", ":", "   \n"),
        ("       ", " return", " -", "1", "\n"),
    )
    prepare_corpus(wanted.corpus, wanted.tokenizer, wanted.training, corpora_dir(), lambda _: None)
    after = preview(wanted)
    assert after is not None
    assert (after.layout, after.reason, after.exact) == ("raw", before.reason, True)
    assert ["".join(line) for line in after.lines] == ["".join(line) for line in before.lines], (
        "nothing of the text is lost"
    )
    assert len(after.lines[0]) <= len("def f(x):\n")


@pytest.mark.parametrize("kind", ["character", "byte", "word", "bpe"])
def test_the_pieces_join_to_the_text_with_any_tokenizer(source: Path, kind: str) -> None:
    wanted = config(source, **{"tokenizer.kind": kind})
    for _ in range(2):
        found = preview(wanted)
        assert found is not None
        assert (
            "".join("".join(line) for line in found.lines)
            == CODE[: len("".join("".join(line) for line in found.lines))]
        )
        prepare_corpus(
            wanted.corpus, wanted.tokenizer, wanted.training, corpora_dir(), lambda _: None
        )


def test_non_text_files_are_refused_by_the_preview(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not found"):
        preview(config(tmp_path / "none.txt"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(CorpusError, match="UTF-16"):
        preview(config(tmp_path / "a.txt"))
    (tmp_path / "a.csv").write_text("id,body\n1,One.\n")
    with pytest.raises(CorpusError, match='no column "text"'):
        preview(config(tmp_path / "a.csv"))
    assert preview(config(Path("news"))) is None


def test_a_folder_with_too_many_files_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(12):
        (tmp_path / f"{index}.py").write_text(CODE, encoding="utf-8")
    assert preview(config(tmp_path)) is not None
    monkeypatch.setattr(module, "MOST_PREVIEWED_FILES", 10)
    monkeypatch.setattr(module, "open_source", None)
    assert preview(config(tmp_path)) is None
    assert preview(config(tmp_path / "**" / "*.py")) is None


def test_white_space_is_visible() -> None:
    assert visible("a b\t\r\n") == "a·b→␍↵"
