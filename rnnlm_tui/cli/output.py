"""Output of the verbs: results on stdout as text or JSON, progress and advice on stderr.

A run's summary as text: rows of `runs`, figures of `show`, results after `follow`.

Rows of the verb `metrics` as CSV, JSON or a table, read in chunks to save memory.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from time import time
from typing import TYPE_CHECKING, Literal, TextIO, TypeVar, cast

from rnnlm_tui.schema.formatting import (
    CELL_NAMES,
    NOTHING,
    age,
    bits_per_byte_text,
    counted,
    device_text,
    disk,
    duration,
    epoch_of,
    figure,
    other_load_text,
    percent,
    short,
)
from rnnlm_tui.schema.metrics import EvaluationRow, StepRow
from rnnlm_tui.schema.status import RunStatus

if TYPE_CHECKING:
    from rnnlm_tui.errors import RnnlmError
    from rnnlm_tui.schema.summary import EvaluationFigures, ReferenceFigures, RunSummary
    from rnnlm_tui.store.reader import RunReader


ItemT = TypeVar("ItemT", bound=Hashable)

_WORDS = re.compile(r"[^\s`]*`[^`\n]*`[^\s`]*|\S+")
"""A command between backticks counts as one word if it fits on a line."""
LEAST_TEXT = 20
"""Minimum width for wrapping the last column; below it, the terminal breaks the lines."""
_JOINED = re.compile(
    "[\u200c\u200d\ufe00-\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e01ef]"
)
"""Characters that change the width of their neighbours."""


def interactive() -> bool:
    """Whether a full-screen app can run: input and output are a terminal with cursor addressing."""
    return (
        sys.stdin.isatty()
        and sys.stdout.isatty()
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON value on stdout."""
    print(json_text(value, indent=indent), flush=True)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Format the value as ASCII JSON, safe for any output; non-finite numbers become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def note(text: str) -> None:
    """Print progress or advice on stderr, wrapped on a terminal, with control characters
    escaped."""
    from rnnlm_tui.schema.text import safe

    print(
        wrapped(encodable(safe(text), sys.stderr), columns(sys.stderr)), file=sys.stderr, flush=True
    )


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
        self._space = ""
        """White space before the word held back."""
        self._word = ""

    def write(self, piece: str) -> None:
        """Append a piece."""
        piece, room = shown(piece), columns(sys.stdout)
        print(piece if room is None else "".join(self._broken(piece, room)), end="", flush=True)

    def close(self) -> None:
        """Write the word held back and end the line."""
        room = columns(sys.stdout)
        print("" if room is None else "".join(self._put(room)), flush=True)
        self._used = 0

    def _broken(self, piece: str, room: int) -> Iterator[str]:
        for sign in piece:
            if sign in "\n \t":
                yield from self._put(room)
                self._space = "" if sign == "\n" else self._space + sign
                if sign == "\n":
                    yield sign
                    self._used = 0
                continue
            if (
                self._word
                and not self._word.endswith("\u200d")
                and {_is_wide(self._word[-1]), _is_wide(sign)} != {False}
            ):  # no spaces between these
                yield from self._put(room)
            self._word += sign
            if len(self._word) > room and cells(self._word) > room:
                yield from self._put(room, part=self._word[:-1])

    def _put(self, room: int, *, part: str | None = None) -> Iterator[str]:
        """Yield the word held back, or its first `part`, on a new line if it doesn't fit."""
        word = self._word if part is None else part
        self._word = self._word[len(word) :]
        if not word:
            return
        gap = len((" " * (self._used % 8) + self._space).expandtabs(8)) - self._used % 8
        if self._used and self._used + gap + cells(word) > room:
            yield f"\n{word}"
            self._used = cells(word)
        else:
            yield f"{self._space}{word}"
            self._used += gap + cells(word)
        self._space = ""


def _is_wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in "WF"


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
        from rnnlm_tui.schema.text import safe

        text = safe(text, keep=keep)
    return encodable(text)


