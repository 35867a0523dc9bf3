"""Averaged weights of a run: written, kept, listed and found.

An average is a folder `checkpoints/average-step-000001500` beside the checkpoints, named after the
newest of its parts, with weights and tokenizer only. It can be sampled, scored, exported and forked
from; a resume and retention never see it. Its address is `RUN@average-1500`.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    describe_files,
    read_manifest,
    verify_checkpoint,
)
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    folders_named,
    fsync_directory,
    fsync_file,
    make_private_directory,
    storage_errors,
    write_text_atomically,
)

AVERAGED_FACT = "averaged"
"""In the manifest's facts of an average: the addresses of its parts."""
AVERAGE_FOLDER = re.compile(r"average-step-(\d{9,12})(?:-([2-9]|[1-9]\d))?")
AVERAGE_NAME = re.compile(r"average-([\d,]{1,15})(?:-([2-9]|[1-9]\d))?")
"""How an average is named in an address: `average-1500`, and `average-1500-2` for another one."""
_MOST_OF_A_STEP = 99


@dataclass(frozen=True, slots=True)
class AverageEntry:
    """A kept average, its files not yet verified."""

    name: str
    """`average-1500`."""
    step: int
    """Of the newest part."""
    path: Path
    parts: tuple[str, ...]
    """Addresses of the checkpoints whose mean it is: `plain-otter@1000`."""
    validation_loss: float | None
    """In nats per token, as measured before it was kept."""
    bytes: int
    created: float
    """Unix seconds."""


def is_average(name: str) -> bool:
    """Whether the part of an address after the @ names an average."""
    return AVERAGE_NAME.fullmatch(name) is not None


def list_averages(run: RunDirectory) -> list[AverageEntry]:
    """The averages of a run, by step; damaged ones are skipped."""
    found = []
    for name, path in average_folders(run):
        try:
            manifest = read_manifest(path)
            size = manifest.bytes + (path / MANIFEST_NAME).stat().st_size
        except (StorageError, FileNotFoundError):
            continue
        found.append(_entry(name, path, manifest, size))
    return found


def average_folders(run: RunDirectory) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each average, by step: `average-1500`."""
    matches = [
        (int(match[1]), int(match[2] or 1), path)
        for path in folders_named(run.checkpoints_path, AVERAGE_FOLDER)
        if (match := AVERAGE_FOLDER.fullmatch(path.name))
    ]
    for step, number, path in sorted(matches):
        yield f"average-{step}{f'-{number}' if number > 1 else ''}", path


def find_average(run: RunDirectory, name: str) -> Path | None:
    """The folder of `average-1500`, not verified; None if there is none."""
    wanted = name.replace(",", "")
    return next((path for known, path in average_folders(run) if known == wanted), None)


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
        manifest = describe_files(
            folder, "snapshot", run.name, step, None, cast(dict[str, JsonValue], dict(facts))
        )
        for name in manifest.files:
            (folder / name).chmod(0o600)
            fsync_file(folder / name)
        write_text_atomically(folder / MANIFEST_NAME, manifest.text())


def keep_average(run: RunDirectory, staged: Path) -> AverageEntry:
    """Move a written average to its place; returns it with its name.

    Raises:
        CheckpointError: it is damaged or was discarded.
        StorageError: it can't be renamed.
        InputError: the step has too many averages.
    """
    manifest = verify_checkpoint(staged)
    for number in range(1, _MOST_OF_A_STEP + 1):
        target = run.checkpoints_path / _folder_name(manifest.step, number)
        if target.exists():
            continue
        with storage_errors("keep the average", target):
            staged.rename(target)
            fsync_directory(target.parent)
        size = manifest.bytes + (target / MANIFEST_NAME).stat().st_size
        name = f"average-{manifest.step}{f'-{number}' if number > 1 else ''}"
        return _entry(name, target, manifest, size)
    raise InputError(
        f"{run.name} has {_MOST_OF_A_STEP} averages of step {manifest.step:,}",
        hint=f"remove some: rnnlm-tui average --remove {run.name}@average-{manifest.step}",
    )


def remove_average(path: Path) -> None:
    """Remove a kept average.

    Raises:
        StorageError: it can't be removed.
    """
    doomed = path.with_name(f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(8)}")
    with storage_errors("remove", path):
        path.rename(doomed)
        fsync_directory(path.parent)
    shutil.rmtree(doomed, ignore_errors=True)  # a worker that starts now removes it as well


def _entry(name: str, path: Path, manifest: Manifest, size: int) -> AverageEntry:
    parts, loss = manifest.facts.get(AVERAGED_FACT), manifest.facts.get("validation_loss")
    return AverageEntry(
        name,
        manifest.step,
        path,
        tuple(str(part) for part in parts) if isinstance(parts, list) else (),
        float(loss) if isinstance(loss, int | float) else None,
        size,
        manifest.created,
    )


def _folder_name(step: int, number: int) -> str:
    return f"average-step-{step:09d}{f'-{number}' if number > 1 else ''}"
