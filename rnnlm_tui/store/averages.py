"""Averaged weights of a run: written, kept, listed and found.

An average is a folder `checkpoints/average-step-000001500` beside the checkpoints, named after the
newest of its parts, with weights and tokenizer only. It can be sampled, scored, exported and forked
from; a resume and retention never see it. Its address is `RUN@average-1500`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path

from rnnlm_tui.store.checkpoints import CheckpointEntry, read_entries
from rnnlm_tui.store.manifest import seal, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, weights_name
from rnnlm_tui.system.files import (
    folders_named,
    fsync_directory,
    make_private_directory,
    storage_errors,
)
from rnnlm_tui.system.locks import staging

AVERAGED_FACT = "averaged"
"""In the manifest's facts of an average: the addresses of its parts."""
AVERAGE_FOLDER = re.compile(r"average-step-\d{9,12}(-\d+)?")


def list_averages(run: RunDirectory) -> list[CheckpointEntry]:
    """The averages of a run, by step; damaged ones are skipped."""
    return read_entries(average_folders(run).values())


def average_folders(run: RunDirectory) -> dict[str, Path]:
    """The folder of each average by its name (`average-1500`), by step."""

    def place(path: Path) -> tuple[int, int]:
        step, _, number = path.name.removeprefix("average-step-").partition("-")
        return int(step), int(number or 1)

    found = folders_named(run.checkpoints_path, AVERAGE_FOLDER)
    return {weights_name(str(path)): path for path in sorted(found, key=place)}


def write_average(
    run: RunDirectory,
    folder: Path,
    step: int,
    write_files: Callable[[Path], None],
    facts: Mapping[str, object],
) -> None:
    """Write an average durably into a new folder, which `keep_average` moves to its place.

    Args:
        write_files: writes plain files, no pickles, into the given folder.
        facts: JSON values for the manifest, with AVERAGED_FACT.

    Raises:
        CheckpointError: `write_files` created a pickle, a folder or a link.
        StorageError: the disk is full or not writable.
    """
    make_private_directory(folder, parents=False)
    with storage_errors("write the average", folder):
        write_files(folder)
        seal(folder, "snapshot", run.name, step, None, facts)


def keep_average(run: RunDirectory, staged: Path) -> CheckpointEntry:
    """Move a written average to its place; returns it with its name.

    Raises:
        CheckpointError: it is damaged or was discarded.
        StorageError: it can't be renamed.
    """
    step = verify_checkpoint(staged).step
    first = run.checkpoints_path / f"average-step-{step:09d}"
    numbered = (first.with_name(f"{first.name}-{number}") for number in count(2))
    target = next(path for path in chain((first,), numbered) if not path.exists())
    with storage_errors("keep the average", target):
        staged.rename(target)
        fsync_directory(target.parent)
    return read_entries([target])[0]


def remove_average(path: Path) -> None:
    """Remove a kept average.

    Raises:
        StorageError: it can't be removed.
    """
    with storage_errors("remove", path), staging(path.parent) as doomed:
        path.rename(doomed / path.name)
        fsync_directory(path.parent)