def encodable(text: str, stream: TextIO | None = None) -> str:
    """Replace characters missing from the stream's encoding, so that `LANG=C` never raises.

    The default stream is stdout.
    """
    encoding = (stream or sys.stdout).encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_encodable(character, encoding) for character in text)
    return text


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return as_ascii(character).encode(encoding, "backslashreplace").decode(encoding)
    return character


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


_ASCII_TWINS = str.maketrans(
    {"–": "-", "—": "-", "…": "...", "×": "x", "≈": "~", "★": "*", "▸": ">", "⚑": "#", "●": "*", "‖": "=", "✓": "+", "✗": "x", "◌": "~", "○": "o", "“": '"', "”": '"', "·": "-", "−": "-", "━": "=", "╍": "~", "─": "-", "±": "+-", "▼": "v", "▲": "^", "→": "->", "°": "", "≥": ">=", "≤": "<="}
)  # fmt: skip


Colour = Literal["dim", "good", "live", "warn", "bad"]
_CODES: dict[Colour, int] = {"dim": 2, "good": 32, "live": 36, "warn": 33, "bad": 31}
"""ANSI codes of the terminal's palette, which suits its background."""


def has_colour() -> bool:
    """Whether stdout is a terminal with colours and NO_COLOR is not set."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


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
    right: Iterable[int] = (),
    spare: Sequence[int] = (),
    colours: Mapping[int, Mapping[str, Colour | None]] | None = None,
) -> None:
    """Print columns two spaces apart, without rules, so that `awk` can parse them too.

    Args:
        right: columns that are right-aligned.
        spare: columns to leave out, in this order, until the rest fits the terminal.
        colours: for each column, a colour for each cell text.
    """
    lines = [tuple(shown(cell, keep="") for cell in cells_of) for cells_of in (head, *rows)]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(head))]
    to_right, kept = set(right), list(range(len(head)))
    for column in spare:
        if fits(
            [head[column] for column in kept], [[line[column] for column in kept] for line in lines]
        ):
            break
        kept.remove(column)
    start = sum(widths[column] + 2 for column in kept[:-1])
    room = columns(sys.stdout)
    wraps = room is not None and kept[-1] not in to_right and start + LEAST_TEXT <= room
    written = list[str]()
    for place, found in enumerate(lines):
        texts = []
        for column in kept:
            cell, space = found[column], " " * (widths[column] - cells(found[column]))
            colour: Colour | None = (
                "dim" if place == 0 else (colours or {}).get(column, {}).get(cell)
            )
            shade = painted(
                wrapped(cell, room, indent=start) if wraps and column == kept[-1] else cell, colour
            )
            texts.append(space + shade if column in to_right else shade + space)
        written.append("  ".join(texts).rstrip(" "))
    print("\n".join(written), flush=True)


def fits(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """Whether a table fits the terminal's width; without a terminal everything fits."""
    room = columns(sys.stdout)
    return (
        room is None
        or sum(max(map(cells, column)) + 2 for column in zip(head, *rows, strict=True)) - 2 <= room
    )


def cells(text: str) -> int:
    """Return the width in cells of a text without control characters."""
    if text.isascii():
        return len(text)
    if _JOINED.search(text):
        from rich.cells import cell_len  # imported here: it takes 10 ms, and few tables need it

        return cell_len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + _is_wide(character) for character in text
    )


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


