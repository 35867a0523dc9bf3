"""Configs as TOML: read with the line and column of each value, written without losing comments.

Values are read by the standard library's tomllib, which is five times as fast as tomlkit. tomlkit
writes: importing it takes about 50 ms, so only verbs that write a config import it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rnnlm_tui.errors import InputError, Place, Problem
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.formatting import UNSAFE, counted
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.validation import (
    Raw,
    allowed_range,
    config_to_raw,
    fields,
    is_same,
    section_model,
)

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.container import Container
    from tomlkit.items import Item, Table


MOST_BYTES = 1024 * 1024
"""A longer file isn't a config."""


class TomlError(InputError):
    """A text that isn't TOML, with the place of the error."""

    def __init__(self, place: Place, reason: str, line: str, *, hint: str) -> None:
        self.place = place
        self.reason = reason
        """What is wrong, without the place."""
        shown = _excerpt(line, place.column)
        super().__init__(f"{place}: not valid TOML: {reason}{shown}", hint=hint)


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
        raise _syntax_error(text, name, error) from None
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


_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def _syntax_error(text: str, name: str, error: Exception) -> TomlError:
    lines = text.splitlines() or [""]
    found = _AT.search(str(error))
    reason = _AT.sub("", str(error)) if found else str(error)
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
    reason = reason[:1].lower() + reason[1:]
    shown = lines[line - 1] if line <= len(lines) else ""
    return TomlError(
        Place(name, line, column), reason, shown, hint="`rnnlm-tui config show` prints a valid one"
    )


_SHOWN = 60
"""Characters of a line shown with an error."""


def _excerpt(line: str, column: int | None) -> str:
    """The line and a caret under the column, or nothing for an empty line."""
    if not line.strip() or column is None:
        return ""
    first = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = line[first : first + _SHOWN].replace("\t", " ")
    return f"\n  {shown}\n  {' ' * (column - 1 - first)}^"


def toml_text(raw: Mapping[str, object]) -> str:
    """A config's values as TOML that `train --config` accepts; None is left out."""
    import tomlkit

    document = tomlkit.document()
    _fill(document, _written(raw))
    return tomlkit.dumps(document)


def toml_value(value: object) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(toml_value, value))}]"
    return _item(value).as_string()


def explained_toml(config: RunConfig) -> str:
    """A config as TOML with each field's description as a comment; unset fields are commented
    out."""
    raw = config_to_raw(config)
    blocks = [toml_text({"preset": config.preset})]
    for section in SECTIONS:
        values = raw.get(section)
        known = values if isinstance(values, dict) else {}
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
    info = fields()[path]
    limits = " ".join(part for part in (allowed_range(path), info.about["unit"]) if part)
    return f"{info.description} ({limits})" if limits else info.description


def updated_toml(text: str, raw: Mapping[str, object]) -> str:
    """A TOML text with other values: comments, order and the notation of equal values are kept.

    Values that `raw` doesn't have are removed, with their comment on the same line. New ones are
    added at the end of their section.

    Args:
        text: the text to change; it must be valid TOML.
        raw: all values of the result; None is left out.

    Raises:
        TomlError: the text isn't TOML.
    """
    import tomlkit

    wanted = _written(raw)
    if parse_toml(text, "config").raw == wanted:
        return text
    try:
        document = tomlkit.parse(text if text.endswith("\n") else f"{text}\n")
        _update(document, wanted)
        updated = tomlkit.dumps(document)
    except (AttributeError, LookupError, ValueError):
        updated = ""
    if _readable(updated) == wanted:
        return updated
    # tomlkit can't change a table that is written in several parts. Its comments come first.
    comments = re.findall(r"^[ \t]*#[^\r\n]*", text, re.MULTILINE)
    return "".join(f"{comment.strip()}\n" for comment in comments) + toml_text(raw)


def _written(raw: Mapping[str, object]) -> Raw:
    """Values as TOML has them: without None, and with lists instead of tuples."""
    return {
        name: _written(value)
        if isinstance(value, Mapping)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in raw.items()
        if value is not None
    }


def _readable(text: str) -> Raw | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _update(table: TOMLDocument | Table, raw: Raw) -> None:
    before = table.unwrap()
    for name in before.keys() - raw.keys():
        table.remove(name)
    for name, value in raw.items():
        if name not in before:
            _append(table, {name: value})
        elif isinstance(value, dict) and isinstance(before[name], dict):
            _update(cast("Table", table[name]), value)
        elif not is_same(before[name], value):
            item, old = _item(value), table.item(name)
            if not isinstance(old, Mapping):
                item.trivia.comment_ws = old.trivia.comment_ws
                item.trivia.comment = old.trivia.comment
            table[name] = item


def _append(table: TOMLDocument | Table, raw: Raw) -> None:
    """Add values before the comments at the end of a section, which belong to the next one."""
    from tomlkit.items import Table

    body = table.value.body if isinstance(table, Table) else []
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    after = body[end:]
    del body[end:]
    _fill(table, raw)
    body.extend(after)


def _fill(table: TOMLDocument | Table | Container, raw: Raw) -> None:
    """Append values, then tables, which end the values of what contains them."""
    import tomlkit

    for name, value in sorted(raw.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            inner = tomlkit.table()
            _fill(inner, value)
            table.add(name, inner)
        else:
            table.add(name, _item(value))


def _item(value: object) -> Item:
    """A value as TOML: invisible characters are escaped, a list of several texts has one a line."""
    import tomlkit

    if isinstance(value, str):
        return tomlkit.value(_visible(tomlkit.item(value).as_string()))
    if isinstance(value, Sequence):
        items = tomlkit.array()
        items.extend(_item(item) for item in value)
        return items.multiline(len(value) > 1)
    return tomlkit.item(value)


def _visible(string: str) -> str:
    """Escape control and invisible characters of a basic string."""
    return UNSAFE.sub(lambda match: f"\\U{ord(match[0]):08x}", string)
