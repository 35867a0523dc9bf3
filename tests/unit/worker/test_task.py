"""Child processes with one request: their answers, and exceptions as the last one."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

from rnnlm_tui.errors import CorpusError, DeviceError
from rnnlm_tui.schema.protocol import TaskFailed, TaskProgress, decode_line
from rnnlm_tui.worker.task import failure_of


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (
            CorpusError("no such text", hint="bring one"),
            TaskFailed(message="no such text", hint="bring one", exit_code=2),
        ),
        (KeyError("x"), TaskFailed(message="KeyError: 'x'", exit_code=1)),
        (MemoryError(), TaskFailed(message="out of memory", exit_code=1, out_of_memory=True)),
        (
            caused(DeviceError("too large a step"), torch.OutOfMemoryError("CUDA out of memory")),
            TaskFailed(message="too large a step", exit_code=2, out_of_memory=True),
        ),
    ],
)
def test_errors_keep_their_words_and_exit_code_and_memory_is_recognized_as_their_cause(
    error: Exception, failed: TaskFailed
) -> None:
    assert failure_of(error) == failed


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


def started(work: str) -> subprocess.Popen[bytes]:
    """A child that answers with what this expression of `line` and `report` returns."""
    code = (
        "import sys, time\nfrom rnnlm_tui.schema.protocol import TaskProgress\n"
        "from rnnlm_tui.worker.task import answer\n"
        "def stubborn():\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(0.01)\n"
        "        except Exception:\n"
        "            pass\n"
        f"sys.exit(answer(lambda line, report: {work}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_result_follows_the_progress() -> None:
    child = started("(report('reading', 1, 2), TaskProgress(phase=line.decode()))[1]")
    lines = child.communicate(b"asked", timeout=60)[0].splitlines()
    assert child.returncode == 0
    assert [decode_line(line, TaskProgress) for line in lines] == [
        TaskProgress(phase="reading", done=1, total=2),
        TaskProgress(phase="asked"),
    ]


def test_an_error_is_the_last_line_and_its_code_that_of_the_process() -> None:
    child = started("1 / 0")
    (line,) = child.communicate(b"", timeout=60)[0].splitlines()
    assert decode_line(line, TaskFailed).message == "ZeroDivisionError: division by zero"
    assert child.returncode == 1


def test_sigterm_ends_a_task_without_an_answer_whatever_it_catches() -> None:
    child = started("(report('waiting'), stubborn())")
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    with child.stdout:
        assert decode_line(child.stdout.readline(), TaskProgress).phase == "waiting"
        child.terminate()
        assert child.wait(60) == 128 + signal.SIGTERM
        assert child.stdout.read() == b""
