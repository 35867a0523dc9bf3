"""Steering: which settings can change while a run trains, checks of a change, and its journal.

The differences of two configs are in the same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from pydantic import JsonValue

from rnnlm_tui.errors import ConfigError, InputError, Problem
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.estimates import total_steps
from rnnlm_tui.schema.formatting import counted, exact
from rnnlm_tui.schema.metrics import CommandRow
from rnnlm_tui.schema.protocol import CommandResult, Setting, SettingsChange
from rnnlm_tui.schema.validation import did_you_mean_key, field_paths, merge, parse_config

STEERABLE: tuple[str, ...] = (
    "optimizer.learning_rate",
    "optimizer.max_grad_norm",
    "model.dropout",
    "training.max_steps",
    "training.epochs",
    "training.patience",
    "evaluation.every",
    "evaluation.prompts",
    "checkpoint.every",
)
"""Config fields that can change while a run trains."""
LENGTH_KEYS = ("training.max_steps", "training.epochs")
"""Fields that decide how many steps the run has."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is."""

    step: int
    """Optimizer updates done."""
    steps_per_epoch: int | None
    """None: not known yet."""
    warmup_steps: int = 0
    """Those that the run started with."""


class JournalledChange(SettingsChange):
    """A change of settings as the run's journal has it."""

    time: float
    """Unix seconds."""
    who: str = ""
    """The user and terminal that asked for it; empty: unknown."""


def value_text(path: str, value: JsonValue) -> str:
    """A value for people: `0.001`, `2,000`, `by epochs`, `3 prompts`."""
    if isinstance(value, list):
        return counted(len(value), "prompt")
    if value is None:
        return "by epochs" if path == "training.max_steps" else "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    return exact(value) if isinstance(value, float) else str(value)


def settings_text(settings: Iterable[Setting]) -> str:
    """`optimizer.learning_rate 0.003 → 0.001, training.patience 0 → 5`."""
    return ", ".join(
        f"{one.path} {value_text(one.path, one.old)} → {value_text(one.path, one.new)}"
        for one in settings
    )


def check_keys(paths: Iterable[str]) -> None:
    """Check that all keys can be steered.

    Raises:
        ConfigError: all that can't, each with a similar key or the list of those that can.
    """
    known = field_paths()
    problems = [
        Problem(
            path,
            "can't change while the run trains" if path in known else "unknown config key",
            did_you_mean_key(path, STEERABLE) or f"these can change: {', '.join(STEERABLE)}",
        )
        for path in paths
        if path not in STEERABLE
    ]
    if problems:
        raise ConfigError(problems)


def changed_config(
    config: RunConfig, changes: Mapping[str, JsonValue], position: Position
) -> RunConfig:
    """The whole config after a change, validated as a new run's is.

    Args:
        config: the one in effect.
        changes: dotted path to value; None clears `training.max_steps`.

    Raises:
        ConfigError: all problems: keys that can't be steered, values out of range, a run that would
            end before its current step or its warm-up.
    """
    check_keys(changes)
    whole = {path: _whole(value) for path, value in changes.items()}
    try:
        changed = parse_config(merge(config, whole))
    except ConfigError as error:
        # adjustments are options of a command that starts a run
        raise ConfigError(problem._replace(adjustments=()) for problem in error.problems) from error
    if problem := _length_problem(changed, changes, position):
        raise ConfigError([problem])
    return changed


def settings_of(
    before: RunConfig, after: RunConfig, paths: Iterable[str] = STEERABLE
) -> tuple[Setting, ...]:
    """The fields that differ, of `paths` and in their order."""
    return tuple(
        Setting(path=path, old=old, new=new)
        for path in paths
        if (old := value_of(before, path)) != (new := value_of(after, path))
    )


def nothing_changed(config: RunConfig, changes: Mapping[str, JsonValue]) -> InputError:
    """The error for a change to the values that are in effect."""
    words = ", ".join(
        f"{path} is already {value_text(path, value_of(config, path))}" for path in changes
    )
    return InputError(f"nothing to change: {words or 'no key was given'}")


def _whole(value: JsonValue) -> JsonValue:
    """JSON from some programs writes 25 as 25.0; a float field takes both."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _length_problem(
    config: RunConfig, changes: Mapping[str, JsonValue], position: Position
) -> Problem | None:
    """The problem with the run's new length, at the field that was changed."""
    if not any(path in changes for path in LENGTH_KEYS):
        return None
    most = config.training.max_steps
    if "training.max_steps" not in changes and most is not None:
        return Problem(
            "training.epochs",
            f"has no effect: training.max_steps is {most:,}",
            "change training.max_steps, or clear it: training.max_steps=",
        )
    if most is None and position.steps_per_epoch is None:
        return None
    path = next(path for path in LENGTH_KEYS if path in changes)
    value, steps = value_of(config, path), total_steps(config, position.steps_per_epoch or 1)
    shown = f"is {value_text(path, value)}"
    if steps != value:
        shown += f", which makes {counted(steps, 'step')}"
    if steps <= position.step:
        message = f"{shown}, must be above step {position.step:,}, where the run is"
        return Problem(path, message, "or stop the run")
    if steps <= position.warmup_steps:
        warmup = counted(position.warmup_steps, "step")
        return Problem(path, f"{shown}, must be above the warm-up's {warmup}")
    return None


def known_settings(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Those of changed settings that this version knows."""
    return {path: value for path, value in settings.items() if path in STEERABLE}


def config_in_effect(config: RunConfig, settings: Mapping[str, JsonValue]) -> RunConfig:
    """The config with what was changed since the start; unchanged if the settings are damaged."""
    whole = {path: _whole(value) for path, value in known_settings(settings).items()}
    if not whole:
        return config
    try:
        return parse_config(merge(config, whole))
    except ConfigError:
        return config


def journalled_change(row: CommandRow) -> JournalledChange | None:
    """A command as a change; None: it was refused, or isn't one."""
    try:
        answer = CommandResult.model_validate(row.result)
    except ValueError:
        return None
    change = answer.change
    if not answer.ok or change is None:
        return None
    who = str(row.arguments.get("who", ""))
    return JournalledChange(**dict(change), time=row.time, who=who)


def kept_changes(changes: Sequence[JournalledChange]) -> list[JournalledChange]:
    """The changes that count, in their order: without those that a later one discards."""
    discarded = {number for change in changes for number in change.discards}
    return sorted(
        (change for change in changes if change.number not in discarded),
        key=attrgetter("number"),
    )


def next_to_undo(changes: Sequence[JournalledChange]) -> JournalledChange | None:
    """The newest change that is neither undone nor an undo itself; None: there is none."""
    undone = {change.undoes for change in changes}
    return next(
        (
            change
            for change in reversed(kept_changes(changes))
            if not change.undoes and change.number not in undone
        ),
        None,
    )
