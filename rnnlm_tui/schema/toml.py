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
from rnnlm_tui.schema.validation import Raw, allowed_range, config_to_raw, section_model

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


@dataclass(frozen=True, slots=True)
class ConfigText:
    """The values of a config file and where they were written."""

    name: str
    """The file's path, as errors show it."""
    raw: Raw
    keys: Mapping[str, Place] = field(default_factory=dict)
    """The place of each key and section, by dotted path."""
    values: Mapping[str, Place] = field(default_factory=dict)
    """The place of each value, by dotted path; of a list's items, too: `evaluation.prompts.0`."""

    def place_of(self, path: str, *, key: bool = False) -> Place | None:
        """The place of a value, or of its key; of what contains it, if it has no place itself."""
        while path:
            if key and path in self.keys:
                return self.keys[path]
            place = self.values.get(path) or self.keys.get(path)
            if place is not None:
                return place
            path = path.rpartition(".")[0]
        return None

    def located(self, problem: Problem) -> Problem:
        """The problem with the place of its value, or of its key if that is unknown."""
        place = self.place_of(problem.path, key=problem.message == "unknown config key")
        return (
            problem
            if place is None
            else Problem(problem.path, problem.message, problem.hint, problem.adjustments, place)
        )


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
    finder = _Places(text, name)
    finder.find()
    return ConfigText(name, raw, finder.keys, finder.values)


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


class _Places:
    """Finds the line and column of keys and values in a text that is valid TOML."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name, self._at = text, name, 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._line = 0
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}

    def find(self) -> None:
        table: tuple[str, ...] = ()
        while self._skip("[ \t\r\n]*(?:#[^\n]*[ \t\r\n]*)*"):
            place = self._place()
            if self._peek("["):
                self._skip(r"\[\[?[ \t]*")
                table = tuple(self._key())
                self._skip(r"[ \t]*\]\]?")
                self.keys.setdefault(".".join(table), place)
            else:
                self._pair(table)

    def _pair(self, table: tuple[str, ...]) -> None:
        place = self._place()
        key = (*table, *self._key())
        for length in range(len(table) + 1, len(key) + 1):
            self.keys.setdefault(".".join(key[:length]), place)
        self._skip("[ \t]*=[ \t]*")
        self._value(key)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip("[ \t]*")
            quote = self._text[self._at : self._at + 1]
            start = self._at
            if quote in ('"', "'") and quote:
                self._string()
                parts.append(_unquoted(self._text[start : self._at]))
            else:
                self._skip(r"[A-Za-z0-9_-]+")
                parts.append(self._text[start : self._at])
            self._skip("[ \t]*")
            if not self._peek("."):
                return parts
            self._at += 1

    def _value(self, key: tuple[str, ...]) -> None:
        self.values.setdefault(".".join(key), self._place())
        first = self._text[self._at : self._at + 1]
        if first in ('"', "'"):
            self._string()
        elif first == "[":
            self._at += 1
            item = 0
            while self._skip("(?:[ \t\r\n,]+|#[^\n]*)*") and not self._peek("]"):
                self._value((*key, str(item)))
                item += 1
            self._at += 1
        elif first == "{":
            self._at += 1
            while self._skip("(?:[ \t\r\n,]+|#[^\n]*)*") and not self._peek("}"):
                self._pair(key)
            self._at += 1
        else:
            self._skip(r"[^,\]}#\r\n]*")

    def _string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            # The quotes that end it may follow one or two quotes of the text.
            sign = r"[^\\]|\\." if quote == '"' else "."
            self._skip(f"(?s:{quote * 3}(?:{sign})*?{quote * 3}){quote}{{0,2}}")
        elif quote == '"':
            self._skip(r'"(?:[^"\\]|\\.)*"')
        else:
            self._skip(r"'[^']*'")

    def _skip(self, pattern: str) -> bool:
        """Move behind a pattern; False at the end of the text."""
        match = re.compile(pattern).match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return self._at < len(self._text)

    def _peek(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _place(self) -> Place:
        while self._line + 1 < len(self._starts) and self._starts[self._line + 1] <= self._at:
            self._line += 1
        return Place(self._name, self._line + 1, self._at - self._starts[self._line] + 1)


def _unquoted(quoted: str) -> str:
    import tomllib

    return cast(str, tomllib.loads(f"key = {quoted}")["key"])


def toml_text(raw: Mapping[str, object]) -> str:
    """A config's values as TOML that `train --config` accepts; None is left out."""
    import tomlkit

    document = tomlkit.document()
    _fill(document, raw)
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
        for name in section_model(section).model_fields:
            lines.append(f"# {field_help(f'{section}.{name}')}")
            lines.append(
                toml_text({name: known[name]}).rstrip("\n") if name in known else f"# {name} ="
            )
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def field_help(path: str) -> str:
    """Return a field's description, range and unit: `Sequences per step. (1 … 512 sequences)`."""
    section, _, name = path.partition(".")
    info = section_model(section).model_fields[name]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    limits = " ".join(part for part in (allowed_range(path), str(extra.get("unit", ""))) if part)
    return f"{info.description or ''} ({limits})" if limits else info.description or ""


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

    wanted = _without_none(raw)
    if parse_toml(text, "config").raw == wanted:
        return text
    try:
        document = tomlkit.parse(text if text.endswith("\n") else f"{text}\n")
        _update(document, raw)
        updated = tomlkit.dumps(document)
    except (AttributeError, LookupError, ValueError):
        updated = ""
    if _readable(updated) == wanted:
        return updated
    # tomlkit can't change a table that is written in several parts. Its comments come first.
    comments = re.findall(r"^[ \t]*#[^\r\n]*", text, re.MULTILINE)
    return "".join(f"{comment.strip()}\n" for comment in comments) + toml_text(raw)


def _without_none(raw: Mapping[str, object]) -> Raw:
    return {
        name: _without_none(value)
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


def _update(table: TOMLDocument | Table, raw: Mapping[str, object]) -> None:
    from tomlkit.items import Item

    for name in list(table):
        if raw.get(name) is None:
            table.remove(name)
    for name, value in raw.items():
        if value is None:
            continue
        present = table.get(name)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            _update(cast("Table", present), value)
        elif present is None:
            _append(table, {name: value})
        elif not _equal(_plain(present), value):
            item, old = _item(value), table.item(name)
            if isinstance(old, Item):
                item.trivia.comment_ws = old.trivia.comment_ws
                item.trivia.comment = old.trivia.comment
            table[name] = item


def _append(table: TOMLDocument | Table, raw: Mapping[str, object]) -> None:
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


def _fill(table: TOMLDocument | Table | Container, raw: Mapping[str, object]) -> None:
    """Append values, then tables, which end the values of what contains them."""
    import tomlkit

    for name, value in raw.items():
        if value is not None and not isinstance(value, Mapping):
            table.add(name, _item(value))
    for name, value in raw.items():
        if isinstance(value, Mapping):
            inner = tomlkit.table()
            _fill(inner, value)
            table.add(name, inner)


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


def _plain(value: object) -> object:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _equal(one: object, other: object) -> bool:
    """Whether TOML values are equal; 1 and 1.0 are, true and 1 are not."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(other, tuple):
        other = list(other)
    return one == other


def _visible(string: str) -> str:
    """Escape control and invisible characters of a basic string."""
    return UNSAFE.sub(lambda match: f"\\U{ord(match[0]):08x}", string)
