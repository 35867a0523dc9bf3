"""The verbs that label, pin, rename and delete runs: `tag` to `purge`."""

from __future__ import annotations

from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli import output
from rnnlm_tui.cli.options import (
    JsonOption,
    RunArgument,
    check_exclusive,
    complete_address,
    complete_run,
    split_address,
)
from rnnlm_tui.cli.output import act_on_each, encodable, line, print_json, table
from rnnlm_tui.errors import InputError, StorageError, UnknownCheckpointError, UnknownRunError
from rnnlm_tui.schema.formatting import age, counted, disk, safe

if TYPE_CHECKING:
    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.trash import TrashedRun


def usable_labels(run: RunDirectory) -> RunLabels:
    """Read a run's labels; move a damaged file aside and report its new name.

    Raises:
        StorageError: the file can't be moved.
    """
    from rnnlm_tui.store.labels import move_labels_aside, read_labels

    labels = read_labels(run)
    if not labels.usable and (kept := move_labels_aside(run)):
        output.note(
            f"cannot read the tags and note of {run.name}: the damaged file was moved to {kept}"
        )
    return labels


def tag(
    run: RunArgument,
    tags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[+TAG|-TAG]...",
            help="Tags to add or remove: +paper -draft; a bare word adds one.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add or remove a run's tags: +paper -draft.

    Without tags, print the current ones.
    """
    from rnnlm_tui.store.labels import change_labels, edited_tags
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)

    def change(labels: RunLabels) -> RunLabels:
        return replace(labels, tags=edited_tags(tags or (), labels.tags))

    before = usable_labels(directory)
    labels = change_labels(directory, change) if tags else before
    if json:
        print_json(
            {"run": directory.name, "tags": labels.tags, "changed": labels.tags != before.tags}
        )
        return
    words = tags or ()
    unknown = sorted(
        {word[1:] for word in words if word.startswith("-")}
        - {""}
        - set(before.tags)
        - {word.removeprefix("+") for word in words}
    )
    line(
        f"{directory.name} has {'the tags ' + ' '.join(labels.tags) if labels.tags else 'no tags'}"
        + (f"; no such tag: {', '.join(unknown)}" if unknown else "")
    )


def note(
    run: RunArgument,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help='The note; "" removes it.', show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a one-line note on a run.

    Without a text, print the note.
    """
    from rnnlm_tui.store.labels import change_labels
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    before = usable_labels(directory)
    labels = before
    if text:
        labels = change_labels(directory, lambda found: replace(found, note=" ".join(text)))
    if json:
        print_json(
            {"run": directory.name, "note": labels.note, "changed": labels.note != before.note}
        )
    elif labels.note:
        line(labels.note if not text else f"{directory.name}: {labels.note}")
    else:
        line(f"{directory.name} has no note")


def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Rename a run that isn't running."""
    from rnnlm_tui.store.runs import find_run, rename_run

    before = find_run(run)
    usable_labels(before)
    renamed = rename_run(before, name)
    if json:
        print_json({"run": renamed.name, "before": before.name, "path": str(renamed.path)})
    else:
        same = renamed == before
        line(f"already named {before.name}" if same else f"{before.name} renamed to {renamed.name}")


AddressesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN[@CHECKPOINT]...",
        help="Runs, or their checkpoints: @best, @last or @STEP.",
        show_default=False,
        autocompletion=complete_address,
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

    found = [split_address(address) for address in addresses]

    def act(address: tuple[RunDirectory, str | None]) -> tuple[object, str]:
        run, which = address
        if which is None:
            return _set_run(run, pinned=pinned)
        return _set_checkpoint(run, which, pinned=pinned)

    act_on_each(found, act, json=json)


def _set_checkpoint(run: RunDirectory, which: str, *, pinned: bool) -> tuple[object, str]:
    from rnnlm_tui.store.retention import pin_checkpoint, unpin_checkpoint

    step = _step_of(run, which, pins=not pinned)
    changed = pin_checkpoint(run, step) if pinned else unpin_checkpoint(run, step)
    if changed:
        words = "pinned" if pinned else "unpinned"
    else:
        words = "is already pinned" if pinned else "was not pinned"
    result = {"run": run.name, "step": step, "pinned": pinned, "changed": changed}
    return result, f"{run.name}@{step} {words}"


def _set_run(run: RunDirectory, *, pinned: bool) -> tuple[object, str]:

    from rnnlm_tui.store.labels import change_labels

    before = usable_labels(run).pinned
    change_labels(run, lambda labels: replace(labels, pinned=pinned))
    if pinned:
        words = f"is {'already ' if before else ''}pinned at the top of the list"
        words += f"; `rnnlm-tui pin {run.name}@best` pins its best checkpoint"
    else:
        words = "unpinned" if before else "was not pinned"
    return {"run": run.name, "pinned": pinned, "changed": before != pinned}, f"{run.name} {words}"


def _step_of(run: RunDirectory, which: str, *, pins: bool) -> int:
    """Return a checkpoint's step; with `pins`, also of a deleted one that is still pinned."""
    from rnnlm_tui.store.retention import pinned_steps
    from rnnlm_tui.store.verify import resolve_checkpoint

    try:
        return int(resolve_checkpoint(run, which).name.rpartition("-")[2])
    except UnknownCheckpointError:
        wanted = which.replace(",", "")
        left = next((step for step in pinned_steps(run) if pins and str(step) == wanted), None)
        if left is None:
            raise
        return left


def complete_trashed(incomplete: str) -> list[str]:
    """Complete the name of a deleted run for the shell."""
    from rnnlm_tui.store.runs import trashed_names

    return sorted(name for name in set(trashed_names()) if name.startswith(incomplete))


def delete(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Full names of runs.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Move runs that aren't running to the trash."""
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.store.trash import delete_run

    directories = [find_run(run) for run in runs]
    for run, directory in zip(runs, directories, strict=True):
        if directory.name != run:
            raise UnknownRunError(
                f'no run named "{run}"', hint=f'to delete "{directory.name}", use its full name'
            )

    def act(run: RunDirectory) -> tuple[object, str]:
        trashed = delete_run(run)
        words = f"moved to the trash ({disk(trashed.bytes)})"
        return _as_json(trashed), f"{run.name} {words}: `rnnlm-tui restore {run.name}` restores it"

    act_on_each(directories, act, json=json)


def trash(json: JsonOption = False) -> None:
    """List deleted runs and the disk space they use."""
    from rnnlm_tui.store.trash import list_trash

    found = list_trash()
    if json:
        print_json([_as_json(run) for run in found])
        return
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
            metavar="NAME...",
            help="Names of deleted runs, or of their folders.",
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
    """Restore runs from the trash.

    If several deleted runs have the same name, the most recently deleted one is restored.
    """
    from rnnlm_tui.store.trash import find_trashed, list_trash, restore_run

    found = list(dict.fromkeys(find_trashed(run) for run in runs))
    if name is not None and len(found) > 1:
        raise InputError(f"--as takes one run, got {len(found)}", hint="restore them one by one")

    def act(trashed: TrashedRun) -> tuple[object, str]:
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
            metavar="[NAME]...",
            help="Names of deleted runs, or of their folders.",
            show_default=False,
            autocompletion=complete_trashed,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all deleted runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Permanently remove deleted runs; asks for confirmation."""
    from rnnlm_tui.store.trash import purge as purge_one

    found = _chosen(runs or [], everything=everything)
    size = sum(run.bytes for run in found)
    question = f"permanently remove {_named(found)}, {disk(size)}?"
    if found and not yes and not confirmed(question, "purge removes runs permanently"):
        output.note("nothing was removed")
        raise typer.Exit(1)
    freed = 0
    for done, run in enumerate(found):
        try:
            freed += purge_one(run)
        except StorageError:
            if done:
                output.note(_purged_text(found[:done], disk(freed)))
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
    from rnnlm_tui.store.trash import find_trashed, list_trash

    known = list_trash()
    check_exclusive(NAME=bool(names), all=everything)
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


def confirmed(question: str, what: str) -> bool:
    """Ask a yes-or-no question on the terminal.

    Raises:
        InputError: standard input is not a terminal; its message starts with `what`.
    """
    import sys

    if not sys.stdin.isatty():
        raise InputError(
            f"{what}: cannot ask for confirmation, standard input is not a terminal",
            hint="add --yes",
        )
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
