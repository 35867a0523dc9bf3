"""The verbs `delete`, `trash`, `restore` and `purge`, for runs and for checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli import output
from rnnlm_tui.cli.checkpoints import (
    delete_one,
    restore_some,
    trashed_json,
    trashed_of,
    write_trash,
)
from rnnlm_tui.cli.manage import AddressesArgument, confirmed
from rnnlm_tui.cli.options import (
    JsonOption,
    YesOption,
    check_exclusive,
    complete_run,
    split_address,
)
from rnnlm_tui.cli.output import act_on_each, line, print_json, table
from rnnlm_tui.errors import InputError, StorageError, UnknownRunError
from rnnlm_tui.schema.formatting import age, counted, disk

if TYPE_CHECKING:
    from rnnlm_tui.store.checkpoint_trash import TrashedCheckpoint
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.trash import TrashedRun


def complete_trashed(incomplete: str) -> list[str]:
    """Complete the name of a deleted run for the shell; after an @, deleted checkpoints."""
    from rnnlm_tui.store.checkpoint_trash import list_trashed
    from rnnlm_tui.store.runs import find_run, trashed_names

    name, at, which = incomplete.rpartition("@")
    if not at:
        return sorted(name for name in set(trashed_names()) if name.startswith(incomplete))
    steps = [str(one.step) for one in list_trashed(find_run(name))]
    found = ("all", *dict.fromkeys(steps)) if steps else ()
    return [f"{name}@{choice}" for choice in found if choice.startswith(which)]


def delete(
    addresses: AddressesArgument,
    json: JsonOption = False,
) -> None:
    """Move runs that aren't running, or checkpoints, to the trash.

    The best, the pinned and the newest two valid checkpoints of a run can't be deleted.
    """
    from rnnlm_tui.store.trash import delete_run

    found = list(map(split_address, addresses))
    for address, (run, _which) in zip(addresses, found, strict=True):
        if run.name != (address.rpartition("@")[0] or address):
            raise UnknownRunError(
                f'no run named "{address.rpartition("@")[0] or address}"',
                hint=f'to delete "{run.name}", use its full name',
            )

    def act(item: tuple[RunDirectory, str | None]) -> tuple[object, str]:
        run, which = item
        if which is not None:
            return delete_one(run, which)
        trashed = delete_run(run)
        words = f"moved to the trash ({disk(trashed.bytes)})"
        return _as_json(trashed), f"{run.name} {words}: `rnnlm-tui restore {run.name}` restores it"

    act_on_each(found, act, json=json)


def trash(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="List the deleted checkpoints of this run.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List deleted runs, or a run's deleted checkpoints.

    Deleted checkpoints are kept for a week, unless their run needs the disk space; later
    deletions purge them.
    """
    from rnnlm_tui.store.checkpoint_trash import list_trashed
    from rnnlm_tui.store.runs import find_run, list_runs
    from rnnlm_tui.store.trash import list_trash

    if run is not None:
        write_trash(find_run(run), json=json)
        return
    found = list_trash()
    if json:
        print_json([_as_json(run) for run in found])
        return
    for other in list_runs():
        if deleted := list_trashed(other):
            output.note(
                f"{counted(len(deleted), 'deleted checkpoint')} of {other.name},"
                f" {disk(sum(one.bytes for one in deleted))}: `rnnlm-tui trash {other.name}` lists"
                " them"
            )
    if not found:
        line("the trash is empty")
        return
    table(
        ("name", "deleted", "size", "folder"),
        [
            (run.name, _ago(age(time() - run.deleted)), disk(run.bytes), run.path.name)
            for run in found
        ],
        right=(2,),
    )
    line(
        f"{counted(len(found), 'deleted run')}, {disk(sum(run.bytes for run in found))}: `rnnlm-tui"
        " restore NAME` restores one, `rnnlm-tui purge NAME` removes it permanently"
    )


