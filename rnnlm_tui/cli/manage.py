"""The verbs that label, pin, rename, delete and restore: `tag` to `purge`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli import output
from rnnlm_tui.cli.options import (
    Address,
    AddressArgument,
    AddressesArgument,
    RunArgument,
    YesOption,
    arg,
    check_exclusive,
    complete_run,
    flag,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import Answer, Answers, check_agreed, line, table
from rnnlm_tui.errors import InputError, RunStateError, UnknownCheckpointError, UnknownRunError
from rnnlm_tui.schema.formatting import age, ago, counted, disk, first_of
from rnnlm_tui.store.addresses import checkpoint_step
from rnnlm_tui.store.labels import (
    change_labels,
    edited_tags,
    labels_file,
    note_checkpoint,
    pin_checkpoint,
    read_labels,
)
from rnnlm_tui.store.runs import find_run, list_runs, rename_run, trashed_names
from rnnlm_tui.store.trash import Trashed

if TYPE_CHECKING:
    from collections.abc import Collection

    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.paths import RunDirectory


def usable_labels(run: RunDirectory) -> RunLabels:
    """Read a run's labels; move a damaged file aside and report its new name.

    Raises:
        StorageError: the file can't be read or moved.
    """
    file = labels_file(run)
    if kept := file.move_damaged_aside():
        lost = f"the labels of {run.name} are damaged: the file is kept as {kept.name}"
        output.note(f"{lost}, and all its checkpoints are pinned now")
    return file.read().value


def tag(
    run: RunArgument,
    tags: list[str] | None = arg(
        "[+TAG|-TAG]...", "Tags to add or remove: +paper -draft; a bare word adds one.", None
    ),
) -> Answer:
    """Add or remove a run's tags: +paper -draft.

    Without tags, print the current ones.
    """
    words = tags or ()
    before = labels = usable_labels(run)
    if words:
        labels = change_labels(
            run, lambda found: replace(found, tags=edited_tags(words, found.tags))
        )
    removed = {word[1:] for word in words if word.startswith("-") and word != "-"}
    unknown = removed - {*before.tags, *(word.removeprefix("+") for word in words)}
    return Answer(
        {"run": run.name, "tags": labels.tags, "changed": labels.tags != before.tags},
        f"{run.name} has {'the tags ' + ' '.join(labels.tags) if labels.tags else 'no tags'}"
        + (f"; no such tag: {', '.join(sorted(unknown))}" if unknown else ""),
    )


def note(
    run: AddressArgument,
    text: list[str] | None = arg("[TEXT]...", 'The note; "" removes it.', None),
) -> Answer:
    """Write a one-line note on a run or a checkpoint.

    Without a text, print the note.
    """
    directory, which = split_address(run)
    step = None if which is None else checkpoint_step(directory, which)
    before = labels = usable_labels(directory)
    words = " ".join(text or ())
    if text and step is not None:
        labels = note_checkpoint(directory, step, words)
    elif text:
        labels = change_labels(directory, lambda found: replace(found, note=words))
    old, new = (
        found.note if step is None else found.notes.get(step, "") for found in (before, labels)
    )
    address = directory.name if step is None else f"{directory.name}@{step}"
    at = {} if step is None else {"step": step}
    value = {"run": directory.name, **at, "note": new, "changed": new != old}
    told = f"{address}: {new}" if text else new
    return Answer(value, told if new else f"{address} has no note")


def rename(run: RunArgument, name: str = arg("NAME", "The new name.")) -> Answer:
    """Rename a run that isn't running."""
    usable_labels(run)
    client.slurm.check_no_job(run)
    renamed = rename_run(run, name)
    value = {"run": renamed.name, "before": run.name, "path": renamed.path}
    same = f"already named {run.name}"
    return Answer(value, same if renamed == run else f"{run.name} renamed to {renamed.name}")


def pin(addresses: AddressesArgument) -> Answers[Address]:
    """Pin checkpoints to keep them, or runs to list them first.

    Newer checkpoints never replace a pinned one.
    """
    return _set(addresses, pinned=True)


def unpin(addresses: AddressesArgument) -> Answers[Address]:
    """Unpin checkpoints or runs."""
    return _set(addresses, pinned=False)


def _set(addresses: list[str], *, pinned: bool) -> Answers[Address]:
    def act(address: Address) -> tuple[object, str]:
        run, which = address
        before = usable_labels(run)
        if which is None:
            change_labels(run, lambda labels: replace(labels, pinned=pinned))
            changed, name, where = before.pinned != pinned, run.name, {}
        else:
            step = _step_of(run, which, () if pinned else before.pins)
            changed = pin_checkpoint(run, step, pinned=pinned).pins != before.pins
            name, where = f"{run.name}@{step}", {"step": step}
        if changed:
            words = "pinned" if pinned else "unpinned"
        else:
            words = "is already pinned" if pinned else "was not pinned"
        if which is None and pinned:
            words = f"is {'' if changed else 'already '}pinned at the top of the list"
            words += f"; `rnnlm-tui pin {run.name}@best` pins its best checkpoint"
        return {"run": run.name, **where, "pinned": pinned, "changed": changed}, f"{name} {words}"

    return Answers(map(split_address, addresses), act)


