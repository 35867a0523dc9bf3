"""The verbs `pin` and `unpin`: checkpoints that stay for good, and runs that stay on top of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_address

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

AddressesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN[@CHECKPOINT]...", help="Runs, or checkpoints of them: @best, @last or @STEP.", show_default=False, autocompletion=complete_address
    ),
]


def pin(addresses: AddressesArgument, json: JsonOption = False) -> None:
    """Keep a checkpoint for good, however many come after it, or a run on top of the list."""
    _set(addresses, json, pinned=True)


def unpin(addresses: AddressesArgument, json: JsonOption = False) -> None:
    """Let a pinned checkpoint go like the others, or a run take its place among the others."""
    _set(addresses, json, pinned=False)


def _set(addresses: list[str], json: bool, *, pinned: bool) -> None:
    from rnnlm_tui.cli.output import tell_each
    from rnnlm_tui.cli.sample import split_address

    found = [split_address(address) for address in addresses]

    def act(address: tuple[RunDirectory, str | None]) -> tuple[object, str]:
        run, which = address
        return _set_run(run, pinned=pinned) if which is None else _set_checkpoint(run, which, pinned=pinned)

    tell_each(found, act, json=json)


def _set_checkpoint(run: RunDirectory, which: str, *, pinned: bool) -> tuple[object, str]:
    from rnnlm_tui.store.pins import pin_checkpoint, unpin_checkpoint

    step = _step_of(run, which, pins=not pinned)
    changed = pin_checkpoint(run, step) if pinned else unpin_checkpoint(run, step)
    if pinned:
        words = f"{run.name} keeps its checkpoint of step {step:,} for good" + ("" if changed else ", as before")
    else:
        words = f"{run.name} lets its checkpoint of step {step:,} go with the others" if changed else f"{run.name}@{step} was not pinned"
    return {"run": run.name, "step": step, "pinned": pinned, "changed": changed}, words


def _set_run(run: RunDirectory, *, pinned: bool) -> tuple[object, str]:
    from dataclasses import replace

    from rnnlm_tui.cli.labels import usable_labels
    from rnnlm_tui.store.labels import change_labels

    before = usable_labels(run).pinned
    change_labels(run, lambda labels: replace(labels, pinned=pinned))
    if pinned:
        words = f"{run.name} stays on top of the list{', as before' if before else ''}; {run.name}@best keeps its best checkpoint for good"
    else:
        words = f"{run.name} takes its place among the others" if before else f"{run.name} was not pinned"
    return {"run": run.name, "pinned": pinned, "changed": before != pinned}, words


def _step_of(run: RunDirectory, which: str, *, pins: bool) -> int:
    """The step of a checkpoint that is there; with `pins`, of one that is gone and whose pin is left as well."""
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
