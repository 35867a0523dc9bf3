"""`set` and `stop --after`: steer runs while they train."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from rnnlm_tui import client
from rnnlm_tui.cli.options import RunArgument, arg, check_exclusive, flag
from rnnlm_tui.cli.output import Answer, Answers, line, note, table
from rnnlm_tui.cli.summaries import STOPS
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, scientific
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.protocol import Setting
    from rnnlm_tui.schema.status import StopMark
    from rnnlm_tui.store.paths import RunDirectory

FIGURES = ("status", "step", "max_steps", "stop_after", "requests")
"""The figures of a run's summary that JSON has beside its settings."""
CHANGE = ("number", "step", "time", "who", "undoes", "settings")
"""The fields of a change in JSON."""


def complete_settable() -> list[str]:
    """List the settings that can change while a run trains, for the shell."""
    from rnnlm_tui.schema.steering import STEERABLE

    return [f"{path}=" for path in STEERABLE]


def change(
    run: RunArgument,
    assignments: list[str] | None = arg(
        "[KEY=VALUE]...",
        "optimizer.learning_rate=1e-3 training.max_steps=5000 …; all or none.",
        None,
        complete_settable,
    ),
    undo: bool = flag("--undo", "Restore the values from before the last change."),
) -> Answer:
    """Change settings while a run trains, or list them.

    Without KEY=VALUE, `set` lists the keys that can change, their values, and all changes so far. A
    checkpoint is saved before each change. Later attempts keep the changed values.
    """
    check_exclusive(undo=undo, KEY=assignments)
    if undo:
        result = client.control.send(run, "undo")
    elif assignments:
        result = client.steering.steer(run, parse_settings(assignments))
    else:
        return _list(run)
    change = result.change
    if change is None:
        raise InputError("the worker changed nothing", hint="it may run another version")
    first, state = change.step + 1, client.steering.read_steering(run)
    done = "\n".join(
        f"{run.name}: {_setting_text(one)} from step {first:,}{_consequence(state, one, first)}"
        for one in change.settings
    )
    kept = kept_words(run, change.step)
    saved = f"saved before in {result.checkpoint}{kept}; " if result.checkpoint else ""
    undone = f"`rnnlm-tui set {run.name} --undo` undoes it"
    if change.undoes:
        undone = f"change {change.undoes} is undone"
    value = {"run": run.name, **change.model_dump(), "checkpoint": result.checkpoint}
    return Answer(value, done, f"{saved}{undone}")


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


def _list(run: RunDirectory) -> Answer:
    """List the keys that can change, their values, and the journal."""
    from rnnlm_tui.schema.config import value_of
    from rnnlm_tui.schema.steering import STEERABLE, value_text
    from rnnlm_tui.schema.validation import allowed_range

    state, start = client.steering.read_steering(run), run.read_config()
    summary = state.summary
    values = [(path, value_of(state.config, path), value_of(start, path)) for path in STEERABLE]

    def text() -> None:
        rows = []
        for path, now, before in values:
            was = value_text(path, before) if now != before else ""
            rows.append((path, value_text(path, now), was, allowed_range(path)))
        table(("key", "value", "at start", "allowed"), rows, right=(1, 2), spare=(3,))
        if state.journal:
            line()
            made = [
                (
                    str(change.number),
                    f"{change.step:,}",
                    datetime.fromtimestamp(change.time).strftime("%Y-%m-%d %H:%M:%S"),
                    _setting_text(one) + (f" (undoes {change.undoes})" if change.undoes else ""),
                    change.who,
                )
                for change in state.journal
                for one in change.settings
            ]
            table(("change", "step", "time", "what", "who"), made, right=(0, 1))
        if summary.stop_after:
            line(f"\nstops {STOPS[summary.stop_after]}")
        if summary.status not in LIVING:
            note(f"{run.name} is {summary.status}: only a run that trains can be steered")

    value = {
        "run": run.name,
        **{name: getattr(summary, name) for name in FIGURES},
        "settings": [{"path": path, "value": now, "start": before} for path, now, before in values],
        "changes": [{name: getattr(one, name) for name in CHANGE} for one in state.journal],
    }
    return Answer(value, text)


def parse_settings(assignments: list[str]) -> dict[str, JsonValue]:
    """Parse changes for a run that trains.

    Raises:
        ConfigError: every assignment to a fixed or unknown field, or every malformed one.
    """
    from rnnlm_tui.schema.steering import check_keys
    from rnnlm_tui.schema.validation import parse_assignments

    check_keys(assignment.partition("=")[0].strip() for assignment in assignments)
    return cast("dict[str, JsonValue]", parse_assignments(assignments))


def plan_stops(runs: list[RunDirectory], mark: StopMark | None) -> Answers[RunDirectory]:
    """Stop each run after this epoch or the next evaluation; None cancels that."""

    def act(run: RunDirectory) -> tuple[object, str]:
        result = client.control.send(run, "stop_after", after=mark)
        value = {"run": run.name, "stop_after": mark, "step": result.step, "text": result.text}
        return value, f"{run.name} {result.text}"

    return Answers(runs, act)
