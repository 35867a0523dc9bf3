"""The verbs `pin` and `unpin`: checkpoints that stay for good, and runs that stay on top of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_run

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

AddressArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN[@CHECKPOINT]", help="A run, or one of its checkpoints: @best, @last or @STEP.", show_default=False, autocompletion=complete_run
    ),
]


def pin(checkpoint: AddressArgument, json: JsonOption = False) -> None:
    """Keep a checkpoint for good, however many come after it, or a run on top of the list."""
    _set(checkpoint, json, pinned=True)


def unpin(checkpoint: AddressArgument, json: JsonOption = False) -> None:
    """Let a pinned checkpoint go like the others, or a run take its place among the others."""
    _set(checkpoint, json, pinned=False)


def _set(address: str, json: bool, *, pinned: bool) -> None:
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.cli.sample import split_address
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.store.pins import pin_checkpoint, unpin_checkpoint

    directory, which = split_address(address)
    name = directory.name
    if which is None:
        _set_run(directory, json, pinned=pinned)
        return
    if not which:
        raise InputError(f'"{address}" names no checkpoint', hint=f"write {name}@best, @last or @STEP; `rnnlm-tui checkpoints {name}` lists them")
    step = _step_of(directory, which, pins=not pinned)
    changed = pin_checkpoint(directory, step) if pinned else unpin_checkpoint(directory, step)
    if json:
        print_json({"run": name, "step": step, "pinned": pinned, "changed": changed})
    elif pinned:
        line(f"{name} keeps its checkpoint of step {step:,} for good" + ("" if changed else ", as before"))
    elif changed:
        line(f"{name} lets its checkpoint of step {step:,} go with the others")
    else:
        line(f"{name}@{step} was not pinned")


def _set_run(run: RunDirectory, json: bool, *, pinned: bool) -> None:
    from dataclasses import replace

    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.labels import change_labels, read_labels

    before = read_labels(run).pinned
    change_labels(run, lambda labels: replace(labels, pinned=pinned))
    if json:
        print_json({"run": run.name, "pinned": pinned, "changed": before != pinned})
    elif pinned:
        line(f"{run.name} stays on top of the list{', as before' if before else ''}; {run.name}@best keeps its best checkpoint for good")
    else:
        line(f"{run.name} takes its place among the others" if before else f"{run.name} was not pinned")


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
