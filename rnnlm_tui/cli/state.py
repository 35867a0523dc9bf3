"""The verbs `state`, `state list`, `keep`, `show` and `delete`: kept recurrent states."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.manage import check_agreed
from rnnlm_tui.cli.options import (
    SampledArgument,
    SamplerDeviceOption,
    YesOption,
    arg,
    complete_state,
    opt,
    sampler_for,
    split_address,
    weights_name,
)
from rnnlm_tui.cli.output import Answer, Answers, facts, note, table
from rnnlm_tui.cli.prompts import read_prompt
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import ago, count, counted, disk, escaped
from rnnlm_tui.store.labels import check_note

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import KeepStateRequest, StateKept
    from rnnlm_tui.store.states import StateInfo

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
    heads = ("name", "tokens", "weights", "model", "kept", "end of its text")
    none = "" if found else "no kept states: `rnnlm-tui state keep RUN NAME TEXT` keeps one"
    return Answer(found, lambda: table(heads, rows, right=(1,), spare=(4, 3), none=none), problems)


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
