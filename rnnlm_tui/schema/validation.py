"""Validate raw values (from TOML, `--set` or the form) into a RunConfig, reporting all problems."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rnnlm_tui.errors import ConfigError, Problem, did_you_mean
from rnnlm_tui.schema.config import (
    MIN_PENALTY,
    MIN_TEMPERATURE,
    SECTIONS,
    OptimizerConfig,
    RunConfig,
)
from rnnlm_tui.schema.formatting import is_infinite, number_hint, read_number
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
_RANGES = {"sampling.temperature": f"{MIN_TEMPERATURE:g} … 100, or 0 for greedy"}
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
    "model_attributes_type": "a section of keys",
    "dict_type": "a section of keys",
}
"""What a value must be, by pydantic's type of error."""
LIST_AS_WRITTEN = r'["\n", "The end"]'
"""An example of a TOML list of strings; the first one is a line break."""


def section_model(section: str) -> type[BaseModel]:
    """The pydantic model of a section."""
    return cast(type[BaseModel], RunConfig.model_fields[section].annotation)


def field_paths() -> tuple[str, ...]:
    """The dotted paths of all fields, in the order of the form."""
    return tuple(
        f"{section}.{name}" for section in SECTIONS for name in section_model(section).model_fields
    )


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


def parse_stored_config(raw: Mapping[str, object]) -> RunConfig:
    """Validate a config that this or an earlier version stored with a run.

    Earlier versions allowed sampling settings so small that dividing by them overflows. They are
    raised to the smallest allowed value, so that these runs can still be opened, resumed and
    sampled. A config without `corpus.layout` gets the layout `sentences`.

    Raises:
        ConfigError: as `parse_config`.
    """
    sampling = raw.get("sampling")
    if isinstance(sampling, Mapping):
        least = {"temperature": MIN_TEMPERATURE, "repetition_penalty": MIN_PENALTY}
        raised = {
            name: limit
            for name, limit in least.items()
            if isinstance(value := sampling.get(name), float) and 0 < value < limit
        }
        raw = {**raw, "sampling": {**sampling, **raised}}
    corpus = raw.get("corpus", {})
    if isinstance(corpus, Mapping):
        raw = {**raw, "corpus": {"layout": "sentences", **corpus}}
    return parse_config(raw)


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
    known = field_paths()
    changes: dict[str, object] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals:
            problems.append(Problem(path, "has no value", "write it as key=value"))
        elif path not in known:
            problems.append(
                Problem(
                    path,
                    "unknown config key",
                    did_you_mean_key(path, known) or _by_last_word(path, known),
                )
            )
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
    kind = field_kind(path)
    if kind == "switch":
        return _SWITCHES.get(text.lower(), text)
    if kind in ("whole", "number"):
        number = read_number(text)
        return text if number is None or (kind == "whole" and isinstance(number, float)) else number
    if kind == "list":
        return _list_as_toml(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def field_choices(path: str) -> tuple[str, ...]:
    """The words of a field that has a choice of them; empty for other fields."""
    section, _, name = path.partition(".")
    annotation = section_model(section).model_fields[name].annotation
    parts = (annotation, *get_args(annotation))  # an optional choice, too
    return next(
        (tuple(map(str, get_args(part))) for part in parts if get_origin(part) is Literal), ()
    )


def field_kind(path: str) -> Literal["whole", "number", "switch", "list", "text"]:
    """The kind of a field's value; "text" for choices and unknown fields."""
    section, _, name = path.partition(".")
    if section not in SECTIONS or name not in section_model(section).model_fields:
        return "text"
    annotation = section_model(section).model_fields[name].annotation
    for kind, kinds in (
        ("whole", (int, int | None)),
        ("number", (float, float | None)),
        ("switch", (bool,)),
    ):
        if annotation in kinds:
            return cast(Literal["whole", "number", "switch"], kind)
    return "list" if get_origin(annotation) is tuple else "text"


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
    meant = OTHER_NAMES.get(word.lower().replace("-", "_"))
    if meant in names:
        return f'did you mean "{meant}"?'
    # Within a section the last word decides: the section makes any two of its keys similar.
    words = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == section]
    near = get_close_matches(word, words, n=2, cutoff=_SIMILAR_WORDS)
    if section and near:
        return "did you mean " + " or ".join(f'"{section}.{found}"' for found in near) + "?"
    return did_you_mean(path, names)


