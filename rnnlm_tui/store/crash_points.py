"""Places in the code where a test may break the process: killed, out of disk, or by an error of the disk. Outside of tests they do nothing."""

from __future__ import annotations

import errno
import os
import signal

CRASH_VARIABLE = "RNNLM_TUI_CRASH_POINT"
"""`<point>:<action>` or `<point>:<action>:<n>`, which acts at the n-th time only (from 1; without it each time). Heeded only where pytest runs or ran the process's parent."""
ACTIONS = ("kill", "raise", "ENOSPC", "EIO")
CHECKPOINT_POINTS = (
    "files.before", "files.inside", "files.after", "fsync.inside", "fsync.after", "manifest.json.inside", "manifest.after", "rename.before", "rename.aside",
    "rename.after", "index.before", "index.inside", "index.after", "prune.index", "prune.before", "prune.inside", "prune.after",
)  # fmt: skip
"""The points on a checkpoint's way, in order: its files, their way to the disk, the manifest, the name (`aside`: that of an older one of the same step),
the row in the index, and the removal of what retention gives up."""
_TEST_VARIABLE = "PYTEST_CURRENT_TEST"


def crash_point(point: str) -> None:
    """Break here where a test asks for it.

    Raises:
        OSError: `ENOSPC` or `EIO`, as a disk would.
        RuntimeError: `raise`.
    """
    wanted = os.environ.get(CRASH_VARIABLE)
    if wanted is None or _TEST_VARIABLE not in os.environ:
        return
    place, action, *times = wanted.split(":")
    if place != point:
        return
    if times and int(times[0]) > 1:
        os.environ[CRASH_VARIABLE] = f"{place}:{action}:{int(times[0]) - 1}"
        return
    if times:
        del os.environ[CRASH_VARIABLE]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise RuntimeError(f"broken at {point}, as a test asked")
    code = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}[action]
    raise OSError(code, os.strerror(code))
