"""Reading text files, and rejecting others with the position of the problem."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.corpus.records import read_records
from rnnlm_tui.corpus.text_files import (
    MAX_LINE,
    LineReader,
    check_source_path,
    hash_files,
    matching_files,
    text_files,
)
from rnnlm_tui.errors import CorpusError


def nothing(_: int) -> None:
    """Ignore the progress."""


def read(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return list(LineReader(path, nothing).lines())


def test_each_line_with_text_is_a_sentence(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", b"  one two \n\n\t\nthree\n four") == [
        "one two",
        "three",
        "four",
    ]


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b"\n"])
def test_all_line_endings_and_a_byte_order_mark_are_removed(tmp_path: Path, ending: bytes) -> None:
    assert read(
        tmp_path / "a.txt", b"\xef\xbb\xbf" + ending.join([b"one", b"two", "drei ü".encode(), b""])
    ) == ["one", "two", "drei ü"]


def test_invalid_utf8_is_rejected_with_byte_and_line(tmp_path: Path) -> None:
    data = "é\n".encode() * 700_000 + b"good \xff bad\n"
    with pytest.raises(CorpusError, match=r"not UTF-8: 0xff at byte 2,100,005 \(line 700,001\)"):
        read(tmp_path / "a.txt", data)
    with pytest.raises(CorpusError, match=r"byte 10 \(line 2\)"):
        read(tmp_path / "b.txt", b"\xef\xbb\xbfgood\nok\xe9")


def test_nuls_are_rejected_with_byte_and_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"binary: NUL at byte 6 \(line 3\)"):
        read(tmp_path / "a.txt", b"a\nb\nab\0")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xff\xfea\0", "UTF-16"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"\x80\x04\x95", "pickle"),
        (b"%PDF-1.7", "PDF"),
        (b"\x7fELF", "program"),
        (b"\x28\xb5\x2f\xfd\0", "Zstandard"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"\x04\x22\x4d\x18\0", "LZ4"),
        (b"\x5d\0\0\x80\0", "is compressed"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"PAR1\x15\x04\0", "Parquet"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Word or Excel"),
        (b"name.txt" + bytes(249) + b"ustar\x0000", "tar archive"),
    ],
)
def test_known_binary_formats_are_rejected_by_name(tmp_path: Path, start: bytes, kind: str) -> None:
    with pytest.raises(CorpusError, match=kind) as raised:
        read(tmp_path / "a.txt", start + b"rest")
    assert raised.value.hint


def test_missing_special_and_unreadable_paths_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not found"):
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


CUT = "é".encode() * 4_000
"""The first bytes that are looked at end inside a character."""
UNKNOWN = {
    "README": b"read me\n",
    "a.log": b"x" + CUT,
    "b.odd": CUT,
    "c.log.gz": gzip.compress(b"packed\n"),
    "train.out": b"\xef\xbb\xbfmarked\n",
}
NO_TEXT = {
    "a.bin": b"a\0b",
    "b.log": b"caf\xe9 in Latin-1\n",
    "c.odd": b"%PDF-1.7 text",
    "d.log": b"",
    "e.log.gz": b"no gzip",
    "f.tar.gz": gzip.compress(b"x" * 257 + b"ustar"),
}


def known(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, b"x")


@pytest.mark.parametrize(
    ("files", "others"),
    [
        (known("a.md", "b.txt", "sub/c.jsonl", "sub/d.txt.gz"), known("e.bin")),
        (known("a.py", "g.py.xz", "src/b.c", "src/c.rs"), known("d.csv", "e.png", "f.json")),
        (known("d.csv", "f.json"), UNKNOWN | NO_TEXT),
        (UNKNOWN, NO_TEXT),
        (known("e.txt"), UNKNOWN | NO_TEXT | known("d.csv")),
    ],
    ids=["documents", "code", "tables", "other text", "document"],
)
def test_the_best_text_files_of_a_folder_are_found_and_others_counted(
    tmp_path: Path, files: dict[str, bytes], others: dict[str, bytes]
) -> None:
    for name, data in (files | others | known(".hidden.txt", ".git/a.txt")).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("x" * 300)  # too long for the file system
    assert text_files(tmp_path) == ([tmp_path / name for name in sorted(files)], len(others) + 2)


def test_a_folder_without_text_is_rejected_with_its_contents(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="it is empty"):
        text_files(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"\0x")
    with pytest.raises(CorpusError, match="1 other file"):
        text_files(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_compressed_text_is_unpacked_and_damaged_files_are_rejected(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack("erste Zeile\nzweite ü\n".encode())
    assert read(tmp_path / f"a.txt{suffix}", packed) == ["erste Zeile", "zweite ü"]
    kind = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2"}[suffix]
    with pytest.raises(CorpusError, match=f"damaged {kind}"):
        read(tmp_path / f"b.txt{suffix}", packed[:-9])
    with pytest.raises(CorpusError, match=f"damaged {kind}") as raised:
        read(tmp_path / f"c.txt{suffix}", b"not packed at all")
    assert "--test" in raised.value.hint


def test_a_tar_archive_inside_gzip_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="tar archive"):
        read(tmp_path / "a.txt.gz", gzip.compress(b"name.txt" + bytes(249) + b"ustar\x0000"))


TABLE = (
    'id,body,extra\r\n1,"He said ""hi"", and left.\nThen came back.",x\r\n'
    "\r\n2,Second text ü,y\r\n3,,z\r\n"
)
TEXTS = ['He said "hi", and left.\nThen came back.', "Second text ü"]
RECORDS = [
    {"id": index, "body": f"text {index}\n" + "long ä" * index * 20_000} for index in range(6)
]
BODIES = [str(record["body"]) for record in RECORDS]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", "".join(f"{json.dumps(record)}\n\n" for record in RECORDS), BODIES),
        ("a.json", json.dumps(RECORDS, indent=1), BODIES),
        ("b.json", "[]", []),
        ("a.csv", TABLE, TEXTS),
        ("a.csv.gz", TABLE, TEXTS),
        ("a.tsv", "\ufeffbody\tid\nOne, two\t1\nThree\t2\n", ["One, two", "Three"]),
        ("b.csv", "id;body\n1;One, two\n2;Three\n", ["One, two", "Three"]),
    ],
)
def test_records_give_the_named_field(
    tmp_path: Path, name: str, text: str, expected: list[str]
) -> None:
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(read_records(LineReader(tmp_path / name, nothing), "body")) == expected


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("a.jsonl", '{"body": 1}', 'line 2: no text in the field "text"', "none"),
        ("a.jsonl", '{"title": "x"}', 'no text in the field "text"', "its fields with text: title"),
        ("a.jsonl", "[1]", "must be a JSON object, not list", "one JSON object per line"),
        ("a.jsonl", '{"text": ', "line 2: invalid JSON", "one JSON object per line"),
        (
            "a.csv",
            "id,title\n1,One\n",
            'no column "text"',
            "its columns: id, title; set corpus.text_field to the one with the text",
        ),
        ("a.csv", "id,text\n1\n", "line 2: 1 column, but the header has 2", ""),
        ("a.csv", 'id,text\n1,"open\n' + "more\n" * 10, "line 12: invalid row", ""),
        ("a.tsv", "id\ttitle\n1\tOne\n", 'no column "text"', "corpus.text_field"),
        (
            "a.json",
            '[{"title": "One"}]',
            'record 1: no text in the field "text"',
            "its fields with text: title; set corpus.text_field to one of them",
        ),
        ("a.json", '[{"text": "One"}, 3]', "record 2: must be a JSON object, not int", ""),
        ("a.json", '[{"text": "One"}, {"text": ]', "record 2: invalid JSON", ""),
        ("a.json", '[{"text": "One"} {"text": "Two"}]', "record 2: invalid JSON", ""),
        ("a.json", '[{"text": "One"}', "record 2: invalid JSON", ""),
        ("a.json", '{\n "title": 1\n}', "line 1: invalid JSON", "an array of objects"),
    ],
)
def test_an_invalid_record_is_rejected_with_its_position(
    tmp_path: Path, name: str, text: str, message: str, hint: str
) -> None:
    before = '{"text": "fine"}\n' if name == "a.jsonl" else ""
    (tmp_path / name).write_text(before + text, encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        list(read_records(LineReader(tmp_path / name, nothing), "text"))
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_a_pattern_matches_files_with_any_suffix(tmp_path: Path) -> None:
    for name in ("a.py", "src/b.py", "src/deep/c.py", "src/deep/d.odd", "src/.hidden.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in matching_files(f"{tmp_path}/src/**/*.py")] == ["b.py", "c.py"]
    assert [path.name for path in matching_files(f"{tmp_path}/**/*.odd")] == ["d.odd"]
    with pytest.raises(CorpusError, match=r"no file matches .*\*\.txt") as raised:
        matching_files(f"{tmp_path}/**/*.txt")
    assert "**" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "join"),
    [(" ".join(f"wörd{index}" for index in range(400_000)), " "), ("€" * 1_000_000, "")],
    ids=["at spaces", "between characters"],
)
def test_a_long_line_is_split_without_loss(tmp_path: Path, text: str, join: str) -> None:
    (tmp_path / "a.txt").write_text(f"short\n{text}\nend\n", encoding="utf-8")
    reader = LineReader(tmp_path / "a.txt", nothing)
    first, *pieces, last = reader.lines()
    assert (first, join.join(pieces), last) == ("short", text, "end")
    assert max(map(len, pieces)) <= MAX_LINE
    assert reader.cut_lines == 1


def test_a_huge_line_is_never_held_in_memory(tmp_path: Path) -> None:
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


def test_the_hash_depends_on_the_bytes_of_every_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    hashes = {hash_files([first, second], nothing), hash_files([second, first], nothing)}
    second.write_bytes(b"twO")
    hashes.add(hash_files([first, second], nothing))
    assert len(hashes) == 3
    with pytest.raises(CorpusError, match="not found"):
        hash_files([tmp_path / "c"], nothing)
