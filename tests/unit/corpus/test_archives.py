"""Unpacking untrusted archives."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

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


def flipped(place: int) -> bytes:
    packed = bytearray(archive_of(TEXTS))
    packed[place] ^= 1
    return bytes(packed)


def sparse(name: str) -> bytes:
    """The header of a file of 8 GiB with one part, of one byte, at the start."""
    raw = bytearray(member(name, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    raw[386:398], raw[398:410] = b"00000000000\0", b"00000000001\0"
    raw[483:495], raw[124:136] = b"77777777777\0", b"00000000001\0"
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw) + b"x".ljust(512, b"\0")


TOO_MUCH = "unpacks to more than 60 times its size"
REJECTED = {
    "nothing": (b"", "damaged"),
    "a page": (b"<html>", "damaged"),
    "no tar": (gzip.compress(b"no tar at all" * 100), "damaged"),
    "cut": (archive_of(TEXTS)[:-200], "damaged"),
    "a flipped bit": (flipped(40), "damaged"),
    "a flipped bit after the last file": (flipped(-4), "damaged"),
    "chained headers": (gzip_of(sized(tarfile.XHDTYPE, 0) * 1_000, bytes(1024)), "damaged"),
    "a negative size": (gzip_of(sized(tarfile.REGTYPE, -512), bytes(1024)), "has a wrong size"),
    "an endless file": (gzip_of(sized(tarfile.REGTYPE, 1 << 60), bytes(1024)), TOO_MUCH),
    "a sparse file": (gzip_of(sparse("news/train.txt"), bytes(1024)), TOO_MUCH),
    "a large text": (archive_of({"news/train.txt": bytes(8 << 20)}), TOO_MUCH),
    "another large file": (archive_of({"bomb": bytes(8 << 20)}), TOO_MUCH),
    "data after the last file": (
        gzip_of(gzip.decompress(archive_of(TEXTS)), bytes(8 << 20)),
        TOO_MUCH,
    ),
    "one file": (
        archive_of({"news/test.txt": b"a\n"}),
        r"train\.txt not found in the archive, it contains test\.txt",
    ),
    "no file": (archive_of({"readme": b"a\n"}), "it contains neither"),
    "an empty file": (
        archive_of({"news/test.txt": b"a\n", "news/train.txt": b""}),
        r"train\.txt in the archive is empty",
    ),
    "a file twice": (
        archive_of({"news/train.txt": b"a\n", "train.txt": b"b\n"}),
        r"contains train\.txt twice",
    ),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_an_archive_that_is_damaged_or_not_what_is_wanted_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    packed, words = REJECTED[kind]
    monkeypatch.setattr(news, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    with pytest.raises(CorpusError, match=words):
        take_out(tmp_path, packed)


def test_a_full_disk_is_reported_with_the_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "free_bytes", lambda _: 12_000)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("rnnlm_tui.corpus.news.shutil.copyfileobj", Mock(side_effect=full))
    with pytest.raises(StorageError, match=r"can't write to .*: No space left") as raised:
        take_out(tmp_path, archive_of(TEXTS))
    assert raised.value.hint == "12 kB are free"
