"""Make untrusted text safe to draw: prompts, generated text, corpora, names, paths, logs.

Textual passes ESC, OSC and DCS through to the terminal and reads `[@click=…]` in a plain string as
markup. Here both become visible characters.

Also text wrapped as it grows, the time left, progress bars, and rows of cells with what changed
between two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

from rich.cells import cell_len, set_cell_size, split_graphemes, split_text
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.color import Color
from textual.content import Content, Span
from textual.strip import Strip
from textual.style import Style

from rnnlm_tui.schema.formatting import DAY, HOUR, MINUTE, duration, safe
from rnnlm_tui.tui.palette import BAD, BORDER, DIM, SELECTED, TEXT, THIRD, TRAIN, ink

Newlines = Literal["keep", "space", "show"]
"""Line breaks stay, become a space or become `␊`; tabs become four spaces, one space or `␉`."""


def safe_content(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> Content:
    """Return `text` as Content without markup, control characters visible, cut to `limit` cells."""
    return Content(safe_text(text, limit=limit, newlines=newlines))


def safe_text(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> str:
    """Return `text` sanitized, for widgets that take no Content; pass `markup=False` too."""
    if limit is not None and len(text) > 4 * limit + 64:
        # bounds the work for a huge text, with room for combining marks
        text = text[: 4 * limit + 64]
    if newlines == "keep":
        text = text.replace("\r\n", "\n").expandtabs(4)
    elif newlines == "space":
        text = re.sub("\r\n|[\n\t]", " ", text)
    shown = safe(text, keep="\n" if newlines == "keep" else "")
    if limit is not None and cell_len(shown) > limit:
        shown = set_cell_size(shown, limit - 1) + "…" if limit > 0 else ""
    return shown


def graphemes(text: str) -> Iterator[tuple[str, int]]:
    """Split a text into characters as displayed, each with its cells.

    Joined emoji, flags and combining marks are one character.
    """
    if text.isascii():
        yield from ((sign, 1) for sign in text)
        return
    for first, last, width in split_graphemes(text)[0]:
        yield text[first:last], width


_WORD = re.compile(r"\n|[^\S\n]*[^\s]+|[^\S\n]+")


class WrappedText:
    """Wrapped text; appending costs only the last line and the new text."""

    def __init__(self, width: int, text: str = "") -> None:
        self.width = max(1, width)
        self.text = ""
        self.starts: list[int] = [0]
        """Start of each line in `text`."""
        self.append(text)

    def append(self, text: str) -> None:
        """Append text; only the last line may move."""
        if text:
            self.text += text
            last = self.starts.pop()
            self.starts += _line_starts(self.text, last, self.width)

    def fit(self, width: int) -> None:
        """Wrap to another width."""
        if width != self.width:
            self.width = max(1, width)
            self.starts = _line_starts(self.text, 0, self.width)

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, line: int) -> tuple[int, int]:
        """Return start and end of a line in `text`, without the white space at the break."""
        start, end, *_ = *self.starts[line : line + 2], len(self.text)
        broken = line + 1 < len(self.starts)
        return start, start + len(self.text[start:end].rstrip(None if broken else "\n"))


def _line_starts(text: str, start: int, width: int) -> list[int]:
    starts, used = [start], 0
    for match in _WORD.finditer(text, start):
        word, cells = match[0], cell_len(match[0])
        if word == "\n":
            starts.append(match.end())
            used = 0
        elif used + cells <= width:
            used += cells
        elif word.isspace():
            used = width
        else:
            at = match.start() + len(word) - len(word.lstrip())
            if used or at - match.start() >= width:
                starts.append(at)
                used = 0
            else:
                used = at - match.start()
            for sign, size in graphemes(word.lstrip()):
                if used + size > width and used:
                    starts.append(at)
                    used = 0
                used += size
                at += len(sign)
    return starts


def sentence(
    words: str, width: int, trouble: bool = False, *, style: str = TEXT, indent: int = 0
) -> list[Content]:
    """Wrap a sentence to a width, after blanks and a red cross for trouble."""
    wrapped = WrappedText(max(10, width), safe_text(words, newlines="space"))
    return [
        Content.assemble(
            " " * indent,
            (("  " if line else "✗ ") if trouble else "", BAD),
            (wrapped.text[slice(*wrapped.span(line))], style),
        )
        for line in range(len(wrapped))
    ]


def line(pattern: str, *values: object) -> Content:
    """Return a dim text with values in place of its `{}`: `line("step {}", "3,700")`.

    A value is a Content, a text with its style, or what is written in the usual colour.
    """
    first, *others = pattern.split("{}")
    parts: list[Content | tuple[str, str]] = [(first, DIM)]
    for value, after in zip(values, others, strict=True):
        own = value if isinstance(value, (Content, tuple)) else (str(value), TEXT)
        parts += [own, (after, DIM)]
    return Content.assemble(*parts)


def selected(line: Content, width: int) -> Content:
    """Return a row with the background of the selected one."""
    return line.pad_right(max(0, width - line.cell_length)).stylize_before(f"on {SELECTED}")


def spread(left: Content, right: Content, width: int, *, least: int = 0) -> Content:
    """Place two contents at the ends of a line, at least `least` blanks apart."""
    gap = max(least, width - left.cell_length - right.cell_length)
    return Content.assemble(left, " " * gap, right)


def fitting(parts: Sequence[Content], room: int, gap: int) -> list[Content]:
    """Return the parts that fit side by side: the last one stays, those before it go first."""
    kept = list(parts)
    while len(kept) > 1 and sum(part.cell_length + gap for part in kept) - gap > room:
        del kept[-2]
    return kept


def amount(text: str, style: str = TEXT, *, width: int = 0) -> Content:
    """Return a number and its dim unit, such as `4.1 GiB`; the number has `width` cells."""
    number, space, unit = text.partition(" ")
    return Content.assemble((number.rjust(width), style), (space + unit, DIM))


OWN, OTHERS, FREE = "━", "╍", "─"


def bar(width: int, fraction: float | None, others: float = 0.0, *, colour: str = TRAIN) -> Content:
    """Draw a bar of `width` cells: `fraction` own, `others` used by others, the rest free.

    A share above 0 gets at least one cell, and only a full share fills all. A `fraction` of None
    (unknown) or NaN gives an empty bar.
    """
    first = both = cells(width, fraction)
    if others > 0:
        both = max(min(first + 1, width), cells(width, (fraction or 0.0) + others))
    return Content.assemble(
        (OWN * first, colour),
        (OTHERS * (both - first), THIRD),
        (FREE * (width - both), BORDER),
    )


def cells(width: int, fraction: float | None) -> int:
    """Return how many of `width` cells show `fraction`; all or none only if exact."""
    if fraction is None or not math.isfinite(fraction) or fraction <= 0 or width <= 0:
        return 0
    if fraction >= 1:
        return width
    return min(max(round(width * fraction), 1), width - 1) if width > 1 else 0


Label = Content | str
GAP = 14
"""Unchanged cells between two changes from which jumping is cheaper than rewriting."""
_JOINING = re.compile("[\u0300-\u036f\u200c\u200d\u3099\u309a\ufe00-\ufe0f\U0001f000-\U000e01ef]")
"""Characters that may share a cell with a neighbour; text with them is measured by graphemes."""


def segments_of(content: Label, colour: str = DIM) -> list[Segment]:
    """Return one line of content as styled segments, sanitized; `colour` is the default."""
    if isinstance(content, str):
        text = safe_text(content, newlines="space")
        return [Segment(text, ink(colour))] if content else []
    return list(_rendered(content.plain, tuple(content.spans), colour))


@lru_cache(maxsize=1_024)
def _rendered(text: str, spans: tuple[Span, ...], colour: str) -> tuple[Segment, ...]:
    """Cached: most of a picture's content was in the previous one."""
    base = Style(foreground=Color.parse(colour), bold=False)
    return tuple(
        Segment(part, style or ink(colour))
        for part, style, _ in Content(text, list(spans)).render_segments(base)
        if part
    )


