"""Text that would control a terminal or Textual's markup, put into every text field of a value.

`leaks` finds in a terminal's bytes what should have been escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from rnnlm_tui.schema.formatting import UNSAFE, safe
from rnnlm_tui.schema.record import Record, fields_of

ValueT = TypeVar("ValueT")

CLIPBOARD = base64.b64encode(b"hostile").decode()
"""Clipboard contents that only a hostile text would set."""

TEXTS: dict[str, str] = {
    # colour, clipboard, erase, a query, reset
    "acts": f"\x9b31;7;93m\x1b]52;c;{CLIPBOARD}\x07\x1b[31;7;93m\x1b[2J\x1bPq\x1b\\\x1bc"
    # title, bidi, backspaces, NUL
    "\x9d0;pwned\x9c\x90q\x9c\u202eidib\u2066\u200f\u2028\u061c\x08\x08\r\x7f\x0e\x00",
    "markup": "[@click=app.quit]q[/] [/ [red]r[/red] [$primary ]] \\[",
}
"""Hostile texts by kind; each starts with the worst part, since narrow columns show only that."""

_OWN = re.compile(
    r"\x1b\[[0-9;:]*m"  # colours
    r"|\x1b\[[0-9;]*[HJKABCDG]"  # the cursor
    r"|\x1b\[[?>=<][0-9;]*(\$p|[hlucnpq])"  # modes and mode queries
    r"|\x1b\[[0-9;]* q|\x1b[78]|\x1b\[[0-9]*[ct]|\x1b\(B"
    r"|\x1b\]22;[a-z-]+\x07"  # the shape of the mouse's pointer
)
"""Codes that the app itself writes to a terminal."""
_OWN_IN_LINES = re.compile(
    r"\x1b\[(0|2|31|32|33|36)m"
    r"|\r(?=[^\r\n\x1b]*\x1b\[K)|\x1b\[K"  # around a line of progress
)
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
_COPIED = re.compile(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07")


def leaks(raw: bytes, *, lines: bool = False) -> list[str]:
    """Return everything in a terminal's bytes that is neither visible text nor the app's own codes.

    Args:
        lines: the output of a command, which uses only a few colours.
    """
    text = raw.decode("utf-8", "backslashreplace")
    found = [f"colour {match[1]}" for match in _COLOUR.finditer(text) if "31;7;93" in match[1]]
    text = (_OWN_IN_LINES if lines else _OWN).sub("", text)
    text = text.replace("\r\n", "\n")
    found += [
        f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 40]!r}"
        for match in UNSAFE.finditer(text)
        if match[0] != "\n"
    ]
    return found


def copied(raw: bytes) -> list[str]:
    """Return the texts that the app copied to the clipboard."""
    return [
        base64.b64decode(match[1]).decode()
        for match in _COPIED.finditer(raw.decode("utf-8", "backslashreplace"))
    ]


def without_copied(raw: bytes) -> bytes:
    """Remove the sequences that copy a text to the clipboard."""
    return _COPIED.sub("", raw.decode("utf-8", "backslashreplace")).encode()


def seen(text: str) -> str:
    """Return a hostile text as a screen shows it."""
    return safe(text, keep="")


def hostile(value: ValueT, text: str, **kept: object) -> ValueT:
    """Copy a value with `text` in every field, item and key of free text.

    Literals and the fields named in `kept` are unchanged.
    """
    return cast(ValueT, _filled(value, type(value), text, frozenset(kept), top=kept))


def _filled(
    value: object,
    hint: object,
    text: str,
    kept: frozenset[str],
    *,
    top: Mapping[str, object] | None = None,
) -> object:
    if get_origin(hint) is Literal or value is None:
        return value if value is not None or not _may_be_text(hint) else text
    if isinstance(value, str):
        return text if _may_be_text(hint) else value
    if isinstance(value, BaseModel):
        hints = get_type_hints(type(value), include_extras=True)
        changes = {
            name: _filled(getattr(value, name), hints[name], text, kept)
            for name, field in type(value).model_fields.items()
            if name not in kept
            and not any(getattr(item, "pattern", None) for item in field.metadata)
        }
        return value.model_copy(update={**changes, **(top or {})})
    if isinstance(value, Record):
        filled = {
            name: _filled(getattr(value, name), info.annotation, text, kept)
            for name, info in fields_of(type(value)).items()
            if name not in kept and "pattern" not in info.bounds
        }
        return value.model_copy(update={**filled, **(top or {})})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        changes = {
            field.name: _filled(getattr(value, field.name), hints[field.name], text, kept)
            for field in dataclasses.fields(value)
            if field.name not in kept
        }
        return dataclasses.replace(cast(Any, value), **changes, **(top or {}))
    arguments = get_args(_plain(hint))
    if isinstance(value, tuple | list):
        item = arguments[0] if arguments else object
        return type(value)(_filled(each, item, text, kept) for each in value)
    if isinstance(value, dict) and arguments:
        return {
            _filled(key, arguments[0], text, kept): _filled(each, arguments[1], text, kept)
            for key, each in value.items()
        }
    return value


def _plain(hint: object) -> object:
    """Strip Annotated, and None from an optional."""
    while hasattr(hint, "__metadata__"):
        hint = get_args(hint)[0]
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        rest = [each for each in get_args(hint) if each is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else hint
    return hint


def _may_be_text(hint: object) -> bool:
    return _plain(hint) is str
