"""The list of runs, read again only where something can have changed: a run that ended costs a few `stat` calls."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from rnnlm_tui.contract.summary import RunSummary

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunMonitor

ENDED = frozenset({"stopped", "finished", "failed", "crashed", "draft"})
"""Statuses that only a change on disk can end; all others depend on the clock."""

Stamp = tuple[tuple[int, int], ...]
"""Size and time of each file that tells of a run."""


class RunList:
    """Remembers what was read; `look` from one thread."""

    def __init__(self) -> None:
        self.complete = True
        """Whether the last look read every run."""
        self._known: dict[Path, tuple[Stamp, RunSummary]] = {}
        self._monitors: dict[Path, RunMonitor] = {}
        self._configs: dict[str, tuple[tuple[int, int], RunConfig]] = {}

    def look(self, patience: float = math.inf) -> list[RunSummary]:
        """All runs in figures, newest first; a run that can't be read has the status `lost` and says why. After `patience` seconds those that no look has read yet are left for the next one."""
        from rnnlm_tui.store.runs import list_runs

        known: dict[Path, tuple[Stamp, RunSummary]] = {}
        new, deadline, self.complete = 0, monotonic() + patience, True
        for run in list_runs():
            before = self._known.get(run.path)
            if before is None and new and monotonic() > deadline:
                self.complete = False
                continue
            new += before is None
            stamp = stamp_of(run)
            if before is not None and before[0] == stamp and before[1].status in ENDED:
                known[run.path] = before
            else:
                known[run.path] = (stamp, self._read(run))
        self._known = known
        for path in [path for path in self._monitors if path not in known]:
            self._monitors.pop(path).close()
        return [summary for _, summary in known.values()]

    def _read(self, run: RunDirectory) -> RunSummary:
        """The run as it is now; the file of one that goes on stays open, so that the next look reads only what is new."""
        from rnnlm_tui.errors import RnnlmError
        from rnnlm_tui.supervisor.monitor import RunMonitor, problem_summary

        monitor = self._monitors.pop(run.path, None) or RunMonitor(run)
        try:
            summary = monitor.summary()
        except RnnlmError as error:
            monitor.close()
            return problem_summary(run, error)
        if summary.status in ENDED:
            monitor.close()
        else:
            self._monitors[run.path] = monitor
        return summary

    def configs(self, names: Iterable[str]) -> dict[str, RunConfig]:
        """The configs of these runs by name, each read once; a run that is gone, or whose config can't be read, is left out."""
        from rnnlm_tui.errors import RnnlmError
        from rnnlm_tui.store.locations import runs_dir
        from rnnlm_tui.store.run_directory import RunDirectory

        found = {}
        for name in names:
            run = RunDirectory(runs_dir() / name)
            stamp = _stat(run.config_path)
            known = self._configs.get(name)
            try:
                found[name] = known[1] if known is not None and known[0] == stamp else run.read_config()
            except RnnlmError:
                continue
            self._configs[name] = (stamp, found[name])
        return found


def stamp_of(run: RunDirectory) -> Stamp:
    """Changes with every commit, every new worker and every new config."""
    from rnnlm_tui.store.labels import labels_path

    database = run.database_path
    return tuple(_stat(path) for path in (run.config_path, database, database.with_name(f"{database.name}-wal"), run.lock_path, labels_path(run)))


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns) if found.st_size else (0, 0)  # reading a database leaves an empty -wal beside it
