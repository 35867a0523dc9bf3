"""How every process of ours is started: the same interpreter, the same package, a quiet environment; and how it ends with whoever started it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import rnnlm_tui

PARENT = "RNNLM_TUI_PARENT"
"""Environment variable: the pid of the process that a child must not outlive."""
_PR_SET_PDEATHSIG = 1


def python_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of ours; -P keeps files of the current folder from standing in for libraries."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours, with `settings` where the user has not set them, and this very package first to be found."""
    child = dict(os.environ)
    for name, value in settings.items():
        child.setdefault(name, value)
    root = str(Path(rnnlm_tui.__file__).parent.parent)
    if Path(root).name not in ("site-packages", "dist-packages"):  # run from a checkout: the child must find the same one
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [root, child.get("PYTHONPATH", "")]))
    return child


def dependent_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that has no use without us: its `end_with_parent` knows whom to watch."""
    return {**child_environment(settings), PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Have Linux kill this process when the thread that started it ends, with `kill -9` too; nothing where nobody of ours started it.

    Elsewhere, and beside it, the end of stdin tells a child that it is alone. To be called first thing, before a library is imported
    that would not listen to stdin for seconds. The children that this process starts are not bound by it.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent.isdigit() or sys.platform != "linux":
        return
    import ctypes  # only here: few processes need it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # it went before we asked
        os._exit(128 + signal.SIGKILL)


def last_lines(path: Path, count: int, *, max_bytes: int = 65_536) -> tuple[str, ...]:
    """The last lines of a text file; none where it isn't there. What is not UTF-8 is replaced."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-count:]) if count > 0 else ()
