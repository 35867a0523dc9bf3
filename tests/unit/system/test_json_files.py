"""Small files of JSON: any damage is left out, kept aside, and never lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.errors import StorageError
from rnnlm_tui.system import json_files
from rnnlm_tui.system.json_files import Found, JsonFile, JsonLines, Line


@dataclass(frozen=True)
class Note:
    id: int
    text: str = ""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Book:
    title: str = ""
    open: bool = False
    notes: tuple[Note, ...] = field(default=())


MOST_BYTES = 10_000
STRANGE = "\n\x1b[31m می\u200cخواهم \0\u2028 \ud800 👩\u200d👧"
APPEND = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from tests.unit.system.test_json_files import Note, lines
for number in range(int(sys.argv[3])):
    lines(Path(sys.argv[1])).append(Note(number, sys.argv[2], ("x" * 5_000,)))
"""
"""A process that appends many lines."""


@pytest.fixture
def book(tmp_path: Path) -> JsonFile[Book]:
    return JsonFile(tmp_path / "book.json", Book, Book(), MOST_BYTES)


def lines(folder: Path, most_lines: int = 1_000, most_bytes: int = 1 << 20) -> JsonLines[Note]:
    return JsonLines(folder / "home" / "notes.jsonl", Note, "notes", most_lines, most_bytes)


def ids(file: JsonLines[Note]) -> list[int]:
    return [note.id for note in file.read()]


