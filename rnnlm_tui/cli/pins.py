"""The verbs `pin` and `unpin`, for checkpoints and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_address, split_address

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

AddressesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN[@CHECKPOINT]...", help="Runs, or their checkpoints: @best, @last or @STEP.", show_default=False, autocompletion=complete_address
    ),
]


def pin(addresses: AddressesArgument, json: JsonOption = False) -> None:
    """Pin checkpoints to keep them, or runs to list them first.

    Newer checkpoints never replace a pinned one.
    """
    _set(addresses, json, pinned=True)


def unpin(addresses: AddressesArgument, json: JsonOption = False) -> None:
    """Unpin checkpoints or runs."""
    _set(addresses, json, pinned=False)


def _set(addresses: list[str], json: bool, *, pinned: bool) -> None:
    from rnnlm_tui.cli.output import act_on_each

    found = [split_address(address) for address in addresses]

    def act(address: tuple[RunDirectory, str | None]) -> tuple[object, str]:
        run, which = address
        return _set_run(run, pinned=pinned) if which is None else _set_checkpoint(run, which, pinned=pinned)

    act_on_each(found, act, json=json)


def _set_checkpoint(run: RunDirectory, which: str, *, pinned: bool) -> tuple[object, str]:
    from rnnlm_tui.store.pins import pin_checkpoint, unpin_checkpoint

    step = _step_of(run, which, pins=not pinned)
    changed = pin_checkpoint(run, step) if pinned else unpin_checkpoint(run, step)
    words = ("pinned" if pinned else "unpinned") if changed else ("is already pinned" if pinned else "was not pinned")
    return {"run": run.name, "step": step, "pinned": pinned, "changed": changed}, f"{run.name}@{step} {words}"


def _set_run(run: RunDirectory, *, pinned: bool) -> tuple[object, str]:
    from dataclasses import replace

    from rnnlm_tui.cli.labels import usable_labels
    from rnnlm_tui.store.labels import change_labels

    before = usable_labels(run).pinned
    change_labels(run, lambda labels: replace(labels, pinned=pinned))
    if pinned:
        words = f"is {'already ' if before else ''}pinned at the top of the list; `rnnlm-tui pin {run.name}@best` pins its best checkpoint"
    else:
        words = "unpinned" if before else "was not pinned"
    return {"run": run.name, "pinned": pinned, "changed": before != pinned}, f"{run.name} {words}"


def _step_of(run: RunDirectory, which: str, *, pins: bool) -> int:
    """Return a checkpoint's step; with `pins`, also of a deleted one that is still pinned."""
    from rnnlm_tui.errors import UnknownCheckpointError
    from rnnlm_tui.store.checkpoints import resolve_checkpoint
    from rnnlm_tui.store.pins import pinned_steps

    try:
        return int(resolve_checkpoint(run, which).name.rpartition("-")[2])
    except UnknownCheckpointError:
        left = [step for step in pinned_steps(run) if str(step) == which.replace(",", "")] if pins else []
        if not left:
            raise
        return left[0]
