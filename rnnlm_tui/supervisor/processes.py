"""Start child processes with the same interpreter and package, and end them with their parent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import rnnlm_tui

PARENT = "RNNLM_TUI_PARENT"
"""Environment variable: pid of the process that a child must not outlive."""
_PR_SET_PDEATHSIG = 1


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs one of our modules; -P: modules in the current folder don't shadow libraries."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: ours, `settings` as defaults, and this package first on the path."""
    child = dict(os.environ)
    for name, value in settings.items():
        child.setdefault(name, value)
    root = str(Path(rnnlm_tui.__file__).parent.parent)
    if Path(root).name not in ("site-packages", "dist-packages"):  # a checkout: the child must import the same one
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [root, child.get("PYTHONPATH", "")]))
    return child


def dependent_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that calls `end_with_parent`."""
    return {**child_environment(settings), PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Let Linux kill this process when the thread that started it ends, even by `kill -9`.

    Does nothing without `dependent_environment`. On other systems a child notices the end of its stdin.
    Call it first, before slow imports. It doesn't affect this process's own children.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent.isdigit() or sys.platform != "linux":
        return
    import ctypes  # imported late: few processes need it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # the parent ended before the call
        os._exit(128 + signal.SIGKILL)


def last_lines(path: Path, count: int, *, max_bytes: int = 65_536) -> tuple[str, ...]:
    """The last lines of a text file; empty if it can't be read. Invalid UTF-8 is replaced."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-count:]) if count > 0 else ()