def _step_of(run: RunDirectory, which: str, pins: Collection[int]) -> int:
    """Return the step of a checkpoint, or of a deleted one that is still among the pins."""
    try:
        return checkpoint_step(run, which)
    except UnknownCheckpointError:
        if (wanted := which.replace(",", "")).isdecimal() and int(wanted) in pins:
            return int(wanted)
        raise


SHOWN_NAMES = 3
"""Runs that the question before deleting several names."""


def complete_trashed(incomplete: str) -> list[str]:
    """List the names of deleted runs, for the shell; after an @, the deleted checkpoints of one."""
    name, at, _ = incomplete.rpartition("@")
    if not at:
        return sorted(set(trashed_names()))
    steps = dict.fromkeys(one.step for one in store.trash.list_trash(find_run(name)))
    return [f"{name}@{which}" for which in ("all", *steps) if steps]


def delete(
    addresses: AddressesArgument,
    yes: YesOption = False,
) -> Answers[Address]:
    """Move runs that aren't running, or checkpoints, to the trash.

    Asks for confirmation for several runs and for a pinned one. The best, the pinned and the newest
    two valid checkpoints of a run can't be deleted.
    """
    found = list(map(split_address, addresses))
    for address, (run, which) in zip(addresses, found, strict=True):
        if address not in (run.name, f"{run.name}@{which}"):
            raise UnknownRunError(
                f'no run named "{address.removesuffix(f"@{which}")}"',
                hint=f'to delete "{run.name}", use its full name',
            )
    runs = list(dict.fromkeys(run for run, which in found if which is None))
    pinned = [run.name for run in runs if read_labels(run).pinned]
    what = f"{counted(len(runs), 'run')}: {first_of([run.name for run in runs], SHOWN_NAMES)}"
    also = f" (pinned: {first_of(pinned, SHOWN_NAMES)})" if pinned else ""
    check_agreed(
        f"move {what}{also} to the trash?", "delete", yes=yes or (len(runs) < 2 and not pinned)
    )

    def act(item: Address) -> tuple[object, str]:
        run, which = item
        if which is None:
            client.slurm.check_no_job(run)
            deleted = store.trash.delete_run(run)
        else:
            step = checkpoint_step(run, which)
            done, kept = store.trash.delete_checkpoints(run, [step])
            if kept:
                raise RunStateError(f"{run.name}@{step} can't be deleted: {kept[step]}")
            [deleted] = done
        return _as_json(deleted), (
            f"{deleted.name} moved to the trash ({disk(deleted.bytes)}): `rnnlm-tui restore"
            f" {deleted.name}` restores it"
        )

    return Answers(found, act)


def trash(
    run: str | None = arg("[RUN]", "List the deleted checkpoints of this run.", None, complete_run),
) -> Answer:
    """List deleted runs, or a run's deleted checkpoints.

    Deleted checkpoints are kept for a week, unless their run needs the disk space; later
    deletions purge them.
    """
    directory = None if run is None else find_run(run)
    found = store.trash.list_trash(directory)
    return Answer(list(map(_as_json, found)), partial(_list, directory, found))


def _list(directory: RunDirectory | None, found: Sequence[Trashed]) -> None:
    for other in list_runs() if directory is None else ():
        if deleted := store.trash.list_trash(other):
            output.note(
                f"{_counted(deleted, f' of {other.name}')}: `rnnlm-tui trash {other.name}` lists"
                " them"
            )
    name = "" if directory is None else directory.name
    if not found:
        line(f"the trash of {name} is empty" if name else "the trash is empty")
        return
    of_runs = directory is None
    address, more = ("NAME", "") if of_runs else (f"{name}@STEP", "; @all takes all")
    now, kept_seconds = time(), store.trash.KEPT_DAYS * 86_400
    table(
        ("name", "deleted", ">size", "folder")
        if of_runs
        else (">step", "deleted", ">size", ">kept for"),
        [
            (
                one.name if of_runs else f"{one.step:,}",
                ago(now - one.deleted),
                disk(one.bytes),
                one.path.name if of_runs else _kept_for(one.deleted + kept_seconds - now),
            )
            for one in found
        ],
    )
    line(
        f"{_counted(found)}: `rnnlm-tui restore {address}` restores one, `rnnlm-tui purge"
        f" {address}` removes it permanently{more}"
    )


