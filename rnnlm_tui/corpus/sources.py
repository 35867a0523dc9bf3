"""Text sources: built-in corpora, files, folders and patterns, read as a stream of documents."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path

from rnnlm_tui.corpus import builtin
from rnnlm_tui.corpus.builtin import Grammar, elman_grammar
from rnnlm_tui.corpus.datasets import LoadTokenizer, PythonDataset
from rnnlm_tui.corpus.news import NEWS, news_files, news_fingerprint
from rnnlm_tui.corpus.records import read_records
from rnnlm_tui.corpus.text_files import (
    CODE_SUFFIXES,
    MAX_LINE,
    LineReader,
    check_source_path,
    hash_files,
    holds_records,
    is_pattern,
    matching_files,
    raw_units,
    text_files,
    text_suffix,
)
from rnnlm_tui.errors import CorpusError, did_you_mean
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, CorpusConfig
from rnnlm_tui.schema.corpora import (
    PYTHON_SOURCE,
    SET_SOURCE,
    EosText,
    Split,
    TextLayout,
)
from rnnlm_tui.schema.formatting import counted, percent, share, user_path

SAMPLED_FILES = 16
SAMPLED_CHARACTERS = 65_536
"""How many files are sampled, and how many characters of each: a few milliseconds of work."""

LONG_LINE = 16_384
"""A text that consists mostly of longer lines is treated as having no line breaks."""

FEWEST_LINES = 10
"""A text with fewer lines gets the default."""

_SENTENCE_END = re.compile(r"""[.!?…。！？।؟۔]["'”’»)\]*_]*$""")
_INDENTED = re.compile(r"(?: {2,}|[ ]*\t)\S")


