"""A config from its layers: defaults < preset < file < environment < command line.

`resolve_config` merges the layers and records for each key which one it comes from. An environment
variable sets one field: `RNNLM_TUI_OPTIMIZER__LEARNING_RATE=1e-3` is
`--set optimizer.learning_rate=1e-3`. Its name is the key in capitals, with two underscores for the
dot. No other variable of rnnlm-tui has two underscores, so they can't be confused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from rnnlm_tui.errors import ConfigError, Place, Problem, did_you_mean
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.presets import preset as find_preset
from rnnlm_tui.schema.rules import dependent_fields
from rnnlm_tui.schema.toml import ConfigText
from rnnlm_tui.schema.validation import (
    Raw,
    did_you_mean_key,
    field_paths,
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
    "RNNLM_TUI_REWRITE",
    "RNNLM_TUI_CRASH_POINT",
    "RNNLM_TUI_HUGE_LINE",
    "RNNLM_TUI_GPU_DRY_RUN",
)
"""Our variables that set no config key; the last four are for tests."""

Layer = Literal["default", "preset", "run", "file", "environment", "command line", "tokenizer"]
"""Where a value comes from; `tokenizer`: the vocabulary size, counted in its files."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a config's value comes from."""

    layer: Layer
    name: str = ""
    """The preset, the run, the file, the variable, or the option as given."""
    line: int | None = None
    """The file's line, counted from 1."""
    column: int | None = None

    def __str__(self) -> str:
        """`default`, `preset demo`, `my.toml:7:17`, `RNNLM_TUI_TRAINING__SEED`, `--set`."""
        if self.layer in ("default", "tokenizer"):
            return self.layer
        if self.layer in ("preset", "run"):
            return f"{self.layer} {self.name}"
        return str(Place(self.name, self.line, self.column))


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
        return frozenset(
            path
            for path, origin in self.origins.items()
            if origin.layer in ("file", "environment", "command line")
        )

    def with_config(self, config: RunConfig, path: str, origin: Origin) -> ResolvedConfig:
        """The same layers with one field set by `origin`."""
        return replace(self, config=config, origins={**self.origins, path: origin})


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
        base, below = run[1], Origin("run", run[0])
    else:
        named = preset if preset is not None else written.get("preset", "demo")
        if preset is None and isinstance(named, str) and named not in PRESETS:
            problems.append(_unknown_preset(named))
            named = "demo"
        base = find_preset(named if isinstance(named, str) else "demo")
        below = Origin("preset", base.preset)
    raw = overlay(base, written)
    if preset is not None:
        raw["preset"] = preset
    origins = base_origins(base, below)
    if file is not None:
        origins |= _file_origins(file)
        problems = [file.located(problem) for problem in problems]
    if preset is not None:
        origins["preset"] = Origin("command line", "--preset")
    variables = _Variables.read(environment or {})
    problems += variables.problems
    raw = merge(raw, variables.changes)
    origins |= {path: Origin("environment", variable_of(path)) for path in variables.changes}
    for assignment in assignments:
        try:
            changes = parse_assignments([assignment])
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        raw = merge(raw, changes)
        origins |= {path: Origin("command line", "--set") for path in changes}
    try:
        config = parse_config(raw)
    except ConfigError as error:
        problems.extend(located(error.problems, origins, file))
    if problems:
        raise ConfigError(sorted(problems, key=_reading_order))
    return ResolvedConfig(config, base, origins, variables.notes)


def _reading_order(problem: Problem) -> tuple[bool, int, int]:
    """First those of the file, by line; the order of the others stays."""
    place = problem.place
    if place is None or place.line is None:
        return True, 0, 0
    return False, place.line, place.column or 0


