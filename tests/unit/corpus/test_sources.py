"""Sources and their splits."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from rnnlm_tui.corpus.sources import Source, open_source
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import CorpusConfig
from rnnlm_tui.schema.corpora import TextLayout


def opened(corpus: CorpusConfig) -> Source:
    """Open a source outside the corpora folder."""
    return open_source(corpus, Path("/nowhere/corpora"))


def contents(source: Source) -> dict[str, list[list[str]]]:
    """The documents of each split."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for document in source.documents(lambda _: None):
        found[document.split].append(list(document.sentences))
    return dict(found)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_file_is_one_document_of_lines(tmp_path: Path) -> None:
    source = opened(CorpusConfig(source=str(write(tmp_path, book="one\ntwo\n") / "book.txt")))
    assert contents(source) == {"train": [["one", "two"]]}
    assert (source.title, source.eos_text, source.tokenized) == ("book.txt", "\n", None)


def test_a_folder_gives_a_document_for_each_file(tmp_path: Path) -> None:
    source = opened(
        CorpusConfig(source=str(write(tmp_path / "books", a="one\n", b="two\nthree\n")))
    )
    assert contents(source) == {"train": [["one"], ["two", "three"]]}
    assert source.title == "books, 2 files"


def test_a_folder_with_train_and_test_uses_them_as_the_splits(tmp_path: Path) -> None:
    source = opened(
        CorpusConfig(source=str(write(tmp_path, train="a\n", test="b\n", readme="c\n")))
    )
    assert contents(source) == {"train": [["a"]], "test": [["b"]]}
    assert source.notes == [
        "1 other file in the folder ignored",
        "no valid.txt next to train.txt: 5 % is used for validation from the training text",
    ]
    source = opened(CorpusConfig(source=str(write(tmp_path, valid="v\n"))))
    assert contents(source)["validation"] == [["v"]]


def test_prefixed_splits_are_found_and_the_shorter_prefix_is_used(
    tmp_path: Path,
) -> None:
    for name, text in {
        "ptb.train": "a\n",
        "ptb.valid": "v\n",
        "ptb.test": "b\n",
        "ptb.char.train": "a _\n",
        "ptb.char.test": "b _\n",
        "README": "r\n",
    }.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    source = opened(CorpusConfig(source=str(tmp_path)))
    assert contents(source) == {"train": [["a"]], "validation": [["v"]], "test": [["b"]]}
    assert source.notes == ["3 other files in the folder ignored"]


def test_without_a_test_file_all_files_are_one_text_with_a_note(
    tmp_path: Path,
) -> None:
    source = opened(
        CorpusConfig(source=str(write(tmp_path, **{"ptb.train": "a\n", "ptb.valid": "v\n"})))
    )
    assert contents(source) == {"train": [["a"], ["v"]]}
    assert source.notes == [
        "no ptb.test.txt next to ptb.train.txt: 5 % is used for validation and 5 % for test from"
        " all files"
    ]
    other = write(tmp_path / "other", one="c\n")
    assert (
        opened(CorpusConfig(source=str(tmp_path / "ptb.train.txt"), test_source=str(other))).notes
        == []
    )


def test_a_missing_penn_treebank_is_reported_with_the_needed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CorpusError, match=r"ptb\.train\.txt, ptb\.valid\.txt and ptb\.test\.txt"
    ) as raised:
        opened(CorpusConfig(source="ptb"))
    assert "corpus.source=PATH" in raised.value.hint
    write(tmp_path / "ptb", **{"ptb.train": "a\n", "ptb.test": "b\n"})
    assert contents(opened(CorpusConfig(source="ptb"))) == {"train": [["a"]], "test": [["b"]]}


def test_each_jsonl_record_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one\\ntwo"}\n{"text": "three"}\n')
    assert contents(opened(CorpusConfig(source=str(tmp_path / "a.jsonl")))) == {
        "train": [["one", "two"], ["three"]]
    }


