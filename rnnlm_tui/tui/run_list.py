"""The list of runs, read again only where something can have changed: a run that ended costs a few `stat` calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.contract.status import RunSummary

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

ENDED = frozenset({"stopped", "finished", "failed", "crashed", "draft"})
"""Statuses that only a change on disk can end; all others depend on the clock."""

Stamp = tuple[tuple[int, int], ...]
"""Size and time of each file that tells of a run."""


class RunList:
    """Remembers what was read; from one thread."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, RunSummary]] = {}

    def look(self) -> list[RunSummary]:
        """All runs in figures, newest first; a run that can't be read has the status `lost` and says why."""
        from rnnlm_tui.store.runs import list_runs
        from rnnlm_tui.supervisor.monitor import summary_or_problem

        known: dict[Path, tuple[Stamp, RunSummary]] = {}
        for run in list_runs():
            stamp = stamp_of(run)
            before = self._known.get(run.path)
            if before is not None and before[0] == stamp and before[1].status in ENDED:
                known[run.path] = before
            else:
                known[run.path] = (stamp, summary_or_problem(run))
        self._known = known
        return [summary for _, summary in known.values()]


def stamp_of(run: RunDirectory) -> Stamp:
    """Changes with every commit, every new worker and every new config."""
    database = run.database_path
    return tuple(_stat(path) for path in (run.config_path, database, database.with_name(f"{database.name}-wal"), run.lock_path))


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns) if found.st_size else (0, 0)  # reading a database leaves an empty -wal beside it
