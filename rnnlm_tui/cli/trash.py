"""The verbs `delete`, `trash`, `restore` and `purge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, check_exclusive, complete_run
from rnnlm_tui.contract.figures import counted

if TYPE_CHECKING:
    from rnnlm_tui.store.trash import TrashedRun


def complete_trashed(incomplete: str) -> list[str]:
    """Complete the name of a deleted run for the shell."""
    from rnnlm_tui.store.runs import trashed_names

    return sorted(name for name in set(trashed_names()) if name.startswith(incomplete))


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Full names of runs.", show_default=False, autocompletion=complete_run)],
    json: JsonOption = False,
) -> None:
    """Move runs that aren't running to the trash."""
    from rnnlm_tui.cli.output import act_on_each
    from rnnlm_tui.contract.figures import disk
    from rnnlm_tui.errors import UnknownRunError
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.store.trash import delete_run

    directories = [find_run(run) for run in runs]
    for run, directory in zip(runs, directories, strict=True):
        if directory.name != run:
            raise UnknownRunError(f'no run named "{run}"', hint=f'to delete "{directory.name}", use its full name')

    def act(run: RunDirectory) -> tuple[object, str]:
        trashed = delete_run(run)
        return _as_json(trashed), f"{run.name} moved to the trash ({disk(trashed.bytes)}): `rnnlm-tui restore {run.name}` restores it"

    act_on_each(directories, act, json=json)


def trash(json: JsonOption = False) -> None:
    """List deleted runs and the disk space they use."""
    from time import time

    from rnnlm_tui.cli.output import line, print_json, table
    from rnnlm_tui.contract.figures import age, disk
    from rnnlm_tui.store.trash import list_trash

    found = list_trash()
    if json:
        print_json([_as_json(run) for run in found])
        return
    if not found:
        line("the trash is empty")
        return
    table(("name", "deleted", "size", "folder"), [(run.name, _ago(age(time() - run.deleted)), disk(run.bytes), run.path.name) for run in found], right=(2,))
    line(
        f"{counted(len(found), 'deleted run')}, {disk(sum(run.bytes for run in found))}: `rnnlm-tui restore NAME` restores one, `rnnlm-tui purge NAME` removes it permanently"
    )


def restore(
    runs: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of deleted runs, or of their folders.", show_default=False, autocompletion=complete_trashed)
    ],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Restore one run under this name.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Restore runs from the trash.

    If several deleted runs have the same name, the most recently deleted one is restored.
    """
    from rnnlm_tui.cli.output import act_on_each
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.store.trash import find_trashed, list_trash, restore_run

    found = list(dict.fromkeys(find_trashed(run) for run in runs))
    if name is not None and len(found) > 1:
        raise InputError(f"--as takes one run, got {len(found)}", hint="restore them one by one")

    def act(trashed: TrashedRun) -> tuple[object, str]:
        restored = restore_run(trashed, name)
        others = sum(left.name == trashed.name for left in list_trash())
        more = f"; {counted(others, 'other')} of that name remain{'s' if others == 1 else ''} in the trash" if others else ""
        value = {"run": restored.name, "before": trashed.name, "path": str(restored.path)}
        return value, f"{restored.name} restored: `rnnlm-tui show {restored.name}`{more}"

    act_on_each(found, act, json=json)


def purge(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names of deleted runs, or of their folders.", show_default=False, autocompletion=complete_trashed),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all deleted runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Permanently remove deleted runs; asks for confirmation."""
    from rnnlm_tui.cli.output import line, note, print_json
    from rnnlm_tui.contract.figures import disk
    from rnnlm_tui.errors import StorageError
    from rnnlm_tui.store.trash import purge as purge_one

    found = _chosen(runs or [], everything=everything)
    size = sum(run.bytes for run in found)
    if found and not yes and not confirmed(f"permanently remove {_named(found)}, {disk(size)}?", "purge removes runs permanently"):
        note("nothing was removed")
        raise typer.Exit(1)
    freed = 0
    for done, run in enumerate(found):
        try:
            freed += purge_one(run)
        except StorageError:
            if done:
                note(_purged_text(found[:done], disk(freed)))
            raise
    if json:
        print_json({"purged": [_as_json(run) for run in found], "freed": freed})
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
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.store.trash import find_trashed, list_trash

    known = list_trash()
    check_exclusive(NAME=bool(names), all=everything)
    if everything:
        return known
    if not names:
        raise InputError("no run given", hint="name a deleted run, or use --all; `rnnlm-tui trash` lists them")
    for name in names:
        same = [run.path.name for run in known if run.name == name]
        if len(same) > 1:
            raise InputError(f"{counted(len(same), 'deleted run')} are named {name}: {', '.join(same)}", hint="use the folder names instead")
    return list(dict.fromkeys(find_trashed(name) for name in names))


def confirmed(question: str, what: str) -> bool:
    """Ask a yes-or-no question on the terminal.

    Raises:
        InputError: standard input is not a terminal; its message starts with `what`.
    """
    import sys

    from rnnlm_tui.cli.output import encodable
    from rnnlm_tui.contract.outside_text import safe
    from rnnlm_tui.errors import InputError

    if not sys.stdin.isatty():
        raise InputError(f"{what}: cannot ask for confirmation, standard input is not a terminal", hint="add --yes")
    print(encodable(safe(f"{question} [y/N] "), sys.stderr), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _purged_text(runs: list[TrashedRun], freed: str) -> str:
    return f"{_named(runs)} permanently removed, {freed} freed"


def _named(runs: list[TrashedRun]) -> str:
    return runs[0].name if len(runs) == 1 else counted(len(runs), "deleted run")


def _ago(words: str) -> str:
    return words if words == "now" else f"{words} ago"


def _as_json(run: TrashedRun) -> dict[str, object]:
    return {"run": run.name, "deleted": run.deleted, "bytes": run.bytes, "path": str(run.path)}
