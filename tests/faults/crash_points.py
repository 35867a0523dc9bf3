"""Break a process at a chosen point while it writes a checkpoint or a log.

The product knows nothing of this: a point is a call of the standard library or of one function of
ours, wrapped in the process under test. Forks call `install`; processes that are started afresh
load it through `crashing/sitecustomize.py` (see `crash_environment`).
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnlm_tui.system.locks import REPLACED, STAGING_NAME

CRASH_VARIABLE = "RNNLM_TESTS_CRASH_POINT"
"""Environment variable with the argument of `install`."""
SLOW_SECONDS = 0.3
"""What the action `slow` waits."""


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
    call = _CALLS[point]
    module = importlib.import_module(call.module)
    original: Callable[..., Any] = getattr(module, call.function)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        reached = call.matches(*arguments, **named)
        if reached and point in HALF_WRITTEN and crash.is_next:
            descriptor, data = arguments
            original(descriptor, data[: len(data) // 2])
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

    @property
    def is_next(self) -> bool:
        """The next call acts."""
        return self._time in (None, self._seen + 1)

    def __call__(self) -> None:
        acts = self.is_next
        self._seen += 1
        if not acts:
            return
        if self._action == "slow":
            time.sleep(SLOW_SECONDS)
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._action == "lost":
            import torch

            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
        if self._action == "raise":
            raise RuntimeError(f"broken at {self._point}, as a test asked")
        code = getattr(errno, self._action)
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
    staged = STAGING_NAME.fullmatch(folder.parent.name) is not None
    return staged and folder.name.startswith("step-")


def _is_checkpoint_file(descriptor: int) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and not path.name.startswith(".tmp-")


def _is_tensor_file(descriptor: int, *_: object) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and path.suffix == ".safetensors"


def _is_log(descriptor: int) -> bool:
    path = _open_file(descriptor)
    return path.parent.name == "log" and path.suffix == ".jsonl"


def _has(kind: str) -> Callable[[int, bytes], bool]:
    """Match what is written to a log by the kind of its lines."""
    return lambda _, content: f'{{"kind":"{kind}",'.encode() in content


def _is_manifest(descriptor: int) -> bool:
    path = _open_file(descriptor)
    return _is_unfinished(path.parent) and path.name.endswith("-manifest.json")


def _moves(target: str) -> Callable[[Path, Path], bool]:
    """Match a rename by the beginning of the new name."""
    return lambda _, new: Path(new).name.startswith(target)


_CALLS = {
    "files.before": _Call("os", "mkdir", False, lambda path, *_: _is_unfinished(Path(path))),
    "copy.before": _Call("rnnlm_tui.worker.checkpointing", "in_a_thread", True),
    "copy.after": _Call("rnnlm_tui.worker.checkpointing", "in_a_thread", False),
    "tensors.inside": _Call("os", "write", True, _is_tensor_file),
    "files.inside": _Call("rnnlm_tui.worker.checkpointing", "write_training_state", True),
    "files.after": _Call("rnnlm_tui.store.checkpoints", "seal", True),
    "fsync.inside": _Call("os", "fsync", False, _is_checkpoint_file),
    "fsync.after": _Call(
        "tempfile", "mkstemp", True, lambda *, dir, **_: _is_unfinished(Path(dir))
    ),
    "manifest.json.inside": _Call("os", "fsync", True, _is_manifest),
    "manifest.after": _Call(
        "os", "replace", False, lambda _, new: _is_unfinished(Path(new).parent)
    ),
    "rename.before": _Call("os", "rename", True, lambda old, _: _is_unfinished(Path(old))),
    "rename.aside": _Call("os", "rename", False, lambda _, new: Path(new).parent.name == REPLACED),
    "rename.after": _Call("os", "rename", False, lambda old, _: _is_unfinished(Path(old))),
    "prune.before": _Call("os", "rename", True, _moves(".tmp-removed-")),
    "prune.inside": _Call("os", "rename", False, _moves(".tmp-removed-")),
    "prune.after": _Call(
        "shutil",
        "rmtree",
        False,
        lambda path, *_, **__: Path(path).name.startswith(".tmp-removed-"),
    ),
    "begin.inside": _Call("rnnlm_tui.store.log", "write_whole", True, _has("attempt")),
    "append.before": _Call("rnnlm_tui.store.log", "write_whole", True, _has("step")),
    "append.inside": _Call("rnnlm_tui.store.log", "write_whole", True, _has("step")),
    "append.after": _Call("rnnlm_tui.store.log", "write_whole", False, _has("step")),
    "sync.before": _Call("os", "fsync", True, _is_log),
    "sync.after": _Call("os", "fsync", False, _is_log),
    "queue.unwritten": _Call("os", "replace", True, _moves("queue.json")),
    "queue.written": _Call("os", "replace", False, _moves("queue.json")),
    "step.update": _Call("rnnlm_tui.engine.step", "update_when_finite", True),
    "evaluation.inside": _Call("rnnlm_tui.worker.evaluation", "evaluate", True),
    "sample.inside": _Call("rnnlm_tui.worker.evaluation", "continue_prompt", True),
    "worker.spawned": _Call(
        "subprocess", "Popen", False, lambda command, **_: "rnnlm_tui.worker.train" in command
    ),
}

CHECKPOINT_POINTS = tuple(
    point
    for point in _CALLS
    if point.partition(".")[0]
    in ("copy", "files", "tensors", "fsync", "manifest", "rename", "prune")
)
"""The points on a checkpoint's way: the copy, before and after its thread starts, its files, their
way to the disk, the manifest, the name (`aside`: that of an older one of the same step), and the
removal of old ones."""
LOG_POINTS = tuple(point for point in _CALLS if point.startswith(("append", "sync")))
"""The points on a step's way into the log, and of the log onto the disk."""
HALF_WRITTEN = ("begin.inside", "append.inside")
"""Points at which half of what is written has arrived."""
