"""A terminal for tests and pictures: runs a program on a pty and emulates its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

_KEYBOARD_PROTOCOL = re.compile(rb"\x1b\[[<>=?][0-9;]*u")
"""Kitty's keyboard protocol, which the emulator would print as a letter."""
_UNFINISHED = re.compile(rb"\x1b(\[[0-9;<>=?]*)?\Z")


class Screen(pyte.Screen):
    """A screen that joins only the rows that have changed since it was looked at."""

    def __init__(self, columns: int, lines: int) -> None:
        self._rows: list[str] = []
        super().__init__(columns, lines)

    @property
    def display(self) -> list[str]:
        self._rows = [*self._rows, *[""] * self.lines][: self.lines]
        for y in self.dirty.intersection(range(self.lines)):
            row = self.buffer[y]
            self._rows[y] = "".join([row[x].data for x in range(self.columns)])
        self.dirty.clear()
        return list(self._rows)


class Terminal:
    """Run a program on a pseudo-terminal and emulate its screen."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.columns, self.rows = columns, rows
        self.screen = Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._held = b""
        self.received = 0
        """Number of bytes that the program wrote."""
        self.raw = bytearray()
        """The bytes."""
        self.arrivals: list[tuple[float, int]] = []
        """Monotonic times at which bytes arrived, and how many."""
        self.exit_code: int | None = None
        """The exit code once the program has ended, or minus the signal."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COLORTERM", "NO_COLOR", "TMUX", "COLUMNS", "LINES")
        }
        variables = {
            **kept,
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), variables)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """The screen's rows, joined by newlines."""
        return "\n".join(self.screen.display)

    def send(self, keys: str) -> None:
        """Send keys."""
        os.write(self.descriptor, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Resize, as when a window is dragged."""
        self.columns, self.rows = columns, rows
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def alive(self) -> bool:
        """Whether the program is running."""
        return not self._ended()

    def ready(self, seconds: float) -> bool:
        """Whether output arrives within `seconds`."""
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def read(self, seconds: float, most: int = 65_536) -> bool:
        """Read at most `most` bytes that arrive within `seconds`; False if none did."""
        if not self.ready(seconds):
            return False
        try:
            data = os.read(self.descriptor, most)
        except OSError:
            data = b""
        self.arrivals.append((time.monotonic(), len(data)))
        self.received += len(data)
        self.raw += data
        whole = self._held + data
        cut = _UNFINISHED.search(whole)
        self._held = whole[cut.start() :] if cut else b""
        self._stream.feed(_KEYBOARD_PROTOCOL.sub(b"", whole[: len(whole) - len(self._held)]))
        return bool(data)

    def wait_for(self, condition: str | Callable[[], bool], seconds: float = 30.0) -> None:
        """Read until the text is on the screen or the condition holds.

        An AssertionError with the screen after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not (condition in self.text if isinstance(condition, str) else condition()):
            assert time.monotonic() < deadline, f"not shown: {condition}\n{self.text}"
            if not self.read(0.05) and self._ended():
                assert condition in self.text if isinstance(condition, str) else condition(), (
                    f"ended with {self.exit_code} before {condition}\n{self.text}"
                )

    def wait(self, seconds: float = 30.0) -> int:
        """Read until the program ends; its exit code."""
        self.wait_for(self._ended, seconds)
        assert self.exit_code is not None
        return self.exit_code

    def close(self) -> None:
        """Hang up, as a closed window does."""
        if not self._ended():
            os.kill(self.pid, signal.SIGHUP)
            deadline = time.monotonic() + 5
            while not self._ended():
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                self.read(0.05)
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _ended(self) -> bool:
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None
