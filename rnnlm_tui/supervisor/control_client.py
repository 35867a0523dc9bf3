"""Speaks to a run's worker over its control socket."""

from __future__ import annotations

import math
import socket
import struct
import time
from uuid import uuid4

from rnnlm_tui.contract.commands import MAX_REQUEST_BYTES, SETTABLE, Command, CommandResult, Verb, setting_value
from rnnlm_tui.contract.validation import did_you_mean_key, merge, parse_config
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import InputError, RunStateError, StorageError, WorkerError
from rnnlm_tui.store.checkpoints import newest_valid
from rnnlm_tui.store.locks import read_lock
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.supervisor.launch import launch
from rnnlm_tui.supervisor.monitor import summarize
from rnnlm_tui.supervisor.repair import summary_after_repair

CONNECT_SECONDS = 10.0
"""A worker that holds its lock has this long to open its socket."""

ANSWER_SECONDS: dict[Verb, float] = {"status": 10.0, "evaluate": 3600.0, "sample": 600.0, "stop": 600.0}
"""Longest wait for an answer by verb; the others have ANSWER_SECONDS_OTHERWISE. A command waits for the step or evaluation before it."""
ANSWER_SECONDS_OTHERWISE = 300.0


def send(
    run: RunDirectory, verb: Verb, *, timeout: float | None = None, path: str | None = None, value: float | None = None, prompt: str | None = None
) -> CommandResult:
    """Send one command and wait for its answer. A `stop` is answered when its checkpoint is on disk and the run let go.

    Args:
        timeout: seconds to wait for the answer; None: by verb.
        path: with `value`, what `set` changes.
        prompt: what `sample` continues.

    Raises:
        RunStateError: no worker has the run, or the worker refused.
        InputError: a value or prompt that can't be.
        WorkerError: no answer in time, or the worker died over it.
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
    """Let a paused run go on, or start a new attempt of a stopped, crashed or failed one; returns the worker's pid.

    Raises:
        RunStateError: the run is running, finished, or out of reach on another host.
        WorkerError: the new attempt ended at its start.
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
            f"{run.name} is finished", hint=summary.hint or f"to go on from its weights: rnnlm-tui train --from {run.name}@{_newest_whole(run)}"
        )
    if status == "lost":
        raise RunStateError(f"{run.name} was last seen on another host, and whether it lives can't be told from here", hint="resume it there")
    raise RunStateError(f"{run.name} is {status} already")


def _newest_whole(run: RunDirectory) -> str:
    """`last`; where that one is damaged, the step of the newest that is whole."""
    whole, damaged = newest_valid(run)
    return str(int(whole.name.rpartition("-")[2])) if damaged and whole is not None else "last"


def _check_setting(run: RunDirectory, path: str | None, value: float | None) -> None:
    if path not in SETTABLE or value is None:
        raise InputError(f'"{path}" can\'t change while a run goes on', hint=did_you_mean_key(path or "", SETTABLE) or f"these can: {', '.join(SETTABLE)}")
    parse_config(merge(run.read_config(), {path: setting_value(path, float(value))}))


def _connect(run: RunDirectory) -> socket.socket:
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not settimeout: with it, a worker with many callers is an error at once instead of a place in their queue.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(CONNECT_SECONDS), 0))
        try:
            connection.connect(_socket_path(run))
            connection.settimeout(CONNECT_SECONDS)
        except OSError as error:
            connection.close()
            if not read_lock(run.lock_path).held:
                now = summarize(run)
                hint = (now.hint or "") if now.diverged else f"rnnlm-tui resume {run.name}" if now.status in ("stopped", "crashed", "failed") else ""
                raise RunStateError(f"{run.name} is not running (status {now.status})", hint=hint) from None
            if time.monotonic() > deadline:
                raise WorkerError(f"the worker of {run.name} does not open its socket: {error.strerror or error}") from error
            time.sleep(0.05)
        else:
            return connection


def _socket_path(run: RunDirectory) -> str:
    """Where the worker says that it listens; where it has said nothing yet, or the database can't be read, where it is bound to."""
    try:
        with RunReader(run) as reader:
            recorded = reader.meta().get("socket")
    except StorageError:
        recorded = None
    return recorded or str(run.socket_path)


def _ask(connection: socket.socket, line: bytes, run: RunDirectory, verb: Verb, seconds: float) -> CommandResult:
    deadline = time.monotonic() + seconds
    received = bytearray()
    try:
        connection.sendall(line)
        while not received.endswith(b"\n"):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(65_536)
            if not part:
                raise WorkerError(f"the worker of {run.name} ended before it answered {verb}", hint=f"its log: {run.log_path}")
            received += part
    except TimeoutError:
        raise WorkerError(f"the worker of {run.name} did not answer {verb} within {seconds:.0f} s; it may still carry it out") from None
    except ConnectionError as error:
        raise WorkerError(f"the worker of {run.name} ended before it answered {verb}", hint=f"its log: {run.log_path}") from error
    return decode_line(bytes(received), CommandResult)
