"""A recorder for a test's own database, whose run is not locked."""

from __future__ import annotations

from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.worker.recorder import MAX_KEPT_ROWS, Recorder


def recorder_of(database: RunDatabase, *, max_kept: int = MAX_KEPT_ROWS) -> Recorder:
    """The recorder that a worker would use."""
    run = RunDirectory(database.path.parent)
    return Recorder(run, RunLock(run.lock_path), database, max_kept=max_kept)
