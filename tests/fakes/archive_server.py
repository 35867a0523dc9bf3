"""A local HTTP server with one archive that can truncate answers, send wrong headers, ignore ranges
or change its file."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ArchiveServer:
    """What to serve and how; change it between requests."""

    body: bytes
    etag: str | None = '"1"'
    last_modified: str | None = None
    status: int = 200
    """Anything but 200 is answered without the body."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each request's answer ends: the first number for the first request, and so
    on; later ones are complete."""
    always_cut: int | None = None
    """Bytes after which every answer ends."""
    announced: int | None = None
    """A wrong Content-Length; 0: none."""
    chunked: bool = False
    """Chunked encoding instead of Content-Length: a truncated answer is recognisable."""
    ignores_range: bool = False
    ignores_if_range: bool = False
    redirect: str | None = None
    answers: threading.Event = field(default_factory=threading.Event)
    """Answers wait for this event; it is set unless a test clears it."""
    requests: list[Mapping[str, str]] = field(default_factory=list)
    """The headers of each request."""
    sent: list[int] = field(default_factory=list)
    """Bytes of body sent to each request."""
    url: str = ""

    def __post_init__(self) -> None:
        self.answers.set()

    def start_of_range(self, headers: Mapping[str, str]) -> int:
        """Where the answer begins: 0 for the whole file."""
        asked = headers.get("Range", "")
        if not asked or self.ignores_range:
            return 0
        condition = headers.get("If-Range")
        if (
            condition is not None
            and not self.ignores_if_range
            and condition not in (self.etag, self.last_modified)
        ):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def cut_of(self, request: int) -> int | None:
        """The bytes after which this request's answer ends."""
        return self.cuts[request] if request < len(self.cuts) else self.always_cut


@contextmanager
def serving(server: ArchiveServer) -> Iterator[ArchiveServer]:
    """The server at `server.url`, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = len(server.requests)
            server.requests.append(dict(self.headers))
            server.sent.append(0)
            start = server.start_of_range(self.headers)  # type: ignore[arg-type]
            if server.redirect is not None and self.path == "/news":
                self.send_response(302)
                self.send_header("Location", server.redirect)
                self.end_headers()
                return
            if server.status != 200:
                self.send_error(server.status)
                return
            if start and start >= len(server.body):
                self.send_error(416)
                return
            rest = server.body[start:]
            length = len(rest) if server.announced is None else server.announced - start
            self.send_response(206 if start else 200)
            if server.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif server.announced != 0:
                self.send_header("Content-Length", str(length))
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{start + length - 1}/{start + length}"
                )
            for name, value in (("ETag", server.etag), ("Last-Modified", server.last_modified)):
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.flush()
            server.answers.wait(timeout=30)
            cut = server.cut_of(number)
            try:
                for place in range(0, len(rest) if cut is None else cut, 4096):
                    block = (
                        rest[place : place + 4096]
                        if cut is None
                        else rest[place : min(place + 4096, cut)]
                    )
                    server.sent[number] += len(block)  # first: the client may be fast
                    self.wfile.write(
                        b"%x\r\n%b\r\n" % (len(block), block) if server.chunked else block
                    )
                if server.chunked and cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass  # the client disconnected
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(
        target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/news"
    try:
        yield server
    finally:
        server.answers.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


def archive_of(files: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A gzip tar of these files and other members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for other in others:
            archive.addfile(other)
    return packed.getvalue()
