"""The control socket: a thread that reads commands and writes their answers."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import get_args

from pydantic_core import from_json

from rnnlm_tui.errors import InputError, did_you_mean
from rnnlm_tui.schema.protocol import (
    MAX_REQUEST_BYTES,
    Command,
    CommandResult,
    Verb,
    decode_line,
    encode_line,
)
from rnnlm_tui.system.files import storage_errors

MAX_CONNECTIONS = 64
"""Beyond these the connection that has been silent longest is closed."""
BACKLOG = 16
"""Connections that wait to be accepted; further clients block in connect()."""
MAX_UNSENT_BYTES = 1 << 20
"""A client that lets more answers pile up is disconnected."""
IDLE_SECONDS = 60.0
"""A connection without a pending command is closed after this silence."""
MAX_PENDING_COMMANDS = 16
"""A connection with this many pending commands is not read until some are answered."""
RECEIVE_BYTES = 1_024
"""Read from one connection at a time, so that none delays the others for long."""
CPU_SHARE, BURST_SECONDS = 0.02, 0.05
"""Share of one core that the server may use, and CPU seconds that it saves up for bursts: a flood
of requests waits, training doesn't.
"""
MAX_REST_SECONDS = 0.5
"""Longest pause of the rate limit. Python's garbage collection takes a tenth of a second in
whichever thread triggers it; charging for it in full would silence the server for many seconds.
"""


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command that waits for the trainer, and the way back to its sender."""

    command: Command
    answer: Callable[[CommandResult], None]
    """To be called once, from any thread."""


@dataclass(eq=False, slots=True)
class Connection:
    """One client of the control socket."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    pending: int = 0
    """Commands that aren't answered yet."""
    reading: bool = True
    """False after its end of file or an invalid line: pending commands are answered, then it is
    closed."""
    last_received: float = field(default_factory=time.monotonic)


