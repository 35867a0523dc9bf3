"""Download a gzip archive over HTTP, resuming an interrupted download of the same file."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic_core import ValidationError

from rnnlm_tui import __version__
from rnnlm_tui.corpus.build import Meter, ProgressCallback
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.corpora import SET_SOURCE
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.record import Record
from rnnlm_tui.system.files import storage_errors, write_text_atomically, write_whole

USER_AGENT = f"rnnlm-tui/{__version__}"

TIMEOUT_SECONDS = 15.0
"""Time without data after which a connection counts as lost, and the longest delay of a stop."""

PAUSES_SECONDS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
"""Pauses before retries; they start over when an attempt makes progress."""

RETRIED_STATUSES = frozenset({408, 416, 425, 429})
"""HTTP errors that are retried, besides server errors (5xx)."""

ANOTHER_WAY = (
    f"set corpus.url to another address, or use a folder with train.txt and test.txt: {SET_SOURCE}"
)

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 18

CheckDisk = Callable[[int, int], None]
"""Called with the archive's size, if the server sends it, and the bytes already downloaded; raises
if the disk is too small."""


class _Note(Record):
    """The whole file, as described by the server; stored beside the part that is downloaded."""

    url: str
    version: str = ""
    """A strong ETag or a date, for If-Range; empty if the server sends none."""
    total: int = 0
    """Size in bytes; 0 if unknown."""


class _AttemptError(Exception):
    """An attempt failed, but another may succeed."""

    def __init__(self, words: str, *, at_first: bool = True) -> None:
        """
        Args:
            at_first: whether to try again even if nothing was received yet.
        """
        super().__init__(words)
        self.at_first = at_first


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects, but not from HTTPS to HTTP."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        if req.full_url.startswith("https:") and urlsplit(newurl).scheme.lower() != "https":
            raise CorpusError(
                f"{req.full_url} redirects to {newurl}, which is not https",
                hint="set corpus.url to the final address",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, progress: ProgressCallback, check_disk: CheckDisk) -> str:
    """Download a gzip archive to `path` and return its SHA-256.

    An earlier download is resumed if the server still has the same file (size, and ETag or
    Last-Modified), else replaced, once the new data looks like an archive. If the server sends no
    size or version, a failed download leaves nothing. Lost data is noticed when unpacking.

    Args:
        progress: called with the phase `downloading` about ten times a second. An exception stops
            the download, which can be resumed.

    Raises:
        CorpusError: file, host or network not found, or the file isn't a gzip archive.
        StorageError: the file can't be written, or `check_disk` failed.
    """
    download = _Download(url, path, progress, check_disk)
    first = best = download.held
    failures = 0
    try:
        while not download.is_whole:
            try:
                download.resume()
            except _AttemptError as error:
                failures = 1 if download.held > best else failures + 1
                best = max(best, download.held)
                if failures > len(PAUSES_SECONDS) or not (error.at_first or best > first):
                    raise CorpusError(
                        f"can't download {url}: {error}", hint=download.hint
                    ) from error
                download.wait(PAUSES_SECONDS[failures - 1])
    finally:
        if not (download.is_whole or download.can_resume):
            download.discard()
    with storage_errors("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Download:
    """A download in progress."""

    def __init__(
        self, url: str, path: Path, progress: ProgressCallback, check_disk: CheckDisk
    ) -> None:
        self._url, self._path, self._progress, self._check_disk = url, path, progress, check_disk
        self._opener = build_opener(_SafeRedirects)
        self._note = _Note(url="")
        with suppress(OSError, ValidationError):
            self._note = _Note.model_validate_json(note_path(path).read_bytes())
        with storage_errors("read", path):
            self.held = path.stat().st_size if path.exists() else 0
            """Bytes on disk."""
        if self._note.url != url or self.held > self._note.total:
            self._note, self.held = _Note(url=url), 0

    @property
    def is_whole(self) -> bool:
        return 0 < self._note.total == self.held

    @property
    def can_resume(self) -> bool:
        return self.held > 0 and self._note.total > 0 and bool(self._note.version)

    @property
    def hint(self) -> str:
        return f"run it again to resume at {disk(self.held)}" if self.can_resume else ANOTHER_WAY

    def discard(self) -> None:
        """Remove what was downloaded."""
        self._note, self.held = _Note(url=self._url), 0
        with storage_errors("remove", self._path):
            self._path.unlink(missing_ok=True)
            note_path(self._path).unlink(missing_ok=True)

    def resume(self) -> None:
        """Send one request for the rest of the file and receive it.

        Raises:
            _AttemptError: the connection was lost before the end.
        """
        self._report()
        with self._open() as response:
            resumed = response.status == HTTPStatus.PARTIAL_CONTENT
            if resumed and not self._continues(response.headers):
                self.discard()
                raise _AttemptError("the file on the server has changed")
            note = self._note if resumed else self._described(response.headers)
            self._check_disk(note.total, self.held)
            block = self._read(response, note)
            if not resumed:
                self._begin(note, block)
            self._receive(block, response)
        total = self._note.total
        if total and self.held != total:
            raise _AttemptError(f"connection lost at {disk(self.held)} of {disk(total)}")
        self._keep(self._note.model_copy(update={"total": self.held}))

    def wait(self, seconds: float) -> None:
        """Wait, reporting progress so that a stop is noticed."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._report()
            time.sleep(min(left, 0.1))

    def _report(self) -> None:
        self._progress(Progress("downloading", self.held, self._note.total))

    def _open(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if self.can_resume:
            headers |= {"Range": f"bytes={self.held}-", "If-Range": self._note.version}
        try:
            request = Request(self._url, headers=headers)
            response: http.client.HTTPResponse = self._opener.open(request, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            error.close()
            host = urlsplit(error.url or self._url).hostname
            words = f"{host} answers HTTP {error.code} {error.reason}"
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.discard()
            if error.code in RETRIED_STATUSES or error.code >= 500:
                raise _AttemptError(words) from error
            raise CorpusError(f"can't download {self._url}: {words}", hint=ANOTHER_WAY) from error
        except (ValueError, http.client.InvalidURL) as error:  # an invalid host or port
            raise CorpusError(
                f"invalid address {self._url!r}: {error}", hint="set corpus.url"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _failure(urlsplit(self._url).hostname, error) from error
        return response

    def _continues(self, headers: http.client.HTTPMessage) -> bool:
        """Whether an answer begins where the part ends, in the same file."""
        total = self._note.total
        return headers.get("Content-Range") == f"bytes {self.held}-{total - 1}/{total}" and (
            _version(headers) in ("", self._note.version)
        )

    def _described(self, headers: http.client.HTTPMessage) -> _Note:
        """The file that is sent from its beginning."""
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else 0
        return _Note(url=self._url, version=_version(headers), total=total)

    def _begin(self, note: _Note, block: bytes) -> None:
        """Replace the part by a new file; raise if it isn't an archive but, say, a login page."""
        if not block:
            raise _AttemptError("the server sent no data")
        if not _GZIP_MAGIC.startswith(block[:2]):
            raise CorpusError(
                f"{self._url} is not a gzip archive (starts with {_beginning(block)})",
                hint=self.hint,
            )
        self.discard()
        self._keep(note)

    def _receive(self, block: bytes, response: http.client.HTTPResponse) -> None:
        """Write the response to the part, from its first block to its end."""
        meter = Meter("downloading", self._note.total, self._progress, self.held)
        while block:
            with storage_errors("write", self._path), self._path.open("ab", buffering=0) as file:
                write_whole(file.fileno(), block)
            self.held += len(block)
            meter.advance(len(block))
            block = self._read(response, self._note)

    def _read(self, response: http.client.HTTPResponse, note: _Note) -> bytes:
        try:
            return response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            total = f" of {disk(note.total)}" if note.total else ""
            raise _AttemptError(f"{_network_words(error)} at {disk(self.held)}{total}") from error

    def _keep(self, note: _Note) -> None:
        self._note = note
        write_text_atomically(note_path(self._path), note.model_dump_json())


def note_path(part: Path) -> Path:
    """The path of a part's note."""
    return part.with_name(f"{part.name}.json")


def _version(headers: http.client.HTTPMessage) -> str:
    """The value for If-Range, which accepts only strong tags."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _failure(host: str | None, error: OSError | http.client.HTTPException) -> Exception:
    """Why there was no answer: a URLError if there was no connection either."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return CorpusError(
            f"TLS certificate verification failed for {host}: {reason.verify_message}",
            hint="check this machine's clock, and for a proxy that replaces certificates",
        )
    words = _network_words(reason) if isinstance(reason, Exception) else str(reason)
    if isinstance(reason, socket.gaierror):
        words = f"host {host} not found, or no network"
    elif isinstance(error, URLError) and isinstance(reason, ConnectionRefusedError):
        words = f"connection refused by {host}"
    return _AttemptError(words, at_first=error is reason or isinstance(reason, TimeoutError))


def _network_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response for {TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return "connection lost"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _beginning(block: bytes) -> str:
    text = block[:24].decode("ascii", "replace")
    return f'"{text}"' if text.isprintable() and text.isascii() else block[:8].hex(" ")
