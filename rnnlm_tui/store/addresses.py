"""Addresses of checkpoints, as typed: `plain-otter@best`, `plain-otter@1500`, `plain-otter`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.errors import InputError, UnknownCheckpointError

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory


def split_address(address: str) -> tuple[RunDirectory, str | None]:
    """Split `RUN@WHICH` into the run and WHICH, which is None without an @.

    Raises:
        UnknownRunError: no such run.
        InputError: no checkpoint after the @.
    """
    from rnnlm_tui.store.runs import find_run

    name, at, which = address.rpartition("@")
    run = find_run(name if at else address)
    if at and not which:
        raise InputError(
            f'"{address}" has no checkpoint after the @',
            hint=f"use {run.name}@best, @last or @STEP;"
            f" `rnnlm-tui checkpoints {run.name}` lists them",
        )
    return run, (which if at else None)


def checkpoint_path(directory: RunDirectory, which: str | None) -> Path:
    """Return a checkpoint's folder: by default the best one, or the last if none was evaluated.

    Raises:
        UnknownCheckpointError: no such checkpoint; lists the available ones.
    """
    from rnnlm_tui.store.verify import resolve_checkpoint

    try:
        return resolve_checkpoint(directory, "best" if which is None else which)
    except UnknownCheckpointError:
        if which is not None:
            raise
        return resolve_checkpoint(directory, "last")