def act_on_each(
    items: Iterable[ItemT], act: Callable[[ItemT], tuple[object, str]], *, json: bool
) -> None:
    """Run `act` on each item; report an item that fails and continue with the next.

    Args:
        act: returns the result as a JSON object and as a sentence. JSON is one object for one item,
            a list for several.

    Raises:
        RnnlmError: the only item failed.
        Exit: some of several items failed, with the exit code of the first failure.
    """
    import typer

    from rnnlm_tui.errors import RnnlmError

    wanted, done, failures = list(dict.fromkeys(items)), list[object](), list[RnnlmError]()
    for item in wanted:
        try:
            value, words = act(item)
        except RnnlmError as error:
            if len(wanted) == 1:
                raise
            print_error(error)
            failures.append(error)
            continue
        done.append(value)
        if not json:
            line(words)
    if json:
        print_json(done[0] if len(wanted) == 1 else done)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in cast(dict[str, object], value).items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast(Sequence[object], value)]
    return value


RUN_COLUMNS: tuple[str, ...] = (
    "name",
    "status",
    "step",
    "done",
    "val ppl",
    "tok/s",
    "time",
    "age",
    "model",
    "preset",
    "tags",
)
RUN_COLUMNS_RIGHT: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
RUN_COLUMNS_SPARE: tuple[int, ...] = (9, 6, 3, 8, 5)
"""Preset, time, share done, model and speed: columns dropped on narrow terminals, in this order."""


def run_cells(summary: RunSummary) -> tuple[str, ...]:
    """Format a row of `runs`, in the order of RUN_COLUMNS."""
    if summary.unreadable:
        return (
            _name(summary),
            status_text(summary),
            *[NOTHING] * (len(RUN_COLUMNS) - 3),
            " ".join(summary.tags),
        )
    return (
        _name(summary),
        status_text(summary),
        f"{summary.step:,}",
        percent(share_done(summary)) if summary.max_steps else NOTHING,
        perplexity_text(summary.validation.best_perplexity or summary.validation.perplexity),
        short(summary.tokens_per_second) if summary.tokens_per_second else NOTHING,
        duration(summary.active_seconds),
        age(time() - summary.updated) if summary.updated else NOTHING,
        model_text(summary),
        summary.preset,
        " ".join(summary.tags),
    )


def _name(summary: RunSummary) -> str:
    """Format `⚑ brisk-heron` for a pinned run."""
    return f"⚑ {summary.run}" if summary.pinned else summary.run


def summary_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the labels and values of `show`."""
    yield "run", summary.run
    yield "status", status_text(summary) + (f": {summary.message}" if summary.message else "")
    yield "to do", summary.hint or ""
    yield "tags", " ".join(summary.tags)
    yield "note", summary.note
    yield "pinned", "at the top of the list" if summary.pinned else ""
    yield "step", progress_text(summary)
    yield (
        "time left",
        (
            f"≈ {duration(summary.eta_seconds)}"
            if summary.eta_seconds is not None and summary.status == "running"
            else ""
        ),
    )
    yield "patience", patience_text(summary)
    yield (
        "trained for",
        (
            f"{duration(summary.active_seconds)}, "
            if summary.active_seconds or not summary.step
            else ""
        )  # 0 if the database was rebuilt without it
        + f"{counted(summary.tokens_seen, 'token')}, epoch"
        f" {' of '.join(filter(None, epoch_of(summary.epoch, summary.epochs)))}",
    )
    yield (
        "model",
        (
            f"{model_text(summary)}, {counted(summary.model.parameters, 'parameter')}"
            if summary.model.parameters
            else model_text(summary)
        ),
    )
    yield (
        "corpus",
        summary.corpus
        + ("" if summary.corpus_layout == "sentences" else f", {summary.corpus_layout}"),
    )
    for number, remark in enumerate(summary.corpus_notes):
        yield "" if number else "text", remark
    yield "device", device_text(summary)
    yield (
        "neighbours",
        (
            f"{other_load_text(summary)}, which slows down training"
            if other_load_text(summary)
            else ""
        ),
    )
    yield from result_lines(summary)
    yield "tokens/s", f"{summary.tokens_per_second:,.0f}" if summary.tokens_per_second else ""
    yield "checkpoints", _checkpoint_text(summary)
    yield "started", summary.started or ""
    yield "started from", summary.parent or ""
    yield "database", summary.database or ""
    yield (
        "worker",
        f"pid {summary.pid} on {summary.host}, attempt {summary.attempt}" if summary.pid else "",
    )


def result_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the figures of the model's quality, with their baselines and references."""
    train, validation, test, baseline, source = (
        summary.train,
        summary.validation,
        summary.test,
        summary.baseline,
        summary.source,
    )
    evaluated, reference = summary.evaluation, summary.reference
    yield (
        "train",
        (
            f"perplexity {perplexity_text(train.perplexity)}, loss {figure(train.loss, 3)}"
            if train.perplexity is not None
            else ""
        ),
    )
    if validation.perplexity is not None:
        yield validation.name or "validation", _evaluation_text(validation)
    if evaluated.perplexity is not None and evaluated.name != validation.name:
        yield evaluated.name or "", _evaluation_text(evaluated)
    if reference is not None and reference.perplexity is not None:
        yield "reference", _reference_text(reference)
    if test.perplexity is not None and test.name != evaluated.name:
        yield test.name or "test", f"perplexity {perplexity_text(test.perplexity)}{_bits(test)}"
    if baseline.perplexity is not None:
        known = [
            (
                "validation",
                baseline.validation_perplexity if validation.perplexity is not None else None,
            ),
            ("test", baseline.perplexity),
        ]
        figures = ", ".join(
            f"{perplexity_text(value)} on the same {name} tokens"
            for name, value in known
            if value is not None
        )
        yield "to beat", f"perplexity {figures}: a {baseline.name} model"
    if source.perplexity is not None:
        yield "floor", f"perplexity {perplexity_text(source.perplexity)}, the entropy of the source"