class RateLimit:
    """Limits the CPU time of the thread that creates and asks it.

    Args:
        share: of one core, 0 to 1.
        burst: CPU seconds that can be saved up.
        used: CPU seconds of this thread so far.
        now: seconds of any clock that only goes forward.
    """

    def __init__(
        self,
        share: float,
        burst: float,
        *,
        used: Callable[[], float] = time.thread_time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._burst, self._left = share, burst, burst
        self._used, self._now = used, now
        self._last_used, self._last_now = used(), now()

    def rest_seconds(self) -> float:
        """Seconds to pause before the next piece of work, at most `MAX_REST_SECONDS`."""
        used, now = self._used(), self._now()
        left = min(self._burst, self._left + self._share * (now - self._last_now)) - (
            used - self._last_used
        )
        self._left = max(left, -self._share * MAX_REST_SECONDS)
        self._last_used, self._last_now = used, now
        return max(0.0, -self._left / self._share)


class ControlServer:
    """Serves a Unix socket from its own thread, so that a slow or silent client never delays a
    step.

    `status` commands are answered at once with `status(command)`; all others go to
    `deliver(pending)`. Both are called in the server's thread. Connections of other users are
    closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        status: Callable[[Command], CommandResult],
        deliver: Callable[[PendingCommand], None],
    ) -> None:
        self._path = path
        self._status = status
        self._deliver = deliver
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._outbox: SimpleQueue[tuple[Connection, bytes]] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._closing = threading.Event()
        self._is_bound = False
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """Bind and serve. The caller holds the run's lock, so an existing socket file is a leftover
        and is replaced.

        Raises:
            StorageError: the socket can't be created at this path.
        """
        with storage_errors("listen at", self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
            self._is_bound = True
            self._path.chmod(0o600)
            self._listener.listen(BACKLOG)
        for waiting in (self._listener, self._wake_receiver, self._wake_sender):
            waiting.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._thread.start()

    def retire(self) -> None:
        """Remove the socket file while the run's lock is still held: a later worker may create its
        own there."""
        if self._is_bound:
            self._path.unlink(missing_ok=True)

    def close(self, timeout: float = 2.0) -> None:
        """Send pending answers, for about a second at most, then close everything. Call `retire`
        first."""
        self._closing.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        else:
            self._close_sockets()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # a full or closed pipe wakes the thread as well
            self._wake_sender.send(b"w")

    def _serve(self) -> None:
        deadline: float | None = None
        limit = RateLimit(CPU_SHARE, BURST_SECONDS)
        while deadline is None or (
            time.monotonic() < deadline and any(one.unsent for one in self._connections)
        ):
            can_accept = False
            for key, events in self._selector.select(timeout=5.0 if deadline is None else 0.1):
                if key.fileobj is self._listener:
                    can_accept = True
                elif key.fileobj is self._wake_receiver:
                    with contextlib.suppress(OSError):
                        self._wake_receiver.recv(4096)
                elif key.data in self._connections:
                    with self._dropping_on_error(key.data):
                        self._attend(key.data, events)
                    self._rest(limit)
            # Last: a new client may push out the most silent one, but only after it was served.
            if can_accept:
                self._accept()
                self._rest(limit)
            self._send_answers()
            self._drop_idle()
            if deadline is None and self._closing.is_set():
                deadline = time.monotonic() + 1.0
        for connection in list(self._connections):
            self._drop(connection)
        self._close_sockets()

    def _rest(self, limit: RateLimit) -> None:
        """Pause as the rate limit says, unless the run has ended."""
        if seconds := limit.rest_seconds():
            self._closing.wait(seconds)

    def _close_sockets(self) -> None:
        self._selector.close()
        for used in (self._listener, self._wake_receiver, self._wake_sender):
            used.close()

    @contextlib.contextmanager
    def _dropping_on_error(self, connection: Connection) -> Iterator[None]:
        """Any error inside ends this connection and no other."""
        try:
            yield
        except Exception:
            traceback.print_exc()  # to the run's log
            self._drop(connection)

    def _attend(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._read(connection)
        if events & selectors.EVENT_WRITE and connection in self._connections:
            self._write(connection)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # the client is gone, or no descriptor is left: tried again in the next round
        if not _is_same_user(accepted):
            accepted.close()
            return
        accepted.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop(min(self._connections, key=lambda one: (one.pending > 0, one.last_received)))
        connection = Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            received = connection.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.last_received = time.monotonic()
        connection.received += received
        while connection.reading and (end := connection.received.find(b"\n")) >= 0:
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            self._receive_line(connection, line)
        if connection.reading and len(connection.received) > MAX_REQUEST_BYTES:
            self._reject(connection, b"", f"the line is longer than {MAX_REQUEST_BYTES:,} bytes")
        if not received:
            connection.reading = False
        self._update(connection)

    def _receive_line(self, connection: Connection, line: bytes) -> None:
        if len(line) > MAX_REQUEST_BYTES:
            self._reject(connection, b"", f"the line is longer than {MAX_REQUEST_BYTES:,} bytes")
            return
        if not line.strip():
            return
        try:
            command = decode_line(line, Command)
        except InputError as error:
            self._reject(connection, line, error.message)
            return
        try:
            if command.verb == "status":
                self._send(connection, encode_line(self._status(command)))
            else:
                connection.pending += 1
                self._deliver(
                    PendingCommand(command, lambda result: self._answer(connection, result))
                )
        except Exception as error:  # the server must survive any error
            traceback.print_exc()  # to the run's log
            connection.pending -= command.verb != "status"
            problem = f"the worker could not handle {command.verb}: {type(error).__name__}: {error}"
            self._send(
                connection,
                encode_line(
                    CommandResult(
                        id=command.id,
                        ok=False,
                        error=problem,
                        hint="the traceback is in the run's log",
                    )
                ),
            )

    def _answer(self, connection: Connection, result: CommandResult) -> None:
        self._outbox.put((connection, encode_line(result)))
        self._wake()

    def _send_answers(self) -> None:
        while not self._outbox.empty():
            connection, line = self._outbox.get()
            connection.pending -= 1
            with self._dropping_on_error(connection):
                self._send(connection, line)

    def _reject(self, connection: Connection, line: bytes, problem: str) -> None:
        """Answer an invalid line and read no more from this connection; pending commands are still
        answered."""
        identifier, hint = _id_and_hint(line)
        connection.reading = False
        connection.received.clear()
        self._send(
            connection,
            encode_line(CommandResult(id=identifier, ok=False, error=problem, hint=hint)),
        )

    def _send(self, connection: Connection, line: bytes) -> None:
        if connection not in self._connections:
            return
        connection.unsent += line
        if len(connection.unsent) > MAX_UNSENT_BYTES:
            self._drop(connection)
            return
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        try:
            while connection.unsent:
                del connection.unsent[: connection.socket.send(connection.unsent)]
        except BlockingIOError:
            pass  # the selector reports when the client can take more
        except OSError:
            self._drop(connection)
            return
        self._update(connection)

    def _update(self, connection: Connection) -> None:
        """Select on the events that this connection waits for; close it if there are none left."""
        if connection not in self._connections:
            return
        if not connection.reading and not connection.unsent and not connection.pending:
            self._drop(connection)
            return
        reading = connection.reading and connection.pending < MAX_PENDING_COMMANDS
        events = (selectors.EVENT_READ if reading else 0) | (
            selectors.EVENT_WRITE if connection.unsent else 0
        )
        registered = connection.socket.fileno() in self._selector.get_map()
        if events and registered:
            self._selector.modify(connection.socket, events, connection)
        elif events:
            self._selector.register(connection.socket, events, connection)
        elif registered:
            self._selector.unregister(connection.socket)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_idle(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        for connection in [
            one for one in self._connections if not one.pending and one.last_received < oldest
        ]:
            self._drop(connection)


def _is_same_user(accepted: socket.socket) -> bool:
    """Whether the client runs as this user; where the system can't tell, the 0700 directory
    protects the socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _pid, uid, _gid = struct.unpack(
        "3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return bool(uid == os.geteuid())


def _id_and_hint(line: bytes) -> tuple[str, str]:
    """The id of an invalid line, if it has one, and a hint: near verbs where the verb is
    unknown."""
    try:
        value = from_json(line)
    except ValueError:
        return "", "send one JSON object per line"
    if not isinstance(value, dict):
        return "", "send one JSON object per line"
    verb = value.get("verb")
    verbs: tuple[str, ...] = get_args(Verb)
    hint = (
        ""
        if verb in verbs
        else did_you_mean(str(verb)[:64], verbs) or f"verbs are {', '.join(verbs)}"
    )
    return str(value.get("id", ""))[:64], hint
