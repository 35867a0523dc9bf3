"""Control a run's worker: launch it, resume a run and send commands."""

from __future__ import annotations

import getpass
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pydantic import JsonValue

from rnnlm_tui.client.config_files import check_draft
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.slurm import Jobs, check_no_job, forward, job_id
from rnnlm_tui.errors import (
    ConfigError,
    InputError,
    RnnlmError,
    RunStateError,
    StorageError,
    WorkerError,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.schema.memory import keeps_compiled_matmuls
from rnnlm_tui.schema.protocol import (
    MAX_REQUEST_BYTES,
    Command,
    CommandResult,
    Verb,
    decode_line,
    encode_line,
)
from rnnlm_tui.schema.status import LIVING, StopMark
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.verify import newest_valid
from rnnlm_tui.system.cuda import EXACT_WORKSPACE, WORKSPACE_VARIABLE
from rnnlm_tui.system.files import storage_errors
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE
from rnnlm_tui.system.locks import held_message, host_name, read_lock
from rnnlm_tui.system.processes import child_environment, python_command, start_detached

LEAVE_SECONDS = 5.0
"""How long a worker may take from its final event to releasing the lock."""

NICENESS_VARIABLE = "RNNLM_TUI_NICENESS"
"""Environment variable: niceness of the workers, 0 (same priority as other processes) to 19."""
NICENESS = 5
"""A third of the default scheduling weight: the app gets a core when it draws, and on idle cores
training loses nothing."""
MOST_NICENESS = 19
YIELDING = 10
"""What a sampler adds to the niceness of workers; none if they have the usual priority."""

MATMUL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
WORKER_SETTINGS = {
    # otherwise torch's threads spin at each barrier, and lose most of their speed beside another
    # busy process
    "GOMP_SPINCOUNT": "1000",
    # Keep freed blocks: otherwise each step maps tens of thousands of pages again (measured: 6 % of
    # its time).
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    # oneDNN and torch each keep 1,024 compiled matmuls, and sentences make new shapes in most
    # steps: without limits the book's worker grew by 190 MiB in 150 steps. With 32 of each, its
    # steps take as long (measured).
    **dict.fromkeys(MATMUL_CACHES, "32"),
    "PYTHONUNBUFFERED": "1",
}


def training_settings(config: RunConfig) -> dict[str, str]:
    """The environment of a run's worker.

    A small model on sentences keeps all compiled matmuls: its steps of a few milliseconds would
    take 40 % longer (measured). Exact mode sets cuBLAS's workspaces, which are read when CUDA
    starts.
    """
    left_out = MATMUL_CACHES if keeps_compiled_matmuls(config) else ()
    settings = {name: value for name, value in WORKER_SETTINGS.items() if name not in left_out}
    if config.training.deterministic:
        settings[WORKSPACE_VARIABLE] = EXACT_WORKSPACE
    return settings


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


def launch(run: RunDirectory, *, gpu: str = "") -> int:
    """Start a worker in its own session, with its output in the run's log; returns its pid.

    Args:
        gpu: the only GPU that the worker sees, as in CUDA_VISIBLE_DEVICES; empty: those that this
            process sees.

    Returns once the worker holds the run's lock and has recorded its attempt, so that the run's
    status is no longer that of the previous attempt.

    Raises:
        RunStateError: another worker holds the run.
        WorkerError: the worker exited at its start (quotes its output), or did not start in time.
        StorageError: the run was renamed or deleted, or its files can't be written.
        InputError: RNNLM_TUI_NICENESS is invalid, or the config of a draft; nothing was started.
    """
    niceness = wanted_niceness()
    run.check_there()
    check_draft(run)
    deadline = time.monotonic() + LEAVE_SECONDS
    while (lock := read_lock(run.lock_path)).held:
        if time.monotonic() >= deadline:
            raise RunStateError(
                held_message(run.lock_path, lock), hint=f"rnnlm-tui show {run.name}"
            )
        time.sleep(0.02)
    run.check_own_files()
    settings = WORKER_SETTINGS
    with suppress(RnnlmError):  # the worker reports a config that can't be read
        settings = training_settings(run.read_config())
    started = start_detached(
        python_command("rnnlm_tui.worker.train", str(run.path)),
        run.log_path,
        child_environment(settings) | ({VISIBLE_VARIABLE: gpu} if gpu else {}),
        lambda pid: _has_begun(run, pid),
        niceness=niceness,
    )
    if started.code is None:
        return started.pid
    run.check_there()
    if started.code == RunStateError.exit_code:
        raise RunStateError(started.lines[0])
    output = "\n".join(started.lines[-5:])
    raise WorkerError(
        f"the worker of {run.name} failed to start: {output}", hint=f"its log: {run.log_path}"
    )


def wanted_niceness() -> int:
    """The niceness of workers: RNNLM_TUI_NICENESS or the default.

    Raises:
        InputError: RNNLM_TUI_NICENESS is invalid.
    """
    text = os.environ.get(NICENESS_VARIABLE, "")
    if not text:
        return NICENESS
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= MOST_NICENESS):
        raise InputError(
            f"{NICENESS_VARIABLE} is {safe(text[:40], keep='')}, must be a whole number from 0 to"
            f" {MOST_NICENESS}",
            hint=(
                f"0 gives training the same priority as other processes; the default is {NICENESS}"
            ),
        )
    return int(text)


