"""Validate raw values (from TOML, `--set` or the form) into a RunConfig, reporting all problems."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin

from pydantic_core import ErrorDetails, ValidationError

from rnnlm_tui.errors import ConfigError, Problem, did_you_mean, meant
from rnnlm_tui.schema.config import (
    MIN_TEMPERATURE,
    SECTIONS,
    OptimizerConfig,
    RunConfig,
)
from rnnlm_tui.schema.formatting import counted, is_infinite, number_hint, plain, read_number
from rnnlm_tui.schema.record import Record, fields_of
from rnnlm_tui.schema.rules import ADAMW_MAX_RATE, RATE, rate_too_high, rule_problems

Raw = dict[str, object]
"""A config as parsed from TOML: sections of plain values."""
OTHER_NAMES = {
    name: key
    for key, names in {
        "optimizer.learning_rate": "lr peak_rate rate step_size",
        "optimizer.algorithm": "optimizer optim",
        "optimizer.weight_decay": "wd decay l2",
        "optimizer.max_grad_norm": "clip grad_clip gradient_clip clip_grad_norm",
        "model.num_layers": "layers n_layers nlayers depth",
        "model.hidden_size": "hidden hidden_dim n_hidden nhid units width",
        "model.embedding_dim": "embedding embedding_size emb emsize",
        "model.num_heads": "heads n_heads",
        "model.cell_type": "cell rnn_type",
        "model.tie_weights": "tied",
        "tokenizer.vocab_size": "vocab vocabulary",
        "training.epochs": "epoch num_epochs n_epochs",
        "training.max_steps": "steps num_steps iterations max_iters",
        "training.batch_size": "batch bs batchsize",
        "training.bptt": "bptt_len seq_len sequence_length",
        "schedule.warmup_steps": "warmup",
        "schedule.kind": "scheduler",
        "training.patience": "early_stopping",
        "corpus.source": "text dataset data",
    }.items()
    for name in names.split()
}
"""Names of our keys in other programs, for suggestions."""
_PATTERNS = {
    "corpus.url": "start with http:// or https:// and contain only printable ASCII without spaces",
    "training.device": "be auto, cpu, mps, cuda or cuda:N",
}
"""A description of each field's pattern."""
_RANGES = {
    "sampling.temperature": f"{MIN_TEMPERATURE:g} … 100, or 0 for greedy",
    "distributed.processes": "1 … 1,024, or auto",
}
"""Allowed ranges that can't be derived from the field's bounds."""
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list of texts",
    "model_type": "a section of keys",
    "finite_number": "a finite number",
}
"""What a value must be, by pydantic's type of error."""
LIST_AS_WRITTEN = r'["\n", "The end"]'
"""An example of a TOML list of strings; the first one is a line break."""


def section_model(section: str) -> type[Record]:
    """The class of a section."""
    return cast(type[Record], fields_of(RunConfig)[section].annotation)


FieldKind = Literal["whole", "number", "switch", "choice", "list", "text"]
_KINDS: Mapping[object, FieldKind] = {
    int: "whole", int | None: "whole", float: "number", bool: "switch", str: "text",
    str | None: "text", Literal: "choice", tuple: "list", int | Literal["auto"]: "whole",
}  # fmt: skip


class ConfigField(NamedTuple):
    """What a form and messages say of a field."""

    path: str
    title: str
    help: str
    unit: str
    kind: FieldKind
    choices: tuple[str, ...]
    """The words of a field that has a choice of them; empty for other fields."""
    bounds: Mapping[str, Any]

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]


@cache
def fields() -> Mapping[str, ConfigField]:
    """All fields by dotted path, in the order of form and file; the preset's name is none."""
    found = {}
    for section in SECTIONS:
        for name, info in fields_of(section_model(section)).items():
            path, origin = f"{section}.{name}", get_origin(info.annotation)
            found[path] = ConfigField(
                path,
                info.about["title"],
                info.about["description"],
                info.about["unit"],
                _KINDS[origin if origin in _KINDS else info.annotation],
                tuple(map(str, get_args(info.annotation))) if origin is Literal else (),
                info.bounds,
            )
    return found


