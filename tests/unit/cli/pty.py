"""A terminal in place of stdout and stderr, for verbs in the tests' own process."""

from __future__ import annotations

import os
import termios
from collections.abc import Callable

import pytest


def sent_to_terminal(monkeypatch: pytest.MonkeyPatch, width: int, act: Callable[[], object]) -> str:
    """What a terminal of this width is sent while `act` runs, with `\\n` for line breaks."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setattr("sys.stderr", terminal)
        act()
        print("\0", file=terminal, flush=True)
        sent = b""
        while b"\0" not in sent:
            sent += os.read(ours, 65_536)
    os.close(ours)
    return sent.partition(b"\0")[0].decode().replace("\r\n", "\n")
