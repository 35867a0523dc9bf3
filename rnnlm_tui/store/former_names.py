"""Former names of a run, kept while runs that started from its weights refer to it by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.labels import RunLabels, change_labels, read_labels
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory


def keep_former_name(run: RunDirectory, former: str, name: str, others: Iterable[Path]) -> None:
    """Before a rename from `former` to `name`: record `former` if another run started from this one.

    Args:
        run: its current folder, which may be in the trash.
        others: folders of all runs, including the trash.

    Raises:
        StorageError: the labels can't be written.
    """
    before = read_labels(run).former_names
    kept = [former for former in before if former != name]
    if former not in (*kept, name) and any(_started_from(RunDirectory(path), former) for path in others if path != run.path):
        kept.append(former)
    if tuple(kept) != before:
        change_labels(run, lambda labels: _named(labels, kept))


def find_by_former_name(name: str, folders: Iterable[Path]) -> RunDirectory | None:
    """The run among these folders with this former name."""
    return next((run for run in map(RunDirectory, folders) if name in read_labels(run).former_names), None)


def _named(labels: RunLabels, names: Iterable[str]) -> RunLabels:
    return replace(labels, former_names=tuple(names))


def _started_from(run: RunDirectory, name: str) -> bool:
    """Whether the run's weights came from the run of that name; True if it can't be read."""
    try:
        with RunReader(run) as reader:
            return reader.meta().get("parent", "").partition("@")[0] == name
    except RnnlmError:
        return True
