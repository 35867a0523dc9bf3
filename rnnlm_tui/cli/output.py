"""Output of the verbs: results on stdout as text or JSON, progress and advice on stderr."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Generic, Literal, TextIO, TypeVar

from rnnlm_tui.schema.formatting import disk, percent, safe

if TYPE_CHECKING:
    from rnnlm_tui.errors import RnnlmError
    from rnnlm_tui.store.paths import RunDirectory

ItemT = TypeVar("ItemT", bound=Hashable)

_WORDS = re.compile(r"[^\s`]*`[^`\n]*`[^\s`]*|\S+")
"""A command between backticks counts as one word if it fits on a line."""
LONG_SECONDS = 0.5
"""What takes longer shows its progress."""
LEAST_TEXT = 20
"""Minimum width for wrapping the last column; below it, the terminal breaks the lines."""
_WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6"
    "\U0001f300-\U0003fffd"
)
_PARTS = rf"\n|[ \t]+|[{_WIDE}](?:\u200d\S|[\ufe0f\U0001f3fb-\U0001f3ff])*|[^\n \t{_WIDE}]{{1,%d}}"
"""Line breaks, white space, wide characters, which have no spaces between them, and words."""


def moves_cursor() -> bool:
    """Whether stdout is a terminal with cursor addressing."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def interactive() -> bool:
    """Whether a full-screen app can run: input and output are a terminal with cursor addressing."""
    return sys.stdin.isatty() and moves_cursor()


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON value on stdout."""
    print(json_text(value, indent=indent), flush=True)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Format the value as ASCII JSON, safe for any output; non-finite numbers become null.

    Models and dataclasses, also inside of lists and dictionaries, become objects of their fields.
    """
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value, inf_nan_mode="null", fallback=methodcaller("model_dump"))
    return json.dumps(plain, indent=indent)


def note(text: str) -> None:
    """Print progress or advice on stderr, wrapped on a terminal, control characters escaped."""
    print(
        wrapped(encodable(safe(text), sys.stderr), columns(sys.stderr)), file=sys.stderr, flush=True
    )


def warn(text: str | None) -> None:
    """Print a warning on stderr, if there is one."""
    if text:
        note(f"warning: {text}")


class ProgressLine:
    """A line of progress on stderr that is updated in place; nothing unless it is a terminal.

    Args:
        after: seconds until it is shown.
    """

    def __init__(self, after: float = 0.0) -> None:
        self._on = columns(sys.stderr) is not None
        self._next = time.monotonic() + after
        self._written = False

    def __call__(self, text: str) -> None:
        """Show a short text, at most ten times a second."""
        now = time.monotonic()
        if self._on and now >= self._next:
            self._next, self._written = now + 0.1, True
            room = (columns(sys.stderr) or 80) - 1
            line = encodable(safe(text, keep=""), sys.stderr)[:room]
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Erase the line."""
        if self._written:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._written = False


@contextmanager
def showing_bytes(what: str, after: float = 0.0) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many bytes are done, of how many, after some seconds."""
    with ProgressLine(after) as shown:
        yield lambda done, total: shown(
            f"{what}: {disk(done)} of {disk(total)} ({percent(done / max(1, total))})"
        )


def reading_log(run: RunDirectory) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show how much of a run's log is read, if that takes long: it has no index yet."""
    return showing_bytes(f"reading the log of {run.name}", LONG_SECONDS)


def print_error(error: RnnlmError) -> None:
    """Print the error's message and hint on stderr, with control characters escaped."""
    note(f"rnnlm-tui: {error.message}")
    if error.hint:
        note(error.hint)


def warn_of_logout() -> None:
    """Warn on stderr if logging out would end the run that was just started."""
    from rnnlm_tui.system.processes import ends_at_logout

    end = ends_at_logout()
    if end is not None:
        note(f"{end.fact}\n{end.hint}")