def raw_value(raw: Mapping[str, object], path: str, default: object = None) -> object:
    """The value at a dotted path of plain values; the default if there is none."""
    found: object = raw
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return default
        found = found[name]
    return found


def config_to_raw(config: RunConfig) -> Raw:
    """Convert a config to plain values, without None, which TOML doesn't have."""
    return cast(Raw, config.model_dump(mode="json", exclude_none=True))


def parse_config(raw: Mapping[str, object]) -> RunConfig:
    """Validate raw values; missing fields get their defaults.

    Raises:
        ConfigError: all problems, with field paths, allowed ranges and suggested names.
    """
    problems: list[Problem] = []
    config: RunConfig | None = None
    try:
        config = RunConfig.model_validate(dict(raw))
    except ValidationError as error:
        problems.extend(_problem(details, raw) for details in error.errors(include_url=False))
    problems.extend(rule_problems(raw if config is None else config_to_raw(config)))
    if problems or config is None:
        raise ConfigError(problems)
    return config


def value_problems(path: str, value: object) -> list[Problem]:
    """The problems of a field's value that it has whatever the other fields are."""
    section, _, name = path.partition(".")
    try:
        RunConfig.model_validate(raw := {section: {name: value}})
    except ValidationError as error:
        return [_problem(details, raw) for details in error.errors(include_url=False)]
    return []


def merge(base: RunConfig | Mapping[str, object], changes: Mapping[str, object]) -> Raw:
    """Apply changes (dotted path to value) to a config.

    None clears a field; validation then reports the fields that need a value.
    """
    raw = config_to_raw(base) if isinstance(base, RunConfig) else dict(base)
    for path, value in changes.items():
        section, _, name = path.partition(".")
        if not name:
            raw[section] = value
            continue
        values = raw.get(section, {})
        if isinstance(values, Mapping):
            raw[section] = {**values, name: value}
    return raw


def overlay(base: RunConfig, raw: Mapping[str, object]) -> Raw:
    """Apply a config file, which may be partial, to `base`, section by section."""
    merged = config_to_raw(base)
    for section, values in raw.items():
        below = merged.get(section)
        merged[section] = (
            {**below, **values}
            if isinstance(below, dict) and isinstance(values, Mapping)
            else values
        )
    return merged


def parse_assignments(assignments: Iterable[str]) -> dict[str, object]:
    """Parse `key=value` arguments into dotted path to value; an empty value clears a field.

    Values are TOML; a bare word is a string.

    Raises:
        ConfigError: all assignments that lack `=` or have an unknown key.
    """
    known = fields()
    changes: dict[str, object] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals:
            problems.append(Problem(path, "has no value", "write it as key=value"))
        elif path not in known:
            problems.append(_unknown_key(path, known))
        else:
            changes[path] = parse_value(path, text)
    if problems:
        raise ConfigError(problems)
    return changes