def sampler_niceness() -> int:
    """The niceness of a sampler that yields to training: so much above that of workers that it
    takes a tenth of a core from a run that uses all of them.

    Raises:
        InputError: RNNLM_TUI_NICENESS is invalid.
    """
    niceness = wanted_niceness()
    return min(MOST_NICENESS, niceness + YIELDING) if niceness else 0


def _has_begun(run: RunDirectory, pid: int) -> bool:
    if read_lock(run.lock_path).pid != pid:
        return False
    with RunReader(run) as reader:
        state, attempts = reader.last_state(), reader.attempts()
    begun = {(row.attempt, row.pid) for row in attempts[-1:]}
    return state is not None and (state.attempt, pid) in begun


def resume(run: RunDirectory) -> int:
    """Resume a paused run, or start a new attempt of a stopped, crashed or failed one; returns the
    worker's pid.

    Raises:
        RunStateError: the run is running, finished, or on another host.
        WorkerError: the new attempt failed to start.
    """
    summary = summarize(run)
    status = summary.status
    if status == "paused":
        send(run, "resume")
        return read_lock(run.lock_path).pid or 0
    if status in ("stopped", "crashed", "failed", "draft"):
        if run.has_job:
            check_no_job(run)
            with storage_errors("remove", run.job_path):
                run.job_path.unlink(missing_ok=True)
        return launch(run)
    if status == "finished":
        raise RunStateError(
            f"{run.name} is finished",
            hint=summary.hint
            or "to start a new run from its weights: rnnlm-tui train --from"
            f" {run.name}@{_newest_valid_step(run)}",
        )
    if status == "lost":
        raise RunStateError(
            f"{run.name} was last seen on {summary.host}, and its state is unknown here",
            hint="resume it there",
        )
    raise RunStateError(f"{run.name} is already {status}")


def _newest_valid_step(run: RunDirectory) -> str:
    """`last`, or the step of the newest valid checkpoint if the last one is damaged."""
    valid, damaged = newest_valid(run)
    return str(int(valid.name.rpartition("-")[2])) if damaged and valid is not None else "last"


def send(
    run: RunDirectory,
    verb: Verb,
    *,
    changes: Mapping[str, JsonValue] | None = None,
    after: StopMark | None = None,
) -> CommandResult:
    """Send a command and wait for its answer. `stop` is answered once its checkpoint is saved and
    the lock is free.

    Args:
        changes: new values for `set`, by dotted path; `client.steering` checks them first.
        after: for `stop_after`; None cancels a planned stop.

    Raises:
        RunStateError: the run isn't running, or the worker rejected the command.
        InputError: the values are too long.
        WorkerError: no answer in time, or the worker died.
    """
    command = Command(
        id=uuid4().hex,
        verb=verb,
        changes=None if changes is None else dict(changes),
        after=after,
        who=asker(),
    )
    line = encode_line(command)
    if len(line) > MAX_REQUEST_BYTES:
        raise InputError(f"the values are longer than {MAX_REQUEST_BYTES:,} bytes")
    seconds = ANSWER_SECONDS.get(verb, ANSWER_SECONDS_OTHERWISE)
    result = _answer(run, command, line, seconds)
    if result.problems:
        raise ConfigError(result.problems)
    if not result.ok:
        raise RunStateError(result.error, hint=result.hint)
    return result