def confirmed(question: str, what: str) -> bool:
    """Ask a yes-or-no question on the terminal.

    Raises:
        InputError: as `check_can_ask`.
    """
    check_can_ask(what)
    print(encodable(safe(f"{question} [y/N] "), sys.stderr), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_agreed(
    question: str, what: str, *, yes: bool, otherwise: str = "nothing was deleted"
) -> None:
    """Ask a yes-or-no question, unless `yes` was given; another answer ends the verb with 1."""
    if not yes and not confirmed(question, what):
        note(otherwise)
        raise SystemExit(1)


def check_can_ask(what: str, hint: str = "add --yes") -> None:
    """Check that a question can be asked.

    Raises:
        InputError: standard input is not a terminal; its message starts with `what`.
    """
    if not sys.stdin.isatty():
        from rnnlm_tui.errors import InputError

        raise InputError(
            f"{what}: cannot ask for confirmation, standard input is not a terminal", hint=hint
        )


def clipped(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut the text to `width` cells, including the ellipsis."""
    if cells(text) <= width:
        return text
    from rich.cells import chop_cells

    return chop_cells(text, max(1, width - len(ellipsis)))[0] + ellipsis


def line(text: str = "", *, wrap: bool = True) -> None:
    """Print a line of the result on stdout, wrapped at words on a terminal."""
    print(wrapped(shown(text), columns(sys.stdout) if wrap else None), flush=True)


class TextStream:
    """Stream a text to stdout: exact in a pipe or a file, wrapped at words on a terminal.

    On a terminal the last word is held back until the next piece.
    """

    def __init__(self) -> None:
        self._used = 0
        """Cells used on the current line."""
        self._blank = ""
        """White space before the word held back."""
        self._word = ""

    def write(self, piece: str) -> None:
        """Append a piece."""
        piece, room = shown(piece), columns(sys.stdout)
        if room is not None:
            parts = re.findall(_PARTS % room, self._word + piece)
            self._word = parts.pop() if parts and parts[-1][0] not in "\n \t" else ""
            piece = "".join(self._placed(part, room) for part in parts)
        print(piece, end="", flush=True)

    def close(self, *, line_break: bool = True) -> None:
        """Write the word held back and end the line."""
        word = self._placed(self._word, columns(sys.stdout) or 0) if self._word else ""
        print(word, end="\n" if line_break else "", flush=True)

    def _placed(self, part: str, room: int) -> str:
        """A part as it is printed: white space with the word behind it, which starts a new line if
        it doesn't fit."""
        if part == "\n":
            self._used, self._blank = 0, ""
            return part
        if part[0] in " \t":
            self._blank += part
            return ""
        lead, start = self._blank, len((" " * self._used + self._blank).expandtabs(8))
        if self._used and start + cells(part) > room:
            lead, start = "\n", 0
        self._used, self._blank = start + cells(part), ""
        return lead + part


def columns(stream: TextIO) -> int | None:
    """Return the terminal's width in cells; None if the stream is no terminal."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None
    except (OSError, ValueError):
        return None


def wrapped(text: str, width: int | None, *, indent: int = 0) -> str:
    """Wrap a text at spaces to `width` cells.

    A command that needs several lines gets a backslash at each line's end, for copying.

    Args:
        width: None leaves the text as it is.
        indent: columns before every line but the first, which is already indented.
    """
    if width is None:
        return text
    room = max(LEAST_TEXT, width - indent)
    return ("\n" + " " * indent).join(
        piece for line in text.split("\n") for piece in _pieces(line, room)
    )


def _pieces(line: str, room: int) -> list[str]:
    """Split a line into lines of at most `room` cells, unless a word is longer."""
    if cells(line) <= room:
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    found, now = [], margin
    for word in _WORDS.findall(line):
        if now.strip() and cells(now) + 1 + cells(word) > room:
            found.append(now)
            now = margin
        parts = word.split(" ") if cells(margin) + cells(word) > room else [word]
        for place, part in enumerate(parts):
            end = 0 if place == len(parts) - 1 else 2
            if place and cells(now) + 1 + cells(part) + end > room:
                found.append(f"{now} \\")
                now = margin
            now += f" {part}" if now.strip() else part
    return [*found, now]


def shown(text: str, *, keep: str = "\n\t") -> str:
    """Prepare a text for stdout: exact in a pipe or file, control characters escaped on a terminal.

    Characters missing from the encoding are replaced.

    Args:
        keep: control characters that are passed to a terminal.
    """
    if text.isascii() and text.isprintable():  # nearly all of a long table
        return text
    if sys.stdout.isatty():
        text = safe(text, keep=keep)
    return encodable(text)


def encodable(text: str, stream: TextIO | None = None) -> str:
    """Replace characters missing from the stream's encoding, so that `LANG=C` never raises.

    The default stream is stdout.
    """
    encoding = (stream or sys.stdout).encoding or "utf-8"
    return text.encode(encoding, "ascii-twins").decode(encoding)


def _twins(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    part = as_ascii(error.object[error.start : error.end])
    return part.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("ascii-twins", _twins)


def as_ascii(text: str) -> str:
    """Replace drawing characters by ASCII; letters of other alphabets remain."""
    return text.translate(_ASCII_TWINS)


def has_block_characters() -> bool:
    """Whether stdout's encoding has the block characters of curves."""
    try:
        "▁█━★".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


CURVE = "▁▂▃▄▅▆▇█"
"""The levels of a curve."""
_ASCII_TWINS = str.maketrans(
    dict(zip("–—×≈★▸⚑●‖✓✗◌○◐◍■“”·−━╍─▼▲├│└", '--x~*>#*=+x~o%&-""--=~-v^||`', strict=True))
    | dict(zip(CURVE, "_.-~=+*#", strict=True))
    | {"…": "...", "±": "+-", "→": "->", "°": "", "≥": ">=", "≤": "<="}
)


Colour = Literal["dim", "good", "live", "warn", "bad"]
_CODES: dict[Colour, int] = {"dim": 2, "good": 32, "live": 36, "warn": 33, "bad": 31}
"""ANSI codes of the terminal's palette, which suits its background."""


def has_colour() -> bool:
    """Whether stdout is a terminal with colours and NO_COLOR is not set."""
    return moves_cursor() and not os.environ.get("NO_COLOR")


def painted(text: str, colour: Colour | None) -> str:
    """Colour the text if stdout shows colours."""
    return (
        f"\x1b[{_CODES[colour]}m{text}\x1b[0m"
        if colour is not None and text and has_colour()
        else text
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    spare: Sequence[int] = (),
    colours: Mapping[int, Mapping[str, Colour | None]] | None = None,
    none: str = "",
) -> None:
    """Print columns two spaces apart, without rules, so that `awk` can parse them too.

    Args:
        head: the columns' names; one with a > in front is right-aligned.
        spare: columns to leave out, in this order, until the rest fits the terminal.
        colours: for each column, a colour for each cell text.
        none: printed instead if there are no rows.
    """
    rows = list(rows)
    if not rows:
        if none:
            line(none)
        return
    names = [name.removeprefix(">") for name in head]
    lines = [tuple(shown(cell, keep="") for cell in cells_of) for cells_of in (names, *rows)]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(head))]
    to_right = {column for column, name in enumerate(head) if name.startswith(">")}
    kept, room = list(range(len(head))), columns(sys.stdout)
    for column in spare:
        if room is None or sum(widths[one] + 2 for one in kept) - 2 <= room:
            break
        kept.remove(column)
    last, start = kept[-1], sum(widths[column] + 2 for column in kept[:-1])
    wraps = room is not None and last not in to_right and start + LEAST_TEXT <= room
    written = list[str]()
    for place, found in enumerate(lines):
        texts = []
        for column in kept:
            cell, space = found[column], " " * (widths[column] - cells(found[column]))
            colour = "dim" if place == 0 else (colours or {}).get(column, {}).get(cell)
            text = wrapped(cell, room, indent=start) if wraps and column == last else cell
            shade = painted(text, colour)
            texts.append(space + shade if column in to_right else shade + space)
        written.append("  ".join(texts).rstrip(" "))
    print("\n".join(written), flush=True)


