"""Configs as TOML: read with the line and column of each value, and written.

tomlkit, which keeps comments, reads five times as slowly as the standard library's tomllib, and its
import takes about 50 ms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from rnnlm_tui.errors import InputError, Place, Problem
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.formatting import UNSAFE, counted
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.validation import (
    Raw,
    allowed_range,
    config_to_raw,
    fields,
    section_model,
)

MOST_BYTES = 1024 * 1024
"""A longer file isn't a config."""


class TomlError(InputError):
    """A text that isn't TOML, with the place of the error.

    Args:
        name: of the file.
        error: from tomllib.
    """

    def __init__(self, text: str, name: str, error: Exception) -> None:
        lines = text.splitlines() or [""]
        found = _AT.search(str(error))
        reason = _AT.sub("", str(error))
        if isinstance(error, RecursionError):
            reason = "brackets are nested too deeply"
        if found and found[1]:
            line, column = int(found[1]), int(found[2])
        elif found:
            line, column = len(lines), len(lines[-1]) + 1
            reason += " at the end of the file"
        else:
            line = next((n for n, words in enumerate(lines, 1) if re.search(r"\d{4000}", words)), 1)
            column = 1
        self.place = Place(name, line, column)
        self.reason = reason[:1].lower() + reason[1:]
        """What is wrong, without the place."""
        shown = _excerpt(lines[line - 1] if line <= len(lines) else "", column)
        super().__init__(
            f"{self.place}: not valid TOML: {self.reason}{shown}",
            hint="`rnnlm-tui config show` prints a valid one",
        )


_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_SHOWN = 60
"""Characters of a line shown with an error."""


def _excerpt(line: str, column: int) -> str:
    """The line and a caret under the column, or nothing for an empty line."""
    if not line.strip():
        return ""
    first = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = line[first : first + _SHOWN].replace("\t", " ")
    return f"\n  {shown}\n  {' ' * (column - 1 - first)}^"


_OPAQUE = re.compile(
    r"""'{3}(?s:.*?)'{3,5}|"{3}(?s:\\.|[^\\])*?"{3,5}|'[^'\n]*'|"(?:\\.|[^"\\])*"|\#[^\n]*"""
)
"""A string or a comment of a valid text."""
_KEY = r"[\w-]+(?:[ \t]*\.[ \t]*[\w-]+)*"
_WRITTEN = re.compile(
    rf"(?:^|(?P<inline>[{{,]))[ \t]*"
    rf"(?:(?P<table>\[+[ \t]*(?P<name>{_KEY}))|(?P<key>{_KEY})[ \t]*=[ \t]*)",
    re.MULTILINE,
)
"""The head of a table, or a key up to its value, where strings and comments are masked."""


@dataclass(frozen=True, slots=True)
class ConfigText:
    """The values of a config file and where they were written."""

    name: str
    """The file's path, as errors show it."""
    raw: Raw
    text: str = ""
    keys: Mapping[str, int] = field(default_factory=dict)
    """Where in the text each key and section is, by dotted path."""
    values: Mapping[str, int] = field(default_factory=dict)
    """Where each value is."""

    def place_of(self, path: str, *, key: bool = False) -> Place | None:
        """The place of a value, or of its key; of what contains it, if it has no place itself."""
        while path:
            if path in self.keys:
                at = self.keys[path] if key else self.values.get(path, self.keys[path])
                line = self.text.count("\n", 0, at) + 1
                return Place(self.name, line, at - self.text.rfind("\n", 0, at))
            path = path.rpartition(".")[0]
        return None

    def located(self, problem: Problem) -> Problem:
        """The problem with the place of its value, or of its key if that is unknown."""
        place = self.place_of(problem.path, key=problem.message == "unknown config key")
        return problem._replace(place=place)