def test_a_pattern_gives_a_document_for_each_matching_file(tmp_path: Path) -> None:
    for name in ("a.py", "deep/b.py", "deep/c.c"):
        (tmp_path / "src" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "src" / name).write_text(f"{name}\n", encoding="utf-8")
    source = opened(CorpusConfig(source=f"{tmp_path}/src/**/*.py", layout="sentences"))
    assert contents(source) == {"train": [["a.py"], ["deep/b.py"]]}
    assert source.title == "src/**/*.py, 2 files"
    with pytest.raises(CorpusError, match="no file matches"):
        opened(CorpusConfig(source=f"{tmp_path}/src/*.txt"))


def test_a_file_whose_name_looks_like_a_pattern_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one\n", encoding="utf-8")
    assert contents(opened(CorpusConfig(source=str(tmp_path / "a[1].txt")))) == {"train": [["one"]]}


def test_code_files_are_never_splits(tmp_path: Path) -> None:
    for name in ("train.py", "test.py", "model.py"):
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    assert contents(opened(CorpusConfig(source=str(tmp_path), layout="sentences"))) == {
        "train": [["model.py"], ["test.py"], ["train.py"]]
    }


def test_a_table_is_read_by_the_configured_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,One.\n2,Two.\n", encoding="utf-8")
    assert contents(opened(CorpusConfig(source=str(tmp_path / "a.csv"), text_field="body"))) == {
        "train": [["One."], ["Two."]]
    }
    with pytest.raises(CorpusError, match="has no column"):
        contents(opened(CorpusConfig(source=str(tmp_path / "a.csv"))))


def test_a_test_source_replaces_the_source_test_set(tmp_path: Path) -> None:
    write(tmp_path, train="a\n", test="b\n")
    other = write(tmp_path / "other", one="c\n", two="d\n")
    source = opened(CorpusConfig(source=str(tmp_path / "train.txt"), test_source=str(other)))
    assert contents(source) == {"train": [["a"]], "test": [["c"], ["d"]]}
    elsewhere = write(tmp_path / "both", train="a\n", test="b\n")
    assert contents(opened(CorpusConfig(source=str(elsewhere), test_source=str(other))))[
        "test"
    ] == [["c"], ["d"]]


def test_elman_generates_the_configured_sentences() -> None:
    source = opened(CorpusConfig(source="elman", sentences=200, seed=5))
    (sentences,) = contents(source)["train"]
    assert len(sentences) == 200
    assert source.grammar is not None
    other = opened(CorpusConfig(source="elman", sentences=200, seed=6))
    assert source.fingerprint(lambda _: None) != other.fingerprint(lambda _: None)


def test_presidents_have_a_test_set() -> None:
    splits = [document.split for document in opened(CorpusConfig()).documents(lambda _: None)]
    assert (splits.count("train"), splits.count("test")) == (51, 6)


def test_news_is_only_read_from_the_corpora_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "here", other="x\n"))
    write(tmp_path / "here" / "news", train="x\n", test="x\n")
    with pytest.raises(CorpusError, match=r"not in .* yet"):
        open_source(CorpusConfig(source="news"), tmp_path / "corpora")
    (tmp_path / "corpora").mkdir()
    write(tmp_path / "corpora" / "news", train="a\n", test="b\n")
    assert contents(open_source(CorpusConfig(source="news"), tmp_path / "corpora")) == {
        "train": [["a"]],
        "test": [["b"]],
    }


def test_a_misspelled_source_gets_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as raised:
        opened(CorpusConfig(source="president"))
    assert raised.value.hint == 'did you mean "presidents"?'
    with pytest.raises(CorpusError, match="not found") as raised:
        opened(CorpusConfig(source="/nowhere/text.txt"))
    assert "presidents, elman, news" in raised.value.hint


def test_split_lines_are_noted_after_reading(tmp_path: Path) -> None:
    source = opened(
        CorpusConfig(source=str(write(tmp_path, a="word " * 30_000) / "a.txt"), layout="sentences")
    )
    contents(source)
    assert source.notes == ["1 line longer than 65,536 bytes split into several sentences"]


@pytest.mark.parametrize("layout", ["sentences", "lines"])
def test_split_lines_are_noted_in_the_words_of_the_layout(
    tmp_path: Path, layout: TextLayout
) -> None:
    (tmp_path / "a.txt").write_text("word " * 20_000)
    source = opened(CorpusConfig(source=str(tmp_path / "a.txt"), layout=layout))
    contents(source)
    assert source.notes == [f"1 line longer than 65,536 bytes split into several {layout}"]
