"""The user's keys: `keymap.toml` in the data home, read at the start.

    pause = "P"                 # the id of an action = its key
    log_scale = ["l", "f6"]     # or several; the first one is shown

Invalid lines are reported and ignored; everything else works.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from textual.app import App
from textual.keys import Keys, key_to_character

from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.system.files import read_at_most
from rnnlm_tui.tui._textual import key_of_character
from rnnlm_tui.tui.actions import (
    ACTIONS,
    KEY_SIGNS,
    PANE_TITLES,
    PANES,
    ROWS,
    WITH_TEXT_BOX,
    Action,
    Pane,
    action,
    actions_for,
    key_label,
    key_rows,
    types_text,
    with_keys_in_help,
)

SAME_KEY: Mapping[str, str] = {
    "ctrl+m": "enter", "ctrl+i": "tab", "ctrl+h": "backspace", "ctrl+left_square_bracket": "escape",
    "shift+enter": "enter", "ctrl+enter": "enter",
    "alt+enter": "enter",
}  # fmt: skip
"""Keys that a terminal, or tmux around it, sends as another key."""
FIXED: Mapping[str, str] = {
    "ctrl+q": "it always leaves the app",
    "ctrl+c": "it shows how to leave",
    "ctrl+z": "it belongs to the shell",
    "ctrl+j": "it starts a new line in the prompt",
}
_PROMPT_KEYS = (
    "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "ctrl+left", "ctrl+right",
    "shift+up", "shift+down", "shift+left", "shift+right", "shift+home", "shift+end", "backspace",
    "delete", "ctrl+backspace", "alt+backspace", "alt+delete", "ctrl+a", "ctrl+d", "ctrl+e",
    "ctrl+k", "ctrl+u", "ctrl+v", "ctrl+w", "ctrl+x", "ctrl+y", "f6", "f7",
)  # fmt: skip
WIDGETS_KEYS: Mapping[Pane, tuple[str, ...]] = {
    "runs": ("up", "down", "k", "j", "pageup", "pagedown", "home", "end"),
    "checkpoints": ("up", "down", "pageup", "pagedown", "home", "end"),
    "prompt": _PROMPT_KEYS,
    "versus": _PROMPT_KEYS,
}  # fmt: skip
"""Keys that lists and text fields of a pane handle themselves."""
MOST_BYTES = 1024 * 1024
"""A longer file is rejected."""
MOST_SHOWN = 3
"""Problems that the app shows at its start."""
NAMES: Mapping[str, str] = {
    **{sign: key for key, sign in KEY_SIGNS.items()}, "esc": "escape", "del": "delete",
    "ins": "insert", "pgup": "pageup", "pgdn": "pagedown", "return": "enter",
}  # fmt: skip
"""Other spellings of keys."""


@dataclass(frozen=True, slots=True)
class Keymap:
    """The table of actions with the user's keys, and the problems of the file."""

    actions: tuple[Action, ...] = ACTIONS
    """Every action, in the table's order."""
    changed: Mapping[str, str] | None = None
    """Ids of the changed actions → their keys, as Textual's `set_keymap` takes them."""
    problems: tuple[str, ...] = ()
    """One sentence each, with its line."""