def restore(
    names: list[str] = arg(
        "NAME[@STEP]...",
        "Names of deleted runs, or of their folders; @STEP, @all: deleted checkpoints.",
        complete=complete_trashed,
    ),
    name: str | None = opt("--as NAME", "Restore one run under this name.", None),
) -> Answers[tuple[Trashed, ...]]:
    """Restore runs or checkpoints from the trash.

    NAME@STEP restores a checkpoint, NAME@all all deleted ones of a run. Of several deleted ones
    with the same name or step, the most recently deleted is restored.
    """
    found = list(dict.fromkeys(map(_find, names)))
    if name is not None and any(one.run for group in found for one in group):
        raise InputError("--as renames a run, not a checkpoint", hint="leave it out")
    if name is not None and len(found) > 1:
        raise InputError(f"--as takes one run, got {len(found)}", hint="restore them one by one")

    def act(group: tuple[Trashed, ...]) -> tuple[object, str]:
        trashed, run = group[0], group[0].run
        if run is not None:
            store.trash.restore_checkpoints(run, group)
            what = trashed.name if len(group) == 1 else counted(len(group), "checkpoint")
            return {"run": run.name, "steps": [one.step for one in group]}, f"{what} restored"
        restored = store.trash.restore_run(trashed, name)
        others = sum(left.name == trashed.name for left in store.trash.list_trash())
        remain = "remains" if others == 1 else "remain"
        more = f"; {counted(others, 'other')} of that name {remain} in the trash" if others else ""
        value = {"run": restored.name, "before": trashed.name, "path": str(restored.path)}
        return value, f"{restored.name} restored: `rnnlm-tui show {restored.name}`{more}"

    return Answers(found, act)


def purge(
    names: list[str] | None = arg(
        "[NAME[@STEP]]...",
        "Names of deleted runs, or of their folders; @STEP, @all: deleted checkpoints.",
        None,
        complete_trashed,
    ),
    everything: bool = flag("--all", "Remove all deleted runs."),
    yes: YesOption = False,
) -> Answer:
    """Permanently remove deleted runs or checkpoints; asks first."""
    check_exclusive(NAME=names, all=everything)
    if not names and not everything:
        raise InputError(
            "no run given", hint="name a deleted run, or use --all; `rnnlm-tui trash` lists them"
        )
    found = store.trash.list_trash()
    for name in names or ():
        same = [one.path.name for one in found if one.name == name]
        if len(same) > 1:
            raise InputError(
                f"{counted(len(same), 'deleted run')} are named {name}: {', '.join(same)}",
                hint="use the folder names instead",
            )
    if names:
        found = list(dict.fromkeys(one for name in names for one in _find(name)))
    size = disk(sum(one.bytes for one in found))
    question = f"permanently remove {_named(found)}, {size}?"
    what = "purge removes them permanently"
    check_agreed(question, what, yes=yes or not found, otherwise="nothing was removed")
    freed = store.trash.purge(found)
    words = f"{_named(found)} permanently removed, {disk(freed)} freed"
    value = {"purged": list(map(_as_json, found)), "freed": freed}
    return Answer(value, words if found else "the trash is empty")


def _find(address: str) -> tuple[Trashed, ...]:
    """The deleted run, or the deleted checkpoints of `@STEP` or `@all`; of each step the last.

    Raises:
        UnknownRunError, UnknownCheckpointError: it isn't in the trash.
    """
    if "@" not in address:
        return (store.trash.find_trashed(address),)
    run, which = split_address(address)
    if which == "all" and (known := store.trash.list_trash(run)):
        return tuple({one.step: one for one in reversed(known)}.values())
    return (store.trash.find_trashed(which or "", run),)


def _named(items: Sequence[Trashed]) -> str:
    """A name, or numbers: `2 deleted runs and 1 deleted checkpoint`."""
    if len(items) == 1:
        return items[0].name
    checkpoints = sum(one.run is not None for one in items)
    numbers = {"deleted run": len(items) - checkpoints, "deleted checkpoint": checkpoints}
    return " and ".join(counted(number, what) for what, number in numbers.items() if number)


def _counted(items: Sequence[Trashed], of: str = "") -> str:
    what = "deleted run" if items[0].run is None else "deleted checkpoint"
    return f"{counted(len(items), what)}{of}, {disk(sum(one.bytes for one in items))}"


def _kept_for(seconds: float) -> str:
    return age(seconds) if seconds > 0 else "until the next deletion"


def _as_json(one: Trashed) -> dict[str, object]:
    what = {"run": one.name} if one.run is None else {"run": one.run.name, "step": one.step}
    return {**what, "deleted": one.deleted, "bytes": one.bytes, "path": one.path}
