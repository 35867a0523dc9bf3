"""The control socket's server, with a real socket and a trainer that is only a list."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from rnnlm_tui.schema.protocol import (
    MAX_REQUEST_BYTES,
    Command,
    CommandResult,
    Verb,
    decode_line,
    encode_line,
)
from rnnlm_tui.worker.control import MAX_CONNECTIONS, ControlServer, PendingCommand


def status(command: Command) -> CommandResult:
    return CommandResult(id=command.id, ok=True, status="running", step=7)


class Trainer:
    """Collects delivered commands; the test answers them."""

    def __init__(self) -> None:
        self.delivered: list[PendingCommand] = []
        self.arrived = threading.Condition()

    def deliver(self, pending: PendingCommand) -> None:
        with self.arrived:
            self.delivered.append(pending)
            self.arrived.notify_all()

    def wait(self, count: int) -> list[PendingCommand]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.delivered) >= count, timeout=10)
        return self.delivered


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@contextmanager
def serving(
    path: Path,
    trainer: Trainer,
    answer: Callable[[Command], CommandResult] = status,
) -> Iterator[None]:
    server = ControlServer(path, status=answer, deliver=trainer.deliver)
    server.start()
    yield
    server.retire()
    server.close()


@pytest.fixture
def path(tmp_path: Path, trainer: Trainer) -> Iterator[Path]:
    """The socket of a serving server."""
    path = tmp_path / "control.sock"
    with serving(path, trainer):
        yield path
    assert not path.exists()


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        # Without a timeout: with one, a full backlog is an error instead of a wait.
        connection.connect(str(path))
        connection.settimeout(10)
        yield connection


def read_line(connection: socket.socket) -> CommandResult:
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(65_536)
        assert part, received
        received += part
    return decode_line(received, CommandResult)


def asked(connection: socket.socket, verb: Verb = "status", *, id: str = "a") -> CommandResult:
    """The answer to a command."""
    connection.sendall(encode_line(Command(id=id, verb=verb)))
    return read_line(connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server disconnects; anything that it sends before is discarded."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        return True
    return True


def test_status_is_answered_while_the_trainer_is_busy(path: Path, trainer: Trainer) -> None:
    with connected(path) as connection:
        assert asked(connection) == CommandResult(id="a", ok=True, status="running", step=7)
    assert trainer.delivered == []


def test_a_command_is_answered_after_the_trainer_has_acted(path: Path, trainer: Trainer) -> None:
    with connected(path) as connection:
        connection.sendall(
            encode_line(Command(id="a", verb="pause"))
            + encode_line(Command(id="b", verb="evaluate"))
        )
        pause, evaluate = trainer.wait(2)
        evaluate.answer(CommandResult(id="b", ok=True))
        assert read_line(connection).id == "b"
        pause.answer(CommandResult(id="a", ok=True))
        assert read_line(connection).id == "a"


def test_a_line_in_pieces_is_one_command(path: Path, trainer: Trainer) -> None:
    line = encode_line(Command(id="a", verb="pause"))
    with connected(path) as connection:
        for start in range(0, len(line), 7):
            connection.sendall(line[start : start + 7])
        (pending,) = trainer.wait(1)
        assert pending.command == Command(id="a", verb="pause")


def test_a_client_that_closed_its_writing_side_still_gets_the_answer(
    path: Path, trainer: Trainer
) -> None:
    with connected(path) as connection:
        connection.sendall(encode_line(Command(id="a", verb="checkpoint")))
        connection.shutdown(socket.SHUT_WR)
        (pending,) = trainer.wait(1)
        pending.answer(CommandResult(id="a", ok=True, checkpoint="checkpoints/step-000000001"))
        assert read_line(connection).checkpoint == "checkpoints/step-000000001"
        assert is_closed(connection)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"hello\n", "not a valid message"),
        (b"[1, 2]\n", "not a valid message"),
        (b"\xff\xfe\x00\n", "not a valid message"),
        (b'{"id": "a", "verb": "explode"}\n', "not a valid message"),
        (b'{"id": "a", "verb": "pause", "extra": 1}\n', "not a valid message"),
        (b'{"id": "", "verb": "pause"}\n', "not a valid message"),
        (
            b'{"id": "a", "verb": "sample", "prompt": "' + b"x" * 30_000 + b'"}\n',
            "not a valid message",
        ),
        (b"x" * (MAX_REQUEST_BYTES + 10) + b"\n", "longer than 65,536 bytes"),
        (b"x" * (MAX_REQUEST_BYTES * 4), "longer than 65,536 bytes"),
    ],
)
def test_an_invalid_command_is_rejected_and_disconnected(
    path: Path, trainer: Trainer, line: bytes, problem: str
) -> None:
    with connected(path) as connection:
        try:
            connection.sendall(line)
        except ConnectionError:
            pass  # disconnected in the middle of a line that is far too long
        else:
            answer = read_line(connection)
            assert not answer.ok
            assert problem in answer.error
        assert is_closed(connection)
    assert trainer.delivered == []


def test_the_answer_to_an_unknown_verb_lists_the_known_ones(path: Path) -> None:
    with connected(path) as connection:
        connection.sendall(b'{"id": "a", "verb": "paus"}\n')
        answer = read_line(connection)
    assert (answer.id, answer.ok) == ("a", False)
    assert "'pause', 'resume'" in answer.error


def test_half_a_line_of_a_client_that_leaves_and_blank_lines_are_harmless(
    path: Path, trainer: Trainer
) -> None:
    with connected(path) as connection:
        connection.sendall(b'{"id": "a", "ve')
    with connected(path) as connection:
        connection.sendall(b"\n  \n")
        assert asked(connection, id="b").id == "b"
    assert trainer.delivered == []


def test_beyond_the_limit_the_connection_that_was_silent_longest_is_closed(path: Path) -> None:
    with ExitStack() as stack:
        silent, *others = (stack.enter_context(connected(path)) for _ in range(MAX_CONNECTIONS))
        assert all(asked(one).ok for one in others)
        assert asked(stack.enter_context(connected(path))).ok
        assert is_closed(silent)
        assert all(asked(one).ok for one in others)


def test_answers_that_wait_are_sent_before_the_server_closes(
    tmp_path: Path, trainer: Trainer
) -> None:
    server = ControlServer(tmp_path / "s", status=status, deliver=trainer.deliver)
    server.start()
    with connected(tmp_path / "s") as connection:
        connection.sendall(encode_line(Command(id="a", verb="stop")))
        (pending,) = trainer.wait(1)
        server.retire()
        pending.answer(CommandResult(id="a", ok=True, status="stopping"))
        server.close()
        assert read_line(connection).status == "stopping"
        assert is_closed(connection)


def test_a_socket_file_left_over_by_a_killed_worker_is_replaced(
    tmp_path: Path, trainer: Trainer
) -> None:
    left_over = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left_over.bind(str(tmp_path / "s"))
    left_over.close()
    with serving(tmp_path / "s", trainer), connected(tmp_path / "s") as connection:
        assert asked(connection).ok
        assert (tmp_path / "s").stat().st_mode & 0o077 == 0


def test_another_user_is_disconnected(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.worker.control.os.geteuid", lambda: 4_242)
    with serving(tmp_path / "s", trainer), connected(tmp_path / "s") as connection:
        with suppress(ConnectionError):  # already disconnected
            connection.sendall(encode_line(Command(id="a", verb="stop")))
        assert is_closed(connection)
    assert trainer.delivered == []


def test_a_request_that_raises_is_answered_and_the_next_one_handled(
    tmp_path: Path,
    trainer: Trainer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(command: Command) -> CommandResult:
        if command.id == "broken":
            raise ValueError("Cannot operate on a closed database.")
        return status(command)

    def deliver(pending: PendingCommand) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(trainer, "deliver", deliver)
    with serving(tmp_path / "s", trainer, broken), connected(tmp_path / "s") as connection:
        answer = asked(connection, id="broken")
        assert (answer.id, answer.ok, answer.error) == (
            "broken",
            False,
            "the worker could not handle status: ValueError: Cannot operate on a closed database.",
        )
        failed = asked(connection, "pause")
        assert failed.error == "the worker could not handle pause: KeyError: 'gone'"
        assert asked(connection).ok
    assert "Cannot operate on a closed database." in capfd.readouterr().err