def parse_value(path: str, text: str) -> object:
    """Parse a value typed by the user into a number, a bool, a list of strings or a string.

    Invalid values are returned unchanged, so that the error shows them as typed.
    """
    text = text.strip()
    if not text:
        return None
    kind = fields()[path].kind
    if kind == "switch":
        return _SWITCHES.get(text.lower(), text)
    if kind in ("whole", "number"):
        number = read_number(text)
        return text if number is None or (kind == "whole" and isinstance(number, float)) else number
    if kind == "list":
        return _list_as_toml(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _list_as_toml(text: str) -> object:
    """Parse a TOML list of strings; any other text is returned unchanged."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    texts = found["value"]
    return (
        cast(object, texts)
        if list(found) == ["value"]
        and isinstance(texts, list)
        and all(isinstance(item, str) for item in texts)
        else text
    )


_SIMILAR_WORDS = 0.7


def did_you_mean_key(path: str, known: Iterable[str]) -> str:
    """`did you mean "training.seed"?` for a misspelled key or another program's name for it.

    Empty if no known key is similar.
    """
    names = list(known)
    section, _, word = path.rpartition(".")
    ours = OTHER_NAMES.get(word.lower().replace("-", "_"))
    if ours in names:
        return meant([ours])
    # Within a section the last word decides: the section makes any two of its keys similar.
    words = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == section]
    near = get_close_matches(word, words, n=2, cutoff=_SIMILAR_WORDS)
    if section and near:
        return meant(f"{section}.{found}" for found in near)
    return did_you_mean(path, names)


def _unknown_key(path: str, known: Iterable[str]) -> Problem:
    """The problem with an unknown key: similar ones, or those in other sections."""
    name = path.rpartition(".")[2]
    same = (other for other in fields() if other.rpartition(".")[2] == name)
    hint = did_you_mean_key(path, known) or meant(same)
    return Problem(path, "unknown config key", hint or "`rnnlm-tui config show` lists all keys")


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _problem(details: ErrorDetails, raw: Mapping[str, object]) -> Problem:
    path = ".".join(str(part) for part in details["loc"])
    value, kind, context = details["input"], details["type"], details.get("ctx", {})
    hint = allowed_range(path, raw)
    wanted = _WANTED.get(kind, "")
    if kind == "extra_forbidden":
        is_field = "." in path or path in OTHER_NAMES
        return _unknown_key(path, fields() if is_field else SECTIONS)
    if path == RATE and kind == "less_than_equal":
        return rate_too_high(value, _algorithm(raw))
    if isinstance(value, str | Sequence) and kind.endswith(("too_short", "too_long")):
        noun = "character" if isinstance(value, str) else "text"
        most = f"has {counted(len(value), noun)}, must have at most {context.get('max_length')}"
        return Problem(path, most if value else "is empty")
    if bound := next((bound for bound in context if bound in _BOUNDS), ""):
        wanted = f"{_BOUNDS[bound]} {plain(context[bound])}"
    elif kind == "literal_error":
        choices = fields()[path].choices
        wanted, hint = f"one of {', '.join(choices)}", did_you_mean(str(value), choices)
    elif kind == "string_pattern_mismatch":
        return Problem(path, f"is {_shown(value)}, must {_PATTERNS[path]}")
    elif kind == "tuple_type":
        hint = f"write {LIST_AS_WRITTEN}, in single quotes on the command line"
    elif isinstance(value, str) and kind in ("int_type", "float_type"):
        if kind == "float_type" and is_infinite(value.strip()):
            wanted = "a finite number"
        else:
            hint = number_hint(value, whole=kind == "int_type") or hint
    message = details["msg"]
    must = f", must be {wanted}" if wanted else f": {message[:1].lower()}{message[1:]}"
    return Problem(path, ("has no value" if value is None else f"is {_shown(value)}") + must, hint)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def allowed_range(path: str, raw: Mapping[str, object] | None = None) -> str:
    """A number field's bounds, such as `1 … 65,536` or `above 0, at most 1`, or empty.

    Args:
        raw: the config whose optimizer decides the limit of the learning rate.
    """
    if path not in fields():
        return ""
    if path in _RANGES:
        return _RANGES[path]
    found = {key: limit for key, limit in fields()[path].bounds.items() if key in _BOUNDS}
    if "ge" in found and "le" in found:
        return f"{plain(found['ge'])} … {plain(found['le'])}"
    if path == RATE and raw is None:
        return f"above 0, at most {ADAMW_MAX_RATE} with adamw, {plain(found['le'])} with sgd"
    if path == RATE and _algorithm(raw or {}) == "adamw":
        found["le"] = ADAMW_MAX_RATE
    return ", ".join(
        f"{word} {plain(found[key])}"
        for key, word in _BOUNDS.items()
        if key in found and not (key == "lt" and found[key] >= 2**63)
    )


def _algorithm(raw: Mapping[str, object]) -> object:
    return raw_value(raw, "optimizer.algorithm", OptimizerConfig().algorithm)