def restore(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[@STEP]...",
            help="Names of deleted runs, or of their folders; @STEP, @all: deleted checkpoints.",
            show_default=False,
            autocompletion=complete_trashed,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Restore one run under this name.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Restore runs or checkpoints from the trash.

    NAME@STEP restores a checkpoint, NAME@all all deleted ones of a run. Of several deleted ones
    with the same name or step, the most recently deleted is restored.
    """
    from rnnlm_tui.store.trash import find_trashed, list_trash, restore_run

    found = list(
        dict.fromkeys(split_address(run) if "@" in run else find_trashed(run) for run in runs)
    )
    if name is not None and any(isinstance(item, tuple) for item in found):
        raise InputError("--as renames a run, not a checkpoint", hint="leave it out")
    if name is not None and len(found) > 1:
        raise InputError(f"--as takes one run, got {len(found)}", hint="restore them one by one")

    def act(trashed: TrashedRun | tuple[RunDirectory, str | None]) -> tuple[object, str]:
        if isinstance(trashed, tuple):
            return restore_some(trashed[0], trashed[1] or "")
        restored = restore_run(trashed, name)
        others = sum(left.name == trashed.name for left in list_trash())
        remain = "remains" if others == 1 else "remain"
        more = f"; {counted(others, 'other')} of that name {remain} in the trash" if others else ""
        value = {"run": restored.name, "before": trashed.name, "path": str(restored.path)}
        return value, f"{restored.name} restored: `rnnlm-tui show {restored.name}`{more}"

    act_on_each(found, act, json=json)


def purge(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[@STEP]]...",
            help="Names of deleted runs, or of their folders; @STEP, @all: deleted checkpoints.",
            show_default=False,
            autocompletion=complete_trashed,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all deleted runs.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Permanently remove deleted runs or checkpoints; asks first."""
    from rnnlm_tui.store.checkpoint_trash import purge_checkpoints
    from rnnlm_tui.store.trash import purge as purge_run

    names = runs or []
    check_exclusive(NAME=bool(names), all=everything)
    found: list[TrashedRun | DeletedCheckpoint] = []
    for name in names:
        if "@" in name:
            directory, which = split_address(name)
            found += [
                DeletedCheckpoint(directory, one) for one in trashed_of(directory, which or "")
            ]
    whole = [name for name in names if "@" not in name]
    if whole or not names:
        found += _chosen(whole, everything=everything)
    found = list(dict.fromkeys(found))
    size = sum(item.bytes for item in found)
    question = f"permanently remove {_named(found)}, {disk(size)}?"
    if found and not yes and not confirmed(question, "purge removes them permanently"):
        output.note("nothing was removed")
        raise typer.Exit(1)
    freed = 0
    for done, item in enumerate(found):
        try:
            freed += (
                purge_checkpoints(item.run, [item.trashed])
                if isinstance(item, DeletedCheckpoint)
                else purge_run(item)
            )
        except StorageError:
            if done:
                output.note(_purged_text(found[:done], disk(freed)))
            raise
    if json:
        purged = [
            trashed_json(item.run, item.trashed)
            if isinstance(item, DeletedCheckpoint)
            else _as_json(item)
            for item in found
        ]
        print_json({"purged": purged, "freed": freed})
    elif found:
        line(_purged_text(found, disk(freed)))
    else:
        line("the trash is empty")


def _chosen(names: list[str], *, everything: bool) -> list[TrashedRun]:
    """Return the chosen deleted runs, each once.

    Raises:
        InputError: no name, or an ambiguous one.
        UnknownRunError: no deleted run has that name.
    """
    from rnnlm_tui.store.trash import find_trashed, list_trash

    known = list_trash()
    if everything:
        return known
    if not names:
        raise InputError(
            "no run given", hint="name a deleted run, or use --all; `rnnlm-tui trash` lists them"
        )
    for name in names:
        same = [run.path.name for run in known if run.name == name]
        if len(same) > 1:
            raise InputError(
                f"{counted(len(same), 'deleted run')} are named {name}: {', '.join(same)}",
                hint="use the folder names instead",
            )
    return list(dict.fromkeys(find_trashed(name) for name in names))


@dataclass(frozen=True, slots=True)
class DeletedCheckpoint:
    """A deleted checkpoint and its run."""

    run: RunDirectory
    trashed: TrashedCheckpoint

    @property
    def name(self) -> str:
        """Its address: `plain-otter@1500`."""
        return f"{self.run.name}@{self.trashed.step}"

    @property
    def bytes(self) -> int:
        """What a purge frees."""
        return self.trashed.bytes


def _purged_text(items: list[TrashedRun | DeletedCheckpoint], freed: str) -> str:
    return f"{_named(items)} permanently removed, {freed} freed"


def _named(items: list[TrashedRun | DeletedCheckpoint]) -> str:
    if len(items) == 1:
        return items[0].name
    checkpoints = sum(isinstance(item, DeletedCheckpoint) for item in items)
    runs = len(items) - checkpoints
    parts = [counted(runs, "deleted run")] if runs else []
    parts += [counted(checkpoints, "deleted checkpoint")] if checkpoints else []
    return " and ".join(parts)


def _ago(words: str) -> str:
    return words if words == "now" else f"{words} ago"


def _as_json(run: TrashedRun) -> dict[str, object]:
    return {"run": run.name, "deleted": run.deleted, "bytes": run.bytes, "path": str(run.path)}
