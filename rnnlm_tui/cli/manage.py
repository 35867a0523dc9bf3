"""The verbs that label, pin and rename runs: `tag` to `rename`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from rnnlm_tui.cli import output
from rnnlm_tui.cli.options import (
    Address,
    RunArgument,
    arg,
    complete_address,
    split_address,
)
from rnnlm_tui.cli.output import Answer, Answers, encodable
from rnnlm_tui.errors import InputError, UnknownCheckpointError
from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.store.addresses import checkpoint_step
from rnnlm_tui.store.labels import (
    change_labels,
    edited_tags,
    labels_file,
    note_checkpoint,
    pin_checkpoint,
)
from rnnlm_tui.store.runs import rename_run

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


AddressesArgument = Annotated[
    list[str],
    arg(
        "RUN[@CHECKPOINT]...",
        "Runs, or their checkpoints: @best, @last or @STEP.",
        complete=complete_address,
    ),
]


AddressArgument = Annotated[
    str,
    arg(
        "RUN[@CHECKPOINT]",
        "A run, or its checkpoint: @best, @last or @STEP.",
        complete=complete_address,
    ),
]


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


def confirmed(question: str, what: str) -> bool:
    """Ask a yes-or-no question on the terminal.

    Raises:
        InputError: as `check_can_ask`.
    """
    check_can_ask(what)
    print(encodable(safe(f"{question} [y/N] "), sys.stderr), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_agreed(
    question: str, what: str, *, yes: bool, otherwise: str = "nothing was deleted"
) -> None:
    """Ask a yes-or-no question, unless `yes` was given; another answer ends the verb with 1."""
    if not yes and not confirmed(question, what):
        output.note(otherwise)
        raise SystemExit(1)


def check_can_ask(what: str, hint: str = "add --yes") -> None:
    """Check that a question can be asked.

    Raises:
        InputError: standard input is not a terminal; its message starts with `what`.
    """
    if not sys.stdin.isatty():
        raise InputError(
            f"{what}: cannot ask for confirmation, standard input is not a terminal", hint=hint
        )
