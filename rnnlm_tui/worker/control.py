"""The worker's control socket: a thread that reads commands, hands them to the trainer and writes the answers."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from rnnlm_tui.contract.commands import MAX_REQUEST_BYTES, Command, CommandResult
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import InputError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.worker.allowance import Allowance
from rnnlm_tui.worker.connection import Connection, peer_of
from rnnlm_tui.worker.refusal import of_refused
from rnnlm_tui.worker.turns import Turns

MAX_CONNECTIONS = 64
"""Beyond these the process with the most loses the one that has been silent longest, so that a crowd of them can't lock a person out."""
BACKLOG = 16
"""Connections that wait to be accepted; whoever comes then waits to connect. In a flood a person waits behind so many and no more."""
MAX_UNSENT_BYTES = 1 << 20
"""A reader that lets more answers pile up is dropped."""
IDLE_SECONDS = 60.0
"""A connection without a command in work is dropped after this silence."""
MAX_IN_WORK = 16
"""A connection with so many commands in work is read no further until some are answered."""
SHARE, SAVED_SECONDS = 0.005, 0.05
"""Of a core that the server may use, and processor time that it may save up for a burst: a flood of requests waits, not the training."""
TURN_BYTES, TURN_CONNECTIONS = 1_024, 8
"""Read of a connection, and accepted, before the server looks at its time again: a flood can't hold up a person's command for long."""


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command that waits for the trainer, and the way back to who sent it."""

    command: Command
    answer: Callable[[CommandResult], None]
    """To be called once, from any thread."""


class ControlServer:
    """Serves a Unix socket from a thread of its own, so that a slow or silent client never delays a step.

    `status` commands are answered at once with `status(command)`; all others go to `deliver(pending)`. Both are called in
    the server's thread. Only processes of the same user are heard.
    """

    def __init__(self, path: Path, *, status: Callable[[Command], CommandResult], deliver: Callable[[PendingCommand], None]) -> None:
        self._path = path
        self._status = status
        self._deliver = deliver
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._outbox: SimpleQueue[tuple[Connection, bytes]] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._turns = Turns()
        self._closing = threading.Event()
        self._bound = False
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    @property
    def thread_id(self) -> int:
        """Of the serving thread, once it was started."""
        assert self._thread.ident is not None
        return self._thread.ident

    def start(self) -> None:
        """Bind and serve. The caller holds the run's lock, so a socket file that is already there is left over and goes.

        Raises:
            StorageError: the socket can't be made at this path.
        """
        with storage_errors("listen at", self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
            self._bound = True
            self._path.chmod(0o600)
            self._listener.listen(BACKLOG)
        for waiting in (self._listener, self._wake_receiver, self._wake_sender):
            waiting.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._thread.start()

    def retire(self) -> None:
        """Remove the socket's file, while the run's lock is still held: a later worker may then put its own there."""
        if self._bound:
            self._path.unlink(missing_ok=True)

    def close(self, timeout: float = 2.0) -> None:
        """Send the answers that wait, for about a second at most, then close everything. Call `retire` first."""
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
        allowance = Allowance(SHARE, SAVED_SECONDS)
        while deadline is None or (time.monotonic() < deadline and any(one.unsent for one in self._connections)):
            ready: list[tuple[Connection, int]] = []
            for key, events in self._selector.select(timeout=5.0 if deadline is None else 0.1):
                if key.fileobj is self._listener:
                    self._accept()
                    self._rest(allowance)
                elif key.fileobj is self._wake_receiver:
                    with contextlib.suppress(OSError):
                        self._wake_receiver.recv(4096)
                else:
                    ready.append((key.data, events))
            for connection, events in sorted(ready, key=self._turns_had):
                if connection in self._connections:
                    self._turns.count(connection.peer)
                    with self._alone(connection):
                        self._attend(connection, events)
                    if self._rest(allowance):
                        break  # somebody who had fewer turns may have come meanwhile
            while not self._outbox.empty():
                connection, line = self._outbox.get()
                connection.in_work -= 1
                with self._alone(connection):
                    self._send(connection, line)
            self._drop_idle()
            if deadline is None and self._closing.is_set():
                deadline = time.monotonic() + 1.0
        for connection in list(self._connections):
            self._drop(connection)
        self._close_sockets()

    def _turns_had(self, ready: tuple[Connection, int]) -> tuple[int, float]:
        return self._turns.of(ready[0].peer), ready[0].last_heard  # of one process's connections each in turn

    def _rest(self, allowance: Allowance) -> bool:
        """Sleep off what was used beyond the allowance, not once the run has ended; False: nothing was."""
        seconds = allowance.rest()
        if seconds:
            self._closing.wait(seconds)
        return seconds > 0

    def _close_sockets(self) -> None:
        self._selector.close()
        for used in (self._listener, self._wake_receiver, self._wake_sender):
            used.close()

    def _attend(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._read(connection)
        if events & selectors.EVENT_WRITE and connection in self._connections:
            self._write(connection)

    @contextlib.contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        """Whatever goes wrong inside ends this connection alone."""
        try:
            yield
        except Exception:
            traceback.print_exc()  # to the run's log
            self._drop(connection)

    def _accept(self) -> None:
        for _turn in range(TURN_CONNECTIONS):
            try:
                accepted, _ = self._listener.accept()
            except OSError:  # nobody waits any more, or no descriptor is left: the next turn tries again
                return
            self._welcome(accepted)

    def _welcome(self, accepted: socket.socket) -> None:
        peer = peer_of(accepted)
        if peer is None:
            accepted.close()
            return
        accepted.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            held = Counter(one.peer for one in self._connections)
            self._drop(min(self._connections, key=lambda one: (-held[one.peer], one.in_work > 0, one.last_heard)))
        connection = Connection(accepted, peer)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            received = connection.socket.recv(TURN_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.last_heard = time.monotonic()
        connection.received += received
        while connection.reading and (end := connection.received.find(b"\n")) >= 0:
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            self._hear(connection, line)
        if connection.reading and len(connection.received) > MAX_REQUEST_BYTES:
            self._refuse(connection, b"", f"the line is longer than {MAX_REQUEST_BYTES:,} bytes")
        if not received:
            connection.reading = False
        self._settle(connection)

    def _hear(self, connection: Connection, line: bytes) -> None:
        if len(line) > MAX_REQUEST_BYTES:
            self._refuse(connection, b"", f"the line is longer than {MAX_REQUEST_BYTES:,} bytes")
            return
        if not line.strip():
            return
        try:
            command = decode_line(line, Command)
        except InputError as error:
            self._refuse(connection, line, error.message)
            return
        try:
            if command.verb == "status":
                self._send(connection, encode_line(self._status(command)))
            else:
                connection.in_work += 1
                self._deliver(PendingCommand(command, lambda result: self._answer(connection, result)))
        except Exception as error:  # whatever it is, the next request must be heard
            traceback.print_exc()  # to the run's log
            connection.in_work -= command.verb != "status"
            problem = f"the worker could not take {command.verb}: {type(error).__name__}: {error}"
            self._send(connection, encode_line(CommandResult(id=command.id, ok=False, error=problem, hint="the whole story is in the run's log")))

    def _answer(self, connection: Connection, result: CommandResult) -> None:
        self._outbox.put((connection, encode_line(result)))
        self._wake()

    def _refuse(self, connection: Connection, line: bytes, problem: str) -> None:
        """Say what was wrong and hear this connection no more; its commands in work are still answered."""
        identifier, hint = of_refused(line)
        connection.reading = False
        connection.received.clear()
        self._send(connection, encode_line(CommandResult(id=identifier, ok=False, error=problem, hint=hint)))

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
            pass  # the selector calls again when the reader has caught up
        except OSError:
            self._drop(connection)
            return
        self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Wait for what this connection can still do; close it when that is nothing."""
        if connection not in self._connections:
            return
        reading = connection.reading and connection.in_work < MAX_IN_WORK
        events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if connection.unsent else 0)
        if not connection.reading and not connection.unsent and not connection.in_work:
            self._drop(connection)
            return
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
        for connection in [one for one in self._connections if not one.in_work and one.last_heard < oldest]:
            self._drop(connection)
