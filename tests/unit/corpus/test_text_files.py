"""Reading a user's files: what is refused, with which place, and what is read in constant memory."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from rnnlm_tui.corpus.text_files import MAX_LINE_BYTES, LineReader, check_source_path, hash_files, text_files
from rnnlm_tui.errors import CorpusError


def nothing(_: int) -> None:
    """Progress that nobody watches."""


def read(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return list(LineReader(path, nothing).lines())


def test_a_line_that_is_not_empty_is_a_sentence(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", b"  one two \n\n\t\nthree\n four") == ["one two", "three", "four"]


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b"\n"])
def test_every_kind_of_line_end_and_a_byte_order_mark_are_taken_off(tmp_path: Path, ending: bytes) -> None:
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbf" + ending.join([b"one", b"two", "drei ü".encode(), b""])) == ["one", "two", "drei ü"]


def test_invalid_utf8_is_refused_with_byte_and_line(tmp_path: Path) -> None:
    data = "é\n".encode() * 700_000 + b"good \xff bad\n"
    with pytest.raises(CorpusError, match=r"not UTF-8: 0xff at byte 2,100,005 \(line 700,001\)"):
        read(tmp_path / "a.txt", data)
    with pytest.raises(CorpusError, match=r"byte 10 \(line 2\)"):
        read(tmp_path / "b.txt", b"\xef\xbb\xbfgood\nok\xe9")


def test_nuls_are_refused_with_byte_and_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"binary: a NUL at byte 6 \(line 3\)"):
        read(tmp_path / "a.txt", b"a\nb\nab\0")


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\xff\xfea\0", "UTF-16"), (b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip"), (b"\x80\x04\x95", "pickle"), (b"%PDF-1.7", "PDF"), (b"\x7fELF", "program")],
)
def test_known_binaries_are_refused_by_kind(tmp_path: Path, start: bytes, kind: str) -> None:
    with pytest.raises(CorpusError, match=kind) as raised:
        read(tmp_path / "a.txt", start + b"rest")
    assert raised.value.hint


def test_missing_fifo_and_unreadable_paths_are_refused_by_kind(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        check_source_path(tmp_path / "none.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="a FIFO"):
        check_source_path(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="character device"):
        check_source_path(Path("/dev/null"))
    with pytest.raises(CorpusError, match="NUL"):
        check_source_path(Path("a\0b"))
    with pytest.raises(CorpusError, match="name too long"):
        check_source_path(tmp_path / ("x" * 400))


def test_a_folder_gives_its_text_files_in_order_and_tells_of_others(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "sub/c.jsonl", "sub/d.txt.gz", "e.bin", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found, others = text_files(tmp_path)
    assert [path.name for path in found] == ["a.md", "b.txt", "c.jsonl", "d.txt.gz"]
    assert others == 1


def test_a_folder_without_text_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="it is empty"):
        text_files(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(CorpusError, match="1 other file"):
        text_files(tmp_path)


def test_gzip_is_unpacked_and_a_damaged_one_refused(tmp_path: Path) -> None:
    packed = gzip.compress("erste Zeile\nzweite ü\n".encode())
    assert read(tmp_path / "a.txt.gz", packed) == ["erste Zeile", "zweite ü"]
    with pytest.raises(CorpusError, match="damaged gzip"):
        read(tmp_path / "b.txt.gz", packed[:-9])
    with pytest.raises(CorpusError, match="damaged gzip"):
        read(tmp_path / "c.txt.gz", b"no gzip at all")


def test_jsonl_gives_the_named_field_of_each_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"id": index, "body": f"text {index}\nmore"}) for index in range(3)) + "\n\n", encoding="utf-8")
    assert list(LineReader(path, nothing).records("body")) == ["text 0\nmore", "text 1\nmore", "text 2\nmore"]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('{"body": 1}', 'line 2: no text in the field "text"', "none"),
        ('{"title": "x"}', 'no text in the field "text"', "fields with text there: title"),
        ("[1]", "a JSON list, not an object", "one JSON object a line"),
        ('{"text": ', "not JSON", "one JSON object a line"),
    ],
)
def test_a_bad_record_is_refused_with_its_line(tmp_path: Path, line: str, message: str, hint: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="line 2") as raised:
        list(LineReader(path, nothing).records("text"))
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_a_long_line_is_cut_at_spaces_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    words = [f"wörd{index}" for index in range(400_000)]
    path.write_text("short\n" + " ".join(words) + "\nend\n", encoding="utf-8")
    reader = LineReader(path, nothing)
    pieces = list(reader.lines())
    assert " ".join(pieces).split() == ["short", *words, "end"]
    assert max(len(piece.encode()) for piece in pieces) <= MAX_LINE_BYTES
    assert reader.cut_lines == 1


def test_a_long_line_without_spaces_is_cut_between_characters(tmp_path: Path) -> None:
    pieces = read(tmp_path / "a.txt", "€".encode() * 1_000_000)
    assert "".join(pieces) == "€" * 1_000_000
    assert max(len(piece.encode()) for piece in pieces) <= MAX_LINE_BYTES


def test_one_huge_line_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"many words on one line " * 2_000_000)
    seen: list[int] = []
    tracemalloc.start()
    try:
        count = sum(len(piece) for piece in LineReader(path, seen.append).lines())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 45_000_000
    assert peak < 12 * 2**20
    assert sum(seen) == path.stat().st_size


def test_the_hash_follows_the_bytes_of_every_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    hashes = {hash_files([first, second], nothing), hash_files([second, first], nothing)}
    second.write_bytes(b"twO")
    hashes.add(hash_files([first, second], nothing))
    assert len(hashes) == 3
    with pytest.raises(CorpusError, match="does not exist"):
        hash_files([tmp_path / "c"], nothing)