def base_origins(base: RunConfig, below: Origin) -> dict[str, Origin]:
    """The origins of a preset's or a run's values: what it shares with the layers under it is
    theirs."""
    default, preset = Origin("default"), PRESETS.get(base.preset, RunConfig())
    layers = [(default, RunConfig())]
    if below.layer == "run":
        layers.append((Origin("preset", preset.preset), preset))
    origins = {"preset": default if base.preset == RunConfig().preset else below}
    for path in field_paths():
        section, _, name = path.partition(".")
        value = _value(base, section, name)
        origins[path] = below
        for origin, config in layers:
            if _value(config, section, name) == value:
                origins[path] = origin
                break
    return origins


def located(
    problems: Iterable[Problem], origins: Mapping[str, Origin], file: ConfigText | None = None
) -> list[Problem]:
    """Problems with the place where the user wrote the value, or one of those that it depends on.

    Args:
        file: the config file, which also has the places of unknown keys.
    """
    found = []
    for problem in problems:
        path = ".".join(problem.path.split(".")[:2])
        origin = next(
            (
                origins[one]
                for one in (path, *dependent_fields(path))
                if one in origins and origins[one].layer in ("file", "environment", "command line")
            ),
            None,
        )
        if problem.place is not None:
            found.append(problem)
        elif origin is None or (origin.layer == "file" and problem.path.startswith(f"{path}.")):
            found.append(problem if file is None else file.located(problem))
        elif origin.layer == "command line":
            found.append(problem)
        else:
            place = Place(origin.name, origin.line, origin.column)
            found.append(replace(problem, place=place))
    return found


def _unknown_preset(name: str) -> Problem:
    return Problem(
        "preset",
        f'unknown preset "{name}", must be one of {", ".join(PRESETS)}',
        did_you_mean(name, PRESETS),
    )


def _value(config: RunConfig, section: str, name: str) -> object:
    return cast(object, getattr(getattr(config, section), name))


def _file_origins(file: ConfigText) -> dict[str, Origin]:
    origins = {}
    for path in ("preset", *field_paths()):
        place = file.place_of(path) if path in file.values else None
        if place is not None:
            origins[path] = Origin("file", place.source, place.line, place.column)
    return origins


@dataclass(frozen=True, slots=True)
class _Variables:
    """What the environment says about a config."""

    changes: Mapping[str, object]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> _Variables:
        """Sort the variables that begin with our prefix: config keys, others that are known, and
        the rest. An empty one counts as not set."""
        known = {variable_of(path): path for path in field_paths()}
        changes: dict[str, object] = {}
        problems: list[Problem] = []
        notes: list[str] = []
        for name, text in sorted(environment.items()):
            if not text or not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            path = known.get(name)
            if path is not None:
                changes[path] = parse_value(path, text)
            elif DOT in name:
                problems.append(_unknown_key(name, known))
            else:
                meant = _similar(name, known) or did_you_mean(name, OTHER_VARIABLES)
                hint = f": {meant}" if meant else ""
                notes.append(f"ignoring the unknown environment variable {name}{hint}")
        return cls(changes, tuple(problems), tuple(notes))


def _unknown_key(name: str, known: Mapping[str, str]) -> Problem:
    path = name.removeprefix(PREFIX).lower().replace(DOT, ".")
    hint = _similar(name, known)
    return Problem(
        path,
        "unknown config key",
        hint or "`rnnlm-tui config show` lists all keys",
        place=Place(name),
    )


def _similar(name: str, known: Mapping[str, str]) -> str:
    """`did you mean "RNNLM_TUI_TRAINING__SEED"?` for a misspelled variable; empty if none is
    similar."""
    if name.upper() in known:
        return f'did you mean "{name.upper()}"?'
    word = name.removeprefix(PREFIX).lower().replace(DOT, ".")
    paths = list(known.values())
    same = [path for path in paths if path.rpartition(".")[2] == word]
    if len(same) == 1:
        return f'did you mean "{variable_of(same[0])}"?'
    meant = did_you_mean_key(word, paths)
    for path in sorted(paths, key=len, reverse=True):
        meant = meant.replace(f'"{path}"', f'"{variable_of(path)}"')
    return meant
