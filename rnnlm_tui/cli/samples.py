"""The verbs `samples` and `state`: kept samples and kept recurrent states."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import (
    JsonOption,
    SampledArgument,
    SamplerDeviceOption,
    YesOption,
    arg,
    check_exclusive,
    complete_run,
    complete_state,
    opt,
    sampler_for,
    split_address,
    weights_name,
)
from rnnlm_tui.cli.output import (
    Answer,
    Answers,
    check_agreed,
    clipped,
    columns,
    facts,
    line,
    note,
    print_json,
    shown,
    table,
)
from rnnlm_tui.cli.prompts import read_prompt
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import NOTHING, ago, count, counted, disk, escaped
from rnnlm_tui.store.labels import check_note
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.schema.sampling import KeepStateRequest, StateKept
    from rnnlm_tui.store.kept_samples import KeptSample, SampleExport
    from rnnlm_tui.store.states import StateInfo

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
        ("id", "sampled", "weights", ">seed", ">tokens", "prompt and text"),
        [
            (
                sample.id,
                sample.when,
                f"{sample.run}@{sample.step}",
                NOTHING if sample.seed is None else str(sample.seed),
                count(sample.tokens),
                clipped(escaped((sample.prompt + sample.text)[: most + 1]), most),
            )
            for sample in samples
        ],
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


SHOWN_END = 40
"""Characters of the end of a state's text in the list."""


def state() -> Answer:
    """List kept states, newest first."""
    found = store.states.list_states()
    rows = [
        (
            info.name,
            count(info.tokens),
            weights_of(info),
            info.shape,
            ago(time.time() - info.created),
            _end(info.text),
        )
        for info in found
        if not info.problem
    ]
    problems = "\n".join(f"{info.name}: {info.problem}" for info in found if info.problem)
    heads = ("name", ">tokens", "weights", "model", "kept", "end of its text")
    none = "" if found else "no kept states: `rnnlm-tui state keep RUN NAME TEXT` keeps one"
    return Answer(found, lambda: table(heads, rows, spare=(4, 3), none=none), problems)


def state_keep(
    run: SampledArgument,
    name: str = arg("NAME", "The new state's name, as a run's: A-Z a-z 0-9 . _ -."),
    text: str = arg("TEXT", "The text that the model reads; - reads it from standard input."),
    start: str = opt(
        "--state NAME", "Start from this kept state instead of the initial one.", "", complete_state
    ),
    remark: str = opt("--note TEXT", "A note on the state.", ""),
    device: SamplerDeviceOption = "cpu",
) -> Answer:
    """Keep a model's state after a text, under a name.

    `sample --state NAME` continues from it, as if the text came before the prompt.
    """
    import asyncio

    from rnnlm_tui.schema.sampling import KeepStateRequest

    directory, which = split_address(run)
    prompt, path, remark = read_prompt(text), store.states.new_state_path(name), check_note(remark)
    checkpoint = str(client.control.weights_path(directory, which))
    if not prompt:
        raise InputError("the text has no tokens", hint="give the model something to read")
    request = KeepStateRequest(
        id="keep",
        checkpoint=checkpoint,
        prompt=prompt,
        state=str(store.states.find_state(start).path) if start else "",
        name=name,
        path=str(path),
        run=directory.name,
        note=remark,
    )
    unknown = asyncio.run(_keep(request, device)).unknown
    if unknown:
        note(f"unknown to this model, read as <unk>: {', '.join(unknown)}")
    info = store.states.read_state_info(path)
    return Answer(
        info,
        f"{info.name} kept: {counted(info.tokens, 'token')} read by"
        f" {directory.name}@{weights_name(checkpoint)}, {info.shape}, {disk(info.bytes)}",
        f"`rnnlm-tui sample {directory.name} '' --state {info.name}` continues from it",
    )


async def _keep(request: KeepStateRequest, device: str) -> StateKept:
    from rnnlm_tui.schema.sampling import StateKept

    async with sampler_for(request.checkpoint, device) as sampler:
        return await sampler.ask(request, StateKept)


def state_show(
    name: str = arg("NAME", "The name of a kept state.", complete=complete_state),
) -> Answer:
    """Show what a kept state is of, and the end of its text."""
    info = store.states.find_state(name)
    lines = (
        ("name", info.name),
        ("weights", weights_of(info)),
        ("model", f"{info.shape}, vocabulary {count(info.vocab_size)}"),
        ("tokens", f"{count(info.tokens)} read"),
        ("kept", time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created))),
        ("note", info.note),
        ("file", f"{info.path}, {disk(info.bytes)}"),
        ("text", escaped(info.text)),
    )
    return Answer(info, lambda: facts(lines))


def state_delete(
    names: list[str] = arg("NAME...", "Names of kept states.", complete=complete_state),
    yes: YesOption = False,
) -> Answers[str]:
    """Permanently delete kept states; asks for confirmation."""
    damaged = {info.name for info in store.states.list_states() if info.problem}
    for name in names:
        if name not in damaged:
            store.states.find_state(name)
    what = names[0] if len(names) == 1 else f"{len(names)} states ({', '.join(names)})"
    check_agreed(f"permanently delete {what}?", "state delete", yes=yes)

    def act(name: str) -> tuple[object, str]:
        deleted = store.states.delete_state(name)
        return {"name": name, "path": deleted.path}, f"{name} deleted"

    return Answers(names, act)


def weights_of(info: StateInfo) -> str:
    """`plain-otter@3700`, or the step alone."""
    return f"{info.run}@{info.step}" if info.run else f"step {info.step:,}"


def _end(text: str) -> str:
    """The end of a text in one line."""
    end = escaped(text[-SHOWN_END:])
    return f"…{end}" if len(text) > SHOWN_END else end
