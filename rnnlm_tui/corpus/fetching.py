"""Fetches an archive over HTTP into a part on disk: goes on where it was cut, checks its length and hashes it on the way."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rnnlm_tui.contract.corpora import SET_SOURCE
from rnnlm_tui.contract.figures import disk
from rnnlm_tui.contract.metrics import Progress
from rnnlm_tui.corpus.meter import Meter, ProgressCallback
from rnnlm_tui.corpus.parts import Part, PartNote
from rnnlm_tui.errors import CorpusError

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
"""What the request calls itself: the book's archive is sent to browsers."""

TIMEOUT_SECONDS = 15.0
"""A connection that is silent for so long counts as cut; a stop is heeded at latest after it."""

PAUSES_SECONDS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
"""Waited before each new try; a try that got further than any before makes them start anew."""

DISK_CHECK_BYTES = 64 * 2**20
"""How often the disk is looked at again where a server doesn't say how much will come."""

RETRIED_STATUSES = frozenset({408, 425, 429})
"""HTTP errors that may pass, beside those of the server (5xx)."""

ANOTHER_WAY = f"set corpus.url to another address, or give a folder with train.txt and test.txt: {SET_SOURCE}"

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

CheckDisk = Callable[[int, int], None]
"""Told the archive's size and the bytes that are there already, before the first byte; raises where the disk is too small.

Where the size is unknown it is told those that are there for both, and again from time to time."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A fetched file, whole."""

    url: str
    path: Path
    size: int
    sha256: str


class _Response(Protocol):
    """What is used of http.client's answer."""

    status: int
    headers: http.client.HTTPMessage

    def read1(self, n: int) -> bytes: ...
    def close(self) -> None: ...