_STATUS_COLOURS: dict[RunStatus, Colour] = {
    "running": "live", "preparing": "live", "finished": "good", "paused": "warn", "stalled": "warn", "degraded": "warn", "lost": "warn", "failed": "bad",
    "crashed": "bad", "draft": "dim",
}  # fmt: skip


def status_colour(summary: RunSummary) -> Colour | None:
    """Return the colour of a run's status; None: the terminal's default."""
    return "bad" if summary.unreadable else _STATUS_COLOURS.get(summary.status)


def status_text(summary: RunSummary) -> str:
    """Format `running`, `lost contact`, `damaged database`, `preparing, encoding 62 %`."""
    if summary.unreadable:
        return summary.unreadable
    if summary.status == "lost":
        return "lost contact"
    if summary.status == "preparing" and summary.preparing is not None:
        part = (
            f" {percent(summary.preparing.done / summary.preparing.total)}"
            if summary.preparing.total
            else ""
        )
        return f"preparing, {summary.preparing.phase}{part}"
    return summary.status


def patience_text(summary: RunSummary) -> str:
    """Format `no better validation loss for 2 evaluations, training stops at 5`."""
    patience = summary.patience
    if patience is None or not patience.waited or summary.status == "finished":
        return ""
    return (
        f"no better validation loss for {counted(patience.waited, 'evaluation')}, training stops at"
        f" {patience.limit:,}"
    )


def progress_text(summary: RunSummary) -> str:
    """Format `1,500 / 4,328 (35 %)`."""
    return (
        f"{summary.step:,} / {summary.max_steps:,} ({percent(share_done(summary))})"
        if summary.max_steps
        else f"{summary.step:,}"
    )


def share_done(summary: RunSummary) -> float:
    """Return the share of planned steps that are done, 0 to 1."""
    return min(1.0, summary.step / summary.max_steps) if summary.max_steps else 0.0


def model_text(summary: RunSummary) -> str:
    """Format `Elman 2×192 tied`."""
    model = summary.model
    if not model.num_layers:
        return NOTHING
    return (
        f"{CELL_NAMES.get(model.cell_type, model.cell_type)} {model.num_layers}×{model.hidden_size}"
        + (" tied" if model.tie_weights else "")
    )