def width_of(segments: Iterable[Segment]) -> int:
    """Return the cells that the segments take."""
    return sum(cell_len(text) for text, _, _ in segments)


def padded(segments: Sequence[Segment], width: int) -> Strip:
    """Return a strip of exactly `width` cells: filled with styled blanks, or cut with `…`."""
    used = width_of(segments)
    if used < width:
        return Strip([*segments, Segment(" " * (width - used), ink(TEXT))], width)
    strip = Strip(segments, used)
    if width < 1 or not strip.crop(width).text.strip():  # nothing is cut
        return strip.crop(0, width)
    kept = list(strip.crop(0, width - 1))
    style = kept[-1].style if kept else None
    return Strip([*kept, Segment("…", style or ink(TEXT))], width)


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Merge segments, since each costs about 25 bytes; blanks take the style before them."""
    parts: list[Segment] = []
    for text, style, _ in segments:
        style, last = style or ink(TEXT), parts[-1].style if parts else None
        # `is`: equal styles are the same object, and `==` would take a tenth of a frame
        if last is not None and (style is last or (text.isspace() and look_alike(style, last))):
            parts[-1] = Segment(parts[-1].text + text, last)
        elif text:
            parts.append(Segment(text, style))
    return parts


Cell = tuple[str, RichStyle | None]
"""Character and style; the right half of a wide character is empty."""


def changed_cells(old: Sequence[Cell], new: Sequence[Cell]) -> list[tuple[int, int]]:
    """Return the changed spans as (first cell, cell after the last), nearby ones merged.

    A blank whose style looks the same is no change.
    """
    if len(old) != len(new):
        return [(0, len(new))]
    spans: list[tuple[int, int]] = []
    for at in [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]:
        one, other = old[at], new[at]
        if spans and at < spans[-1][1]:
            continue
        if one[0] == other[0] == " " and look_alike(one[1], other[1]):
            continue
        first, last = at, at + 1
        # the right half of a wide character goes with its left half
        while last < len(new) and not (old[last][0] and new[last][0]):
            last += 1
        if spans and first - spans[-1][1] < GAP:
            first = spans.pop()[0]
        spans.append((first, last))
    return spans


@lru_cache(maxsize=1_024)
def look_alike(one: RichStyle | None, other: RichStyle | None) -> bool:
    """Whether blanks of these styles look the same.

    Cached: the first frame with figures asks for 3,000 blanks.
    """
    one, other = one or RichStyle.null(), other or RichStyle.null()
    return one.bgcolor == other.bgcolor and not any(
        style.reverse or style.underline or style.strike for style in (one, other)
    )


def cells_of(segments: Iterable[Segment]) -> list[Cell]:
    """Return the character and style of each cell."""
    cells: list[Cell] = []
    for text, style, _ in segments:
        if text.isascii() or (not _JOINING.search(text) and cell_len(text) == len(text)):
            cells += [(sign, style) for sign in text]
            continue
        for sign, width in graphemes(text):
            cells += [(sign, style), ("", style)][:width]
            if not width and cells:  # zero width: belongs to the character before it
                cells[-1] = (cells[-1][0] + sign, style)
    return cells


_split_by_characters = Segment.split_cells


def _split_by_signs(segment: Segment, cut: int) -> tuple[Segment, Segment]:
    """Split like rich's `Segment.split_cells`, but not within joined emoji (rich 14.3 and 15.0 do).

    Everything that crops a row goes through it.
    """
    if not _JOINING.search(segment.text):
        return _split_by_characters(segment, cut)
    before, after = split_text(segment.text, cut)
    return segment._replace(text=before), segment._replace(text=after)


Segment.split_cells = _split_by_signs  # type: ignore[assignment, method-assign]


def time_left(seconds: float | None, margin: float | None = None) -> tuple[str, str]:
    """The time left and its margin: (`24 s left`, `±3`), separate because only the first is bright.

    The margin is in the last unit of the time left.
    """
    if seconds is None or not math.isfinite(seconds):
        return "time left unknown", ""
    left = f"{duration(round(seconds))} left"
    if margin is None or not math.isfinite(margin):
        return left, ""
    unit = 1 if seconds < HOUR else MINUTE if seconds < DAY else HOUR
    rounded = round(margin / unit)
    return left, f"±{rounded}" if rounded else ""
