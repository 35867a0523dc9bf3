"""The control socket with invalid input and a flood."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.protocol import Command, CommandResult, decode_line, encode_line
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.worker.control import (
    BURST_SECONDS,
    CPU_SHARE,
    MAX_CONNECTIONS,
    ControlServer,
    PendingCommand,
)
from tests.integration.runs import ENDLESS, start, tiny_config, wait_for, wait_for_step

pytestmark = [
    pytest.mark.usefixtures("warm"),
    pytest.mark.fault("something else connects to a worker's socket"),
]

STATUS = encode_line(Command(id="a", verb="status"))
REFUSED = {
    "not JSON": b"GET / HTTP/1.1\r\n\r\n",
    "a line of 1 MB": b"x" * 1_000_000 + b"\n",
    "1 MB without a line": b"x" * 1_000_000,
    "a path that leads out": (b'{"id": "a", "verb": "set", "changes": {"../../config.toml": 1}}\n'),
    "a value that is no number": (
        b'{"id": "a", "verb": "set", "changes": {"optimizer.learning_rate": NaN}}\n'
    ),
    "a change as earlier versions sent it": (
        b'{"id": "a", "verb": "set", "path": "optimizer.learning_rate", "value": 0.1}\n'
    ),
    "a deep value": (
        b'{"id": "a", "verb": "set", "changes": {"evaluation.prompts": ' + b"[" * 20_000 + b"\n"
    ),
}


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(
            str(path)
        )  # without a timeout: with one, a full queue is an error instead of a wait
        connection.settimeout(60)
        yield connection


def answers_of(path: Path, line: bytes) -> list[CommandResult]:
    """Everything received until the worker closes the connection or answers."""
    with connected(path) as connection:
        with suppress(ConnectionError):  # closed in the middle
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while part := connection.recv(65_536):
                received += part
    return [decode_line(one, CommandResult) for one in received.splitlines()]


def journalled(run: RunDirectory) -> list[str]:
    with RunReader(run) as reader:
        return [row.verb for row in reader.commands() if row.result["ok"]]


def test_what_is_no_command_is_refused_or_dropped_and_the_run_goes_on(text: Path) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 0, "evaluation.every": 0}
        )
    )
    config = run.read_config()
    wait_for_step(run, 5)
    for what, line in REFUSED.items():
        assert not any(answer.ok for answer in answers_of(run.socket_path, line)), what
        assert send(run, "status").ok, what
    wait_for_step(run, summarize(run).step + 20)
    assert summarize(run).status == "running"
    assert run.read_config() == config
    assert journalled(run) == []


@pytest.fixture
def served() -> Iterator[tuple[Path, ControlServer, list[PendingCommand]]]:
    """A server in this process that only stores what it delivers."""
    delivered: list[PendingCommand] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        server = ControlServer(
            path,
            status=lambda command: CommandResult(id=command.id, ok=True),
            deliver=delivered.append,
        )
        server.start()
        yield path, server, delivered
        server.retire()
        server.close()


FLOOD = """
import socket, sys
path, verb, kept = sys.argv[1], sys.argv[2].encode(), int(sys.argv[4])
lines = int(sys.argv[3]) * (b'{"id": "a", "verb": "%s"}\\n' % verb)
print("flooding", flush=True)
crowd = []
while True:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    crowd.append(connection)
    try:
        connection.connect(path)
        connection.sendall(lines)
    except OSError:
        pass
    if len(crowd) > kept:
        crowd.pop(0).close()
"""
FLOODS = {
    "connects": ("status", 0, 0),
    "requests": ("status", 1, 0),
    "a slow reader's requests": ("status", 10_000, 0),
    "half-open ones": ("status", 0, MAX_CONNECTIONS),
    "commands that wait": ("evaluate", 20, MAX_CONNECTIONS),
}
"""The verb, how often each connection sends it, and the open connections per process."""
FLOOD_SECONDS = 1.5


@pytest.mark.parametrize("flooded", FLOODS)
def test_a_flood_gets_two_percent_of_a_core_and_commands_are_still_answered(
    served: tuple[Path, ControlServer, list[PendingCommand]], flooded: str
) -> None:
    path, server, delivered = served
    sent = [str(value) for value in FLOODS[flooded]]
    clock = time.pthread_getcpuclockid(server._thread.ident or 0)
    floods = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", FLOOD, str(path), *sent], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for flood in floods:
            assert flood.stdout is not None
            assert flood.stdout.readline() == b"flooding\n"
        wait_for(
            lambda: time.clock_gettime(clock) > BURST_SECONDS or len(delivered) > 100,
            "the flood to have used up the burst",
        )
        gc.disable()  # collecting this process's garbage may take the server's thread half a second
        began, used = time.monotonic(), time.clock_gettime(clock)
        with connected(path) as person:
            person.sendall(STATUS)
            assert decode_line(person.recv(1_000), CommandResult).ok
        wait_for(lambda: time.monotonic() - began > FLOOD_SECONDS, "the flood to last")
        took, elapsed = time.clock_gettime(clock) - used, time.monotonic() - began
    finally:
        gc.enable()
        for flood in floods:
            flood.kill()
            flood.communicate()
    assert took > 0.0
    assert took <= BURST_SECONDS + CPU_SHARE * elapsed + 0.02, "the last read may have gone over"
