"""List, filter and sort runs; only runs whose files changed are read again."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any

from pydantic_core import ValidationError

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.filters import ConfigOf, in_order, parse_filter, parse_order
from rnnlm_tui.schema.metrics import SUMMARY_VERSION, SummaryRow
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.log import decode
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER
from rnnlm_tui.store.paths import PARENT_NAME, RunDirectory, listed_run, runs_dir
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.files import Stamp, entries_named, stamp, storage_errors
from rnnlm_tui.system.locks import read_lock

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunMonitor
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.store.series import Cached

ENDED = frozenset({"stopped", "finished", "failed", "crashed", "draft"})
"""Statuses that depend only on the files, not on the clock."""
SETTLED_SECONDS = 2.0
"""A file changed this recently may change again with the same timestamp: its run is read again."""
LAST_BYTES = 2**16
"""The summary is within the last bytes of a log."""

Files = dict[str, Stamp]
"""The stamps of a run's files; empty if one of them was changed just now."""
Known = dict[str, tuple[Files, RunSummary]]
"""Summaries by run."""


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
        self._configs: dict[str, Cached[RunConfig]] = {}

    def look(self, patience: float = math.inf) -> list[RunSummary]:
        """The summaries of all runs, newest first; an unreadable run has the status `lost` and a
        message.

        After `patience` seconds, runs never read before are left for the next call.

        Raises:
            StorageError: the data home can't be read.
        """
        runs = list_runs()
        known: Known = {}
        new, deadline, goes_on = 0, monotonic() + patience, not self.complete
        self.complete = True
        for run in runs:
            before = self._known.get(run.name)
            files = before[0] if before is not None and goes_on else stamps(run)
            if before is not None and before[0] == files and before[1].status in ENDED:
                known[run.name] = before
                continue
            if before is None and new and monotonic() > deadline:
                self.complete = False
                continue
            new += before is None
            if (summary := self._read(run, files)) is not None:
                known[run.name] = (files if _settled(files) else {}, summary)
        self._known = known
        for name in [name for name in self._monitors if name not in known]:
            self._monitors.pop(name).close()
        return [summary for _, summary in known.values()]

    def close(self) -> None:
        """Close the files of the runs that have not ended."""
        while self._monitors:
            self._monitors.popitem()[1].close()

    def _read(self, run: RunDirectory, files: Files) -> RunSummary | None:
        """The current summary, or None if the run was renamed or deleted. A run that has not ended
        stays open, so that the next call reads only new rows."""
        monitor = self._monitors.pop(run.name, None)
        if monitor is None:
            with suppress(RnnlmError):
                if (kept := kept_summary(run, files)) is not None:
                    return kept
        # imported late: ended runs need no reader
        from rnnlm_tui.client.monitor import RunMonitor, problem_summary

        monitor = monitor or RunMonitor(run, report=partial(self._report, run.name))
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
        from rnnlm_tui.store.series import Cached

        found = {}
        for name in names:
            run = RunDirectory(runs_dir() / name)
            with suppress(RnnlmError):
                known = self._configs.setdefault(name, Cached())
                found[name] = known.of(stamp(run.config_path), run.read_config)
        return found


def with_jobs(summaries: list[RunSummary]) -> list[RunSummary]:
    """The summaries, with what Slurm says of those that have a job; asks it once, and waits."""
    if not any(listed_run(run.run).has_job for run in summaries):
        return summaries
    from rnnlm_tui.client.slurm import Jobs  # imported late: few runs have a job

    return Jobs().ask(summaries)


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs that match a filter."""

    runs: tuple[RunSummary, ...]
    known: int
    """Number of all runs."""
    config_of: ConfigOf
    """Reads a run's config."""


