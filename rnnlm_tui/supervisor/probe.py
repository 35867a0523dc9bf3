"""Has a config's first steps measured by a process of its own, and keeps what it finds for later estimates."""

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
"""A probe that goes on so long after it was asked to leave is killed; what it had half-built is swept by the next preparation."""
KILLED = -9
"""How a process ends that the system had no memory for; without a word."""


def run_probe(config: RunConfig, tell: Callable[[ProbeProgress], None], hint_for_memory: Callable[[], str], command: list[str] | None = None) -> Calibration:
    """Measure the config in a child and keep the calibration; whatever ends this, the child ends too.

    Args:
        hint_for_memory: what to try instead, asked for when the probe ran out of memory.
        command: another process that speaks the protocol.

    Raises:
        InputError: the config can't run here, or its step does not fit into memory.
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
            answer = _answer(process, tell)
        finally:
            _end(process)
        if isinstance(answer, ProbeDone):
            add_calibration(answer.calibration)
            return answer.calibration
        raise _error(answer, process.returncode, log, hint_for_memory)


def _answer(process: subprocess.Popen[bytes], tell: Callable[[ProbeProgress], None]) -> ProbeDone | ProbeFailed | None:
    """Its last line; None where it ended without one."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            message = cast(ProbeProgress | ProbeDone | ProbeFailed, decode_line(line, ProbeProgress, ProbeDone, ProbeFailed))
        except InputError:
            continue  # something printed on stdout by a library
        if not isinstance(message, ProbeProgress):
            process.wait()
            return message
        tell(message)
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
        return DeviceError("the probe was killed, most likely because the machine has no memory left for it", hint=hint_for_memory())
    log.seek(0)
    words = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return WorkerError(f"the probe ended (exit code {code})" + (f": {words[-1]}" if words else ""))