def fits(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """Whether a table fits the terminal's width; without a terminal everything fits."""
    room, names = columns(sys.stdout), [name.removeprefix(">") for name in head]
    widths = [max(map(cells, column)) for column in zip(names, *rows, strict=True)]
    return room is None or sum(width + 2 for width in widths) - 2 <= room


def cells(text: str) -> int:
    """Return the width in cells of a text without control characters."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # imported here: most texts are ASCII

    return cell_len(text)


def facts(
    pairs: Iterable[tuple[str, str]], *, colours: Mapping[str, Colour | None] | None = None
) -> None:
    """Print labels and values in two columns, wrapped on a terminal; empty values are left out.

    Args:
        colours: the colour of a value by its label.
    """
    kept = [(shown(label, keep=""), shown(value)) for label, value in pairs if value]
    width = max((cells(label) for label, _ in kept), default=0)
    for label, value in kept:
        text = painted(
            wrapped(value, columns(sys.stdout), indent=width + 2), (colours or {}).get(label)
        )
        print(f"{painted(label, 'dim')}{' ' * (width - cells(label))}  {text}", flush=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb answers: a value with `--json`, otherwise text."""

    value: object
    """Or a function that returns it, if that takes long."""
    text: str | Callable[[], None]
    """A sentence, or a function that prints the text."""
    remark: str = ""
    """For stderr, below the text."""
    failure: BaseException | None = None
    """Raised after the answer is printed."""

    def print(self, *, json: bool) -> None:
        """Print the answer."""
        if json:
            print_json(self.value() if callable(self.value) else self.value)
        elif callable(self.text):
            self.text()
        elif self.text:
            line(self.text)
        if self.remark and not json:
            note(self.remark)
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True, slots=True)
class Answers(Generic[ItemT]):
    """The answers of an action on each of several items; one that fails is reported, and the next
    follows. With `--json`, one object for one item, a list for several."""

    items: Iterable[ItemT]
    act: Callable[[ItemT], tuple[object, str]]
    """Returns the value, as of an `Answer`, and a sentence."""

    def print(self, *, json: bool) -> None:
        """Act on the items and print each answer at once.

        Raises:
            RnnlmError: the only item failed.
            SystemExit: some of several items failed, with the exit code of the first failure.
        """
        from rnnlm_tui.errors import RnnlmError

        wanted, done, failures = list(dict.fromkeys(self.items)), list[object](), list[int]()
        for item in wanted:
            try:
                value, words = self.act(item)
            except RnnlmError as error:
                if len(wanted) == 1:
                    raise
                print_error(error)
                failures.append(error.exit_code)
                continue
            if json:
                done.append(value() if callable(value) else value)
            else:
                line(words)
        if json:
            print_json(done[0] if len(wanted) == 1 else done)
        if failures:
            raise SystemExit(failures[0])
