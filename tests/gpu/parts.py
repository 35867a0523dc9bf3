"""The parts of the proof: each runs in processes of its own, for as long as its share of the time.

A part reports rows as it goes, so one that is cut or crashes keeps what it found. On a GPU its
cases run beside each other, each in its own process: after an illegal access, or a recording that
failed with an older torch, nothing on CUDA works any more in that process.
"""

from __future__ import annotations

import json
import math
import os
import re
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
LOG = "log.txt"
"""What a part printed, in the same folder."""
LOG_LINES = 30
"""Lines of a failed case's log that are printed."""
LOG_BYTES = 2**20
"""From the end of each log, which are kept."""
POLL_SECONDS = 0.05
CPP_STACK = "Exception raised from"
"""Begins torch's C++ frames in a message."""
DIAGNOSTICS = {
    "TORCH_SHOW_CPP_STACKTRACES": "1",  # names the operation that failed in a backward pass
    "TORCH_DISABLE_ADDR2LINE": "1",  # it may take minutes
    "PYTHONFAULTHANDLER": "1",
}
"""Environment of the processes: a failure should say enough to be repaired without a second run."""
MESSAGE_LENGTH = 400
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
    """Where the parts work; each has a folder of its own in it."""
    bench_command: tuple[str, ...] = ()
    """Another program that speaks the protocol of the bench's child processes; empty: the real
    one."""

    def folder_of(self, part: Part, case: str = "") -> Path:
        """A part's folder, or that of one of its cases."""
        folder = self.folder / part.name / re.sub(r"\W+", "-", case)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

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

    def __init__(self, setting: Setting, part: Part, until: float, case: str = "") -> None:
        """
        Args:
            until: when it is cut, by the monotonic clock, which all processes share.
            case: the only one to do; empty: all.
        """
        self.setting = setting
        self.cases = (case,) if case else part.cases()
        """To do."""
        self.folder = setting.folder_of(part, case)
        """For the part's own files."""
        self._file = (self.folder / FOUND).open("a", encoding="utf-8")
        self._until = until

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

    def broke(self, error: Exception, doing: str = "") -> None:
        """An exception: one line, with the place in our code; the traceback goes to the log."""
        traceback.print_exception(error)
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "rnnlm_tui" in frame.filename] or frames
        text = " ".join(str(error).partition(CPP_STACK)[0].split())
        self.failed(
            "".join(
                (
                    f"{doing}: " if doing else "",
                    "" if isinstance(error, RnnlmError) else f"{type(error).__name__}: ",
                    text[:MESSAGE_LENGTH],
                    *(f" ({Path(one.filename).name}:{one.lineno})" for one in ours[-1:]),
                )
            )
        )

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
    cases: Callable[[], tuple[str, ...]] = tuple
    """What can be done in processes of their own; none: the part is one."""


@dataclass
class Result:
    """What a part found."""

    part: Part
    budget: float
    """Seconds that it had."""
    seconds: float = 0.0
    cut: bool = False
    """It was ended because its time was up."""
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    tail: tuple[str, ...] = ()
    """The last lines that its bad cases printed."""
    log: str = ""
    """What all of them printed."""

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
    """Run a part until it ends or its time is up.

    Args:
        fork: fork this process for all cases together, which saves the imports; not with a GPU,
            since a driver that was touched before a fork is of no use after it.
    """
    began = time.monotonic()
    result = Result(part, seconds)
    running: dict[str, Process] = {}
    for case in ("",) if fork else part.cases() or ("",):
        log = setting.folder_of(part, case) / LOG
        running[case] = (
            Forked(lambda: serve_part(part, setting, began + seconds), log)
            if fork
            else _started(part, setting, began + seconds, case, log)
        )
    while any(process.poll() is None for process in running.values()):
        if time.monotonic() - began > seconds:
            break
        time.sleep(POLL_SECONDS)
    for case, process in running.items():
        _collect(result, case, setting.folder_of(part, case), process)
    result.seconds = time.monotonic() - began
    return result


def _collect(result: Result, case: str, folder: Path, process: Process) -> None:
    """Add what a case found, whose process is ended."""
    code, before = process.poll(), len(result.failed)
    _end(process)
    _read(folder / FOUND, result)
    name = f"{case}: " if case else ""
    if code is None:
        result.cut = True
        if case:
            result.notes.append(f"{name}cut")
    elif code and len(result.failed) == before:
        result.failed.append(f"{name}its process ended with exit code {code}")
    log = folder / LOG
    if code is None or len(result.failed) > before:
        result.tail += (*((f"{case}:",) if case else ()), *last_lines(log, LOG_LINES))
    lines = last_lines(log, LOG_BYTES, max_bytes=LOG_BYTES)
    result.log += "".join(f"{line}\n" for line in (f"--- {result.part.name} {case}", *lines))


def judge(part: Part, setting: Setting, work: Callable[[Report], None]) -> Result:
    """A part that only compares what other parts found, in this process."""
    began = time.monotonic()
    result = Result(part, part.seconds)
    work(Report(setting, part, began + part.seconds))
    _read(setting.folder_of(part) / FOUND, result)
    result.seconds = time.monotonic() - began
    return result


def serve_part(part: Part, setting: Setting, until: float, case: str = "") -> int:
    """Run a part, or one of its cases, in this process; returns the exit code."""
    report = Report(setting, part, until, case)
    try:
        part.run(report)
    except Exception as error:  # all that a part may raise belongs into its report
        report.broke(error)
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


def _started(
    part: Part, setting: Setting, until: float, case: str, log: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.gpu", "--part", part.name, "--until", repr(until)]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command, "--case", case, "--setting", setting.encoded()],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=child_environment({**WORKER_SETTINGS, **DIAGNOSTICS}),
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
                elif value not in lists[kind]:  # each case says what the part did
                    lists[kind].append(value)


def _short(value: Value) -> Value:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):  # JSON has no such numbers
        return str(value)
    return float(f"{value:.{SHOWN_DIGITS}g}")
