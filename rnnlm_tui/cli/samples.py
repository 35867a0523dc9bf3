"""The verb `samples`: search, export and delete kept samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui import store
from rnnlm_tui.cli.manage import check_agreed
from rnnlm_tui.cli.options import JsonOption, YesOption, arg, check_exclusive, complete_run, opt
from rnnlm_tui.cli.output import Answer, columns, line, note, print_json, shortened, shown, table
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import NOTHING, count, counted, escaped
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.store.kept_samples import KeptSample, SampleExport

LISTED = 20
"""Samples listed without --limit."""
SHOWN_CHARACTERS, LEAST_SHOWN = 60, 24
"""Characters of a sample in the list, as many as the terminal's width leaves."""
OTHER_COLUMNS = 50
"""Width of id, time and weights."""


def samples(
    query: list[str] | None = arg(
        "[QUERY]...", "Words that must all be in the prompt, the text or the run's name.", None
    ),
    run: str | None = opt("--run RUN", "Only samples of this run.", None, complete_run),
    limit: int | None = opt(
        "--limit N", "The newest N samples; 0: all. The list has 20, an export or JSON all.", None
    ),
    export: Path | None = opt(
        "--export FILE", "Write the samples to a new file; - prints them.", None
    ),
    form: Literal["text", "jsonl", "markdown"] | None = opt(
        "--format text|jsonl|markdown",
        "The export's format (default: by the file's ending, else text).",
        None,
    ),
    delete: list[str] | None = opt(
        "--delete ID",
        "Permanently delete this sample; asks for confirmation. Can be repeated.",
        None,
    ),
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Search, export or delete kept samples.

    Everything sampled by the app and by `sample` is kept: the newest 10,000 samples.
    """
    check_exclusive(QUERY=query, delete=delete)
    check_exclusive(export=export, delete=delete)
    check_exclusive(export=export, json=json)
    if limit is not None and limit < 0:
        raise InputError(f"--limit is {limit}, must be at least 0")
    if form is not None and export is None:
        raise InputError("--format needs --export", hint="--export FILE, or --export - to print")
    if damage := store.kept_samples.all_samples().move_damaged_aside():
        note(damage)
    if delete:
        _delete(delete, yes=yes, json=json)
        return
    found = store.kept_samples.search(" ".join(query or ()), run)
    listed = limit if limit is not None else LISTED if export is None and not json else 0
    chosen = found[:listed] if listed else found
    if export is not None:
        _export(chosen, export, form)
    elif json:
        print_json(chosen)
    elif not found:
        line("no sample matches" if query or run else "no kept samples")
    else:
        _list(chosen)
        if len(chosen) < len(found):
            note(
                f"{count(len(chosen))} of {counted(len(found), 'sample')}: `--limit 0` lists all,"
                " `--export -` prints them whole"
            )


def _list(samples: Sequence[KeptSample]) -> None:
    room = columns(sys.stdout) or OTHER_COLUMNS + SHOWN_CHARACTERS
    most = min(SHOWN_CHARACTERS, max(LEAST_SHOWN, room - OTHER_COLUMNS))
    table(
        ("id", "sampled", "weights", "seed", "tokens", "prompt and text"),
        [
            (
                sample.id,
                sample.when,
                f"{sample.run}@{sample.step}",
                NOTHING if sample.seed is None else str(sample.seed),
                count(sample.tokens),
                shortened(escaped((sample.prompt + sample.text)[: most + 1]), most),
            )
            for sample in samples
        ],
        right=(3, 4),
        spare=(4, 3, 1),
    )


def _export(samples: Sequence[KeptSample], file: Path, form: SampleExport | None) -> None:
    """Write the samples to a new file, or to standard output.

    Raises:
        InputError: the file exists.
        StorageError: it can't be written.
    """
    endings = {ending: name for name, ending in store.kept_samples.EXPORT_ENDINGS.items()}
    text = store.kept_samples.export(samples, form or endings.get(file.suffix, "text"))
    if str(file) == "-":
        sys.stdout.write(shown(text))
        sys.stdout.flush()
        return
    if file.exists():
        raise InputError(f"{file} exists already", hint="choose another name")
    with storage_errors("write", file), file.open("x", encoding="utf-8", newline="\n") as written:
        written.write(text)
    line(f"{counted(len(samples), 'sample')} written to {file}")


def _delete(ids: Sequence[str], *, yes: bool, json: bool) -> None:
    """Delete samples by their ids, or the first characters of these.

    Raises:
        InputError: no sample, or several, have such an id; nothing was deleted.
    """
    known = [sample.id for sample in store.kept_samples.search()]
    wanted = list[str]()
    for given in ids:
        matches = [id for id in known if id.startswith(given)] if given else []
        if len(matches) != 1:
            several = f"{counted(len(matches), 'sample')} start with" if matches else "no sample"
            raise InputError(f'{several} "{given}"', hint="`rnnlm-tui samples` lists the ids")
        wanted += matches
    wanted = list(dict.fromkeys(wanted))
    question = f"permanently delete {counted(len(wanted), 'sample')}?"
    check_agreed(question, "samples --delete", yes=yes)
    removed = store.kept_samples.delete(wanted)
    value = {"deleted": [sample.id for sample in removed]}
    Answer(value, f"{counted(len(removed), 'sample')} deleted").print(json=json)
