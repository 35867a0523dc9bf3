"""Break a process at a chosen point while it writes a checkpoint or rebuilds a database.

The product knows nothing of this: a point is a call of the standard library or of one function of
ours, wrapped in the process under test. Forks call `install`; processes that are started afresh
load it through `crashing/sitecustomize.py` (see `crash_environment`).
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASH_VARIABLE = "RNNLM_TUI_CRASH_POINT"
"""Environment variable with the argument of `install`."""


def crash_environment(wanted: str) -> dict[str, str]:
    """Environment variables that make a Python process call `install(wanted)` at its start."""
    folder = str(Path(__file__).parent / "crashing")
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    return {CRASH_VARIABLE: wanted, "PYTHONPATH": path}


def install(wanted: str) -> None:
    """Break this process when it reaches a point.

    Args:
        wanted: `point:action` or `point:action:n`, which acts at the n-th time only (from 1).
    """
    point, action, *times = wanted.split(":")
    crash = _Crash(point, action, int(times[0]) if times else None)
    if point in _STATEMENTS:
        _install_in_database(point, crash)
        return
    call = _CALLS[point]
    module = importlib.import_module(call.module)
    original: Callable[..., Any] = getattr(module, call.function)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        reached = call.matches(*arguments, **named)
        if reached and call.before:
            crash()
        result = original(*arguments, **named)
        if reached and not call.before:
            crash()
        return result

    setattr(module, call.function, wrapped)


class _Crash:
    def __init__(self, point: str, action: str, time: int | None) -> None:
        self._point, self._action, self._time = point, action, time
        self._seen = 0

    def __call__(self) -> None:
        self._seen += 1
        if self._time not in (None, self._seen):
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._action == "lost":
            import torch

            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
        if self._action == "raise":
            raise RuntimeError(f"broken at {self._point}, as a test asked")
        code = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}[self._action]
        raise OSError(code, os.strerror(code))


@dataclass(frozen=True)
class _Call:
    """A call to wrap: the crash comes before it or after it."""

    module: str
    function: str
    before: bool
    matches: Callable[..., bool] = lambda *_, **__: True


def _open_file(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _is_unfinished(folder: Path) -> bool:
    """Whether this is a checkpoint's folder before its rename."""
    return folder.name.startswith(".tmp-step-")


def _is_checkpoint_file(descriptor: int) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and not path.name.startswith(".tmp-")


def _is_tensor_file(descriptor: int, *_: object) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and path.suffix == ".safetensors"


def _is_manifest(descriptor: int) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and path.name.endswith("-manifest.json")


def _moves(source: str = "", target: str = "") -> Callable[[Path, Path], bool]:
    """Match a rename by the beginnings of both names."""
    return lambda old, new: Path(old).name.startswith(source) and Path(new).name.startswith(target)


_CALLS = {
    "files.before": _Call("os", "mkdir", False, lambda path, *_: _is_unfinished(Path(path))),
    "copy.before": _Call("rnnlm_tui.worker.checkpointing", "BackgroundWriter", True),
    "copy.after": _Call("rnnlm_tui.worker.checkpointing", "BackgroundWriter", False),
    "tensors.inside": _Call("os", "write", True, _is_tensor_file),
    "files.inside": _Call("rnnlm_tui.worker.checkpointing", "training_state_files", True),
    "files.after": _Call("rnnlm_tui.store.checkpoints", "seal", True),
    "fsync.inside": _Call("os", "fsync", False, _is_checkpoint_file),
    "fsync.after": _Call(
        "tempfile", "mkstemp", True, lambda *, dir, **_: _is_unfinished(Path(dir))
    ),
    "manifest.json.inside": _Call("os", "fsync", True, _is_manifest),
    "manifest.after": _Call(
        "os", "replace", False, lambda _, new: _is_unfinished(Path(new).parent)
    ),
    "rename.before": _Call("os", "rename", True, _moves(".tmp-step-")),
    "rename.aside": _Call("os", "rename", False, _moves(target=".old-step-")),
    "rename.after": _Call("os", "rename", False, _moves(".tmp-step-")),
    "prune.before": _Call("os", "rename", True, _moves(target=".tmp-removed-")),
    "prune.inside": _Call("os", "rename", False, _moves(target=".tmp-removed-")),
    "prune.after": _Call(
        "shutil",
        "rmtree",
        False,
        lambda path, *_, **__: Path(path).name.startswith(".tmp-removed-"),
    ),
    "rebuild.inside": _Call(
        "os", "fsync", True, lambda file: _open_file(file).name.startswith(".tmp-run.db-")
    ),
    "rebuild.written": _Call("os", "rename", False, _moves(target="run.db.rebuilt")),
    "rebuild.aside": _Call("os", "rename", False, _moves("run.db", "run.db.damaged-")),
    "queue.unwritten": _Call("os", "replace", True, _moves(target="queue.json")),
    "queue.written": _Call("os", "replace", False, _moves(target="queue.json")),
    "step.update": _Call("rnnlm_tui.engine.step", "update_when_finite", True),
    "evaluation.inside": _Call("rnnlm_tui.worker.evaluation", "evaluate", True),
    "sample.inside": _Call("rnnlm_tui.worker.evaluation", "continue_prompt", True),
    "worker.spawned": _Call(
        "subprocess", "Popen", False, lambda command, **_: "rnnlm_tui.worker.train" in command
    ),
}

_STATEMENTS = {
    "index.before": "INSERT OR REPLACE INTO checkpoints",
    "index.inside": "INSERT OR REPLACE INTO checkpoints",
    "index.after": "INSERT OR REPLACE INTO checkpoints",
    "prune.index": "DELETE FROM checkpoints WHERE step =",
}
"""Points in the database, by the statement that they are before, after or one commit after."""

CHECKPOINT_POINTS = tuple(
    point
    for point in (*_CALLS, *_STATEMENTS)
    if not point.startswith(("rebuild", "queue", "worker", "step", "evaluation", "sample"))
)
"""The points on a checkpoint's way: the copy, before and after its thread starts, its files, their
way to the disk, the manifest, the name (`aside`: that of an older one of the same step), the row in
the index, and the removal of old ones.
"""


def _install_in_database(point: str, crash: _Crash) -> None:
    connect, statement = sqlite3.connect, _STATEMENTS[point]

    class Connection(sqlite3.Connection):
        written = False

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            reached = sql.startswith(statement)
            if reached and point == "index.before":
                crash()
            cursor = super().execute(sql, parameters)
            if (reached and point in ("index.inside", "prune.index")) or (
                self.written and sql == "COMMIT" and point == "index.after"
            ):
                self.written = False
                crash()
            self.written = self.written or reached
            return cursor

    def wrapped(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, **named, factory=Connection)

    setattr(sqlite3, "connect", wrapped)  # noqa: B010 (an assignment would have to match every overload)