def perplexity_text(value: float | None) -> str:
    """Format `58.1`, `3.51`: two decimals below 10, where one would hide differences."""
    return figure(value, 2 if value is not None and value < 10 else 1)


def _evaluation_text(found: EvaluationFigures) -> str:
    best = (
        f", best {perplexity_text(found.best_perplexity)} at step {found.best_step:,}"
        if found.best_step is not None
        else ""
    )
    at = f" at step {found.step:,}" if found.step is not None else ""
    return f"perplexity {perplexity_text(found.perplexity)}{_bits(found)}{at}{best}"


def _reference_text(reference: ReferenceFigures) -> str:
    """Format `perplexity 92.2 at 3.0 M sentences`, with the run's own count if it differs."""
    there, here = _millions(reference.reference_sentences), _millions(reference.sentences)
    return f"perplexity {perplexity_text(reference.perplexity)} at {there}" + (
        "" if there == here else f", nearest to this run's {here}"
    )


def _millions(sentences: int | None) -> str:
    """Format `3.0 M sentences`."""
    return NOTHING if sentences is None else f"{sentences / 1e6:.1f} M sentences"


def _bits(found: EvaluationFigures) -> str:
    words = bits_per_byte_text(found.bits_per_byte, found.unknown_share)
    return f", {words}" if words else ""


def _checkpoint_text(summary: RunSummary) -> str:
    kept = summary.checkpoints
    if not kept.count:
        return "none yet"
    best = f"best {kept.best:,}, " if kept.best is not None else ""
    last = f"last {kept.last:,}, " if kept.last is not None else ""
    pinned = f"pinned {', '.join(f'{step:,}' for step in kept.pinned)}, " if kept.pinned else ""
    return f"{best}{last}{pinned}{kept.count} kept, {disk(kept.bytes)}"


Cell = int | float | str | None
STEP_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(StepRow))
EVALUATION_COLUMNS: tuple[str, ...] = (
    *(field.name for field in fields(EvaluationRow)),
    "perplexity",
)


def step_rows(reader: RunReader, newest: int | None) -> Iterator[tuple[Cell, ...]]:
    """Read the `newest` steps in order, or all if None."""
    rows = reader.recent_steps(newest) if newest is not None else reader.steps_since(0)
    for row in rows:
        yield tuple(getattr(row, name) for name in STEP_COLUMNS)


def evaluation_rows(reader: RunReader) -> Iterator[tuple[Cell, ...]]:
    """Read the evaluations in order, with their perplexities."""
    for row in sorted(reader.evaluations(), key=lambda row: (row.step, row.time)):
        yield tuple(getattr(row, name) for name in EVALUATION_COLUMNS)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a header and one line per row to stdout."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [shown(cell, keep="") if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    sys.stdout.flush()


def write_json(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a JSON list of objects to stdout, row by row."""

    lead = "["
    for row in rows:
        sys.stdout.write(f"{lead}\n{json_text(dict(zip(columns, row, strict=True)))}")
        lead = ","
    sys.stdout.write("[]\n" if lead == "[" else "\n]\n")
    sys.stdout.flush()


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table to stdout; Unix times become times of day."""

    shown = [
        tuple(_cell(name, value) for name, value in zip(columns, row, strict=True)) for row in rows
    ]
    if not shown:
        line("no metrics yet")
        return
    table(
        columns,
        shown,
        right=[index for index, name in enumerate(columns) if name not in ("split", "name")],
    )


def _cell(name: str, value: Cell) -> str:
    from datetime import datetime

    from rnnlm_tui.schema.formatting import NOTHING, figure

    if value is None:
        return NOTHING
    if name == "time" and isinstance(value, float):
        return datetime.fromtimestamp(value).strftime("%H:%M:%S")
    if isinstance(value, float):
        return figure(
            value, 1 if name in ("tokens_per_second", "perplexity", "active_seconds") else 3
        )
    return f"{value:,}" if isinstance(value, int) else str(value)