def appending(folder: Path, text: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", APPEND, str(folder), text, str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3])


def refuse(*_: object, **__: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_value_is_read_exactly_as_it_was_written_to_a_private_file(book: JsonFile[Book]) -> None:
    assert book.read() == Found(Book())
    assert not book.path.exists(), "looking creates nothing"
    written = Book(STRANGE, open=True, notes=(Note(10**40, "", ("a", "b")), Note(-1)))
    book.write(written)
    assert book.read() == Found(written)
    assert book.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.fault(
    "the app's state, the queue, the prompt history, kept samples or labels are damaged"
)
@pytest.mark.parametrize(
    ("content", "valid"),
    [
        *((content, Book()) for content in b'|{|null|NaN|7|"title"|[1]|[]]|\xff|\0'.split(b"|")),
        (b"[" * 5_000, Book()),
        (b"9" * 5_000, Book()),
        (b" " * MOST_BYTES + b"{}", Book()),
        (b'{"notes": {"id": 1}}', Book()),
        (b'{"notes": [{}, 1e999, {"id": 1e999}]}', Book()),
        (b'{"title": "t", "open": "?", "mood": 3}', Book("t")),
        (b'{"title": [], "notes": [{"id": 1}]}', Book(notes=(Note(1),))),
        (
            b'{"notes": [7, {"id": "x"}, {"id": 1}, {"id": 2, "marks": ["a", 3]}, [], {"id": 3}]}',
            Book(notes=(Note(1), Note(3))),
        ),
    ],
)
def test_what_is_valid_is_read_and_a_damaged_file_is_kept_aside(
    book: JsonFile[Book], content: bytes, valid: Book
) -> None:
    for name in ("book.json.unusable", "book.json.unusable-2"):
        book.path.write_bytes(content)
        assert book.read().value == valid
        assert book.read().damage
        assert book.path.read_bytes() == content, "reading changes nothing"
        aside = book.move_damaged_aside()
        assert aside == book.path.with_name(name)
        assert aside.read_bytes() == content
        assert book.read() == Found(valid)
        assert book.move_damaged_aside() is None
    book.path.write_bytes(content)
    changed = book.change(lambda found: replace(found, open=True))
    assert (book.read(), changed) == (Found(replace(valid, open=True)), replace(valid, open=True))
    assert book.path.with_name("book.json.unusable-3").read_bytes() == content


def test_links_and_pipes_are_neither_read_nor_written_through(
    book: JsonFile[Book], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text('{"title": "elsewhere"}')
    book.path.symlink_to(precious)
    assert book.read().value == Book()
    book.change(lambda found: replace(found, title="here"))
    assert (precious.read_text(), book.read().value.title) == ('{"title": "elsewhere"}', "here")
    book.path.unlink()
    os.mkfifo(book.path)
    assert book.read().value == Book()
    notes = lines(tmp_path)
    notes.path.parent.mkdir()
    notes.path.symlink_to(precious)
    for action in (notes.read, lambda: notes.append(Note(1))):
        with pytest.raises(StorageError, match="symbolic link"):
            action()
    assert precious.read_text() == '{"title": "elsewhere"}'


def test_a_file_that_cannot_be_read_is_neither_changed_nor_moved(
    book: JsonFile[Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    book.write(Book("kept"))
    with monkeypatch.context() as disk:
        disk.setattr(json_files, "read_at_most", refuse)
        assert book.look() == Found(Book())
        for action in (book.read, book.move_damaged_aside, lambda: book.change(lambda old: old)):
            with pytest.raises(StorageError, match="can't read"):
                action()
    assert book.read() == Found(Book("kept"))


def test_a_value_that_did_not_change_is_not_written_again(book: JsonFile[Book]) -> None:
    book.write(Book("kept"))
    written = book.path.stat().st_ino
    book.change(lambda found: replace(found, title="kept"))
    assert book.path.stat().st_ino == written


def test_concurrent_changes_are_all_kept(book: JsonFile[Book]) -> None:
    def add(number: int) -> None:
        book.change(lambda found: replace(found, notes=(*found.notes, Note(number))))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert {note.id for note in book.read().value.notes} == set(range(12))


def test_a_file_in_place_of_the_folder_is_an_error_only_when_written(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    book, notes = JsonFile(tmp_path / "home" / "a", Book, Book(), 10), lines(tmp_path)
    assert (book.read(), notes.read(), notes.move_damaged_aside()) == (Found(Book()), [], "")
    with pytest.raises(StorageError):
        book.write(Book())
    with pytest.raises(StorageError):
        notes.append(Note(1))


def test_lines_are_read_in_order_exactly_as_they_were_appended(tmp_path: Path) -> None:
    file, written = lines(tmp_path), [Note(1, STRANGE), Note(0), Note(1, "", ("a",))]
    assert file.read() == []
    assert not file.path.parent.exists(), "looking creates nothing"
    for note in written:
        file.append(note)
    assert file.read() == written
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.fault(
    "the app's state, the queue, the prompt history, kept samples or labels are damaged"
)
def test_damaged_lines_are_skipped_and_moved_aside(tmp_path: Path) -> None:
    file = lines(tmp_path)
    file.append(Note(1))
    damaged = [b'{"id": "x"}', b"\xff\x00", b"[" * 100_000, b'["x"]', b'{"id": 1e999}', b'{"id": 5']
    with file.path.open("ab") as opened:
        opened.write(b"\n\n" + b"\n".join(damaged))
    file.append(Note(2))
    assert ids(file) == [1, 2]
    aside = file.path.with_name("notes.jsonl.unusable")
    words = "6 lines of the notes can't be read: kept as notes.jsonl.unusable"
    assert (file.move_damaged_aside(), file.move_damaged_aside()) == (words, "")
    assert aside.read_bytes() == b"\n".join([*damaged, b""])
    assert ids(file) == [1, 2]
    with file.path.open("ab") as opened:
        opened.write(b"more\n")
    file.change(lambda found: found[1:])
    assert ids(file) == [2]
    assert aside.with_name("notes.jsonl.unusable-2").read_bytes() == b"more\n"


def test_fields_of_a_newer_version_are_ignored_and_stay_in_the_file(tmp_path: Path) -> None:
    file, newer = lines(tmp_path), b'{"id": 1, "mood": "good"}\n'
    file.path.parent.mkdir()
    file.path.write_bytes(newer)
    file.append(Note(2))
    file.change(lambda found: found[:1])
    assert file.path.read_bytes() == newer


def test_lines_that_another_process_appends_meanwhile_are_kept(tmp_path: Path) -> None:
    file = lines(tmp_path, most_bytes=1 << 30)
    for number in range(40):
        file.append(Note(number, "old"))
    processes = [appending(tmp_path, text, 40) for text in "ab"]

    def without_an_old_one(found: list[Line[Note]]) -> list[Line[Note]]:
        old = next(line for line in found if line.value.text == "old")
        return [line for line in found if line is not old]

    for _ in range(40):
        with file.path.open("ab") as opened:
            opened.write(b"\ndamaged\n")
        assert file.move_damaged_aside()
        file.change(without_an_old_one)
    assert [process.wait() for process in processes] == [0, 0]
    found = file.read()
    for text in "ab":
        assert [note.id for note in found if note.text == text] == list(range(40))
    assert len(found) == 80


def test_only_the_newest_lines_are_kept(tmp_path: Path) -> None:
    file = lines(tmp_path, most_lines=20)
    for number in range(30):
        file.append(Note(number))
    assert ids(file) == list(range(10, 30))
    file.change(lambda found: found[:-1])
    assert len(file.path.read_bytes().splitlines()) == 19


def test_a_long_file_is_cut_to_its_newest_lines(tmp_path: Path) -> None:
    file = lines(tmp_path, most_bytes=2_000)
    for number in range(200):
        file.append(Note(number))
        assert file.path.stat().st_size <= 2_000
    found = ids(file)
    assert found == list(range(200 - len(found), 200))
    assert len(found) > 20
    file.append(Note(-1, "x" * 2_500))
    assert ids(file) == [-1], "the newest is always kept"


def test_a_file_far_over_the_limit_is_read_from_its_end(tmp_path: Path) -> None:
    for number in range(100):
        lines(tmp_path).append(Note(number))
    file = lines(tmp_path, most_bytes=300)
    found = ids(file)
    assert 0 < len(found) < 20
    assert found == list(range(100 - len(found), 100))
    assert file.move_damaged_aside() == ""


def test_a_full_disk_leaves_the_lines_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lines(tmp_path)
    file.append(Note(1))
    before, write, calls = file.path.read_bytes(), os.write, list[int]()

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data)[:10])

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(StorageError, match="No space left"):
        file.append(Note(2))
    assert file.path.read_bytes() == before


def test_lines_on_a_disk_that_cannot_be_written_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lines(tmp_path)
    file.append(Note(1))
    monkeypatch.setattr(json_files, "open_private", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        file.append(Note(2))
    assert ids(file) == [1]


def test_a_line_is_valid_json_without_infinities() -> None:
    assert json.loads(json_files.json_line(Note(1, STRANGE)))["text"] == STRANGE
    with pytest.raises(ValueError, match="Out of range float"):
        json_files.json_line(float("inf"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "text", "marks", "notes", "open"]), inner)
    ),
    max_leaves=12,
)


@given(content=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20))
def test_whatever_a_file_holds_it_is_read_and_none_of_it_is_lost(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        book = JsonFile(Path(folder) / "book.json", Book, Book(), MOST_BYTES)
        book.path.write_bytes(content)
        found = book.read()
        if found.damage:
            aside = book.move_damaged_aside()
            assert aside is not None
            assert aside.read_bytes() == content
            assert book.read() == Found(found.value)
        notes = lines(Path(folder))
        notes.path.parent.mkdir()
        notes.path.write_bytes(content)
        read, message = notes.read(), notes.move_damaged_aside()
        assert notes.read() == read
        assert bool(message) == notes.path.with_name("notes.jsonl.unusable").exists()
        kept = b"".join(path.read_bytes() for path in notes.path.parent.iterdir()).split(b"\n")
        assert sorted(filter(None, kept)) == sorted(filter(None, content.split(b"\n")))