def read_keymap(path: Path) -> Keymap:
    """Return the user's keys; the default ones if there is no file."""
    try:
        text = read_at_most(path, MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return Keymap()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return Keymap(problems=(f"{path.name} can't be read: {why}",))
    return parse_keymap(text, path.name)


def parse_keymap(text: str, name: str = "keymap.toml") -> Keymap:
    """Return the keys from the file's text."""
    try:
        table = tomllib.loads(text)
    # TOMLDecodeError is a ValueError, and so is a number of thousands of digits
    except (ValueError, RecursionError) as error:
        return Keymap(problems=(f"{name}: {safe(str(error), keep='')}; the file is ignored",))
    problems: list[tuple[str, str]] = []
    chosen: dict[str, tuple[str, ...]] = {}
    known = {entry.id for entry in ACTIONS}
    for identifier, value in table.items():
        if identifier not in known:
            near = " or ".join(get_close_matches(identifier, known, n=2, cutoff=0.6))
            words = f"“{safe(identifier, keep='')[:40]}” is not an action"
            problems.append((identifier, f"{words}; did you mean {near}?" if near else words))
        elif isinstance(keys := _keys_of(value), str):
            problems.append((identifier, f"{identifier}: {keys}"))
        else:
            chosen[identifier] = keys
    while found := next(_clashes(chosen), None):
        del chosen[found[0]]
        problems.append((found[0], f"{found[0]}: {found[1]}"))
    lines = sorted((_line_of(identifier, text), words) for identifier, words in problems)
    return Keymap(
        _with_keys(chosen),
        {identifier: ",".join(keys) for identifier, keys in chosen.items()},
        tuple(f"{name}{f' line {line}' if line else ''}: {words}" for line, words in lines),
    )


def use_keys(app: App[int], keymap: Keymap) -> str:
    """Set the app's keys. Return the problems to show, empty if there are none."""
    changed = keymap.changed or {}
    app.set_keymap(dict(changed))
    for identifier in changed:
        if not action(identifier).keys:  # only the palette has it, so no screen binds it
            app.bind(changed[identifier], identifier, show=False)
    rest = len(keymap.problems) - MOST_SHOWN
    more = [f"and {rest} more: rnnlm-tui doctor"] if rest > 0 else []
    return "\n".join([*keymap.problems[:MOST_SHOWN], *more])


def key_name(written: str) -> str | None:
    """Return Textual's name of a key as written by the user, None if there is no such key.

    For example `P`, `?`, `^s`, `ctrl+s`, `F5`, `pgup` or `←`.
    """
    text = written.strip(" ") or ("space" if written == " " else "")
    if len(text) == 1:
        return NAMES.get(text) or (key_of_character(text) if text.isprintable() else None)
    if text[:1] in ("^", "⇧"):
        text = ("ctrl+" if text[0] == "^" else "shift+") + text[1:]
    *modifiers, last = text.split("+") if not text.endswith("+") else [*text[:-2].split("+"), "+"]
    lowered = [modifier.lower() for modifier in modifiers]
    if not set(lowered) <= {"ctrl", "shift", "alt"} or not last:
        return None
    key = key_of_character(last) if len(last) == 1 else NAMES.get(last.lower(), last.lower())
    if lowered == ["shift"] and len(key) == 1 and key.isalpha():
        return key.upper()
    if lowered and len(key) == 1:
        key = key.lower()
    known = (
        len(key) == 1
        or key in {named.value for named in Keys}
        or key == "space"
        or key_to_character(key) is not None
    )
    return "+".join([*lowered, key]) if known else None


def _keys_of(value: object) -> tuple[str, ...] | str:
    """Return the keys, or what is wrong with them."""
    written = [value] if isinstance(value, str) else value
    if (
        not isinstance(written, list)
        or not written
        or not all(isinstance(one, str) and one for one in written)
    ):
        return 'expected a key such as "P", or several such as ["P", "f6"]'
    keys: list[str] = []
    for one in written:
        key = key_name(one)
        if key is None:
            return (
                f"“{safe(one, keep='')[:20]}” is not a key; keys are single characters, f1 … f12,"
                " ctrl+ and a letter, enter, home and the like"
            )
        other = SAME_KEY.get(key) or (f"ctrl+{key[11:]}" if key.startswith("ctrl+shift+") else None)
        if other is not None:
            return f"a terminal sends {key_label(key)} as {key_label(other)}"
        if key in FIXED:
            return f"{key_label(key)} can't be changed: {FIXED[key]}"
        keys.append(key)
    return tuple(dict.fromkeys(keys))


def _clashes(chosen: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield each action of `chosen` whose key means something else, and the reason."""
    for identifier, keys in chosen.items():
        panes = action(identifier).panes
        typed = next(filter(types_text, keys), None)
        if typed and panes and set(panes) <= set(WITH_TEXT_BOX):
            yield (
                identifier,
                f"{key_label(typed)} is typed into the text box of {PANE_TITLES[panes[0]]}:"
                " choose a function key, or ctrl+ and a letter",
            )
    actions = _with_keys(chosen)
    for pane in PANES:
        owners: dict[str, str] = {}
        title, taken = PANE_TITLES[pane], WIDGETS_KEYS.get(pane, ())
        for entry in sorted(actions_for(pane, actions), key=lambda entry: entry.id in chosen):
            for key in entry.keys:
                other = owners.setdefault(key, entry.id)
                if entry.id not in chosen:
                    continue
                if other != entry.id:
                    why = f"is the key of {other} on {title}; change that one's key too"
                    yield entry.id, f"{key_label(key)} {why}"
                if key in taken and key not in action(entry.id).keys:
                    yield entry.id, f"{key_label(key)} is used by the list or text field of {title}"


def _with_keys(chosen: Mapping[str, Sequence[str]]) -> tuple[Action, ...]:
    """Return the table with these keys. Actions in one row (`+ - 0`) show the first key of each."""
    actions: list[Action] = []
    table = [
        replace(entry, keys=tuple(chosen[entry.id])) if entry.id in chosen else entry
        for entry in chain.from_iterable(ROWS)
    ]
    for head, *others in key_rows(table):
        if head.shown and any(entry.id in chosen for entry in (head, *others)):
            labels = (key_label(entry.keys[0]) for entry in (head, *others))
            head = replace(head, shown=" ".join(labels))
        elif not head.keys and "command_palette" in chosen:
            head = replace(head, shown=key_label(chosen["command_palette"][0]))
        actions += [head, *others]
    return with_keys_in_help(actions)


def _line_of(identifier: str, text: str) -> int:
    """Return the line on which an id is assigned, from 1; 0 if none, as in a table of tables."""
    pattern = re.compile(rf"""^\s*["']?{re.escape(identifier)}["']?\s*=""")
    return next(
        (number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 0
    )
