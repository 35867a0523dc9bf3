"""`set` and `stop --after`: steer runs while they train."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from rnnlm_tui.cli.options import JsonOption, RunArgument, check_exclusive
from rnnlm_tui.cli.output import act_on_each, line, note, print_json, table
from rnnlm_tui.cli.summaries import STOPS
from rnnlm_tui.errors import ConfigError, InputError, Problem, did_you_mean
from rnnlm_tui.schema.formatting import counted, scientific

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.protocol import CommandResult, Setting
    from rnnlm_tui.schema.status import StopMark
    from rnnlm_tui.schema.steering import JournalledChange
    from rnnlm_tui.store.paths import RunDirectory

CLEARABLE = "training.max_steps"
"""The only key whose value may be cleared: then the epochs decide."""


def complete_settable(incomplete: str) -> list[str]:
    """Complete, for the shell, a setting that can change while a run trains."""
    from rnnlm_tui.schema.steering import STEERABLE

    return [f"{path}=" for path in STEERABLE if path.startswith(incomplete)]


def change(
    run: RunArgument,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="optimizer.learning_rate=1e-3 training.max_steps=5000 …; all or none.",
            show_default=False,
            autocompletion=complete_settable,
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Restore the values from before the last change.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Change settings while a run trains, or list them.

    Without KEY=VALUE, `set` lists the keys that can change, their values, and all changes so far. A
    checkpoint is saved before each change. Later attempts keep the changed values.
    """
    from rnnlm_tui.client import control, steering
    from rnnlm_tui.store.runs import find_run

    check_exclusive(undo=undo, KEY=bool(assignments))
    directory = find_run(run)
    if undo:
        result = control.send(directory, "undo")
    elif assignments:
        result = steering.steer(directory, parse_settings(assignments))
    else:
        _list(directory, json=json)
        return
    if result.change is None:
        raise InputError("the worker changed nothing", hint="it may run another version")
    if json:
        print_json(
            {
                "run": directory.name,
                **result.change.model_dump(mode="json"),
                "checkpoint": result.checkpoint,
            }
        )
        return
    _report(directory, result, steering.read_steering(directory), undone=result.change.undoes)


def _report(run: RunDirectory, result: CommandResult, state: SteeringState, *, undone: int) -> None:
    change = result.change
    assert change is not None  # checked by the caller
    first = change.step + 1
    for one in change.settings:
        line(
            f"{run.name}: {_setting_text(one)} from step {first:,}{_consequence(state, one, first)}"
        )
    kept = kept_words(run, change.step)
    saved = f"saved before in {result.checkpoint}{kept}; " if result.checkpoint else ""
    if undone:
        note(f"{saved}change {undone} is undone")
    else:
        note(f"{saved}`rnnlm-tui set {run.name} --undo` undoes it")


def kept_words(run: RunDirectory, step: int) -> str:
    """Say how long a checkpoint stays, and the verb that keeps it; empty if it stays for good."""
    stays = run.read_config().checkpoint.stays(step)
    return f", kept {stays} (`rnnlm-tui pin {run.name}@{step}` keeps it)" if stays else ""


def _setting_text(one: Setting) -> str:
    from rnnlm_tui.schema.steering import value_text

    return f"{one.path} {value_text(one.path, one.old)} → {value_text(one.path, one.new)}"


def _consequence(state: SteeringState, one: Setting, step: int) -> str:
    """What the schedule makes of a new peak, and of which length; empty for other settings."""
    total = state.steps(state.config)
    if one.path.startswith("training.") and one.path != "training.patience":
        return f" (the run has {counted(total, 'step')})" if total else ""
    if one.path != "optimizer.learning_rate" or not total:
        return ""
    (rate,) = state.rates(state.config, [step])
    if rate == state.config.optimizer.learning_rate:
        return ""
    warming = step <= state.position.warmup_steps
    shape = "warm-up" if warming else f"{state.config.schedule.kind} schedule"
    return f" (peak; the {shape} makes it {scientific(rate)} now)"