def choose_layout(paths: Sequence[Path], text_field: str) -> tuple[TextLayout, str]:
    """`raw` for code and for text with indented or blank lines but no sentences, and the reason.

    Otherwise `sentences`, without a reason.

    Raises:
        CorpusError: a file can't be read.
    """
    sizes = {path: path.stat().st_size for path in paths}
    code = [path for path in paths if text_suffix(path) in CODE_SUFFIXES]
    if code and sum(map(sizes.__getitem__, code)) * 2 > sum(sizes.values()):
        suffixes = Counter(map(text_suffix, code)).most_common(3)
        what = (
            f"{len(code):,} of {counted(len(paths), 'file')} are code"
            if len(paths) > 1
            else "the file is code"
        )
        return "raw", f"{what} ({', '.join(suffix for suffix, _ in suffixes)})"
    count = min(len(paths), SAMPLED_FILES)
    chosen = (paths[index * len(paths) // count] for index in range(count))
    return layout_of("\n".join(beginning(path, text_field, SAMPLED_CHARACTERS) for path in chosen))


def layout_of(text: str) -> tuple[TextLayout, str]:
    """The layout for a sample of text, and the reason for it; empty for the default."""
    lines = text.strip("\n").split("\n")
    if sum(len(line) for line in lines if len(line) > LONG_LINE) * 2 > len(text):
        return "raw", "the text has almost no line breaks"
    filled = [line for line in lines if line.strip()]
    if len(filled) < FEWEST_LINES:
        return "sentences", ""
    blanks = sum(1 for before, line in pairwise(lines) if before.strip() and not line.strip())
    blank = blanks / len(filled)
    indented = sum(1 for line in filled if _INDENTED.match(line)) / len(filled)
    ended = sum(1 for line in filled if _SENTENCE_END.search(line.rstrip())) / len(filled)
    if ended >= 0.5 or (blank < 0.02 and indented < 0.05):
        return "sentences", ""
    shape = (
        f"{percent(indented)} are indented"
        if indented >= 0.05
        else f"{percent(blank)} are followed by a blank line"
    )
    return "raw", f"{percent(ended)} of its lines end like a sentence and {shape}"


def beginning(path: Path, text_field: str, characters: int) -> str:
    """The first characters of a file, or of the texts in its records."""
    reader = LineReader(path, lambda _: None)
    parts: list[str] = []
    records = holds_records(path)
    for text in read_records(reader, text_field) if records else reader.text():
        parts.append(text[:characters])
        characters -= len(text) + 1
        if characters <= 0:
            break
    return ("\n" if records else "").join(parts).replace("\r\n", "\n").replace("\r", "\n")


Advance = Callable[[int], None]
"""Called with the number of bytes just read from the source."""

_SPLIT_STEMS: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is kept in one split if there are enough documents."""

    split: Split
    """Documents of `train` may later be used for validation or test if the source has no such set.
    """
    sentences: Iterable[str]
    """Its units: sentences, lines without line breaks, or pieces of raw text."""


@dataclass(frozen=True)
class Source:
    """A text that can be read several times."""

    title: str
    eos_text: EosText
    size: int
    """Bytes to read; 0 if unknown."""
    fingerprint: Callable[[Advance], str]
    documents: Callable[[Advance], Iterator[Document]]
    reading: tuple[str, ...]
    """How it is read: the built-in source's name, or split and suffix of each file."""
    layout: TextLayout = "sentences"
    layout_reason: str = ""
    """Why `corpus.layout=auto` chose the layout; empty otherwise."""
    grammar: Grammar | None = None
    tokenized: bool | None = None
    """Whether all tokens are separated by spaces; None if it has to be detected."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user, complete once the documents have been read."""


def open_source(corpus: CorpusConfig, root: Path, load: LoadTokenizer | None = None) -> Source:
    """Open the config's source, reading only the beginning to choose the layout.

    Args:
        root: the corpora folder, which contains `news` once it is downloaded, and the list of
            trusted datasets.
        load: loads the run's pretrained tokenizer, for datasets of token ids.

    Raises:
        UntrustedDatasetError: it is a dataset of Python that the user hasn't named in this home.
        CorpusError: the source doesn't exist, isn't text, or is `news` before it is downloaded.
    """
    test = corpus.test_source
    if test is None:
        return _open(corpus.source, corpus, root, load)
    if corpus.layout == "auto" and test in BUILT_IN_SOURCES:
        corpus = corpus.model_copy(update={"layout": "sentences"})
    source = _open(corpus.source, corpus, root, load)
    return _with_test(
        source, _open(test, corpus.model_copy(update={"layout": source.layout}), root, load)
    )


def _open(
    name: str,
    corpus: CorpusConfig,
    root: Path,
    load: LoadTokenizer | None = None,
) -> Source:
    if name.startswith(PYTHON_SOURCE):
        return _dataset(name, corpus, root, load)
    if name == "presidents":
        return _presidents()
    if name == "elman":
        return _elman(corpus)
    if name == NEWS:
        return _news(root)
    path = source_path(name)
    if is_pattern(name):
        paths = matching_files(name)
        return _files(
            _pattern_title(path),
            _named_splits(paths) or [(found, "train") for found in paths],
            corpus,
        )
    return _folder(path, corpus) if path.is_dir() else _files(path.name, [(path, "train")], corpus)


def source_path(name: str) -> Path:
    """The path of a source that isn't a built-in corpus.

    Raises:
        CorpusError: the path doesn't exist, or is neither a regular file nor a folder.
    """
    path = user_path(name).absolute()
    if is_pattern(name):
        return path
    if name == "ptb" and not path.exists():
        raise CorpusError(
            "Penn Treebank not found: it isn't free, so you need your own folder with"
            " ptb.train.txt, ptb.valid.txt and ptb.test.txt",
            hint=f"then: {SET_SOURCE}",
        )
    near = did_you_mean(name, BUILT_IN_SOURCES)
    if near and not path.exists():
        raise CorpusError(f'"{name}" not found: not a built-in corpus, file or folder', hint=near)
    check_source_path(path)
    return path


def _presidents() -> Source:
    addresses = builtin.read_addresses()

    def documents(advance: Advance) -> Iterator[Document]:
        for name, sentences in addresses.items():
            year = int(name[:4])
            yield Document("test" if year in builtin.TEST_YEARS else "train", sentences)
            advance(sum(map(len, sentences)) + len(sentences))

    return Source(
        title=f"{len(addresses)} State of the Union addresses",
        eos_text=" ",
        size=sum(len(sentence) + 1 for sentence in chain.from_iterable(addresses.values())),
        fingerprint=lambda _: builtin.addresses_hash(),
        documents=documents,
        reading=("presidents",),
        tokenized=False,
    )


def _elman(corpus: CorpusConfig) -> Source:
    grammar = elman_grammar()

    def documents(advance: Advance) -> Iterator[Document]:
        def generated() -> Iterator[str]:
            for sentence in islice(grammar.sample(corpus.seed), corpus.sentences):
                advance(len(sentence) + 1)
                yield sentence

        yield Document("train", generated())

    return Source(
        title=f"{counted(corpus.sentences, 'sentence')} of a number-agreement grammar",
        eos_text="\n",
        size=0,
        fingerprint=lambda _: hashlib.sha256(
            f"{grammar}\n{corpus.seed}\n{corpus.sentences}".encode()
        ).hexdigest(),
        documents=documents,
        reading=("elman",),
        grammar=grammar,
        tokenized=True,
    )


def _news(root: Path) -> Source:
    paths = news_files(root)
    if paths is None:
        raise CorpusError(
            f"the corpus news is not in {root} yet",
            hint="start a run with it: the first run downloads it",
        )
    source = _files(
        "news sentences",
        [(path, _SPLIT_STEMS[path.stem]) for path in paths],
        CorpusConfig(source=NEWS, layout="sentences"),
    )
    return replace(
        source,
        title="news sentences of the book",
        fingerprint=partial(news_fingerprint, root, paths),
        reading=(NEWS,),
        tokenized=True,
    )


def _dataset(name: str, corpus: CorpusConfig, root: Path, load: LoadTokenizer | None) -> Source:
    data = PythonDataset(name, root, load)
    layout = "sentences" if corpus.layout == "auto" else corpus.layout
    notes: list[str] = []

    def documents(advance: Advance) -> Iterator[Document]:
        reader = LineReader(Path(data.name.module), advance)
        for split, text in data.texts():
            yield Document(split, text_units(reader, layout, text))
            advance(len(text.encode()))
        notes.extend(_cut_note(reader.cut_lines, layout))

    return Source(
        title=f"{counted(data.items, 'item')} of {data.name}",
        eos_text="" if layout == "raw" else "\n",
        layout=layout,
        size=0,
        fingerprint=data.fingerprint,
        documents=documents,
        reading=("python",),
        notes=notes,
    )


def _folder(folder: Path, corpus: CorpusConfig) -> Source:
    paths, others = text_files(folder)
    above = [path for path in paths if path.parent == folder]
    chosen = _named_splits(above)
    if chosen:
        others += len(paths) - len(chosen)
    else:
        chosen = [(path, "train") for path in paths]
    source = _files(folder.name or str(folder), chosen, corpus)
    if others:
        source.notes.append(f"{counted(others, 'other file')} in the folder ignored")
    train, missing = _missing_beside(above)
    if missing:
        kept = f"{share(corpus.validation_fraction)} is used for validation"
        kept += (
            f" and {share(corpus.test_fraction)} for test"
            if "test" in missing and corpus.test_source is None
            else ""
        )
        source.notes.append(
            f"no {' or '.join(missing.values())} next to {train}: {kept} from"
            f" {'all files' if 'test' in missing else 'the training text'}"
        )
    return source


def _pattern_title(pattern: Path) -> str:
    """The pattern without the folders before the last one without a wildcard: `src/**/*.py`."""
    first = next(index for index, part in enumerate(pattern.parts) if glob.has_magic(part))
    return str(Path(*pattern.parts[max(1, first - 1) :]))


def missing_splits(folder: Path) -> tuple[str, dict[Split, str]]:
    """A folder's training file, and the expected names of missing validation and test files.

    Raises:
        CorpusError: the folder contains no text.
    """
    return _missing_beside([path for path in text_files(folder)[0] if path.parent == folder])


def _missing_beside(paths: Sequence[Path]) -> tuple[str, dict[Split, str]]:
    files = _named_splits(paths) or _named_splits(paths, needed=("train",))
    there = {split: path.name for path, split in reversed(files)}
    train = there.get("train", "")
    wanted: dict[Split, str] = {"validation": "valid", "test": "test"}
    return train, {
        split: ".".join(stem if part.lower() == "train" else part for part in train.split("."))
        for split, stem in wanted.items()
        if train and split not in there
    }


def _named_splits(
    paths: Sequence[Path], needed: Sequence[Split] = ("train", "test")
) -> list[tuple[Path, Split]]:
    """Files named after splits (`ptb.train.txt`), if all `needed` splits are among them.

    Code files such as `train.py` don't count. Of several sets in a folder (`ptb.train.txt` and
    `ptb.char.train.txt`), only the one with the shortest prefix is used.
    """
    sets: dict[str, list[tuple[Path, Split]]] = {}
    for path in paths:
        if text_suffix(path) in CODE_SUFFIXES:
            continue
        parts = path.name.lower().split(".")
        place = next((index for index, part in enumerate(parts) if part in _SPLIT_STEMS), None)
        if place is not None:
            sets.setdefault(".".join(parts[:place]), []).append((path, _SPLIT_STEMS[parts[place]]))
    complete = [
        name for name, files in sets.items() if set(needed) <= {split for _, split in files}
    ]
    return sets[min(complete, key=len)] if complete else []


def _files(title: str, files: list[tuple[Path, Split]], corpus: CorpusConfig) -> Source:
    paths = [path for path, _ in files]
    notes: list[str] = []
    layout, reason = (
        choose_layout(paths, corpus.text_field) if corpus.layout == "auto" else (corpus.layout, "")
    )
    if reason:
        notes.append(f"layout {layout}, chosen automatically: {reason}")

    def documents(advance: Advance) -> Iterator[Document]:
        cut = 0
        for path, split in files:
            reader = LineReader(path, advance)
            if holds_records(path):
                for text in read_records(reader, corpus.text_field):
                    yield Document(split, text_units(reader, layout, text))
            else:
                yield Document(split, text_units(reader, layout))
            cut += reader.cut_lines
        notes.extend(_cut_note(cut, layout))

    return Source(
        title=title if len(files) == 1 else f"{title}, {counted(len(files), 'file')}",
        eos_text="" if layout == "raw" else "\n",
        layout=layout,
        layout_reason=reason,
        size=sum(path.stat().st_size for path in paths),
        fingerprint=partial(hash_files, paths),
        documents=documents,
        reading=tuple(f"{split} {text_suffix(path)}" for path, split in files),
        notes=notes,
    )


def _cut_note(lines: int, layout: TextLayout) -> list[str]:
    cut = f"{counted(lines, 'line')} longer than {MAX_LINE:,} characters"
    return [f"{cut} split into several {layout}"] if lines else []


def text_units(reader: LineReader, layout: TextLayout, text: str | None = None) -> Iterator[str]:
    """The units of a text file: sentences, lines without line breaks, or pieces of raw text.

    Args:
        text: a record or item, whose units are wanted instead of the file's.

    Raises:
        CorpusError: it isn't UTF-8 text, or can't be read.
    """
    if layout == "sentences":
        return reader.lines() if text is None else reader.split_lines(text)
    blocks = reader.text() if text is None else [text]
    return raw_units(blocks) if layout == "raw" else reader.kept_lines(blocks)


def _with_test(source: Source, test: Source) -> Source:
    """The source with all of `test` as its test set, replacing its own."""

    def documents(advance: Advance) -> Iterator[Document]:
        for document in source.documents(advance):
            if document.split != "test":
                yield document
        for document in test.documents(advance):
            yield Document("test", document.sentences)

    def fingerprint(advance: Advance) -> str:
        return hashlib.sha256(
            f"{source.fingerprint(advance)}\n{test.fingerprint(advance)}".encode()
        ).hexdigest()

    return replace(
        source,
        size=source.size + test.size if source.size and test.size else 0,
        fingerprint=fingerprint,
        documents=documents,
        reading=(*source.reading, "test", *test.reading),
        grammar=source.grammar if test.grammar else None,
    )
