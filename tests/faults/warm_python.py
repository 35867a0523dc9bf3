"""A program that runs `python -m MODULE …` as a fork of a process that has imported everything.

The program is a small client. It sends its standard streams, folder, environment and words to that
process, passes signals on, and ends as the fork does; the fork ends with it. For tests that run
many commands and aren't about the start of a process.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from rnnlm_tui.system.processes import PARENT

IMPORTED = ("cli", "client", "worker", "bench")
"""The rooms whose modules a command may need."""
MOST_BYTES = 1 << 20

TOLD = "WARM_PYTHON_TOLD"
"""Environment variable: file descriptor to which the client writes the fork's pid."""

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

words = sys.argv[1:]
module = words[1:] if words[:1] == ["-P"] else words
if module[:1] != ["-m"]:
    os.execv("{python}", ["{python}", *words])
server = socket.socket(socket.AF_UNIX)
server.connect("{address}")
told = int(os.environ.pop("{told}", -1))
os.umask(umask := os.umask(0o077))
wish = {{
    "program": __file__,
    "words": words,
    "module": module[1],
    "arguments": module[2:],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "umask": umask,
    "session": os.getsid(0) == os.getpid(),
}}
socket.send_fds(server, [json.dumps(wish).encode() + b"\\n"], [0, 1, 2])
answers = server.makefile()
pid = int(answers.readline())
if told >= 0:
    os.write(told, str(pid).encode())
    os.close(told)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int(answers.readline() or 70)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def write_program(path: Path, address: Path) -> None:
    """Write the program, a client of the process that listens at `address`."""
    path.write_text(
        CLIENT.format(python=sys.executable, address=address, told=TOLD), encoding="utf-8"
    )
    path.chmod(0o755)


def import_commands() -> None:
    """Import what commands need, for the forks."""
    for room in IMPORTED:
        package = importlib.import_module(f"rnnlm_tui.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def receive(connection: socket.socket) -> tuple[Mapping[str, Any], list[int]]:
    """What a client asks for, and its standard streams.

    Raises:
        ConnectionError: the client ended before it asked.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    while not data.endswith(b"\n"):
        more = connection.recv(MOST_BYTES)
        if not more:
            raise ConnectionError("the client ended")
        data += more
    return json.loads(data), descriptors


def be_command(
    wish: Mapping[str, Any], descriptors: list[int], connection: socket.socket
) -> NoReturn:
    """Be the Python process that the client stands for."""
    code = 70
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        if wish["session"]:
            os.setsid()
        os.chdir(wish["folder"])
        os.umask(wish["umask"])
        os.environ.clear()
        os.environ.update(wish["environment"])
        os.environ.pop(PARENT, None)  # the parent is the client's, and this ends with the client
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        sys.executable, sys.argv[1:] = wish["program"], wish["arguments"]
        sys.orig_argv = [wish["program"], *wish["words"]]
        started = SimpleNamespace(Popen=StartedWorker, DEVNULL=subprocess.DEVNULL)
        pytest.MonkeyPatch().setattr("rnnlm_tui.system.processes.subprocess", started)
        code = _run(wish["module"])
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class StartedWorker:
    """In place of a `subprocess.Popen`: its pid is the fork's, as in the worker's lock."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], **options: Any) -> None:
        readable, writable = os.pipe()
        self._client = subprocess.Popen(
            command, env={**env, TOLD: str(writable)}, pass_fds=[writable], **options
        )
        os.close(writable)
        self.pid = int(os.read(readable, 32))
        os.close(readable)
        self.poll, self.wait = self._client.poll, self._client.wait
        self.kill = self._client.kill

    @property
    def returncode(self) -> int | None:
        return self._client.returncode


def _run(module: str) -> int:
    """Run the module as `__main__`; its exit code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it has been imported
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end_with(client: socket.socket) -> None:
    """End once the client has ended."""
    client.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)
