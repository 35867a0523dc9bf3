"""Download an archive over HTTP, resuming interrupted downloads and checking length and hash.

Also counts the progress of every phase of the corpus preparation (`Meter`).
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import BaseModel, ConfigDict, ValidationError

from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.corpora import SET_SOURCE
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.schema.metrics import Phase, Progress

_PART_BLOCK = 1 << 20


class PartNote(BaseModel):
    """The whole file, as described by the server."""

    model_config = ConfigDict(frozen=True)

    url: str
    etag: str | None
    last_modified: str | None
    total: int
    """Size in bytes; 0 if unknown."""

    @property
    def validator(self) -> str | None:
        """The value for If-Range, which accepts only strong tags."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Part:
    """The part of a file on disk, to be used under its lock.

    All methods raise StorageError if the disk fails.
    """

    def __init__(self, path: Path, url: str, report: Callable[[int, int], None]) -> None:
        """Continue an earlier download from the same address if its size is known, else start over.

        Args:
            report: called with the hashed bytes and the total while the existing bytes are hashed.
        """
        self.path = path
        self.held = 0
        """Bytes on disk."""
        self._digest = hashlib.sha256()
        self.note = read_note(path)
        if (
            self.note is None
            or self.note.url != url
            or not self.note.total
            or _size(path) > self.note.total
        ):
            self.restart()
        else:
            self._hash(self.note.total, report)

    @property
    def total(self) -> int:
        """Bytes of the whole file; 0 if unknown."""
        return 0 if self.note is None else self.note.total

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes on disk."""
        return self._digest.hexdigest()

    def restart(self, note: PartNote | None = None) -> None:
        """Delete the bytes; `note` describes the new file and is stored with its first bytes."""
        self.held, self.note, self._digest = 0, note, hashlib.sha256()
        with _on_disk(self.path, "write"):
            note_path(self.path).unlink(missing_ok=True)
            if self.path.exists():
                with self.path.open("r+b") as file:
                    file.truncate()

    def append(self, block: bytes) -> None:
        """Append bytes; after an error, some of them may have been written."""
        if not self.held:
            self._write_note()
        with _on_disk(self.path, "write"), self.path.open("ab", buffering=0) as file:
            written = 0
            while written < len(block):
                count = file.write(block[written:])
                self._digest.update(block[written : written + count])
                written += count
                self.held += count

    def end(self) -> None:
        """Mark a file of unknown size as complete."""
        if self.note is not None:
            self.note = self.note.model_copy(update={"total": self.held})
            self._write_note()

    def _write_note(self) -> None:
        if self.note is not None:
            with _on_disk(self.path, "write"):
                note_path(self.path).write_text(self.note.model_dump_json(), encoding="utf-8")

    def _hash(self, total: int, report: Callable[[int, int], None]) -> None:
        for block in _blocks(self.path):
            self._digest.update(block)
            self.held += len(block)
            report(self.held, total)


def note_path(part: Path) -> Path:
    """The path of a part's note."""
    return part.with_name(f"{part.name}.json")


def read_note(part: Path) -> PartNote | None:
    """Read a part's note; None if missing or damaged."""
    try:
        return PartNote.model_validate_json(note_path(part).read_bytes())
    except (OSError, ValidationError):
        return None


def discard_part(part: Path) -> None:
    """Remove a part and its note.

    Raises:
        StorageError: removing failed.
    """
    with _on_disk(part, "remove"):
        part.unlink(missing_ok=True)
        note_path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    with _on_disk(path, "read"):
        return path.stat().st_size if path.exists() else 0


def _blocks(path: Path) -> Iterator[bytes]:
    with _on_disk(path, "read"), path.open("rb") as file:
        while block := file.read(_PART_BLOCK):
            yield block


