"""The user's keys: `keymap.toml` in the data home, read at the start.

    pause = "P"                 # the id of an action = its key
    log_scale = ["l", "f6"]     # or several; the first one is shown

Invalid lines are reported and ignored; everything else works.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import NamedTuple

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


class Keymap(NamedTuple):
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
            continue
        try:
            chosen[identifier] = _keys_of(value)
        except ValueError as error:
            problems.append((identifier, f"{identifier}: {error}"))
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
    text = written.strip(" ") or "space"
    if len(text) == 1:
        return NAMES.get(text) or (key_of_character(text) if text.isprintable() else None)
    for sign, modifier in (("^", "ctrl+"), ("⇧", "shift+")):
        text = modifier + text[1:] if text.startswith(sign) else text
    before, plus, last = text[:-1].rpartition("+")
    last += text[-1]
    modifiers = before.lower().split("+") if plus else []
    if not set(modifiers) <= {"ctrl", "shift", "alt"}:
        return None
    key = key_of_character(last) if len(last) == 1 else NAMES.get(last.lower(), last.lower())
    if len(key) == 1 and modifiers == ["shift"]:
        return key.upper()
    known = {"space", *(named.value for named in Keys)}
    if len(key) > 1 and key not in known and key_to_character(key) is None:
        return None
    return "+".join([*modifiers, key.lower() if modifiers else key])


def _keys_of(value: object) -> tuple[str, ...]:
    """Return the keys.

    Raises:
        ValueError: what is wrong with them.
    """
    written = [value] if isinstance(value, str) else value
    if not isinstance(written, list) or not written or not all(written):
        raise ValueError('expected a key such as "P", or several such as ["P", "f6"]')
    keys: dict[str, None] = {}
    for one in written:
        key = key_name(one) if isinstance(one, str) else None
        if key is None:
            raise ValueError(
                f"“{safe(str(one), keep='')[:20]}” is not a key; keys are single characters, f1 …"
                " f12, ctrl+ and a letter, enter, home and the like"
            )
        other = SAME_KEY.get(key) or (f"ctrl+{key[11:]}" if key.startswith("ctrl+shift+") else None)
        if other is not None:
            raise ValueError(f"a terminal sends {key_label(key)} as {key_label(other)}")
        if key in FIXED:
            raise ValueError(f"{key_label(key)} can't be changed: {FIXED[key]}")
        keys[key] = None
    return tuple(keys)


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
            own = f"the key of {entry.id} on {title}; change that one's key too"
            for key in entry.keys:
                other = owners.setdefault(key, own)
                if other == own and key in taken and key not in action(entry.id).keys:
                    other = f"used by the list or text field of {title}"
                if entry.id in chosen and other != own:
                    yield entry.id, f"{key_label(key)} is {other}"


def _with_keys(chosen: Mapping[str, Sequence[str]]) -> tuple[Action, ...]:
    """Return the table with these keys. Actions in one row (`+ - 0`) show the first key of each."""
    actions: list[Action] = []
    table = [
        entry._replace(keys=tuple(chosen[entry.id])) if entry.id in chosen else entry
        for entry in chain.from_iterable(ROWS)
    ]
    for head, *others in key_rows(table):
        if head.shown and any(entry.id in chosen for entry in (head, *others)):
            labels = (key_label(entry.keys[0]) for entry in (head, *others))
            head = head._replace(shown=" ".join(labels))
        elif not head.keys and "command_palette" in chosen:
            head = head._replace(shown=key_label(chosen["command_palette"][0]))
        actions += [head, *others]
    return with_keys_in_help(actions)


def _line_of(identifier: str, text: str) -> int:
    """Return the line on which an id is assigned, from 1; 0 if none, as in a table of tables."""
    found = re.search(rf"""^[ \t]*["']?{re.escape(identifier)}["']?\s*=""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 0
