"""The verbs `tag`, `note` and `rename`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, RunArgument

if TYPE_CHECKING:
    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.run_directory import RunDirectory


def usable_labels(run: RunDirectory) -> RunLabels:
    """Read a run's labels; move a damaged file aside and report its new name.

    Raises:
        StorageError: the file can't be moved.
    """
    from rnnlm_tui.cli.output import note
    from rnnlm_tui.store.labels import move_labels_aside, read_labels

    labels = read_labels(run)
    if not labels.usable and (kept := move_labels_aside(run)):
        note(f"cannot read the tags and note of {run.name}: the damaged file was moved to {kept}")
    return labels


def tag(
    run: RunArgument,
    tags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[+TAG|-TAG]...", help="Tags to add or remove: +paper -draft; a bare word adds one.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add or remove a run's tags: +paper -draft.

    Without tags, print the current ones.
    """
    from dataclasses import replace

    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.labels import change_labels, edited_tags
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)

    def change(labels: RunLabels) -> RunLabels:
        return replace(labels, tags=edited_tags(tags or (), labels.tags))

    before = usable_labels(directory)
    labels = change_labels(directory, change) if tags else before
    if json:
        print_json({"run": directory.name, "tags": labels.tags, "changed": labels.tags != before.tags})
        return
    words = tags or ()
    unknown = sorted({word[1:] for word in words if word.startswith("-")} - {""} - set(before.tags) - {word.removeprefix("+") for word in words})
    line(
        f"{directory.name} has {'the tags ' + ' '.join(labels.tags) if labels.tags else 'no tags'}"
        + (f"; no such tag: {', '.join(unknown)}" if unknown else "")
    )


def note(
    run: RunArgument,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help='The note; "" removes it.', show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Write a one-line note on a run.

    Without a text, print the note.
    """
    from dataclasses import replace

    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.labels import change_labels
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    before = usable_labels(directory)
    labels = before if not text else change_labels(directory, lambda found: replace(found, note=" ".join(text)))
    if json:
        print_json({"run": directory.name, "note": labels.note, "changed": labels.note != before.note})
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
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.runs import find_run, rename_run

    before = find_run(run)
    usable_labels(before)
    renamed = rename_run(before, name)
    if json:
        print_json({"run": renamed.name, "before": before.name, "path": str(renamed.path)})
    else:
        line(f"{before.name} renamed to {renamed.name}" if renamed != before else f"already named {renamed.name}")