def parse_toml(text: str, name: str) -> ConfigText:
    """Read the values of a TOML text and their places.

    Args:
        name: the file's name in errors.

    Raises:
        TomlError: with line, column and the line itself.
    """
    import tomllib

    try:
        raw = cast(Raw, tomllib.loads(text))
    except (ValueError, RecursionError) as error:  # also for integers of thousands of digits
        raise TomlError(text, name, error) from None
    keys: dict[str, int] = {}
    values: dict[str, int] = {}
    table: list[str] = []
    line: list[str] = []
    masked = _OPAQUE.sub(lambda found: "x" * len(found[0]), text)
    for found in _WRITTEN.finditer(masked):
        is_table = found["table"] is not None
        parts = text[slice(*found.span("name" if is_table else "key"))].split(".")
        above = [] if is_table else line if found["inline"] else table
        path = [*above, *(part.strip(" \t\"'") for part in parts)]
        for length in range(1, len(path) + 1):
            at = found.start("table" if is_table else "key")
            keys.setdefault(".".join(path[:length]), at)
        if is_table:
            table = path
        else:
            values.setdefault(".".join(path), found.end())
        line = line if found["inline"] else path
    return ConfigText(name, raw, text, keys, values)


def read_toml(path: Path) -> ConfigText:
    """Read a TOML file.

    Raises:
        InputError: missing, not a file, too large, or not UTF-8.
        TomlError: not TOML, with line and column.
    """
    return parse_toml(read_config_text(path), str(path))


def read_config_text(path: Path) -> str:
    """Read the text of a config file.

    Raises:
        InputError: missing, not a file, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(
                f"the config file {path} is too large: the limit is {counted(MOST_BYTES, 'byte')}"
            )
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"the config file {path} is not UTF-8 (byte {error.start:,})") from None


def toml_text(raw: Mapping[str, object], table: str = "") -> str:
    """A config's values as TOML that `train --config` accepts; None is left out.

    Args:
        table: the dotted path of the table that has them, for the heads of tables within.
    """
    texts, below = [], []
    for name, value in raw.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
        if isinstance(value, Mapping):
            path = f"{table}.{key}" if table else key
            below.append(f"\n[{path}]\n{toml_text(value, path)}")
        elif value is not None:
            texts.append(f"{key} = {toml_value(value, in_lines=True)}\n")
    return "".join((*texts, *below)).removeprefix("\n")


def toml_value(value: object, *, in_lines: bool = False) -> str:
    """A value as TOML, with invisible characters escaped.

    Args:
        in_lines: write each text of a list on a line of its own, if there are several.
    """
    if isinstance(value, str | bool):
        return UNSAFE.sub(_escape, json.dumps(value, ensure_ascii=False))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{toml_value(key)} = {toml_value(value[key])}' for key in value)}}}"
    if isinstance(value, Sequence):
        items = list(map(toml_value, value))
        if in_lines and len(items) > 1:
            return "".join(("[\n", *(f"    {item},\n" for item in items), "]"))
        return f"[{', '.join(items)}]"
    return str(value)


def _escape(match: re.Match[str]) -> str:
    return f"\\U{ord(match[0]):08x}"


def explained_toml(config: RunConfig) -> str:
    """A config as TOML with each field's description as a comment; unset fields are commented
    out."""
    raw = config_to_raw(config)
    blocks = [toml_text({"preset": config.preset})]
    for section in SECTIONS:
        known = cast(Raw, raw[section])
        lines = [f"[{section}]  # {(section_model(section).__doc__ or '').partition(chr(10))[0]}"]
        for name in fields_of(section_model(section)):
            lines.append(f"# {field_help(f'{section}.{name}')}")
            lines.append(
                toml_text({name: known[name]}).rstrip("\n") if name in known else f"# {name} ="
            )
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def field_help(path: str) -> str:
    """Return a field's description, range and unit: `Sequences per step. (1 … 512 sequences)`."""
    field = fields()[path]
    limits = " ".join(part for part in (allowed_range(path), field.unit) if part)
    return f"{field.help} ({limits})" if limits else field.help
