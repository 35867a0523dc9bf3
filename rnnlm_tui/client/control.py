"""Send commands to a run's worker over its control socket.

Read a run's summary before resuming it, and rebuild a damaged database first.

LogFollower: follow a worker's log from near its end.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from pathlib import Path
from uuid import uuid4

from rnnlm_tui.client.launch import launch
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import (
    DatabaseError,
    InputError,
    NewerDatabaseError,
    RunStateError,
    StorageError,
    WorkerError,
)
from rnnlm_tui.schema.protocol import (
    MAX_REQUEST_BYTES,
    SETTABLE,
    Command,
    CommandResult,
    Verb,
    decode_line,
    encode_line,
    setting_value,
)
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.validation import did_you_mean_key, merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.recovery import repair_database
from rnnlm_tui.store.verify import newest_valid
from rnnlm_tui.system.locks import read_lock


def summary_after_repair(run: RunDirectory) -> RunSummary:
    """The run's summary, after rebuilding its database if it is damaged.

    Raises:
        RunStateError: the database is damaged and a worker holds the run.
        RnnlmError: the config or the database can't be read.
    """
    try:
        return summarize(run)
    except NewerDatabaseError:
        raise
    except DatabaseError:
        repair_database(run)
        return summarize(run)


CONNECT_SECONDS = 10.0
"""How long a worker that holds its lock may take to open its socket."""

ANSWER_SECONDS: dict[Verb, float] = {
    "status": 10.0,
    "evaluate": 3600.0,
    "sample": 600.0,
    "stop": 600.0,
}
"""Longest wait for an answer; other verbs have ANSWER_SECONDS_OTHERWISE. A command first waits for
the current step or evaluation."""
ANSWER_SECONDS_OTHERWISE = 300.0


def send(
    run: RunDirectory,
    verb: Verb,
    *,
    timeout: float | None = None,
    path: str | None = None,
    value: float | None = None,
    prompt: str | None = None,
) -> CommandResult:
    """Send a command and wait for its answer. `stop` is answered once its checkpoint is saved and
    the lock is free.

    Args:
        timeout: seconds to wait for the answer; None: depends on the verb.
        path: the setting for `set`; `value` is its new value.
        prompt: the text for `sample`.

    Raises:
        RunStateError: the run isn't running, or the worker rejected the command.
        InputError: the value or prompt is invalid.
        WorkerError: no answer in time, or the worker died.
    """
    if verb == "set":
        _check_setting(run, path, value)
    command = Command(id=uuid4().hex, verb=verb, path=path, value=value, prompt=prompt)
    line = encode_line(command)
    if len(line) > MAX_REQUEST_BYTES:
        raise InputError(f"the prompt is longer than {MAX_REQUEST_BYTES:,} bytes")
    seconds = ANSWER_SECONDS.get(verb, ANSWER_SECONDS_OTHERWISE) if timeout is None else timeout
    with _connect(run) as connection:
        result = _ask(connection, line, run, verb, seconds)
    if not result.ok:
        raise RunStateError(result.error, hint=result.hint)
    return result


def resume(run: RunDirectory) -> int:
    """Resume a paused run, or start a new attempt of a stopped, crashed or failed one; returns the
    worker's pid.

    Raises:
        RunStateError: the run is running, finished, or on another host.
        WorkerError: the new attempt failed to start.
    """
    summary = summary_after_repair(run)
    status = summary.status
    if status == "paused":
        send(run, "resume")
        return read_lock(run.lock_path).pid or 0
    if status in ("stopped", "crashed", "failed", "draft"):
        return launch(run)
    if status == "finished":
        raise RunStateError(
            f"{run.name} is finished",
            hint=summary.hint
            or f"to start a new run from its weights: rnnlm-tui train --from {run.name}@{_newest_whole(run)}",
        )
    if status == "lost":
        raise RunStateError(
            f"{run.name} was last seen on another host, and its state is unknown here",
            hint="resume it there",
        )
    raise RunStateError(f"{run.name} is already {status}")


def _newest_whole(run: RunDirectory) -> str:
    """`last`, or the step of the newest valid checkpoint if the last one is damaged."""
    whole, damaged = newest_valid(run)
    return str(int(whole.name.rpartition("-")[2])) if damaged and whole is not None else "last"


def _check_setting(run: RunDirectory, path: str | None, value: float | None) -> None:
    if path not in SETTABLE or value is None:
        raise InputError(
            f'"{path}" can\'t be changed while a run trains',
            hint=did_you_mean_key(path or "", SETTABLE) or f"these can: {', '.join(SETTABLE)}",
        )
    parse_config(merge(run.read_config(), {path: setting_value(path, float(value))}))


def _connect(run: RunDirectory) -> socket.socket:
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not settimeout: with it, a full queue of a busy worker's socket is an error at once,
        # without waiting.
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(CONNECT_SECONDS), 0)
        )
        try:
            connection.connect(_socket_path(run))
            connection.settimeout(CONNECT_SECONDS)
        except OSError as error:
            connection.close()
            if not read_lock(run.lock_path).held:
                now = summarize(run)
                hint = (
                    (now.hint or "")
                    if now.diverged
                    else (
                        f"rnnlm-tui resume {run.name}"
                        if now.status in ("stopped", "crashed", "failed")
                        else ""
                    )
                )
                raise RunStateError(
                    f"{run.name} is not running (status {now.status})", hint=hint
                ) from None
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"cannot connect to the worker of {run.name}: {error.strerror or error}"
                ) from error
            time.sleep(0.05)
        else:
            return connection


def _socket_path(run: RunDirectory) -> str:
    """The socket's path recorded by the worker, or the default if there is none or the database
    can't be read."""
    try:
        with RunReader(run) as reader:
            recorded = reader.meta().get("socket")
    except StorageError:
        recorded = None
    return recorded or str(run.socket_path)


