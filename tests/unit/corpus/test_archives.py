"""Unpacking untrusted archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from rnnlm_tui.corpus import news
from rnnlm_tui.corpus.news import unpack
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.metrics import Progress
from tests.fakes.archive_server import archive_of

TEXTS = {"news/train.txt": b"one\ntwo\n" * 5_000, "news/test.txt": b"three\n" * 5_000}
WANTED = ("test.txt", "train.txt")


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def take_out(
    tmp_path: Path, packed: bytes, reported: list[Progress] | None = None
) -> Mapping[str, bytes]:
    """The files after unpacking, even if it fails."""
    (tmp_path / "archive").write_bytes(packed)
    (tmp_path / "out").mkdir(exist_ok=True)
    report = (reported if reported is not None else []).append
    unpack(tmp_path / "archive", tmp_path / "out", report)
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("folder", ["news/", "", "./news/", "other/"])
def test_only_the_wanted_files_are_extracted(tmp_path: Path, folder: str) -> None:
    files = {f"{folder}{Path(name).name}": data for name, data in TEXTS.items()}
    others = {f"{folder}._train.txt": b"x", f"{folder}deep/er/train.txt": b"x", "README": b"x"}
    reported: list[Progress] = []
    found = take_out(
        tmp_path, archive_of({**others, **files}, member("news", tarfile.DIRTYPE)), reported
    )
    assert found == {Path(name).name: data for name, data in TEXTS.items()}
    size = (tmp_path / "archive").stat().st_size
    assert reported[-1] == Progress("unpacking", size, size)


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil.txt", tarfile.REGTYPE),
        member("news/../../evil.txt", tarfile.REGTYPE),
        member("/etc/evil.txt", tarfile.REGTYPE),
        member("news/train.txt", tarfile.SYMTYPE, "/etc/passwd"),
        member("news/train.txt", tarfile.LNKTYPE, "/etc/passwd"),
        member("news/train.txt", tarfile.CHRTYPE),
        member("news/pipe", tarfile.FIFOTYPE),
    ],
)
def test_whatever_else_an_archive_has_is_left_in_it(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    assert take_out(tmp_path, archive_of(TEXTS, bad)) == {
        Path(name).name: data for name, data in TEXTS.items()
    }
    assert not list(tmp_path.rglob("evil.txt"))
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def gzip_of(*blocks: bytes) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for block in blocks:
            file.write(block)
    return packed.getvalue()


def sized(kind: bytes, size: int, name: str = "news/note") -> bytes:
    made = member(name, kind)
    made.size = size
    return made.tobuf(tarfile.GNU_FORMAT)


def test_chained_headers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="damaged"):
        take_out(tmp_path, gzip_of(sized(tarfile.XHDTYPE, 0) * 1_000, bytes(1024)))


def test_long_names_and_comments_are_accepted(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 2_000}
    ) as archive:
        for name, data in {f"{'n' * 200}/ü{'m' * 200}": b"x" * 3_000_000, **TEXTS}.items():
            made = tarfile.TarInfo(name)
            made.size = len(data)
            archive.addfile(made, io.BytesIO(data))
    assert set(take_out(tmp_path, packed.getvalue())) == set(WANTED)


@pytest.mark.parametrize("size", [-512, 1 << 60])
def test_impossible_sizes_are_rejected_immediately(tmp_path: Path, size: int) -> None:
    with pytest.raises(CorpusError, match=r"has a wrong size|unpacks to more than"):
        take_out(tmp_path, gzip_of(sized(tarfile.REGTYPE, size), bytes(1024)))


def test_data_after_the_last_file_is_limited_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    with pytest.raises(CorpusError, match="unpacks to more than"):
        take_out(tmp_path, gzip_of(gzip.decompress(archive_of(TEXTS)), bytes(8 << 20)))


@pytest.mark.parametrize("name", ["news/train.txt", "bomb"])
def test_an_archive_that_expands_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(news, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    with pytest.raises(CorpusError, match="unpacks to more than"):
        take_out(tmp_path, archive_of({name: bytes(8 << 20)}))


def test_a_disk_too_small_for_a_file_is_reported_with_needed_and_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "free_bytes", lambda _: 12_000)
    with pytest.raises(StorageError, match=r"train\.txt: needs 40 kB, 12 kB free"):
        take_out(tmp_path, archive_of(TEXTS))


@pytest.mark.parametrize("where", [40, -4])
def test_a_flipped_bit_is_found_even_after_the_last_file(tmp_path: Path, where: int) -> None:
    packed = bytearray(archive_of(TEXTS))
    packed[where] ^= 1
    with pytest.raises(CorpusError, match="damaged"):
        take_out(tmp_path, bytes(packed))


@pytest.mark.parametrize(
    "packed",
    [b"", b"<html>", gzip.compress(b"no tar at all" * 100), archive_of(TEXTS)[:-200]],
    ids=["nothing", "a page", "no tar", "cut"],
)
def test_a_damaged_or_other_archive_is_rejected(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(CorpusError, match=r"damaged|lacks"):
        take_out(tmp_path, packed)


def test_an_archive_that_lacks_a_file_is_rejected_with_its_contents(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"train\.txt not found in the archive, it contains test\.txt"
    ):
        take_out(tmp_path, archive_of({"news/test.txt": b"a\n"}))
    with pytest.raises(CorpusError, match=r"train\.txt in the archive is empty"):
        take_out(tmp_path, archive_of({"news/test.txt": b"a\n", "news/train.txt": b""}))
    with pytest.raises(CorpusError, match=r"contains train\.txt twice"):
        take_out(tmp_path, archive_of({"news/train.txt": b"a\n", "train.txt": b"b\n"}))


def test_a_sparse_file_is_rejected(tmp_path: Path) -> None:
    header = member("news/train.txt", tarfile.GNUTYPE_SPARSE)
    raw = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    raw[386:398], raw[398:410] = (
        b"00000000000\0",
        b"00000000001\0",
    )  # one part, of one byte, at the start
    raw[483:495] = b"77777777777\0"  # of a file of 8 GiB
    raw[124:136] = b"00000000001\0"
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    with pytest.raises(CorpusError, match="unpacks to more than"):
        take_out(tmp_path, gzip_of(bytes(raw), b"x".ljust(512, b"\0"), bytes(1024)))
