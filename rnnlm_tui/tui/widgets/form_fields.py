"""The config form's fields, read from the pydantic models, and their values as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from rnnlm_tui.contract.config import SECTIONS, RunConfig
from rnnlm_tui.contract.escapes import escaped, unescaped
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.validation import allowed_range, parse_value, section_model

FieldKind = Literal["text", "whole", "number", "switch", "choice", "list"]

SEED_NAMES = ("seed",)
"""Integers that are identifiers, shown without thousands separators."""

EMPTY_WORDS: dict[str, str] = {"training.max_steps": "by epochs", "corpus.test_source": "none", "tokenizer.name": "none"}
"""What an empty optional field means, shown dim in its place."""


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of the form."""

    path: str
    title: str
    help: str
    """Shown in the line under the field."""
    kind: FieldKind
    allowed: str = ""
    """A number's bounds: `1 … 65,536`."""
    unit: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]


def section_title(section: str) -> str:
    """Return `Optimizer` for `optimizer`."""
    return section.capitalize()


def fields_of(section: str) -> tuple[FormField, ...]:
    """Return the fields of one section."""
    return tuple(field for field in FORM_FIELDS if field.section == section)


def value_at(config: RunConfig, path: str) -> object:
    """Return the config's value at a dotted path."""
    section, _, name = path.partition(".")
    return cast(object, getattr(getattr(config, section), name))


def shown_value(field: FormField, value: object) -> str:
    """Format a value for reading: `2,048`, `3e-3`, `yes`; empty for None."""
    if value is None:
        return ""
    if field.kind == "switch":
        return "yes" if value is True else "no" if value is False else str(value)
    if field.kind == "list":
        return _list_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if field.path.rpartition(".")[2] in SEED_NAMES else f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def edited_value(field: FormField, value: object) -> str:
    """Format a value for the editor.

    Integers have no separators; a list is one text per line, with its own line breaks escaped.
    """
    if field.kind == "list" and isinstance(value, Sequence) and not isinstance(value, str):
        lines = "\n".join(escaped(str(item)) for item in value)
        return lines if read_value(field, lines) == list(value) else json.dumps(list(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return shown_value(field, value)


def read_value(field: FormField, text: str) -> object:
    """Parse the user's text as the command line does; a list is one text per line, or TOML."""
    value = parse_value(field.path, text)
    if field.kind == "list" and not isinstance(value, list):
        return [unescaped(line) for line in text.split("\n") if line]
    return value


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number: `0.15`, `3e-3`, `1.0`."""
    if not isfinite(value):
        return str(value)
    if value == 0 or not 1e-2 <= abs(value) < 1e6:
        if value == 0:
            return "0"
        sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
        mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
        return f"{'-' if sign else ''}{mantissa}e{cast(int, exponent) + len(digits) - 1}"
    return repr(value)


def _list_text(value: object) -> str:
    count = len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 0
    return counted(count, "text")


def _field(section: str, name: str, info: FieldInfo) -> FormField:
    path = f"{section}.{name}"
    optional = type(None) in get_args(info.annotation)
    annotation = next(part for part in get_args(info.annotation) if part is not type(None)) if optional else info.annotation
    choices = tuple(str(choice) for choice in get_args(annotation)) if get_origin(annotation) is Literal else ()
    kind: FieldKind = (
        "choice" if choices else "switch" if annotation is bool else "whole" if annotation is int else "number" if annotation is float
        else "list" if get_origin(annotation) is tuple else "text"
    )  # fmt: skip
    extra = info.json_schema_extra
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    return FormField(path, info.title or name, info.description or "", kind, allowed_range(path), unit, choices, optional)


FORM_FIELDS: tuple[FormField, ...] = tuple(_field(section, name, info) for section in SECTIONS for name, info in section_model(section).model_fields.items())
"""Every field of a RunConfig except the preset's name, in the order of form and file."""
