"""The app on a real pseudo-terminal: what reaches the screen, what an idle app sends, and that it leaves when the terminal does."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pyte
import pytest

DEADLINE = 60.0
"""Seconds that a slow machine may take for anything here."""

PROGRAM = """
import sys
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.fakes import FakeServices, make_snapshot
snapshot = make_snapshot(sys.argv[1], 4_754 if sys.argv[1] == "finished" else 3_751)
services = FakeServices(runs=[snapshot.summary], snapshots={"plain-otter": snapshot})
app = RnnlmApp(services.run("plain-otter"), "train", services=services)
sys.exit(app.run())
"""


class Terminal:
    """A pseudo-terminal with the app on it."""

    def __init__(self, status: str, size: tuple[int, int], environment: dict[str, str]) -> None:
        self.received = b""
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM, status], environment)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def read(self, seconds: float) -> bytes:
        """What comes within so long."""
        came, end = b"", monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            try:
                part = os.read(self._fd, 65_536)
            except OSError as error:
                if error.errno != errno.EIO:  # the other side is gone
                    raise
                break
            if not part:
                break
            came += part
            self._stream.feed(part)
        self.received += came
        return came

    def read_until(self, text: str) -> None:
        """Read until the text stands on the screen."""
        end = monotonic() + DEADLINE
        while text not in "\n".join(self.screen.display):
            assert monotonic() < end, "\n".join(self.screen.display)
            self.read(0.1)

    def read_until_quiet(self) -> None:
        """Read until nothing has come for a second."""
        end = monotonic() + DEADLINE
        while self.read(1.0):
            assert monotonic() < end, "the app never stops sending"

    def write(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def hang_up(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def exit_code(self) -> int:
        """Of the app, which must have a reason to leave."""
        end = monotonic() + DEADLINE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert monotonic() < end, "the app does not leave"
            if self._fd >= 0:
                self.read(0.05)
            else:
                select.select([], [], [], 0.05)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._fd >= 0:
            os.close(self._fd)


@contextmanager
def terminal(status: str = "finished", size: tuple[int, int] = (80, 24), changes: dict[str, str] | None = None) -> Iterator[Terminal]:
    environment = {name: value for name, value in os.environ.items() if name not in ("COLORTERM", "NO_COLOR")}
    opened = Terminal(status, size, {**environment, "TERM": "xterm-256color", **(changes or {})})
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_first_paint_is_small_and_an_idle_app_sends_nothing(size: tuple[int, int]) -> None:
    with terminal(size=size) as opened:
        opened.read_until("plain-otter ✓ finished")
        opened.read_until_quiet()
        assert len(opened.received) < 45_000
        assert opened.read(3.0) == b""


def test_a_key_sends_only_the_cells_that_it_changes() -> None:
    with terminal() as opened:
        opened.read_until("Perplexity, log")
        opened.read_until_quiet()
        opened.write(b"\t")
        opened.read_until_quiet()
        before = len(opened.received)
        opened.write(b"\t")
        came = opened.read(1.0)
        assert 0 < len(came) < 4_000
        assert len(opened.received) == before + len(came)


def test_the_screen_is_the_same_after_narrow_updates_as_after_a_whole_repaint() -> None:
    with terminal("running") as opened:
        opened.read_until("Perplexity, log")
        opened.write(b"x")
        opened.read_until("tokens ─╯")
        opened.write(b"xxx")
        opened.read_until("step ─╯")
        opened.read_until_quiet()
        narrow = list(opened.screen.display)
        opened.write(b"?")
        opened.read_until("Keys: Train")
        opened.write(b"q")
        opened.read_until("tok/s")
        opened.read_until_quiet()
        assert list(opened.screen.display) == narrow


def test_q_leaves_a_terminal_as_it_was() -> None:
    with terminal() as opened:
        opened.read_until("plain-otter ✓ finished")
        opened.write(b"q")
        assert opened.exit_code() == 0
        assert b"\x1b[?1049l" in opened.received
        assert b"\x1b[?25h" in opened.received


def test_hanging_up_ends_the_app() -> None:
    with terminal("running") as opened:
        opened.read_until("plain-otter ● running")
        os.kill(opened.pid, signal.SIGHUP)
        assert opened.exit_code() == 0


def test_closing_the_terminal_ends_the_app() -> None:
    with terminal("running") as opened:
        opened.read_until("plain-otter ● running")
        opened.hang_up()
        opened.exit_code()


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "linux"}, {"TERM": "screen"}, {"LANG": "C", "LC_ALL": "C"}], ids=str)
def test_every_terminal_gets_a_picture(changes: dict[str, str]) -> None:
    with terminal("running", changes=changes) as opened:
        opened.read_until("tok/s")
        opened.write(b"q")
        opened.read_until("Leave rnnlm-tui?")
        opened.write(b"\r")
        assert opened.exit_code() == 0