def _by_last_word(path: str, known: Iterable[str]) -> str:
    name = path.rpartition(".")[2]
    same = [candidate for candidate in known if candidate.rpartition(".")[2] == name]
    return (
        "did you mean " + " or ".join(f'"{candidate}"' for candidate in same) + "?"
        if same
        else "`rnnlm-tui config show` lists all keys"
    )


def _problem(details: ErrorDetails, raw: Mapping[str, object]) -> Problem:
    location = [str(part) for part in details["loc"]]
    path = ".".join(location)
    value = details.get("input")
    kind = details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        known = field_paths() if len(location) > 1 or path in OTHER_NAMES else SECTIONS
        return Problem(
            path,
            "unknown config key",
            did_you_mean_key(path, known) or _by_last_word(path, field_paths()),
        )
    bounds = {
        "greater_than": "above",
        "greater_than_equal": "at least",
        "less_than": "below",
        "less_than_equal": "at most",
    }
    if kind in bounds:
        limit = next(iter(context.values()))
        if path == RATE and kind == "less_than_equal":
            return rate_too_high(value, _algorithm(raw))
        return Problem(
            path,
            f"is {_shown(value)}, must be {bounds[kind]} {_plain(limit)}",
            allowed_range(path, raw),
        )
    if kind == "literal_error":
        allowed = (
            str(context.get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")
        )
        return Problem(
            path,
            f"is {_shown(value)}, must be one of {', '.join(allowed)}",
            did_you_mean(str(value), allowed),
        )
    if kind == "string_pattern_mismatch":
        return Problem(path, f"is {_shown(value)}, must {_PATTERNS[path]}")
    if kind in ("string_too_short", "string_too_long", "too_long") and isinstance(
        value, str | Sequence
    ):
        most = context.get("max_length", "")
        return Problem(
            path,
            (
                "is empty"
                if not value
                else (
                    f"has {len(value):,} {'characters' if isinstance(value, str) else 'texts'},"
                    f" must have at most {most:,}"
                )
            ),
        )
    if kind == "finite_number" or (
        kind == "float_type" and isinstance(value, str) and is_infinite(value.strip())
    ):
        return Problem(
            path, f"is {_shown(value)}, must be a finite number", allowed_range(path, raw)
        )
    wanted = _WANTED.get(kind)
    meant = (
        number_hint(value, whole=kind == "int_type")
        if isinstance(value, str) and kind in ("int_type", "float_type")
        else ""
    )
    hint = (
        f"write {LIST_AS_WRITTEN}, in single quotes on the command line"
        if kind == "tuple_type"
        else meant or allowed_range(path, raw)
    )
    if value is None:
        return Problem(path, f"has no value, must be {wanted}" if wanted else "has no value", hint)
    if wanted:
        return Problem(path, f"is {_shown(value)}, must be {wanted}", hint)
    return Problem(
        path,
        f"is {_shown(value)}: {details['msg'][:1].lower()}{details['msg'][1:]}",
        allowed_range(path, raw),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _plain(number: object) -> str:
    return (
        f"{number:,}"
        if isinstance(number, int) and number < 10**12
        else f"{number:g}"
        if isinstance(number, float)
        else str(number)
    )


def allowed_range(path: str, raw: Mapping[str, object] | None = None) -> str:
    """A number field's bounds, such as `1 … 65,536` or `above 0, at most 1`, or empty.

    Args:
        raw: the config whose optimizer decides the limit of the learning rate.
    """
    section, _, name = path.partition(".")
    if section not in SECTIONS or name not in section_model(section).model_fields:
        return ""
    if path in _RANGES:
        return _RANGES[path]
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = {
        key: getattr(item, key)
        for item in section_model(section).model_fields[name].metadata
        for key in words
        if getattr(item, key, None) is not None
    }
    if "ge" in found and "le" in found:
        return f"{_plain(found['ge'])} … {_plain(found['le'])}"
    if path == RATE and raw is None:
        return f"above 0, at most {ADAMW_MAX_RATE} with adamw, {_plain(found['le'])} with sgd"
    if path == RATE and _algorithm(raw or {}) == "adamw":
        found["le"] = ADAMW_MAX_RATE
    return ", ".join(
        f"{words[key]} {_plain(found[key])}"
        for key in ("gt", "ge", "lt", "le")
        if key in found and not (key == "lt" and found[key] >= 2**63)
    )


def _algorithm(raw: Mapping[str, object]) -> object:
    section = raw.get("optimizer", {})
    return (
        section.get("algorithm", OptimizerConfig().algorithm)
        if isinstance(section, Mapping)
        else None
    )
