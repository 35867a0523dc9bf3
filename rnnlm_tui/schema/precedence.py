"""A config from its layers: defaults < preset < file < environment < command line.

`resolve_config` merges the layers and records for each key which one it comes from. An environment
variable sets one field: `RNNLM_TUI_OPTIMIZER__LEARNING_RATE=1e-3` is
`--set optimizer.learning_rate=1e-3`. Its name is the key in capitals, with two underscores for the
dot. No other variable of rnnlm-tui has two underscores, so they can't be confused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rnnlm_tui.errors import ConfigError, InputError, Place, Problem, did_you_mean, meant
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.presets import preset as find_preset
from rnnlm_tui.schema.rules import dependent_fields
from rnnlm_tui.schema.toml import ConfigText
from rnnlm_tui.schema.validation import (
    Raw,
    did_you_mean_key,
    fields,
    merge,
    overlay,
    parse_assignments,
    parse_config,
    parse_value,
)

PREFIX = "RNNLM_TUI_"
"""How the names of our environment variables begin."""
DOT = "__"
"""What stands for the dot of a key in a variable's name."""
OTHER_VARIABLES: tuple[str, ...] = (
    "RNNLM_TUI_HOME",
    "RNNLM_TUI_NICENESS",
    "RNNLM_TUI_TRITON",
    "RNNLM_TUI_PARENT",
    "RNNLM_TUI_REQUEUED",
)
"""Our variables that set no config key."""

Layer = Literal["default", "preset", "run", "file", "environment", "command line", "tokenizer"]
"""Where a value comes from; `tokenizer`: the vocabulary size, counted in its files."""


_NOWHERE = Place("")
_PATHS = ("preset", *fields())
CHOSEN = ("file", "environment", "command line")
"""Layers in which the user sets values."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a config's value comes from."""

    layer: Layer
    place: Place = _NOWHERE
    """The preset, the run, the place in the file, the variable, or the option as given."""

    def __str__(self) -> str:
        """`default`, `preset demo`, `my.toml:7:17`, `RNNLM_TUI_TRAINING__SEED`, `--set`."""
        if self.layer in ("default", "tokenizer"):
            return self.layer
        return f"{self.layer} {self.place}" if self.layer in ("preset", "run") else str(self.place)


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A valid config with the origin of each of its values."""

    config: RunConfig
    base: RunConfig
    """The preset or the run's config that the other layers changed."""
    origins: Mapping[str, Origin]
    """By dotted path, for every field and for `preset`."""
    notes: tuple[str, ...] = ()
    """Variables that look like ours but set nothing."""

    @property
    def chosen(self) -> frozenset[str]:
        """The fields set by the user: in the file, the environment or on the command line."""
        return frozenset(path for path, origin in self.origins.items() if origin.layer in CHOSEN)


def variable_of(path: str) -> str:
    """The environment variable of a config key: `RNNLM_TUI_OPTIMIZER__LEARNING_RATE`."""
    return PREFIX + path.replace(".", DOT).upper()