class _RetryableError(Exception):
    """This try failed, another may succeed."""


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects over HTTP, never from an encrypted connection to an open one."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str) -> Request | None:
        if req.full_url.startswith("https:") and urlsplit(newurl).scheme.lower() != "https":
            raise CorpusError(f"{req.full_url} sends on to {newurl}, which is not https", hint="set corpus.url to the address itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, progress: ProgressCallback, check_room: CheckDisk) -> Archive:
    """Fetch a gzip archive into `path`, from where an earlier try ended if the file there is still the same.

    A server that ignores ranges, or whose file has changed (ETag, Last-Modified, size), is asked for all of it again; what is
    there goes only when the new answer is seen to begin as an archive does. Where a server gives no length, a fetching that
    ends early leaves nothing, for it could not be gone on with, and a cut may only be seen when the archive is unpacked.

    Args:
        progress: told `downloading` some ten times a second; what it raises ends the fetching and leaves the part for the next time.

    Raises:
        CorpusError: no such file, host or network, or no gzip archive; in words, with where it would go on.
        StorageError: the part can't be written, and what `check_room` raises.
    """
    download = _Download(url, path, progress, check_room)
    part = download.part
    best, failures = part.held, 0
    try:
        while not download.whole:
            try:
                download.go_on()
            except _RetryableError as cut:
                failures = 1 if part.held > best else failures + 1
                best = max(best, part.held)
                if failures > len(PAUSES_SECONDS):
                    raise CorpusError(f"{url} can't be fetched: {cut}", hint=_next_time(part)) from cut
                download.wait(PAUSES_SECONDS[failures - 1])
    finally:
        if not part.total:
            part.restart()
    return Archive(url, path, part.held, part.sha256)


class _Download:
    """One archive on its way."""

    def __init__(self, url: str, path: Path, progress: ProgressCallback, check_room: CheckDisk) -> None:
        self._url, self._progress, self._check_room = url, progress, check_room
        self._opener = build_opener(_SafeRedirects)
        self._came = False
        """Something was received: trouble with the network is then a cut."""
        self.part = Part(path, url, lambda held, total: progress(Progress("downloading", held, total)))
        self.whole = 0 < self.part.total == self.part.held

    def go_on(self) -> None:
        """One request, from where the part ends to the end.

        Raises:
            _RetryableError: cut before the end.
        """
        part = self.part
        self._tell()
        response = self._open()
        try:
            anew = self._file_from_its_start(response)
            self._check_room((part.total if anew is None else anew.total) or part.held, part.held)
            block = self._read(response)
            if anew is not None:
                self._begin(anew, block)
            self._receive(block, response)
        finally:
            response.close()
        if part.total and part.held < part.total:
            raise _RetryableError(f"the connection was cut at {disk(part.held)} of {disk(part.total)}")
        if part.total and part.held > part.total:
            part.restart()
            raise _RetryableError("the server sent more than it announced")
        if not part.total:
            part.end()
        self.whole = True

    def wait(self, seconds: float) -> None:
        """Let some time pass, heeding a stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._tell()
            time.sleep(min(left, 0.1))

    def _tell(self) -> None:
        self._progress(Progress("downloading", self.part.held, self.part.total))

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": BROWSER, "Accept": "*/*", "Accept-Encoding": "identity"}
        if self.part.held and self.part.total and self.part.note is not None:
            headers["Range"] = f"bytes={self.part.held}-"
            if self.part.note.validator:
                headers["If-Range"] = self.part.note.validator
        return headers

    def _open(self) -> _Response:
        try:
            return cast(_Response, self._opener.open(Request(self._url, headers=self._headers()), timeout=TIMEOUT_SECONDS))
        except HTTPError as error:
            error.close()
            said = f"the server says {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.part.held:
                self.part.restart()
                raise _RetryableError(said) from error
            if error.code in RETRIED_STATUSES or error.code >= 500:
                raise _RetryableError(said) from error
            raise CorpusError(f"{self._url} can't be fetched: {said}", hint=ANOTHER_WAY) from error
        except URLError as error:
            raise self._unreachable(error.reason) from error
        except (ValueError, http.client.InvalidURL) as error:  # a host or a port that can't be
            raise CorpusError(f"{self._url!r} is no address: {error}", hint="set corpus.url") from error
        except (OSError, http.client.HTTPException) as error:
            raise _RetryableError(_network_words(error)) from error

    def _unreachable(self, reason: str | BaseException) -> Exception:
        host = urlsplit(self._url).hostname
        words = _network_words(reason) if isinstance(reason, OSError) else str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return CorpusError(f"{host} can't prove who it is: {reason.verify_message}", hint="is this machine's clock right, and does a proxy stand between?")
        if isinstance(reason, socket.gaierror):
            words = f"no host {host} is known here, or there is no network"
        elif isinstance(reason, ConnectionRefusedError):
            words = f"{host} refuses connections"
        if self._came or isinstance(reason, TimeoutError):
            return _RetryableError(words)
        return CorpusError(f"{self._url} can't be fetched: {words}", hint=_next_time(self.part))

    def _file_from_its_start(self, response: _Response) -> PartNote | None:
        """What is sent from its first byte; None where the answer goes on behind the part."""
        headers, part = response.headers, self.part
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and part.held and part.note is not None:
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            same = found is not None and (int(found[1]), int(found[2])) == (part.held, part.total)
            known = (part.note.etag, part.note.last_modified)
            if not same or (headers.get("ETag", known[0]), headers.get("Last-Modified", known[1])) != known:
                part.restart()
                raise _RetryableError("the file there has changed")
            return None
        if response.status == http.HTTPStatus.OK:
            length = headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else 0
            return PartNote(url=self._url, etag=headers.get("ETag"), last_modified=headers.get("Last-Modified"), total=total)
        raise CorpusError(f"{self._url} can't be fetched: the server says {response.status}", hint=ANOTHER_WAY)

    def _begin(self, note: PartNote, block: bytes) -> None:
        """Forget the part for a file that comes from its start; the page of a network that wants a login is none."""
        if not block:
            raise _RetryableError("the server sent nothing")
        if not _GZIP_MAGIC.startswith(block[:2]):
            raise CorpusError(f"{self._url} is no gzip archive, it begins with {_beginning(block)}", hint=_next_time(self.part))
        self.part.restart(note)

    def _receive(self, block: bytes, response: _Response) -> None:
        """Write the answer down from its first block to its end."""
        part = self.part
        meter = Meter("downloading", part.total, self._progress, part.held)
        check_at = DISK_CHECK_BYTES
        while block:
            self._came = True
            part.append(block)
            meter.advance(len(block))
            if not part.total and part.held >= check_at:
                self._check_room(part.held, part.held)
                check_at += DISK_CHECK_BYTES
            block = self._read(response)

    def _read(self, response: _Response) -> bytes:
        try:
            return response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _RetryableError(f"{_network_words(error)} at {disk(self.part.held)}{f' of {disk(self.part.total)}' if self.part.total else ''}") from error


def _next_time(part: Part) -> str:
    return f"run it again: it goes on at {disk(part.held)}" if part.held and part.total else ANOTHER_WAY


def _network_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return "the connection was cut"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _beginning(block: bytes) -> str:
    text = block[:24].decode("ascii", "replace")
    return f'"{text}"' if text.isprintable() and text.isascii() else block[:8].hex(" ")
