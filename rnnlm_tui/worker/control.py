"""The control socket: a thread with an asyncio server that reads commands and writes answers."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_core import from_json

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.protocol import (
    MAX_REQUEST_BYTES,
    Command,
    CommandResult,
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
LAST_ANSWERS_SECONDS = 1.0
"""Answers that aren't sent this long after the run's end are dropped."""
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

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pending: int = 0
    """Commands that aren't answered yet."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    last_received: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None
    """Reads its lines; kept, since asyncio holds tasks weakly."""

    async def pending_below(self, count: int) -> None:
        """Wait until fewer commands than `count` are pending."""
        while self.pending >= count:
            self.answered.clear()
            await self.answered.wait()

    def answer_pending(self, result: CommandResult) -> None:
        """Send the answer to a pending command."""
        self.pending -= 1
        self.answered.set()
        self.send(result)

    def send(self, result: CommandResult) -> None:
        """Send an answer; a client that reads none of them is disconnected."""
        self.writer.write(encode_line(result))
        if self.writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.writer.transport.abort()

    def drop(self) -> None:
        """Disconnect at once."""
        self.writer.transport.abort()
        if self.task is not None:
            self.task.cancel()


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
        self._path, self._status, self._deliver = path, status, deliver
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._is_bound = False
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop
        self._limit: RateLimit
        self._last = asyncio.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

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
        self._listener.setblocking(False)
        self._loop = asyncio.new_event_loop()
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
        if self._thread.ident is not None:
            self._call(self._last.set)
            self._thread.join(timeout)
        self._listener.close()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the server's thread; from any thread."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        self._limit = RateLimit(CPU_SHARE, BURST_SECONDS)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._last.wait()
        accepting.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                for connection in list(self._connections):
                    with suppress(OSError):
                        await connection.writer.drain()
        for connection in self._connections:
            connection.drop()

    def _rest(self) -> None:
        """Keep the whole thread still as long as the rate limit says, unless the run has ended."""
        if seconds := self._limit.rest_seconds():
            self._closing.wait(seconds)

    async def _accept(self) -> None:
        while True:
            # The client is gone, or no descriptor is left: tried again.
            with suppress(OSError):
                accepted, _ = await self._loop.sock_accept(self._listener)
                if _is_same_user(accepted):
                    await self._connect(accepted)
                else:
                    accepted.close()
            self._rest()
            await asyncio.sleep(0)

    async def _connect(self, accepted: socket.socket) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            silent = min(self._connections, key=lambda one: (one.pending > 0, one.last_received))
            self._connections.discard(silent)
            silent.drop()
        streams = await asyncio.open_unix_connection(sock=accepted, limit=MAX_REQUEST_BYTES)
        connection = Connection(*streams)
        connection.writer.transport.set_write_buffer_limits(high=0)  # drain() sends everything
        self._connections.add(connection)
        connection.task = asyncio.create_task(self._attend(connection))

    async def _attend(self, connection: Connection) -> None:
        """Handle lines until the client sends no more, then answer what is pending. Any error ends
        this connection and no other."""
        try:
            while await self._handle_line(connection):
                self._rest()
                await asyncio.sleep(0)  # each connection has its turn
            await connection.pending_below(1)
            await connection.writer.drain()
        except OSError:
            pass  # the client is gone
        except Exception:
            traceback.print_exc()  # to the run's log
        finally:
            self._connections.discard(connection)
            connection.writer.close()

    async def _handle_line(self, connection: Connection) -> bool:
        """Answer or deliver the next command; False: nothing more is read, as the client has left,
        was silent too long or sent an invalid line."""
        await connection.pending_below(MAX_PENDING_COMMANDS)
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await connection.reader.readuntil()
            connection.last_received = time.monotonic()
            if not line.strip():
                return True
            command = decode_line(line, Command)
        except TimeoutError:
            return connection.pending > 0
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            problem = f"the line is longer than {MAX_REQUEST_BYTES:,} bytes"
            connection.send(CommandResult(id="", ok=False, error=problem))
            return False
        except InputError as error:
            connection.send(CommandResult(id=_id_of(line), ok=False, error=error.message))
            return False
        try:
            if command.verb == "status":
                connection.send(self._status(command))
            else:
                self._deliver(
                    PendingCommand(
                        command, lambda result: self._call(connection.answer_pending, result)
                    )
                )
                connection.pending += 1
        except Exception as error:  # the server must survive any error
            traceback.print_exc()  # to the run's log
            problem = f"the worker could not handle {command.verb}: {type(error).__name__}: {error}"
            hint = "the traceback is in the run's log"
            connection.send(CommandResult(id=command.id, ok=False, error=problem, hint=hint))
        return True


def _is_same_user(accepted: socket.socket) -> bool:
    """Whether the client runs as this user; where the system can't tell, the 0700 directory
    protects the socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _pid, uid, _gid = struct.unpack(
        "3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return bool(uid == os.geteuid())


def _id_of(line: bytes) -> str:
    """The id of an invalid line, if it has one."""
    with suppress(ValueError):
        value = from_json(line)
        if isinstance(value, dict):
            return str(value.get("id", ""))[:64]
    return ""