def resolve_config(
    *,
    preset: str | None = None,
    run: tuple[str, RunConfig] | None = None,
    file: ConfigText | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> ResolvedConfig:
    """Merge the layers of a config; later ones override earlier ones.

    Args:
        preset: the preset to start from; None: the file's, or demo.
        run: the name and config of a run to start from instead of a preset.
        file: a config file, which may be partial.
        environment: variables such as `os.environ`; None: they are ignored.
        assignments: `key=value` as given with `--set`.

    Raises:
        InputError: unknown preset.
        ConfigError: all problems of all layers, each with its place.
    """
    written: Raw = {} if file is None else file.raw
    problems: list[Problem] = []
    if run is not None:
        base, below = run[1], Origin("run", Place(run[0]))
    else:
        named = preset if preset is not None else written.get("preset", "demo")
        try:
            base = find_preset(named if isinstance(named, str) else "demo")
        except InputError as error:
            if preset is not None:
                raise
            problems.append(Problem("preset", error.message, error.hint))
            base = RunConfig()
        below = Origin("preset", Place(base.preset))
    raw = overlay(base, written)
    if preset is not None:
        raw["preset"] = preset
    origins = _base_origins(base, below)
    if file is not None:
        origins |= _file_origins(file)
        problems = [file.located(problem) for problem in problems]
    if preset is not None:
        origins["preset"] = Origin("command line", Place("--preset"))
    notes: list[str] = []
    known = {variable_of(path): path for path in fields()}
    for name, text in sorted((environment or {}).items()):
        if not text or not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if path := known.get(name):
            raw = merge(raw, {path: parse_value(path, text)})
            origins[path] = Origin("environment", Place(name))
        elif DOT in name:
            hint = _similar(name) or "`rnnlm-tui config show` lists all keys"
            problems.append(Problem(_key(name), "unknown config key", hint, place=Place(name)))
        else:
            hint = _similar(name) or did_you_mean(name, OTHER_VARIABLES)
            note = f"ignoring the unknown environment variable {name}"
            notes.append(f"{note}: {hint}" if hint else note)
    for assignment in assignments:
        try:
            changes = parse_assignments([assignment])
        except ConfigError as error:
            problems += error.problems
            continue
        raw = merge(raw, changes)
        origins |= {path: Origin("command line", Place("--set")) for path in changes}
    try:
        config = parse_config(raw)
    except ConfigError as error:
        problems += [_located(problem, origins, file) for problem in error.problems]
    if problems:
        raise ConfigError(sorted(problems, key=_reading_order))
    return ResolvedConfig(config, base, origins, tuple(notes))


def _reading_order(problem: Problem) -> tuple[bool, int, int]:
    """First those of the file, by line; the order of the others stays."""
    place = problem.place
    if place is None or place.line is None:
        return True, 0, 0
    return False, place.line, place.column or 0


def _base_origins(base: RunConfig, below: Origin) -> dict[str, Origin]:
    """The origins of a preset's or a run's values: what it shares with the layers under it is
    theirs."""
    default, preset = Origin("default"), PRESETS.get(base.preset, RunConfig())
    layers = [(default, RunConfig())]
    if below.layer == "run":
        layers.append((Origin("preset", Place(preset.preset)), preset))
    origins = {
        path: next(
            (origin for origin, config in layers if value_of(config, path) == value_of(base, path)),
            below,
        )
        for path in fields()
    }
    return {"preset": default if base.preset == RunConfig().preset else below, **origins}


def _located(problem: Problem, origins: Mapping[str, Origin], file: ConfigText | None) -> Problem:
    """A problem with the place where the user wrote the value, or one of those that it depends on.

    Args:
        file: the config file, which also has the places of unknown keys.
    """
    path = ".".join(problem.path.split(".")[:2])
    found = (origins.get(one) for one in (path, *dependent_fields(path)))
    written = next((origin for origin in found if origin and origin.layer in CHOSEN), None)
    if problem.place is not None or (written and written.layer == "command line"):
        return problem
    if written is not None:
        return problem._replace(place=written.place)
    return problem if file is None else file.located(problem)


def _file_origins(file: ConfigText) -> dict[str, Origin]:
    found = {path: file.place_of(path) for path in file.values if path in _PATHS}
    return {path: Origin("file", place) for path, place in found.items() if place}


def _key(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower().replace(DOT, ".")


def _similar(variable: str) -> str:
    """`did you mean "RNNLM_TUI_TRAINING__SEED"?` for a misspelled variable; empty if none is
    similar."""
    word, paths = _key(variable), fields()
    same = [path for path in paths if word in (path, path.rpartition(".")[2])]
    if len(same) == 1:
        return meant([variable_of(same[0])])
    return re.sub(r'"(.*?)"', lambda key: f'"{variable_of(key[1])}"', did_you_mean_key(word, paths))
