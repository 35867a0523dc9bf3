"""The list of runs as somebody wants it: filtered, in an order, the pinned ones on top."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.run_filter import parse_filter
from rnnlm_tui.contract.run_keys import parse_order
from rnnlm_tui.contract.summary import RunSummary
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.supervisor.monitor import summary_or_problem


@dataclass(frozen=True, slots=True)
class Listing:
    """Some of the runs."""

    runs: tuple[RunSummary, ...]
    known: int
    """So many runs there are."""


def listed_runs(wanted: str = "", order: str = "", *, reverse: bool = False) -> Listing:
    """The runs that a filter means, newest first where no order is asked for; the pinned ones on top.

    Args:
        wanted: as `parse_filter` reads it.
        order: as `parse_order` reads it.

    Raises:
        InputError: the filter or the order can't be read.
        StorageError: the data home can't be read.
    """
    filtered, sorting = parse_filter(wanted), parse_order(order) if order else None
    directories = list_runs()
    needs_config = filtered.needs_config or (sorting is not None and sorting.needs_config)
    runs = [(summary_or_problem(run), _config(run) if needs_config else None) for run in directories]
    there = [run for run, directory in zip(runs, directories, strict=True) if not run[0].unreadable or directory.path.is_dir()]  # renamed or deleted meanwhile
    runs = [run for run in there if filtered.matches(*run)]
    if sorting is not None:
        runs = sorting.turned().sorted(runs) if reverse else sorting.sorted(runs)
    elif reverse:
        runs.reverse()
    return Listing(tuple(pinned_first(summary for summary, _ in runs)), len(there))


def pinned_first(runs: Iterable[RunSummary]) -> list[RunSummary]:
    """The runs in the same order, but the pinned ones before the others."""
    return sorted(runs, key=lambda run: not run.pinned)


def _config(run: RunDirectory) -> RunConfig | None:
    try:
        return run.read_config()
    except RnnlmError:
        return None
