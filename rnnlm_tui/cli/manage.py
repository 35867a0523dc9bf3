"""The verbs that label, pin and rename runs: `tag` to `rename`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from rnnlm_tui.cli import output
from rnnlm_tui.cli.options import (
    JsonOption,
    RunArgument,
    arg,
    complete_address,
    split_address,
)
from rnnlm_tui.cli.output import act_on_each, encodable, line, print_json
from rnnlm_tui.errors import (
    InputError,
    UnknownCheckpointError,
)
from rnnlm_tui.schema.formatting import safe

if TYPE_CHECKING:
    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.paths import RunDirectory


def usable_labels(run: RunDirectory) -> RunLabels:
    """Read a run's labels; move a damaged file aside and report its new name.

    Raises:
        StorageError: the file can't be read or moved.
    """
    from rnnlm_tui.store.labels import labels_file

    file = labels_file(run)
    if kept := file.move_damaged_aside():
        lost = f"the labels of {run.name} are damaged: the file is kept as {kept.name}"
        output.note(f"{lost}, and all its checkpoints are pinned now")
    return file.read().value


AddressesArgument = Annotated[
    list[str],
    arg(
        "RUN[@CHECKPOINT]...",
        "Runs, or their checkpoints: @best, @last or @STEP.",
        complete_address,
    ),
]


AddressArgument = Annotated[
    str,
    arg("RUN[@CHECKPOINT]", "A run, or its checkpoint: @best, @last or @STEP.", complete_address),
]


def tag(
    run: RunArgument,
    tags: Annotated[
        list[str] | None,
        arg("[+TAG|-TAG]...", "Tags to add or remove: +paper -draft; a bare word adds one."),
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
    run: AddressArgument,
    text: Annotated[list[str] | None, arg("[TEXT]...", 'The note; "" removes it.')] = None,
    json: JsonOption = False,
) -> None:
    """Write a one-line note on a run or a checkpoint.

    Without a text, print the note.
    """
    from rnnlm_tui.store.labels import change_labels, note_checkpoint

    directory, which = split_address(run)
    name, step = directory.name, None if which is None else _step_of(directory, which, pins=False)
    before = labels = usable_labels(directory)
    words = " ".join(text or ())
    if text and step is not None:
        labels = note_checkpoint(directory, step, words)
    elif text:
        labels = change_labels(directory, lambda found: replace(found, note=words))
    old, new = (
        found.note if step is None else found.notes.get(step, "") for found in (before, labels)
    )
    at = {} if step is None else {"step": step}
    address = name if step is None else f"{name}@{step}"
    if json:
        print_json({"run": name, **at, "note": new, "changed": new != old})
    elif new:
        line(new if not text else f"{address}: {new}")
    else:
        line(f"{address} has no note")


def rename(
    run: RunArgument,
    name: Annotated[str, arg("NAME", "The new name.")],
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
    from rnnlm_tui.store.labels import pin_checkpoint

    step, before = _step_of(run, which, pins=not pinned), usable_labels(run).pins
    changed = pin_checkpoint(run, step, pinned=pinned).pins != before
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
    from rnnlm_tui.store.addresses import checkpoint_path
    from rnnlm_tui.store.labels import read_labels

    if which.startswith("average-"):
        raise InputError(
            f"{run.name}@{which} is an average: averages need no pin: they stay",
            hint=f"`rnnlm-tui average --remove {run.name}@{which}` removes it",
        )
    try:
        return int(checkpoint_path(run, which).name.rpartition("-")[2])
    except UnknownCheckpointError:
        wanted = which.replace(",", "")
        left = next((step for step in read_labels(run).pins if pins and str(step) == wanted), None)
        if left is None:
            raise
        return left


def confirmed(question: str, what: str) -> bool:
    """Ask a yes-or-no question on the terminal.

    Raises:
        InputError: as `check_can_ask`.
    """
    check_can_ask(what)
    print(encodable(safe(f"{question} [y/N] "), sys.stderr), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_can_ask(what: str, hint: str = "add --yes") -> None:
    """Check that a question can be asked.

    Raises:
        InputError: standard input is not a terminal; its message starts with `what`.
    """
    if not sys.stdin.isatty():
        raise InputError(
            f"{what}: cannot ask for confirmation, standard input is not a terminal", hint=hint
        )