def _answer(run: RunDirectory, command: Command, line: bytes, seconds: float) -> CommandResult:
    """The worker's answer, by its socket or, on another host of Slurm, by a process beside it."""
    if job_id(run):
        (now,) = Jobs().ask([summarize(run)])
        if now.job is not None and now.job.waits:
            words = f"{run.name} takes no commands: {now.job.words}"
            raise RunStateError(words, hint=now.hint or "")
        if now.host not in (None, host_name()):
            check_live(now, command.verb)
            return forward(run, command, now.host, seconds + CONNECT_SECONDS)
    with _connect(run, command.verb) as connection:
        return _ask(connection, line, run, command.verb, seconds)


def main() -> None:
    """Send a command that `forward` brought from another host, and print its answer."""
    command = Command.model_validate_json(sys.argv[2])
    seconds = ANSWER_SECONDS.get(command.verb, ANSWER_SECONDS_OTHERWISE)
    run = RunDirectory(Path(sys.argv[1]))
    try:
        with _connect(run, command.verb) as connection:
            result = _ask(connection, encode_line(command), run, command.verb, seconds)
    except RnnlmError as error:
        result = CommandResult(id=command.id, ok=False, error=error.message, hint=error.hint)
    print(encode_line(result).decode(), end="")  # noqa: T201  the answer


def check_live(run: RunSummary, verb: Verb | None = None) -> None:
    """Check that a run takes commands.

    Raises:
        RunStateError: it isn't training; the hint says what to do instead.
    """
    name, status = run.run, run.status
    if status in LIVING:
        return
    fork = (
        f"`rnnlm-tui train --from {name}@last --set KEY=VALUE` starts a new run from its weights"
        " with changes"
        if run.checkpoints.count
        else ""
    )
    if status == "finished":
        score = f"`rnnlm-tui score {name} FILE` evaluates a checkpoint on a text"
        hint = score if verb == "evaluate" else fork
    elif status == "draft":
        hint = f"`rnnlm-tui resume {name} --detach` starts it"
    elif status == "lost":
        hint = "steer it on the machine where it trains"
    elif run.diverged:
        hint = run.hint or fork
    else:
        again = f"`rnnlm-tui resume {name} --detach` resumes it"
        hint = "; or ".join(filter(None, (again, fork)))
    raise RunStateError(f"{name} takes no commands: it is {status}", hint=hint)


def asker() -> str:
    """Who asks, for the run's journal: `alex, pts/3`, or `alex, no terminal`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    terminal = "no terminal"
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            terminal = os.ttyname(descriptor).removeprefix("/dev/")
            break
    return safe(f"{user}, {terminal}", keep="")[:100]


def weights_path(run: RunDirectory, which: str | None) -> Path:
    """The folder of the weights to sample: a checkpoint's as `checkpoint_path` does, or for `now`
    that of a snapshot, which the run's worker saves between two steps.

    Raises:
        UnknownCheckpointError: no such checkpoint; lists the available ones.
        RunStateError: `now`, but the run isn't training.
        WorkerError: no answer in time, or the worker died.
    """
    if which != "now":
        return checkpoint_path(run, which)
    return run.path / send(run, "snapshot").checkpoint


def _connect(run: RunDirectory, verb: Verb) -> socket.socket:
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
            lock = read_lock(run.lock_path)
            is_elsewhere = lock.host not in (None, host_name())
            if is_elsewhere or not lock.held:
                now = summarize(run)
                if is_elsewhere and now.status in (*LIVING, "lost"):
                    raise RunStateError(
                        f"{run.name} was started on {lock.host}: only there it takes commands",
                        hint="steer it there",
                    ) from None
                check_live(now, verb)
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"cannot connect to the worker of {run.name}: {error.strerror or error}"
                ) from error
            time.sleep(0.05)
        else:
            return connection


def _socket_path(run: RunDirectory) -> str:
    """The socket's path recorded by the worker, or the default if there is none or it can't be
    read."""
    with suppress(StorageError), RunReader(run) as reader:
        if recorded := reader.facts().socket:
            return recorded
    return str(run.socket_path)


def _ask(
    connection: socket.socket, line: bytes, run: RunDirectory, verb: Verb, seconds: float
) -> CommandResult:
    try:
        connection.sendall(line)
        connection.settimeout(seconds)
        with connection.makefile("rb") as answers:
            received = answers.readline()
        if not received.endswith(b"\n"):
            raise ConnectionResetError
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
    return decode_line(received, CommandResult)


if __name__ == "__main__":
    main()