@contextmanager
def _on_disk(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or set RNNLM_TUI_HOME to a folder on another disk"
        raise StorageError(f"can't {verb} {path}: {error.strerror or error}", hint=hint) from error


ProgressCallback = Callable[[Progress], None]

INTERVAL_SECONDS = 0.1


class Meter:
    """Count the bytes of a phase and report them about every INTERVAL_SECONDS."""

    def __init__(
        self, phase: Phase, total: int, callback: ProgressCallback, start: int = 0
    ) -> None:
        """
        Args:
            start: bytes that are already done.
        """
        self._phase: Phase = phase
        self._total = total
        self._callback = callback
        self._count = start
        self._next = 0.0
        self.advance(0)

    def advance(self, count: int) -> None:
        """Add processed bytes."""
        self._count += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_SECONDS
            self._callback(
                Progress(
                    self._phase,
                    min(self._count, self._total) if self._total else self._count,
                    self._total,
                )
            )

    def restart(self) -> None:
        """Start another pass over the same bytes."""
        self._count = 0

    def done(self) -> None:
        total = self._total or self._count
        self._callback(Progress(self._phase, total, total))


BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
    " Safari/537.36"
)
"""User agent; the server of the book's archive only answers browsers."""

TIMEOUT_SECONDS = 15.0
"""Time without data after which a connection counts as lost, and the longest delay of a stop."""

PAUSES_SECONDS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
"""Pauses before retries; they start over when an attempt makes progress."""

DISK_CHECK_BYTES = 64 * 2**20
"""How often free disk space is checked if the server doesn't send the size."""

RETRIED_STATUSES = frozenset({408, 425, 429})
"""HTTP errors that are retried, besides server errors (5xx)."""

ANOTHER_WAY = (
    f"set corpus.url to another address, or use a folder with train.txt and test.txt: {SET_SOURCE}"
)

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

CheckDisk = Callable[[int, int], None]
"""Called with the archive's size and the bytes already downloaded; raises if the disk is too small.

If the size is unknown, it is called repeatedly with the downloaded bytes as the size.
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """A downloaded file."""

    url: str
    path: Path
    size: int
    sha256: str


class _Response(Protocol):
    """The part of http.client's response that we use."""

    status: int
    headers: http.client.HTTPMessage

    def read1(self, n: int) -> bytes: ...
    def close(self) -> None: ...


class _RetryableError(Exception):
    """An attempt failed, but may succeed when retried."""


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


def fetch(url: str, path: Path, progress: ProgressCallback, check_disk: CheckDisk) -> Archive:
    """Download a gzip archive to `path`, resuming an earlier download of the same file.

    The whole file is downloaded again if the server ignores ranges or the file has changed (ETag,
    Last-Modified, size). The old part is only replaced once the new data looks like an archive. If
    the server sends no length, a failed download can't be resumed and leaves nothing, and lost data
    may only be noticed when unpacking.

    Args:
        progress: called with the phase `downloading` about ten times a second. An exception stops
            the download, which can be resumed.

    Raises:
        CorpusError: file, host or network not found, or the file isn't a gzip archive.
        StorageError: the file can't be written, or `check_disk` failed.
    """
    download = _Download(url, path, progress, check_disk)
    part = download.part
    best, failures = part.held, 0
    try:
        while not download.whole:
            try:
                download.resume()
            except _RetryableError as error:
                failures = 1 if part.held > best else failures + 1
                best = max(best, part.held)
                if failures > len(PAUSES_SECONDS):
                    raise CorpusError(
                        f"can't download {url}: {error}", hint=_next_time(part)
                    ) from error
                download.wait(PAUSES_SECONDS[failures - 1])
    finally:
        if not part.total:
            part.restart()
    return Archive(url, path, part.held, part.sha256)


