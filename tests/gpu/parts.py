"""The parts of the proof: each runs in a process of its own, for as long as its share of the time.

A part reports rows as it goes, so one that is cut or crashes keeps what it found.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil

from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.system.processes import child_environment, last_lines

Value = str | int | float | bool | None
Row = dict[str, Value]
FOUND = "found.jsonl"
"""File in a part's folder with what it found."""
LOG_LINES = 30
"""Lines of a failed part's log that are printed."""
POLL_SECONDS = 0.05
SHOWN_DIGITS = 4
"""Significant digits of a number in a row."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how all parts run; the same in every process."""

    device: str
    """`cuda:0`, or `cpu` in a dry run."""
    dry: bool
    """Tiny shapes on the CPU."""
    folder: Path
    """Logs and results; each part has a folder of its own in it."""
    bench_command: tuple[str, ...] = ()
    """Another program that speaks the protocol of the bench's child processes; empty: the real
    one."""

    def encoded(self) -> str:
        """For another process's command line."""
        return json.dumps(
            {
                "device": self.device,
                "dry": self.dry,
                "folder": str(self.folder),
                "bench_command": self.bench_command,
            }
        )

    @classmethod
    def decoded(cls, text: str) -> Setting:
        """From `encoded`."""
        values = json.loads(text)
        return cls(
            values["device"],
            values["dry"],
            Path(values["folder"]),
            tuple(values["bench_command"]),
        )


class Report:
    """Where a running part puts what it finds: one JSON line each, on disk at once."""

    def __init__(self, setting: Setting, name: str, seconds: float) -> None:
        self.setting = setting
        self.folder = setting.folder / name
        """For the part's own files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / FOUND).open("a", encoding="utf-8")
        self._until = time.monotonic() + seconds

    @property
    def dry(self) -> bool:
        """Tiny shapes on the CPU."""
        return self.setting.dry

    @property
    def seconds_left(self) -> float:
        """Until the part is cut."""
        return self._until - time.monotonic()

    def row(self, **values: Value) -> None:
        """A row of the part's table."""
        self._write("row", {key: _short(value) for key, value in values.items()})

    def failed(self, text: str) -> None:
        """Something is wrong."""
        self._write("failed", text)

    def missed(self, text: str) -> None:
        """A goal wasn't reached."""
        self._write("missed", text)

    def skipped(self, text: str) -> None:
        """Something wasn't done, and why."""
        self._write("skipped", text)

    def did(self, text: str) -> None:
        """One line on what was done."""
        self._write("did", text)

    def note(self, text: str) -> None:
        """A remark for the reader."""
        self._write("note", text)

    def fact(self, name: str, value: object) -> None:
        """A value for other parts and for the JSON line."""
        self._write("fact", {name: value})

    def detail(self, text: str) -> None:
        """Lines that are printed below the part's table, and are not in the JSON line."""
        self._write("detail", text)

    def _write(self, kind: str, value: object) -> None:
        self._file.write(json.dumps({kind: value}) + "\n")
        self._file.flush()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the proof."""

    name: str
    title: str
    """What it shows."""
    seconds: float
    """Its share of the time with the default `--seconds`."""
    run: Callable[[Report], None]


@dataclass
class Result:
    """What a part found."""

    part: Part
    budget: float
    """Seconds that it had."""
    seconds: float = 0.0
    cut: bool = False
    """It was ended because its time was up."""
    code: int = 0
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    """The last lines that it printed, if it failed."""

    @property
    def status(self) -> str:
        """`failed`, `cut`, `missed` (a goal), `skipped` (nothing was done) or `passed`."""
        if self.failed:
            return "failed"
        if self.cut:
            return "cut"
        if self.missed:
            return "missed"
        return "skipped" if self.skipped and not self.did else "passed"

    @property
    def is_bad(self) -> bool:
        """The proof doesn't hold."""
        return self.status in ("failed", "cut")


def run_part(part: Part, setting: Setting, seconds: float, *, fork: bool) -> Result:
    """Run a part in a process of its own until it ends or its time is up.

    Args:
        fork: fork this process, which saves the imports; not with a GPU, since a driver that was
            touched before a fork is of no use after it.
    """
    folder = setting.folder / part.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    began = time.monotonic()
    result = Result(part, seconds)
    process: Process = (
        Forked(lambda: serve_part(part, setting, seconds), log)
        if fork
        else _started(part, setting, seconds, log)
    )
    while (code := process.poll()) is None and time.monotonic() - began < seconds:
        time.sleep(POLL_SECONDS)
    result.cut = code is None
    _end(process)
    result.code, result.seconds = 0 if result.cut else code or 0, time.monotonic() - began
    _read(folder / FOUND, result)
    if result.code and not result.failed:
        result.failed.append(f"its process ended with exit code {result.code}")
    if result.is_bad:
        result.log = last_lines(log, LOG_LINES)
    return result


def judge(part: Part, setting: Setting, work: Callable[[Report], None]) -> Result:
    """A part that only compares what other parts found, in this process."""
    began = time.monotonic()
    result = Result(part, part.seconds)
    work(Report(setting, part.name, part.seconds))
    _read(setting.folder / part.name / FOUND, result)
    result.seconds = time.monotonic() - began
    return result


def serve_part(part: Part, setting: Setting, seconds: float) -> int:
    """Run a part in this process; returns the exit code."""
    report = Report(setting, part.name, seconds)
    try:
        part.run(report)
    except Exception as error:  # all that a part may raise belongs into its report
        traceback.print_exc()
        kind = "" if isinstance(error, RnnlmError) else f"{type(error).__name__}: "
        report.failed(f"{kind}{' '.join(str(error).split())[:400]}")
        return 1
    return 0


class Forked:
    """A forked process, with the methods of a `Popen` that are needed."""

    def __init__(self, work: Callable[[], int], log: Path) -> None:
        """
        Args:
            work: what the process does; returns its exit code.
            log: receives what it prints.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        self._code: int | None = None
        if self.pid == 0:
            _work_and_exit(work, log)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None: it still runs."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and timeout is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(POLL_SECONDS / 5)
        return code


Process = Forked | subprocess.Popen[bytes]


def _work_and_exit(work: Callable[[], int], log: Path) -> NoReturn:
    code = 70
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _started(part: Part, setting: Setting, seconds: float, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.gpu", "--part", part.name, "--seconds", f"{seconds:g}"]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command, "--setting", setting.encoded()],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=child_environment(WORKER_SETTINGS),
            start_new_session=True,
        )


def _end(process: Process) -> None:
    """Kill the process, if it still runs, and all that it started, workers included."""
    started: Sequence[psutil.Process] = ()
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for child in started:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _read(found: Path, result: Result) -> None:
    if not found.exists():
        return
    lists: Mapping[str, list[str]] = {
        "failed": result.failed,
        "missed": result.missed,
        "skipped": result.skipped,
        "did": result.did,
        "note": result.notes,
        "detail": result.details,
    }
    for line in found.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # the last line of a process that was killed
            for kind, value in json.loads(line).items():
                if kind == "row":
                    result.rows.append(value)
                elif kind == "fact":
                    result.facts.update(value)
                else:
                    lists[kind].append(value)


def _short(value: Value) -> Value:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):  # JSON has no such numbers
        return str(value)
    return float(f"{value:.{SHOWN_DIGITS}g}")