def listed_runs(wanted: str = "", order: str = "", *, reverse: bool = False) -> Listing:
    """The runs that match a filter, pinned ones first, by default newest first.

    Args:
        wanted: a filter for `parse_filter`.
        order: an order for `parse_order`.

    Raises:
        InputError: the filter or the order is invalid.
        StorageError: the data home can't be read.
    """
    matches, sorting = parse_filter(wanted), parse_order(order) if order else None
    known = RunList()
    try:
        summaries = known.look()
        if any(run.status in ("stalled", "lost") for run in summaries):
            from rnnlm_tui.client.monitor import SECOND_LOOK_SECONDS, may_differ_in_time

            if any(map(may_differ_in_time, summaries)):
                sleep(SECOND_LOOK_SECONDS)
                summaries = known.look()
    finally:
        known.close()
    summaries = with_jobs(summaries)

    def config_of(run: str) -> RunConfig | None:
        return known.configs([run]).get(run)

    runs = [run for run in summaries if matches(run, config_of)]
    if sorting is not None:
        key, descending = sorting
        runs = in_order(
            runs, lambda run: key.read(run, config_of), descending=descending != reverse
        )
    elif reverse:
        runs.reverse()
    pinned_first = sorted(runs, key=lambda run: not run.pinned)
    return Listing(tuple(pinned_first), len(summaries), config_of)


_SOURCES = (
    "config.toml", "worker.lock", "worker.log", "labels.json", "checkpoints", PARENT_NAME, "log",
)  # fmt: skip
"""What a summary is made from in a run's folder, beside its logs."""


def stamps(run: RunDirectory) -> dict[str, Stamp]:
    """The stamps of what a run's summary is made from, by name in its folder; links to logs are
    left out. They change with every row, new worker, config, label and pin."""
    folder, names = str(run.path), [*_SOURCES]
    with suppress(OSError), os.scandir(f"{folder}/log") as logs:
        names += [f"log/{log.name}" for log in logs if not log.is_symlink()]
    return {name: stamp(f"{folder}/{name}") for name in names}


def kept_summary(run: RunDirectory, files: Mapping[str, Stamp]) -> RunSummary | None:
    """The summary at the end of a run's newest log, with today's labels and pins.

    None: there is none, the run has a worker, or its files have changed since.

    Args:
        files: the run's `stamps`.

    Raises:
        StorageError: the run's folder or the log can't be read.
    """
    attempt = len(files) - len(_SOURCES)
    newest = f"log/{attempt:06d}.jsonl"
    # a worker that starts writes its lock first
    lock_is_newer = newest in files and files["worker.lock"][1] >= files[newest][1]
    if newest not in files or (lock_is_newer and read_lock(run.lock_path).held):
        return None
    with storage_errors("read", run.path), open(f"{run.path}/{newest}", "rb", buffering=0) as file:  # noqa: PTH123
        file.seek(max(0, files[newest][0] - LAST_BYTES))
        row = decode(file.read().rstrip(b"\n").rpartition(b"\n")[2], attempt)
    if not isinstance(row, SummaryRow) or row.version != SUMMARY_VERSION:
        return None
    kept: dict[str, Any] = row.summary
    others = ("config.toml", PARENT_NAME, "log/")
    folders = entries_named(run.checkpoints_path, CHECKPOINT_FOLDER)
    steps = (int(folder.name.rpartition("-")[2]) for folder in folders)
    if (
        kept.get("run") != run.name
        or row.checkpoints != sorted(steps)
        or ("parent" in kept) != any(files[PARENT_NAME])
        or max(file[1] for name, file in files.items() if name.startswith(others))
        > files[newest][1]
    ):
        return None
    labels, damage = labels_file(run).look() if any(files["labels.json"]) else (RunLabels(), "")
    pinned = [step for step in row.checkpoints if step in labels.pins]
    today = {"created": run.created(), "labels_damaged": bool(damage), **labels.of_run}
    try:
        checkpoints = {**kept.get("checkpoints", {}), "pinned": pinned}
        return RunSummary.model_validate({**kept, **today, "checkpoints": checkpoints})
    except (ValidationError, TypeError):
        return None


def _settled(files: Files) -> bool:
    newest = max((changed for _, changed, _ in files.values()), default=0)
    return time() - newest / 1e9 > SETTLED_SECONDS