def _ask(
    connection: socket.socket, line: bytes, run: RunDirectory, verb: Verb, seconds: float
) -> CommandResult:
    deadline = time.monotonic() + seconds
    received = bytearray()
    try:
        connection.sendall(line)
        while not received.endswith(b"\n"):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(65_536)
            if not part:
                raise WorkerError(
                    f"the worker of {run.name} exited before it answered {verb}",
                    hint=f"its log: {run.log_path}",
                )
            received += part
    except TimeoutError:
        raise WorkerError(
            f"the worker of {run.name} did not answer {verb} within {seconds:.0f} s, but may still"
            " execute it"
        ) from None
    except ConnectionError as error:
        raise WorkerError(
            f"the worker of {run.name} exited before it answered {verb}",
            hint=f"its log: {run.log_path}",
        ) from error
    return decode_line(bytes(received), CommandResult)


MOST_BYTES = 1024 * 1024
"""How much of a log's end is read."""
MOST_LINES = 20_000


class LogFollower:
    """Reads new lines of a log with each `look`. For one thread at a time."""

    def __init__(
        self, path: Path, *, most_bytes: int = MOST_BYTES, most_lines: int = MOST_LINES
    ) -> None:
        self.path = path
        self.skipped = 0
        """Bytes at the log's start that were not read."""
        self.lines: list[str] = []
        """Oldest first; the last one may still grow. Invalid UTF-8 is replaced."""
        self.dropped = 0
        """Number of lines that were read and dropped."""
        self._most_bytes, self._most_lines = most_bytes, most_lines
        self._rest = b""
        self._offset = 0
        self._file: tuple[int, int] | None = None

    def look(self) -> bool:
        """Read new lines; returns whether anything changed. A replaced log is read again, a missing
        one is empty."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self._begin((status.st_dev, status.st_ino), status.st_size)
                if status.st_size == self._offset:
                    return False
                file.seek(self._offset)
                new = file.read(status.st_size - self._offset)
        except OSError:
            changed = bool(self.lines)
            self._begin(None, 0)
            return changed
        self._offset += len(new)
        self._take(new)
        return True

    def _begin(self, file: tuple[int, int] | None, size: int) -> None:
        self._file, self._rest, self.lines, self.dropped = file, b"", [], 0
        self.skipped = self._offset = max(0, size - self._most_bytes)

    def _take(self, new: bytes) -> None:
        if self._rest:
            self.lines.pop()  # the incomplete last line
        whole, newline, self._rest = (self._rest + new).rpartition(b"\n")
        if newline:
            self.lines += whole.decode("utf-8", errors="replace").splitlines() or [""]
        if self._rest:
            self.lines.append(self._rest.decode("utf-8", errors="replace"))
        more = len(self.lines) - self._most_lines
        if more > 0:
            del self.lines[:more]
            self.dropped += more