def _list(run: RunDirectory, *, json: bool) -> None:
    """Print the keys that can change, their values, and the journal."""
    from rnnlm_tui.client.steering import read_steering
    from rnnlm_tui.schema.config import value_of
    from rnnlm_tui.schema.status import LIVING
    from rnnlm_tui.schema.steering import STEERABLE, value_text
    from rnnlm_tui.schema.validation import allowed_range

    state, start = read_steering(run), run.read_config()
    summary = state.summary
    if json:
        print_json(
            {
                "run": run.name,
                "status": summary.status,
                "step": summary.step,
                "max_steps": summary.max_steps,
                "stop_after": summary.stop_after,
                "requests": [one.model_dump(mode="json") for one in summary.requests],
                "settings": [
                    {
                        "path": path,
                        "value": value_of(state.config, path),
                        "start": value_of(start, path),
                    }
                    for path in STEERABLE
                ],
                "changes": [_change_json(change) for change in state.journal],
            }
        )
        return
    rows = []
    for path in STEERABLE:
        now, before = value_of(state.config, path), value_of(start, path)
        was = value_text(path, before) if now != before else ""
        rows.append((path, value_text(path, now), was, allowed_range(path)))
    table(("key", "value", "at start", "allowed"), rows, right=(1, 2), spare=(3,))
    if state.journal:
        line()
        table(("change", "step", "time", "what", "who"), _journal_rows(state.journal), right=(0, 1))
    if summary.stop_after:
        line(f"\nstops {STOPS[summary.stop_after]}")
    if summary.status not in LIVING:
        note(f"{run.name} is {summary.status}: only a run that trains can be steered")


def _journal_rows(journal: Iterable[JournalledChange]) -> Iterable[tuple[str, str, str, str, str]]:
    for change in journal:
        when = datetime.fromtimestamp(change.time).strftime("%Y-%m-%d %H:%M:%S")
        mark = f" (undoes {change.undoes})" if change.undoes else ""
        for one in change.settings:
            what = _setting_text(one) + mark
            yield str(change.number), f"{change.step:,}", when, what, change.who


def _change_json(change: JournalledChange) -> dict[str, object]:
    return {
        "number": change.number,
        "step": change.step,
        "time": change.time,
        "who": change.who,
        "undoes": change.undoes,
        "settings": [one.model_dump(mode="json") for one in change.settings],
    }


def parse_settings(assignments: list[str]) -> dict[str, JsonValue]:
    """Parse changes for a run that trains; an empty value clears `training.max_steps`.

    Raises:
        ConfigError: every assignment that is malformed, has no value, or is to a fixed field.
    """
    from rnnlm_tui.schema.steering import check_keys
    from rnnlm_tui.schema.validation import parse_value

    changes: dict[str, JsonValue] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or (not text and path != CLEARABLE):
            problems.append(Problem(path, "has no value", "write it as key=value"))
            continue
        try:
            check_keys([path])
        except ConfigError as error:
            problems += error.problems
        else:
            changes[path] = cast("JsonValue", parse_value(path, text))
    if problems:
        raise ConfigError(problems)
    return changes


def complete_mark(incomplete: str) -> list[str]:
    """Complete, for the shell, what a run may complete before it stops."""
    from rnnlm_tui.schema.status import StopMark

    return [mark for mark in get_args(StopMark) if mark.startswith(incomplete)]


def plan_stops(names: list[str], after: str | None, *, json: bool) -> None:
    """Stop each run after this epoch or the next evaluation; None cancels that.

    Raises:
        InputError: an unknown mark.
    """
    from rnnlm_tui.client.control import send
    from rnnlm_tui.schema.status import StopMark
    from rnnlm_tui.store.runs import find_run

    marks = get_args(StopMark)
    if after is not None and after not in marks:
        raise InputError(
            f"--after is {after}, must be {' or '.join(marks)}", hint=did_you_mean(after, marks)
        )
    mark = cast("StopMark | None", after)

    def act(run: RunDirectory) -> tuple[object, str]:
        result = send(run, "stop_after", after=mark)
        value = {"run": run.name, "stop_after": mark, "step": result.step, "text": result.text}
        return value, f"{run.name} {result.text}"

    act_on_each([find_run(name) for name in names], act, json=json)
