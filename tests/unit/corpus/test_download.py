"""Downloads from servers that disconnect, change files or send wrong data."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPMessage, HTTPSConnection
from io import BytesIO
from pathlib import Path
from urllib.request import Request

import pytest

from rnnlm_tui.corpus import download
from rnnlm_tui.corpus.download import USER_AGENT, _SafeRedirects, fetch, note_path
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.metrics import Progress
from tests.fakes.archive_server import ArchiveServer, serving

BODY = b"\x1f\x8b" + os.urandom(200_000)
OTHER = b"\x1f\x8b" + os.urandom(180_000)
SAME_SIZE = b"\x1f\x8b" + os.urandom(200_000)
DATE = "Tue, 01 Dec 2026 03:00:00 GMT"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with serving(ArchiveServer(BODY)) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def get(
    url: str, path: Path, progress: Callable[[Progress], None] = lambda _: None
) -> tuple[bytes, str]:
    """The downloaded archive and its hash."""
    sha256 = fetch(url, path, progress, lambda size, held: None)
    return path.read_bytes(), sha256


def whole(body: bytes = BODY) -> tuple[bytes, str]:
    return body, hashlib.sha256(body).hexdigest()


def get_70_kb(server: ArchiveServer, path: Path) -> CorpusError:
    """The error of a download whose connection is lost at 70 kB."""
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError, match=r"connection lost at 70 kB of 200 kB") as raised:
        get(server.url, path)
    assert len(server.requests) == 3
    return raised.value


def asked(server: ArchiveServer, header: str = "Range") -> list[str | None]:
    return [request.get(header) for request in server.requests]


def test_a_lost_connection_is_resumed_with_progress(
    server: ArchiveServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.corpus.build.INTERVAL_SECONDS", 0.0)
    server.cuts, reported = [70_000, 50_000], list[Progress]()
    assert get(server.url, path, reported.append) == whole()
    assert {progress.phase for progress in reported} == {"downloading"}
    assert (reported[0].done, reported[-1].total) == (0, len(BODY))
    done = [progress.done for progress in reported]
    assert done == sorted(done), "it never falls back"
    assert asked(server) == [None, "bytes=70000-", "bytes=120000-"]
    assert asked(server, "If-Range") == [None, '"1"', '"1"']
    assert asked(server, "User-Agent") == [USER_AGENT] * 3
    assert server.sent == [70_000, 50_000, len(BODY) - 120_000]


def test_a_server_that_sends_little_each_time_is_retried_to_the_end(
    server: ArchiveServer, path: Path
) -> None:
    server.always_cut = 20_000
    assert get(server.url, path) == whole()
    assert len(server.requests) == 11


def test_a_connection_that_stays_lost_is_reported_and_resumed_the_next_time(
    server: ArchiveServer, path: Path
) -> None:
    assert get_70_kb(server, path).hint == "run it again to resume at 70 kB"
    assert get(server.url, path) == whole()
    assert get(server.url, path) == whole(), "it is there"
    assert asked(server)[2:] == ["bytes=70000-", "bytes=70000-"]


def test_a_stop_keeps_the_part(
    server: ArchiveServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_BLOCK", 10_000)
    monkeypatch.setattr("rnnlm_tui.corpus.build.INTERVAL_SECONDS", 0.0)

    def stop(progress: Progress) -> None:
        if progress.done >= 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server.url, path, stop)
    held = path.stat().st_size
    assert 50_000 <= held < len(BODY)
    assert get(server.url, path) == whole()
    assert asked(server)[-1] == f"bytes={held}-"


def test_a_server_without_ranges_is_read_from_the_start_and_at_last_given_up(
    server: ArchiveServer, path: Path
) -> None:
    server.ignores_range, server.cuts = True, [70_000]
    assert get(server.url, path) == whole()
    assert server.sent == [70_000, len(BODY)]
    server.always_cut = 70_000
    with pytest.raises(CorpusError, match="lost at 70 kB"):
        get(server.url, path.with_name("other"))
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("body", "etag", "date", "ignores_if_range"),
    [
        (OTHER, '"2"', None, False),
        (OTHER, '"2"', None, True),
        (OTHER, '"1"', None, True),
        (SAME_SIZE, None, DATE, True),
        (BODY[:60_000], '"1"', None, True),
    ],
)
def test_a_changed_file_is_downloaded_again(
    server: ArchiveServer,
    path: Path,
    body: bytes,
    etag: str | None,
    date: str | None,
    ignores_if_range: bool,
) -> None:
    get_70_kb(server, path)
    server.body, server.etag, server.last_modified = body, etag, date
    server.ignores_if_range = ignores_if_range
    assert get(server.url, path) == whole(body)


@pytest.mark.parametrize("gone", ["address", "note", "size"])
def test_a_part_of_something_else_is_discarded(
    server: ArchiveServer, path: Path, gone: str
) -> None:
    get_70_kb(server, path)
    if gone == "address":
        server.url += "2"
    elif gone == "note":
        note_path(path).write_text("{", encoding="utf-8")
    else:
        path.write_bytes(bytes(len(BODY) + 1))
    assert get(server.url, path) == whole()
    assert asked(server)[-1] is None


@pytest.mark.parametrize(("etag", "version"), [(None, DATE), ('W/"1"', DATE), ('"1"', '"1"')])
def test_a_part_is_continued_by_its_date_without_a_strong_tag(
    server: ArchiveServer, path: Path, etag: str | None, version: str
) -> None:
    server.etag, server.last_modified, server.cuts = etag, DATE, [70_000]
    assert get(server.url, path) == whole()
    assert asked(server, "If-Range")[-1] == version


@pytest.mark.parametrize("lacks", ["a version", "a length"])
def test_without_a_version_or_length_every_attempt_starts_over_and_leaves_nothing(
    server: ArchiveServer, path: Path, lacks: str
) -> None:
    server.etag, server.chunked = None if lacks == "a version" else '"1"', lacks == "a length"
    server.cuts = [70_000, 70_000, 70_000]
    with pytest.raises(CorpusError, match="connection lost at 70 kB") as raised:
        get(server.url, path)
    assert "corpus.source=PATH" in raised.value.hint
    assert not list(path.parent.iterdir())
    assert get(server.url, path) == whole()
    assert asked(server) == [None] * 4


@pytest.mark.parametrize("chunked", [False, True])
def test_an_archive_without_a_length_is_downloaded_to_its_end_once(
    server: ArchiveServer, path: Path, chunked: bool
) -> None:
    server.announced, server.chunked = 0, chunked
    for _ in range(2):
        assert get(server.url, path) == whole()
    assert len(server.requests) == 1


def test_a_wrong_length_is_never_accepted_as_complete(server: ArchiveServer, path: Path) -> None:
    server.announced = len(BODY) + 500
    with pytest.raises(CorpusError, match=r"can't download"):
        get(server.url, path)
    server.url, server.announced = f"{server.url}2", len(BODY) - 500
    assert get(server.url, path) == whole(BODY[:-500]), "unpacking notices it: see test_news"


@pytest.mark.parametrize(
    ("body", "words", "hint"),
    [
        (
            b"<!DOCTYPE html><html><body>Sorry</body></html>",
            r'not a gzip archive \(starts with "<!DOCTYPE html>',
            "run it again to resume at 70 kB",
        ),
        (b"PK\x03\x04", r"not a gzip archive \(starts with 50 4b 03 04\)", "run it again"),
        (b"", "the server sent no data", "run it again"),
    ],
)
def test_a_page_instead_of_an_archive_is_rejected_and_keeps_the_part(
    server: ArchiveServer, path: Path, body: bytes, words: str, hint: str
) -> None:
    get_70_kb(server, path)
    server.body, server.ignores_range = body, True
    with pytest.raises(CorpusError, match=words) as raised:
        get(server.url, path)
    assert raised.value.hint.startswith(hint)
    assert path.read_bytes() == BODY[:70_000]
    server.body, server.ignores_range = BODY, False
    assert get(server.url, path) == whole()
    assert asked(server)[-1] == "bytes=70000-"
    server.body, server.url = body, f"{server.url}2"
    with pytest.raises(CorpusError, match=words):
        get(server.url, path)
    assert not path.exists(), "it was of another address"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:80a/x", "http://127.0.0.1/a b", "http://a..b/x"]
)
def test_an_invalid_address_is_reported(path: Path, url: str) -> None:
    with pytest.raises(CorpusError, match="invalid address") as raised:
        get(url, path)
    assert raised.value.hint == "set corpus.url"


@pytest.mark.parametrize("method", ["open", "unlink", "stat"])
def test_a_disk_failure_is_reported(
    server: ArchiveServer, path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_70_kb(server, path)

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    server.etag = '"2"'  # what is there has to go
    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(StorageError, match=r"can't (read|write|remove) .*: Input/output error"):
        get(server.url, path)


@pytest.mark.parametrize(
    ("status", "words", "tries"),
    [(404, "404 Not Found", 1), (403, "403 Forbidden", 1), (500, "500 Internal Server Error", 3)],
)
def test_a_server_that_refuses_is_named_and_only_its_own_errors_are_retried(
    server: ArchiveServer, path: Path, status: int, words: str, tries: int
) -> None:
    server.status = status
    with pytest.raises(CorpusError, match=rf": 127\.0\.0\.1 answers HTTP {words}\n") as raised:
        get(server.url, path)
    assert "corpus.source=PATH" in raised.value.hint
    assert len(server.requests) == tries


def test_an_unreachable_host_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(CorpusError, match=r"connection refused by 127\.0\.0\.1"):
        get(f"http://127.0.0.1:{port}/news", path)
    tries = []

    def no_network(*_: object, **__: object) -> None:
        tries.append(1)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_network)
    with pytest.raises(CorpusError, match=r"host news\.example not found, or no network"):
        get("http://news.example/news", path)
    assert len(tries) == 1


def test_a_network_that_fails_after_data_came_is_tried_again(
    server: ArchiveServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, connect = [], socket.create_connection

    def fail_later(address: tuple[str, int], *rest: object, **_: object) -> socket.socket:
        tries.append(1)
        if len(tries) == 2:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return connect(address, 5.0)

    monkeypatch.setattr(socket, "create_connection", fail_later)
    server.cuts = [70_000]
    assert get(server.url, path) == whole()
    assert len(tries) == 3


def test_an_untrusted_certificate_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"

    def refuse(connection: HTTPSConnection) -> None:
        context = connection._context  # type: ignore[attr-defined]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        raise error

    monkeypatch.setattr(HTTPSConnection, "connect", refuse)
    with pytest.raises(
        CorpusError,
        match=r"TLS certificate verification failed for news\.example: self-signed certificate",
    ):
        get("https://news.example/news", path)


def test_a_server_without_tls_is_never_used_unencrypted(server: ArchiveServer, path: Path) -> None:
    with pytest.raises(CorpusError, match=r"can't download"):
        get(server.url.replace("http://", "https://"), path)
    assert server.requests == []
    with pytest.raises(CorpusError, match="which is not https"):
        _SafeRedirects().redirect_request(
            Request("https://a.example/news"),
            BytesIO(),
            302,
            "Found",
            HTTPMessage(),
            "http://a.example/news",
        )


def test_a_redirect_is_followed_but_not_to_a_file(
    server: ArchiveServer, path: Path, tmp_path: Path
) -> None:
    server.redirect = f"{server.url}/elsewhere"
    assert get(server.url, path) == whole()
    server.redirect = (tmp_path / "secret").as_uri()
    with pytest.raises(CorpusError, match="not allowed"):
        get(server.url, tmp_path / "other")


def test_a_disk_too_small_is_reported_before_the_first_byte(
    server: ArchiveServer, path: Path
) -> None:
    server.answers.clear()

    def check_room(size: int, held: int) -> None:
        assert (size, held) == (len(BODY), 0)
        raise StorageError("too small")

    with pytest.raises(StorageError, match="too small"):
        fetch(server.url, path, lambda _: None, check_room)
    assert server.sent == [0]
    assert not path.exists()
