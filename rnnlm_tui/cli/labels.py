"""The verbs that say something of a run and change nothing in it: `tag`, `note`, `rename`."""

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
        note(f"the tags and the note of {run.name} can't be read: the file is kept as {kept}")
    return labels


def tag(
    run: RunArgument,
    tags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[+TAG|-TAG]...", help="Give tags, or take them away: +paper -draft; a bare word gives one.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Give a run tags or take them away; without any, show them."""
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
    line(f"{directory.name} has {'the tags ' + ' '.join(labels.tags) if labels.tags else 'no tags'}" + (f"; it had no {', '.join(unknown)}" if unknown else ""))


def note(
    run: RunArgument,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help='The note; "" takes it away.', show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Write a note on a run, one line; without a text, show it."""
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Give a run that is not running another name."""
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.runs import find_run, rename_run

    before = find_run(run)
    usable_labels(before)
    renamed = rename_run(before, name)
    if json:
        print_json({"run": renamed.name, "before": before.name, "path": str(renamed.path)})
    else:
        line(f"{before.name} is called {renamed.name} now" if renamed != before else f"{renamed.name} is its name already")
