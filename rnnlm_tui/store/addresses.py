"""Find checkpoints by their addresses: `plain-otter@best`, `plain-otter@1500`, `plain-otter`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.errors import InputError, UnknownCheckpointError, did_you_mean

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory

_SHOWN_STEPS = 12


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


def checkpoint_step(run: RunDirectory, which: str) -> int:
    """The step of a checkpoint that can be labelled and deleted.

    Raises:
        InputError: it is an average.
        UnknownCheckpointError: no such checkpoint.
    """
    from rnnlm_tui.store.paths import weights_step

    if which.startswith("average-"):
        raise InputError(
            f"{run.name}@{which} is an average: it has no pin or note, and can't go to the trash",
            hint=f"`rnnlm-tui average --remove {run.name}@{which}` removes it permanently",
        )
    return weights_step(str(checkpoint_path(run, which)))


def checkpoint_path(run: RunDirectory, which: str | None) -> Path:
    """The folder of `best`, `last`, a step (`1500`) or an average (`average-1500`), not verified;
    by default the best, or the last if none was evaluated.

    Raises:
        UnknownCheckpointError: no such checkpoint; lists the existing ones.
    """
    from rnnlm_tui.store.averages import average_folders
    from rnnlm_tui.store.checkpoints import checkpoint_folders, list_checkpoints, read_checkpoints
    from rnnlm_tui.store.runs import shown_name

    averages = average_folders(run)
    folders = averages | {str(step): path for step, path in checkpoint_folders(run)}
    wanted = "best" if which is None else which.replace(",", "")
    if folder := folders.get(wanted.lstrip("0") or wanted[-1:]):
        return folder
    entries = list_checkpoints(run)
    if not entries:
        raise UnknownCheckpointError(
            f"{run.name} has no checkpoint yet",
            hint=f"while it runs, `rnnlm-tui checkpoint {run.name}` writes one",
        )
    if wanted == "best":
        best = next((run.path / row.path for row in read_checkpoints(run) if row.best), None)
        if best is None and which is not None:
            raise UnknownCheckpointError(
                f"no checkpoint of {run.name} was evaluated, so none is the best",
                hint=f"use {run.name}@last",
            )
        return best or entries[-1].path
    if wanted == "last":
        return entries[-1].path
    steps = [entry.name for entry in entries]
    listed = ("… " if len(steps) > _SHOWN_STEPS else "") + ", ".join(steps[-_SHOWN_STEPS:])
    raise UnknownCheckpointError(
        f"{run.name} has no checkpoint {shown_name(wanted)}: it has best, last and"
        f" {', '.join([listed, *averages])}",
        hint=did_you_mean(wanted[:40], ["best", "last", *steps, *averages]),
    )