class _Download:
    """A download in progress."""

    def __init__(
        self, url: str, path: Path, progress: ProgressCallback, check_disk: CheckDisk
    ) -> None:
        self._url, self._progress, self._check_disk = url, progress, check_disk
        self._opener = build_opener(_SafeRedirects)
        self._received = False
        """Whether data was received; network errors are then retried."""
        self.part = Part(
            path, url, lambda held, total: progress(Progress("downloading", held, total))
        )
        self.whole = 0 < self.part.total == self.part.held

    def resume(self) -> None:
        """Send one request for the rest of the file and receive it.

        Raises:
            _RetryableError: the connection was lost before the end.
        """
        part = self.part
        self._report()
        response = self._open()
        try:
            new = self._new_file(response)
            self._check_disk((part.total if new is None else new.total) or part.held, part.held)
            block = self._read(response)
            if new is not None:
                self._begin(new, block)
            self._receive(block, response)
        finally:
            response.close()
        if part.total and part.held < part.total:
            raise _RetryableError(f"connection lost at {disk(part.held)} of {disk(part.total)}")
        if part.total and part.held > part.total:
            part.restart()
            raise _RetryableError("the server sent more than it announced")
        if not part.total:
            part.end()
        self.whole = True

    def wait(self, seconds: float) -> None:
        """Wait, reporting progress so that a stop is noticed."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._report()
            time.sleep(min(left, 0.1))

    def _report(self) -> None:
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
            return cast(
                _Response,
                self._opener.open(
                    Request(self._url, headers=self._headers()), timeout=TIMEOUT_SECONDS
                ),
            )
        except HTTPError as error:
            error.close()
            status = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.part.held:
                self.part.restart()
                raise _RetryableError(status) from error
            if error.code in RETRIED_STATUSES or error.code >= 500:
                raise _RetryableError(status) from error
            raise CorpusError(f"can't download {self._url}: {status}", hint=ANOTHER_WAY) from error
        except URLError as error:
            raise self._unreachable(error.reason) from error
        except (ValueError, http.client.InvalidURL) as error:  # an invalid host or port
            raise CorpusError(
                f"invalid address {self._url!r}: {error}", hint="set corpus.url"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _RetryableError(_network_words(error)) from error

    def _unreachable(self, reason: str | BaseException) -> Exception:
        host = urlsplit(self._url).hostname
        words = _network_words(reason) if isinstance(reason, OSError) else str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return CorpusError(
                f"TLS certificate verification failed for {host}: {reason.verify_message}",
                hint="check this machine's clock, and for a proxy that replaces certificates",
            )
        if isinstance(reason, socket.gaierror):
            words = f"host {host} not found, or no network"
        elif isinstance(reason, ConnectionRefusedError):
            words = f"connection refused by {host}"
        if self._received or isinstance(reason, TimeoutError):
            return _RetryableError(words)
        return CorpusError(f"can't download {self._url}: {words}", hint=_next_time(self.part))

    def _new_file(self, response: _Response) -> PartNote | None:
        """The new file, if sent from its beginning; None if the response continues the part."""
        headers, part = response.headers, self.part
        if (
            response.status == http.HTTPStatus.PARTIAL_CONTENT
            and part.held
            and part.note is not None
        ):
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            same = found is not None and (int(found[1]), int(found[2])) == (part.held, part.total)
            known = (part.note.etag, part.note.last_modified)
            if (
                not same
                or (headers.get("ETag", known[0]), headers.get("Last-Modified", known[1])) != known
            ):
                part.restart()
                raise _RetryableError("the file on the server has changed")
            return None
        if response.status == http.HTTPStatus.OK:
            length = headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else 0
            return PartNote(
                url=self._url,
                etag=headers.get("ETag"),
                last_modified=headers.get("Last-Modified"),
                total=total,
            )
        raise CorpusError(f"can't download {self._url}: HTTP {response.status}", hint=ANOTHER_WAY)

    def _begin(self, note: PartNote, block: bytes) -> None:
        """Replace the part by a new file; raise if it isn't an archive but, say, a login page."""
        if not block:
            raise _RetryableError("the server sent no data")
        if not _GZIP_MAGIC.startswith(block[:2]):
            raise CorpusError(
                f"{self._url} is not a gzip archive (starts with {_beginning(block)})",
                hint=_next_time(self.part),
            )
        self.part.restart(note)

    def _receive(self, block: bytes, response: _Response) -> None:
        """Write the response to the part, from its first block to its end."""
        part = self.part
        meter = Meter("downloading", part.total, self._progress, part.held)
        check_at = DISK_CHECK_BYTES
        while block:
            self._received = True
            part.append(block)
            meter.advance(len(block))
            if not part.total and part.held >= check_at:
                self._check_disk(part.held, part.held)
                check_at += DISK_CHECK_BYTES
            block = self._read(response)

    def _read(self, response: _Response) -> bytes:
        try:
            return response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            total = f" of {disk(self.part.total)}" if self.part.total else ""
            raise _RetryableError(
                f"{_network_words(error)} at {disk(self.part.held)}{total}"
            ) from error


def _next_time(part: Part) -> str:
    return (
        f"run it again to resume at {disk(part.held)}" if part.held and part.total else ANOTHER_WAY
    )


def _network_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response for {TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return "connection lost"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _beginning(block: bytes) -> str:
    text = block[:24].decode("ascii", "replace")
    return f'"{text}"' if text.isprintable() and text.isascii() else block[:8].hex(" ")
