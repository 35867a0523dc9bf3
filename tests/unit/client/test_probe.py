"""Probes, with fake child processes."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.start import run_probe
from rnnlm_tui.errors import (
    CorpusError,
    DeviceError,
    InputError,
    RnnlmError,
    StorageError,
    WorkerError,
)
from rnnlm_tui.schema.config import CorpusConfig, RunConfig
from rnnlm_tui.schema.protocol import ProbeDone, TaskFailed, TaskProgress, encode_line
from rnnlm_tui.store.corpora import load_calibrations
from tests.unit.store.test_calibration import calibration

CONFIG = RunConfig(corpus=CorpusConfig(source="elman"))
BEGIN = "import os, signal, sys, time\nsys.stdin.read()\n"


def child(script: str) -> list[str]:
    """A child process that reads its config and runs this script."""
    return [sys.executable, "-c", BEGIN + script]


def saying(*messages: TaskProgress | ProbeDone | TaskFailed, then: str = "") -> list[str]:
    """A child process that writes these lines."""
    lines = b"".join(map(encode_line, messages))
    return child(f"sys.stdout.buffer.write({lines!r})\nsys.stdout.flush()\n{then}")


def running(command: list[str]) -> AbstractContextManager[object]:
    """Inside the block, a probe starts this process."""
    return patch("rnnlm_tui.client.child.python_command", lambda *_: command)


def probed(command: list[str], reported: list[TaskProgress] | None = None) -> object:
    with running(command):
        return run_probe(CONFIG, (reported if reported is not None else []).append)


def test_a_probes_result_is_stored(home: Path) -> None:
    reported: list[TaskProgress] = []
    command = saying(
        TaskProgress(phase="steps", done=1, total=20), ProbeDone(calibration=calibration(20))
    )
    assert probed(command, reported) == calibration(20)
    assert [(progress.phase, progress.done) for progress in reported] == [("steps", 1)]
    assert load_calibrations() == [calibration(20)]


def test_a_probe_of_the_cpu_beside_an_unused_gpu_warns(home: Path) -> None:
    warnings: list[str] = []
    for words in ("trains on the CPU: no code for the P4", ""):
        command = saying(ProbeDone(calibration=calibration(20), warning=words))
        with running(command):
            run_probe(CONFIG, lambda _: None, warn=warnings.append)
    assert warnings == ["trains on the CPU: no code for the P4"]


def test_output_of_libraries_is_ignored(home: Path) -> None:
    done = encode_line(ProbeDone(calibration=calibration(20)))
    noisy = child(f"print('hello', flush=True)\nsys.stdout.buffer.write({done!r})")
    assert probed(noisy) == calibration(20)


@pytest.mark.parametrize("kind", [InputError, StorageError, RnnlmError])
def test_a_probes_error_is_raised_as_the_same_kind(home: Path, kind: type[RnnlmError]) -> None:
    with pytest.raises(kind, match="no such text") as caught:
        probed(
            saying(TaskFailed(message="no such text", hint="bring one", exit_code=kind.exit_code))
        )
    assert (type(caught.value), caught.value.hint) == (kind, "bring one")
    assert not (home / "calibration.json").exists()


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (
            saying(TaskFailed(message="out of memory", exit_code=2, out_of_memory=True)),
            DeviceError,
        ),
        (child("os.kill(os.getpid(), signal.SIGKILL)"), WorkerError),
    ],
)
def test_a_probe_without_enough_memory_has_a_hint(
    home: Path, command: list[str], kind: type[RnnlmError]
) -> None:
    with pytest.raises(kind, match="memory") as caught:
        probed(command)
    assert caught.value.hint == "training.batch_size = 10 needs less"


def test_a_file_that_needs_too_much_memory_is_refused_as_a_file(home: Path) -> None:
    refused = TaskFailed(
        message="the file needs more memory than its size allows",
        exit_code=StorageError.exit_code,
        out_of_memory=True,
    )
    with pytest.raises(StorageError, match="the file needs more memory"):
        probed(saying(refused))


def test_a_child_that_hangs_after_its_first_line_can_be_cancelled() -> None:
    said: list[TaskProgress] = []

    def check() -> None:
        if said:
            raise InputError("cancelled")

    line = encode_line(TaskProgress(phase="downloading"))
    waiting = child(f"sys.stdout.buffer.write({line!r})\nsys.stdout.flush()\ntime.sleep(600)")
    with running(waiting), pytest.raises(InputError, match="cancelled"):
        run_child("x", CONFIG, ProbeDone, said.append, what="the child", check=check)


def test_a_probe_ends_with_its_parent(home: Path) -> None:
    reported: list[int] = []

    def interrupt(progress: TaskProgress) -> None:
        reported.append(progress.done)
        raise KeyboardInterrupt

    progress = '{"kind": "TaskProgress", "phase": "steps", "done": %d, "total": 0}'
    waiting = f"print({progress!r} % os.getpid(), flush=True)\nsignal.pause()"
    with pytest.raises(KeyboardInterrupt), running(child(waiting)):
        run_probe(CONFIG, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(reported[0], 0)
    assert not (home / "calibration.json").exists()


def test_a_missing_text_is_refused_before_anything_starts(home: Path) -> None:
    config = RunConfig(corpus=CorpusConfig(source="/nowhere/text.txt"))
    with pytest.raises(CorpusError), running(["/nowhere/python"]):
        run_probe(config, lambda _: None)
