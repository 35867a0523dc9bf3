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


TREEBANK = "ptb.train.txt ptb.valid.txt ptb.test.txt"
CASES: list[tuple[str, str, dict[str, str], list[str]]] = [
    ("a.txt", "a.txt", {"train": "a.txt"}, []),
    ("b/a.txt b/b.txt", "b", {"train": "b/a.txt b/b.txt"}, []),
    (
        "train.txt test.txt readme.txt",
        ".",
        {"train": "train.txt", "test": "test.txt"},
        [
            "1 other file in the folder ignored",
            "no valid.txt next to train.txt: 5 % is used for validation from the training text",
        ],
    ),
    (
        f"{TREEBANK} ptb.char.train.txt ptb.char.test.txt README.txt",  # the shorter prefix
        ".",
        {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"},
        ["3 other files in the folder ignored"],
    ),
    (
        "ptb.train.txt ptb.valid.txt",
        ".",
        {"train": "ptb.train.txt ptb.valid.txt"},
        [
            "no ptb.test.txt next to ptb.train.txt: 5 % is used for validation and 5 % for test"
            " from all files"
        ],
    ),
    ("train.txt test.txt", "train.txt", {"train": "train.txt"}, []),
    ("s/a.py s/deep/b.py s/deep/c.c", "s/**/*.py", {"train": "s/a.py s/deep/b.py"}, []),
    ("a[1].txt a1.txt", "a[1].txt", {"train": "a[1].txt"}, []),
    ("train.py test.py model.py", ".", {"train": "model.py test.py train.py"}, []),
]


@pytest.mark.parametrize(("files", "name", "documents", "notes"), CASES)
def test_each_file_is_a_document_of_the_split_that_its_name_says(
    tmp_path: Path, files: str, name: str, documents: dict[str, str], notes: list[str]
) -> None:
    for path in files.split():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(f"{path}\n", encoding="utf-8")
    source = opened(CorpusConfig(source=f"{tmp_path / name}", layout="sentences"))
    assert contents(source) == {
        split: [[path] for path in held.split()] for split, held in documents.items()
    }
    read = sum(len(held.split()) for held in documents.values())
    folder = tmp_path.name if name == "." else name
    assert source.title == (folder if read == 1 else f"{folder}, {read} files")
    assert (source.eos_text, source.tokenized, source.notes) == ("\n", None, notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "One.\nTwo.\nThree.\n"),
        ("a.jsonl", '{"id": 1, "body": "One.\\nTwo."}\n{"body": "Three."}\n'),
        ("a.csv", 'id,body\n1,"One.\nTwo."\n2,Three.\n'),
    ],
)
def test_each_record_is_a_document_of_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (documents,) = contents(
        opened(CorpusConfig(source=str(tmp_path / name), text_field="body"))
    ).values()
    assert documents == (
        [["One.", "Two.", "Three."]] if name == "a.txt" else [["One.", "Two."], ["Three."]]
    )


def test_what_matches_nothing_or_lacks_the_column_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no file matches"):
        opened(CorpusConfig(source=f"{tmp_path}/src/*.txt"))
    (tmp_path / "a.csv").write_text("id,text\n1,One.\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="has no column"):
        contents(opened(CorpusConfig(source=str(tmp_path / "a.csv"), text_field="body")))


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


@pytest.mark.parametrize("layout", ["sentences", "lines"])
def test_split_lines_are_noted_in_the_words_of_the_layout(
    tmp_path: Path, layout: TextLayout
) -> None:
    (tmp_path / "a.txt").write_text("word " * 20_000)
    source = opened(CorpusConfig(source=str(tmp_path / "a.txt"), layout=layout))
    contents(source)
    assert source.notes == [f"1 line longer than 65,536 characters split into several {layout}"]
