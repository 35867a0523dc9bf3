"""List, filter and sort runs; only runs whose files changed are read again."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time

from rnnlm_tui.client.monitor import RunMonitor, problem_summary
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.filters import parse_filter, parse_order
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.lineage import PARENT_NAME
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.store.series import Cached
from rnnlm_tui.store.summaries import kept_summary

ENDED = frozenset({"stopped", "finished", "failed", "crashed", "draft"})
"""Statuses that depend only on the files, not on the clock."""
SETTLED_SECONDS = 2.0
"""A file changed this recently may change again with the same timestamp: its run is read again."""

Stamp = tuple[tuple[int, int, int], ...]
"""Inode, size and modification time of each file a summary is made from; zeros for a missing
file."""
Known = dict[str, tuple[Stamp, RunSummary]]
"""Summaries by run, with the stamps of their files."""


class RunList:
    """Caches the summaries of runs; call `look` from one thread.

    A summary is kept while the stamps of its run's files are the same. That of an ended run is at
    the end of its log; other runs are read with their index.

    Args:
        report: called with a run, the bytes that were read of its logs and those to read, if that
            takes long.
    """

    def __init__(self, report: Callable[[str, int, int], None] = lambda *_: None) -> None:
        self._report = report
        self.complete = True
        """Whether the last `look` read every run."""
        self._known: Known = {}
        self._monitors: dict[str, RunMonitor] = {}
        self._configs = defaultdict[str, Cached[RunConfig]](Cached)

    def look(self, patience: float = math.inf) -> list[RunSummary]:
        """The summaries of all runs, newest first; an unreadable run has the status `lost` and a
        message.

        After `patience` seconds, runs never read before are left for the next call.

        Raises:
            StorageError: the data home can't be read.
        """
        runs = list_runs()
        known: Known = {}
        new, deadline, self.complete = 0, monotonic() + patience, True
        for run in runs:
            before, stamp = self._known.get(run.name), _stamp(run)
            if before is not None and before[0] == stamp and before[1].status in ENDED:
                known[run.name] = before
                continue
            if before is None and new and monotonic() > deadline:
                self.complete = False
                continue
            new += before is None
            if (summary := self._read(run)) is not None:
                known[run.name] = (stamp if _settled(stamp) else (), summary)
        self._known = known
        for name in [name for name in self._monitors if name not in known]:
            self._monitors.pop(name).close()
        return [summary for _, summary in known.values()]

    def close(self) -> None:
        """Close the files of the runs that have not ended."""
        while self._monitors:
            self._monitors.popitem()[1].close()

    def _read(self, run: RunDirectory) -> RunSummary | None:
        """The current summary, or None if the run was renamed or deleted. A run that has not ended
        stays open, so that the next call reads only new rows."""
        monitor = self._monitors.pop(run.name, None)
        if monitor is None:
            with suppress(RnnlmError):
                if (kept := kept_summary(run)) is not None:
                    return kept
            monitor = RunMonitor(run, report=partial(self._report, run.name))
        try:
            summary = monitor.summary()
        except RnnlmError as error:
            monitor.close()
            return problem_summary(run, error) if run.path.is_dir() else None
        if summary.status in ENDED:
            monitor.close()
        else:
            self._monitors[run.name] = monitor
        return summary

    def configs(self, names: Iterable[str]) -> dict[str, RunConfig]:
        """The configs of these runs by name, read again only if changed; missing and unreadable
        ones are left out."""
        found = {}
        for name in names:
            run = RunDirectory(runs_dir() / name)
            with suppress(RnnlmError):
                stamp = _stat(f"{run.path}/config.toml")
                found[name] = self._configs[name].of(stamp, run.read_config)
        return found


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs that match a filter."""

    runs: tuple[RunSummary, ...]
    known: int
    """Number of all runs."""
    configs: Mapping[str, RunConfig] = field(default_factory=dict)
    """Of these runs by name, if they were asked for."""


def listed_runs(
    wanted: str = "", order: str = "", *, reverse: bool = False, with_configs: bool = False
) -> Listing:
    """The runs that match a filter, pinned ones first, by default newest first.

    Args:
        wanted: a filter for `parse_filter`.
        order: an order for `parse_order`.
        with_configs: read the configs of all runs.

    Raises:
        InputError: the filter or the order is invalid.
        StorageError: the data home can't be read.
    """
    filtered, sorting = parse_filter(wanted), parse_order(order) if order else None
    known = RunList()
    try:
        summaries = known.look()
    finally:
        known.close()
    needs_config = (
        with_configs or filtered.needs_config or (sorting is not None and sorting.needs_config)
    )
    configs = known.configs(run.run for run in summaries) if needs_config else {}
    runs = [(run, configs.get(run.run)) for run in summaries]
    runs = [run for run in runs if filtered.matches(*run)]
    if sorting is not None:
        runs = sorting.turned().sorted(runs) if reverse else sorting.sorted(runs)
    elif reverse:
        runs.reverse()
    pinned_first = sorted((run for run, _ in runs), key=lambda run: not run.pinned)
    return Listing(tuple(pinned_first), len(summaries), configs)


_FILES = (
    "config.toml", "worker.lock", "worker.log", "labels.json", "checkpoints", PARENT_NAME, "log",
)  # fmt: skip
"""What a summary is made from in a run's folder, beside its logs; pins are in `checkpoints`."""


def _stamp(run: RunDirectory) -> Stamp:
    """Changes with every row, new worker, config, label and pin."""
    folder = os.fspath(run.path)
    logs: list[str] = []
    with suppress(OSError):
        logs = sorted(os.listdir(f"{folder}/log"))  # noqa: PTH208 (as below)
    return tuple(_stat(f"{folder}/{name}") for name in (*_FILES, *(f"log/{log}" for log in logs)))


def _stat(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 (thousands per `look`: a Path doubles the cost)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _settled(stamp: Stamp) -> bool:
    newest = max((changed for _, _, changed in stamp), default=0)
    return time() - newest / 1e9 > SETTLED_SECONDS
