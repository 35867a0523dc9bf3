"""Exceptions as the last message of a process."""

from __future__ import annotations

import subprocess
import sys

from rnnlm_tui.errors import CorpusError, DeviceError
from rnnlm_tui.schema.protocol import TaskFailed
from rnnlm_tui.worker.task import failure_of


def test_our_errors_keep_their_message_and_exit_code() -> None:
    assert failure_of(CorpusError("no such text", hint="bring one")) == TaskFailed(
        message="no such text", hint="bring one", exit_code=2
    )


def test_other_errors_are_reported_by_type_and_text() -> None:
    assert failure_of(KeyError("x")) == TaskFailed(message="KeyError: 'x'", exit_code=1)


def test_out_of_memory_is_recognized_also_as_the_cause_of_our_error() -> None:
    assert failure_of(MemoryError()) == TaskFailed(
        message="out of memory", exit_code=1, out_of_memory=True
    )
    error = DeviceError("too large a step", hint="take half")
    error.__cause__ = RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    import torch  # without it no error is one of torch's

    assert torch.__version__
    assert failure_of(error) == TaskFailed(
        message="too large a step", hint="take half", exit_code=2, out_of_memory=True
    )


def test_reporting_a_failure_needs_no_torch() -> None:
    code = (
        "import sys\nfrom rnnlm_tui.worker.task import"
        " failure_of\nfailure_of(ImportError('libtorch'))\nprint('torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        == "False\n"
    )
