"""Downloads from servers that disconnect, change files or send wrong data."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
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
DATE = "Tue, 01 Dec 2026 03:00:00 GMT"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.0, 0.0))
    with serving(ArchiveServer(BODY)) as running:
        yield running


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / ".news.part"


def get(server: ArchiveServer, part: Path, reported: list[Progress] | None = None) -> bytes:
    """The downloaded archive, after its hash was compared."""
    sha256 = fetch(
        server.url, part, (reported if reported is not None else []).append, lambda size, held: None
    )
    assert sha256 == hashlib.sha256(part.read_bytes()).hexdigest()
    return part.read_bytes()


def test_an_archive_is_downloaded_with_size_hash_and_progress(
    server: ArchiveServer, part: Path
) -> None:
    reported: list[Progress] = []
    assert get(server, part, reported) == BODY
    assert [request["User-Agent"] for request in server.requests] == [USER_AGENT]
    assert {progress.phase for progress in reported} == {"downloading"}
    assert reported[0] == Progress("downloading", 0, 0)
    assert reported[-1].total == len(BODY)
    assert [progress.done for progress in reported] == sorted(
        progress.done for progress in reported
    )


def test_a_lost_connection_is_resumed(
    server: ArchiveServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.corpus.progress.INTERVAL_SECONDS", 0.0)
    server.cuts, reported = [70_000, 50_000], list[Progress]()
    assert get(server, part, reported) == BODY
    assert [progress.done for progress in reported] == sorted(
        progress.done for progress in reported
    ), "it never falls back"
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=70000-",
        "bytes=120000-",
    ]
    assert [request.get("If-Range") for request in server.requests] == [None, '"1"', '"1"']
    assert server.sent == [70_000, 50_000, len(BODY) - 120_000]


def test_a_server_that_sends_little_each_time_is_retried_to_the_end(
    server: ArchiveServer, part: Path
) -> None:
    server.always_cut = 20_000
    assert get(server, part) == BODY
    assert len(server.requests) == 11


def test_a_connection_that_stays_lost_is_reported_and_resumed_the_next_time(
    server: ArchiveServer, part: Path
) -> None:
    server.cuts = [123_000, 0, 0]
    with pytest.raises(CorpusError, match=r"lost at 123 kB of 200 kB") as raised:
        get(server, part)
    assert raised.value.hint == "run it again to resume at 123 kB"
    assert len(server.requests) == 3
    assert get(server, part) == BODY
    assert server.requests[-1]["Range"] == "bytes=123000-"


def test_a_stop_keeps_the_part(
    server: ArchiveServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_BLOCK", 10_000)
    monkeypatch.setattr("rnnlm_tui.corpus.progress.INTERVAL_SECONDS", 0.0)

    def stop(progress: Progress) -> None:
        if progress.done >= 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, part, stop, lambda size, held: None)
    held = part.stat().st_size
    assert 50_000 <= held < len(BODY)
    assert get(server, part) == BODY
    assert server.requests[-1]["Range"] == f"bytes={held}-"


def test_a_server_without_ranges_is_read_from_the_start(server: ArchiveServer, part: Path) -> None:
    server.ignores_range, server.cuts = True, [70_000]
    assert get(server, part) == BODY
    assert server.sent == [70_000, len(BODY)]


def test_a_server_without_ranges_that_always_disconnects_is_given_up(
    server: ArchiveServer, part: Path
) -> None:
    server.ignores_range, server.always_cut = True, 70_000
    with pytest.raises(CorpusError, match="lost at 70 kB"):
        get(server, part)
    assert len(server.requests) == 3


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_changed_file_is_downloaded_again(
    server: ArchiveServer, part: Path, ignores_if_range: bool
) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)
    server.body, server.etag, server.ignores_if_range = (
        b"\x1f\x8b" + os.urandom(180_000),
        '"2"',
        ignores_if_range,
    )
    assert get(server, part) == server.body


def test_without_a_version_of_the_file_a_part_is_not_kept(
    server: ArchiveServer, part: Path
) -> None:
    server.etag, server.cuts = None, [70_000, 0, 0]
    with pytest.raises(CorpusError) as raised:
        get(server, part)
    assert "corpus.source=PATH" in raised.value.hint
    assert not list(part.parent.iterdir())
    assert get(server, part) == BODY
    assert all("Range" not in request for request in server.requests)


@pytest.mark.parametrize(("etag", "version"), [(None, DATE), ('W/"1"', DATE), ('"1"', '"1"')])
def test_a_part_is_continued_by_the_date_without_a_strong_tag(
    server: ArchiveServer, part: Path, etag: str | None, version: str
) -> None:
    server.etag, server.last_modified, server.cuts = etag, DATE, [70_000]
    assert get(server, part) == BODY
    assert server.requests[-1]["If-Range"] == version


def test_a_changed_address_discards_the_part(server: ArchiveServer, part: Path) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)
    server.url += "2"
    assert get(server, part) == BODY
    assert "Range" not in server.requests[-1]


def test_a_damaged_note_discards_the_part(server: ArchiveServer, part: Path) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)
    note_path(part).write_text("{", encoding="utf-8")
    assert get(server, part) == BODY
    assert "Range" not in server.requests[-1]


def test_a_length_that_is_too_long_is_reported_and_not_accepted_as_complete(
    server: ArchiveServer, part: Path
) -> None:
    server.announced = len(BODY) + 500
    with pytest.raises(CorpusError, match=r"can't download"):
        get(server, part)


def test_a_length_that_is_too_short_ends_the_archive_there(
    server: ArchiveServer, part: Path
) -> None:
    """The missing data is noticed when unpacking: see test_news."""
    server.announced = len(BODY) - 500
    assert get(server, part) == BODY[:-500]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_archive_without_a_length_is_downloaded_to_its_end_once(
    server: ArchiveServer, part: Path, chunked: bool
) -> None:
    server.announced, server.chunked = 0, chunked
    assert get(server, part) == BODY
    assert get(server, part) == BODY
    assert len(server.requests) == 1


def test_a_download_without_a_length_starts_over_without_a_range(
    server: ArchiveServer, part: Path
) -> None:
    server.chunked, server.cuts = True, [70_000]
    assert get(server, part) == BODY
    assert server.sent == [70_000, len(BODY)]
    assert [request.get("Range") for request in server.requests] == [None, None]


def test_a_login_page_keeps_the_part(server: ArchiveServer, part: Path) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)
    server.body, server.ignores_range = b"<html>Please log in</html>", True
    with pytest.raises(CorpusError, match="not a gzip archive") as raised:
        get(server, part)
    assert raised.value.hint == "run it again to resume at 70 kB"
    assert part.read_bytes() == BODY[:70_000]
    server.body, server.ignores_range = BODY, False
    assert get(server, part) == BODY
    assert server.requests[-1]["Range"] == "bytes=70000-"


def test_an_empty_response_is_reported_and_keeps_the_part(
    server: ArchiveServer, part: Path
) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)
    server.always_cut, server.ignores_range = 0, True
    with pytest.raises(CorpusError, match=r"can't download .*: the server sent no data"):
        get(server, part)
    assert part.read_bytes() == BODY[:70_000]


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:80a/x", "http://127.0.0.1/a b", "http://a..b/x"]
)
def test_an_invalid_address_is_reported(
    part: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(CorpusError, match="invalid address") as raised:
        fetch(url, part, lambda _: None, lambda size, held: None)
    assert raised.value.hint == "set corpus.url"


@pytest.mark.parametrize("method", ["open", "unlink", "stat"])
def test_a_disk_failure_is_reported(
    server: ArchiveServer, part: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [70_000, 0, 0]
    with pytest.raises(CorpusError):
        get(server, part)

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    server.etag = '"2"'  # what is there has to go
    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(
        StorageError, match=r"can't (read|write|remove) .*\.news\.part: Input/output error"
    ):
        get(server, part)


def test_a_page_instead_of_an_archive_is_rejected_with_its_beginning(
    server: ArchiveServer, part: Path
) -> None:
    server.body = b"<!DOCTYPE html><html><body>Sorry</body></html>"
    with pytest.raises(CorpusError, match=r'not a gzip archive \(starts with "<!DOCTYPE html>'):
        get(server, part)
    assert not part.exists()


@pytest.mark.parametrize(
    ("status", "words", "tries"),
    [(404, "404 Not Found", 1), (403, "403 Forbidden", 1), (503, "503 Service Unavailable", 3)],
)
def test_an_http_error_is_reported_and_only_server_errors_are_retried(
    server: ArchiveServer, part: Path, status: int, words: str, tries: int
) -> None:
    server.status = status
    with pytest.raises(CorpusError, match=words) as raised:
        get(server, part)
    assert raised.value.message.endswith(f": 127.0.0.1 answers HTTP {words}")
    assert "corpus.source=PATH" in raised.value.hint
    assert len(server.requests) == tries


def test_an_unreachable_host_is_reported(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(CorpusError, match=r"connection refused by 127\.0\.0\.1"):
        fetch(f"http://127.0.0.1:{port}/news", part, lambda _: None, lambda size, held: None)

    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_network)
    with pytest.raises(CorpusError, match=r"host news\.example not found, or no network"):
        fetch("http://news.example/news", part, lambda _: None, lambda size, held: None)


def test_an_untrusted_certificate_is_rejected(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"

    def refuse(connection: HTTPSConnection) -> None:
        context = connection._context  # type: ignore[attr-defined]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        raise error

    monkeypatch.setattr(HTTPSConnection, "connect", refuse)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(
        CorpusError,
        match=r"TLS certificate verification failed for news\.example: self-signed certificate",
    ):
        fetch("https://news.example/news", part, lambda _: None, lambda size, held: None)


def test_a_server_without_tls_is_never_used_unencrypted(server: ArchiveServer, part: Path) -> None:
    with pytest.raises(CorpusError, match=r"can't download"):
        fetch(
            server.url.replace("http://", "https://"), part, lambda _: None, lambda size, held: None
        )
    assert server.requests == []


def test_a_redirect_is_followed_but_not_to_a_file(
    server: ArchiveServer, part: Path, tmp_path: Path
) -> None:
    server.redirect = f"{server.url}/elsewhere"
    assert get(server, part) == BODY
    server.redirect = (tmp_path / "secret").as_uri()
    part.unlink()
    note_path(part).unlink()
    with pytest.raises(CorpusError, match="not allowed"):
        get(server, part)


def test_a_redirect_never_leaves_an_encrypted_connection() -> None:
    with pytest.raises(CorpusError, match="which is not https"):
        _SafeRedirects().redirect_request(
            Request("https://a.example/news"),
            BytesIO(),
            302,
            "Found",
            HTTPMessage(),
            "http://a.example/news",
        )


def test_a_disk_too_small_is_reported_before_the_first_byte(
    server: ArchiveServer, part: Path
) -> None:
    server.answers.clear()

    def check_room(size: int, held: int) -> None:
        assert (size, held) == (len(BODY), 0)
        raise StorageError("too small")

    with pytest.raises(StorageError, match="too small"):
        fetch(server.url, part, lambda _: None, check_room)
    assert server.sent == [0]
    assert not part.exists()
