"""Measure a config's first steps in a child process, and store the result for later estimates."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from typing import IO, cast

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.probes import Calibration, ProbeDone, ProbeFailed, ProbeProgress
from rnnlm_tui.contract.wire import decode_line
from rnnlm_tui.errors import DeviceError, InputError, RnnlmError, WorkerError, error_kind
from rnnlm_tui.store.calibration import add_calibration
from rnnlm_tui.supervisor.launch import WORKER_SETTINGS
from rnnlm_tui.supervisor.preflight import check_before_start
from rnnlm_tui.supervisor.processes import dependent_environment, python_command

LEAVE_SECONDS = 5.0
"""How long a probe may take to exit before it is killed; the next preparation removes its unfinished files."""
KILLED = -9
"""Exit code of a process killed by the system, which also happens when memory runs out."""


def run_probe(config: RunConfig, report: Callable[[ProbeProgress], None], hint_for_memory: Callable[[], str], command: list[str] | None = None) -> Calibration:
    """Measure a config in a child process and store the calibration. The child ends with this call.

    Args:
        report: called with each progress message.
        hint_for_memory: returns a hint if the probe ran out of memory.
        command: another process with the same protocol.

    Raises:
        InputError: the config can't run here, or a step doesn't fit into memory.
        WorkerError: the probe died.
        StorageError: the corpus or the calibration can't be written.
    """
    check_before_start(config)
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as log:
        request.write(config.model_dump_json().encode())
        request.seek(0)
        process = subprocess.Popen(
            command or python_command("rnnlm_tui.worker.probe"),
            stdin=request,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dependent_environment(WORKER_SETTINGS),
        )
        try:
            answer = _answer(process, report)
        finally:
            _end(process)
        if isinstance(answer, ProbeDone):
            add_calibration(answer.calibration)
            return answer.calibration
        raise _error(answer, process.returncode, log, hint_for_memory)


def _answer(process: subprocess.Popen[bytes], report: Callable[[ProbeProgress], None]) -> ProbeDone | ProbeFailed | None:
    """The probe's result; None if it exited without one."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            message = cast(ProbeProgress | ProbeDone | ProbeFailed, decode_line(line, ProbeProgress, ProbeDone, ProbeFailed))
        except InputError:
            continue  # output of a library
        if not isinstance(message, ProbeProgress):
            process.wait()
            return message
        report(message)
    process.wait()
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _error(answer: ProbeFailed | None, code: int, log: IO[bytes], hint_for_memory: Callable[[], str]) -> RnnlmError:
    if answer is not None and answer.out_of_memory:
        return DeviceError(answer.message, hint=hint_for_memory())
    if answer is not None:
        return error_kind(answer.exit_code)(answer.message, hint=answer.hint)
    if code == KILLED:
        return DeviceError("the probe was killed, probably because memory ran out", hint=hint_for_memory())
    log.seek(0)
    words = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return WorkerError(f"the probe failed (exit code {code})" + (f": {words[-1]}" if words else ""))
