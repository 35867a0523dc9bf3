"""Start a training worker that outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from rnnlm_tui.client.monitor import stamp
from rnnlm_tui.errors import InputError, RunStateError, WorkerError
from rnnlm_tui.schema.text import safe
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.recovery import repair_database
from rnnlm_tui.system.files import open_private, storage_errors
from rnnlm_tui.system.locks import LockState, held_message, read_lock
from rnnlm_tui.system.processes import child_environment, last_lines, python_command

START_SECONDS = 60.0
"""Longest wait for a worker to take its lock; ten seconds were seen with a cold disk on a busy
machine."""

LEAVE_SECONDS = 5.0
"""How long a worker may take from its final event to releasing the lock."""

NICENESS_VARIABLE = "RNNLM_TUI_NICENESS"
"""Environment variable: niceness of the workers, 0 (same priority as other processes) to 19."""
NICENESS = 5
"""A third of the default scheduling weight: the app gets a core when it draws, and on idle cores
training loses nothing."""
MOST_NICENESS = 19

WORKER_SETTINGS = {
    # otherwise torch's threads spin at each barrier, and lose most of their speed beside another
    # busy process
    "GOMP_SPINCOUNT": "1000",
    # Keep freed blocks: otherwise each step maps tens of thousands of pages again (measured: 6 % of
    # its time).
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # must be set before CUDA starts for exact mode
    "PYTHONUNBUFFERED": "1",
}


def launch(run: RunDirectory) -> int:
    """Start a worker in its own session, with its output in the run's log; returns its pid.

    Returns once the worker holds the run's lock and has recorded its attempt, so that the run's
    status
    is no longer that of the previous attempt.

    Raises:
        RunStateError: another worker holds the run.
        WorkerError: the worker exited at its start (quotes its output), or did not start in time.
        StorageError: the run was renamed or deleted, or its files can't be written.
        InputError: RNNLM_TUI_NICENESS is invalid; nothing was started.
    """
    niceness = wanted_niceness()
    run.check_there()
    held = _wait_for_last_moments(run)
    if held.held:
        raise RunStateError(held_message(run.lock_path, held), hint=f"rnnlm-tui show {run.name}")
    run.check_own_files()
    repair_database(run)  # here: it may take longer than START_SECONDS
    with storage_errors("write", run.log_path):
        log = open_private(run.log_path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(log).st_size
        process = subprocess.Popen(
            python_command("rnnlm_tui.worker.train", str(run.path)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(WORKER_SETTINGS),
            start_new_session=True,
        )
    finally:
        os.close(log)
    _lower_priority(process.pid, niceness)
    # Reap the worker in the background, so that it doesn't stay a zombie while the app runs.
    threading.Thread(target=process.wait, name=f"reaper-{process.pid}", daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = (
            process.poll() is not None
        )  # checked first, so that all its writes are visible if it ended
        if _has_begun(run, process.pid):
            return process.pid
        if ended:
            raise _failure(run, process.returncode, before)
        time.sleep(0.02)
    process.kill()
    raise WorkerError(
        f"the worker of {run.name} did not start within {START_SECONDS:.0f} s",
        hint=f"its log: {run.log_path}",
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


def _lower_priority(pid: int, niceness: int) -> None:
    """Lower the priority of a new process and its session: with Linux autogroups, niceness only
    counts within a session."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, max(niceness, os.getpriority(os.PRIO_PROCESS, pid)))
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _wait_for_last_moments(run: RunDirectory) -> LockState:
    """The lock's state; if the run has just ended, waits a moment for its worker to exit."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while True:
        state = read_lock(run.lock_path)
        if not state.held or time.monotonic() >= deadline:
            return state
        with RunReader(run) as reader:
            last = reader.last_state()
        if last is None or last.kind not in ("stopped", "finished", "failed"):
            return state
        time.sleep(0.02)


def _has_begun(run: RunDirectory, pid: int) -> bool:
    if read_lock(run.lock_path).pid != pid:
        return False
    with RunReader(run) as reader:
        state = reader.last_state()
        attempts = reader.attempts()
    return (
        state is not None
        and bool(attempts)
        and attempts[-1].pid == pid
        and attempts[-1].attempt == state.attempt
    )


def _failure(run: RunDirectory, code: int, log_size_before: int) -> WorkerError | RunStateError:
    run.check_there()
    written = max(0, stamp(run.log_path)[0] - log_size_before)
    words = (
        [
            line
            for line in last_lines(run.log_path, 20, max_bytes=min(65_536, written))
            if line.strip()
        ]
        if written
        else []
    )
    if code == RunStateError.exit_code and words:
        return RunStateError(words[0])
    output = "\n".join(words[-5:]) or f"exit code {code}"
    return WorkerError(
        f"the worker of {run.name} failed to start: {output}", hint=f"its log: {run.log_path}"
    )
