"""A text token by token: each has a colour and, below it, a bar; one is under the cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.events import Click
from textual.message import Message

from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import (
    BACKGROUND,
    BRIGHT,
    DIM,
    FAINT,
    FOCUS,
    GREY,
    SURPRISE,
    TEXT,
    ink,
    surprise_step,
)
from rnnlm_tui.tui.text import fitting, line, safe_text, segments_of, spread, width_of
from rnnlm_tui.tui.views.inspect import TokenCells, TokenLines, lay_out
from rnnlm_tui.tui.widgets.panel import Labels, WheelScrolled

HORIZON = 30
"""Tokens of a sentence that the book's reference model reads (its training cuts them there)."""
HORIZON_SIGN = "╎"
BARS = " ▁▂▃▄▅▆▇█"
NEXT = "…"
"""The place after the last token: what comes next."""
ROOMY_ROWS = 10
"""Inner rows from which the legend has its own row."""
STEPS = ("2–4", "4–5", "5–6", "6–7", ">7"), ("2", "4", "5", "6", "7+")
"""Names of the steps of surprise, with and without much room."""


class Shade(NamedTuple):
    """How a token looks."""

    background: str = ""
    """Empty: the app's."""
    level: int = 0
    """Height of its bar, 0 to 8."""
    digit: str = ""
    """Replaces the bar in ASCII."""
    colour: str = GREY
    """Of the bar."""
    dark_text: bool = False
    """Text in the app's background colour."""


def has_shades(app: object) -> bool:
    """Whether values can have different backgrounds: not with 16 colours or none."""
    look = getattr(app, "appearance", None)
    return getattr(look, "colours", "dark") in ("dark", "light")


@dataclass
class TokenPointed(Message):
    """A token was clicked."""

    token: int


class TokenStrip(OrderedKeys, WheelScrolled, can_focus=True):
    """Wrapped tokens with a cursor; a subclass shades each token."""

    CURSOR: ClassVar[str] = FOCUS
    """Colour of the token under the cursor; none of the shades."""
    BAR_WORDS: ClassVar[str] = ""
    """What the height of a bar means."""

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title=title, id=id)
        self.cursor = 0
        """The token under the cursor; the number of tokens means the place after the last."""
        self.note = Content("")
        """Figures of the text, in the bottom edge if there is room."""
        self.shaded = True
        self._empty: tuple[str, ...] = ()
        """Lines shown without tokens."""
        self._texts: tuple[str, ...] = ()
        self._values: Sequence[float | None] = ()
        """What each token is shaded by."""
        self._prompt_tokens = 0
        self._text = TokenLines(0)
        self._top = 0
        """The first visible line."""
        self._rows = 2
        """Rows of a line: text, bars and perhaps a blank."""
        self._legend_rows = 0

    # for a subclass to override

    def shade_of(self, value: float | None) -> Shade:  # noqa: ARG002
        """Return how a token with this value looks."""
        return Shade()

    def scale(self, *, wide: bool) -> Content:  # noqa: ARG002
        """Return the explanation of the colours."""
        return Content("")

    # what is shown

    @property
    def tokens(self) -> int:
        """Number of tokens shown."""
        return max(0, len(self._texts) - 1)

    def show(
        self, texts: Sequence[str], prompt_tokens: int, values: Sequence[float | None] = ()
    ) -> None:
        """Show tokens, shaded by these values; the cursor stays where it is, if there still is a
        token."""
        shown = (*texts, NEXT) if texts else ()
        if shown != self._texts:
            self._texts, self._text, self._top = shown, TokenLines(0), 0
        self._prompt_tokens, self._values = prompt_tokens, values
        self.cursor = min(self.cursor, len(texts))
        self.redraw()

    def show_when_empty(self, *lines: str) -> None:
        """Show these lines while there are no tokens."""
        self._empty = lines
        self.redraw()

    def move_to(self, token: int) -> None:
        """Put the cursor on a token and scroll to it."""
        self.cursor = max(0, min(token, self.tokens))
        self.redraw()

    def vertical(self, by: int) -> int:
        """Return the token `by` lines below the cursor."""
        return self._text.vertical(self.cursor, by)

    @property
    def page_lines(self) -> int:
        """Lines of text that fit."""
        return max(1, (self.inner_size.height - self._legend_rows + self._rows - 2) // self._rows)

    def prepare(self, width: int, height: int) -> None:
        """Wrap the text to the width, scroll so that the cursor is visible, and draw it."""
        self.shaded = has_shades(self.app)
        if not self._texts:
            rows = [safe_text(row, limit=width) for row in self._empty]
            self.lines = [segments_of(row, DIM if y else TEXT) for y, row in enumerate(rows)]
            self.hidden = (0, 0)
            return
        if self._text.width != max(1, width):
            self._text = lay_out(self._texts, width)
        lines = len(self._text.lines)
        roomy = height >= ROOMY_ROWS and (2 * lines + 2 <= height or height >= 2 * ROOMY_ROWS)
        self._legend_rows = 2 if roomy and self.scale(wide=True) else 0
        self._rows = 3 if lines * 3 - 1 <= height - self._legend_rows else 2
        shown, at = self.page_lines, self._text.places[self.cursor][0]
        margin = 1 if shown > 2 else 0
        self._top = min(max(self._top, at + margin + 1 - shown), at - margin)
        self._top = max(0, min(self._top, lines - shown))
        drawn: list[Sequence[Segment]] = []
        for number in range(self._top, min(self._top + shown, lines)):
            drawn += [*self._line(number), []][: self._rows]
        if self._legend_rows:
            drawn += [[]] * (height - 1 - len(drawn))
            drawn[height - 1 :] = [segments_of(self._legend(width))]
        self.lines, self.hidden = drawn, (self._top, lines - self._top - shown)

    def _line(self, number: int) -> list[list[Segment]]:
        """Return a line of the text, and the bars below it."""
        text: list[Segment] = []
        bars: list[Segment] = []
        horizon = self._text.places[HORIZON] if self.tokens > HORIZON else None
        spaced = False
        for run in self._text.lines[number]:
            signs, style = run.text, self._style(run)
            bar = self._bar(run, number)
            if run.blank and (number, run.column + run.width) == horizon:
                mark = Segment(HORIZON_SIGN, ink(BRIGHT))
                text += [Segment(signs[:-1], style), mark]
                bars += [Segment(bar.text[:-1], bar.style), mark]
            elif (number, run.column) == horizon and not spaced:
                underlined = Segment(signs[:1], style + Style(underline=True))
                text += [underlined, Segment(signs[1:], style)]
                bars.append(bar)
            else:
                text.append(Segment(signs, style))
                bars.append(bar)
            spaced = run.blank
        return [text, bars]

    def _shade(self, token: int) -> Shade:
        return self.shade_of(self._values[token]) if token < len(self._values) else Shade()

    def _style(self, run: TokenCells) -> Style:
        if run.token == self.cursor and not (run.blank and run.token < self.tokens):
            return ink(BACKGROUND, background=self.CURSOR, bold=True)
        if run.blank or run.token == self.tokens:
            return ink(TEXT if run.token < self.tokens else FAINT)
        shade, bold = self._shade(run.token), run.token < self._prompt_tokens
        colour = BRIGHT if bold else TEXT
        if not shade.background or not self.shaded:
            return ink(colour, bold=bold)
        colour = BACKGROUND if shade.dark_text else colour
        return ink(colour, bold=bold, background=shade.background)

    def _bar(self, run: TokenCells, number: int) -> Segment:
        """Return the bar below a run."""
        if run.blank or run.token == self.tokens:
            return Segment(" " * run.width, ink(TEXT))
        shade, here = self._shade(run.token), run.token == self.cursor
        if self.ascii_only:
            first = self._text.places[run.token] == (number, run.column)
            digit = (shade.digit if first else "").ljust(run.width)
            return Segment(digit, ink(self.CURSOR if here else DIM, bold=here))
        colour = shade.colour if self.shaded or shade.colour != GREY else DIM
        return Segment(BARS[shade.level] * run.width, ink(self.CURSOR if here else colour))

    # the legend

    def _legend(self, width: int) -> Content:
        words = Content.styled("" if self.ascii_only else self.BAR_WORDS, DIM)
        left = self.scale(wide=True)
        long = self._horizon_words(", where the reference stops")
        both = Content("   ").join(filter(None, (words, long)))
        room = width - left.cell_length - 3
        fits = (one for one in (both, self._horizon_words()) if one.cell_length <= room)
        return spread(left, next(fits, Content("")), width)

    def _horizon_words(self, more: str = "") -> Content:
        if self.tokens <= HORIZON:
            return Content("")
        return Content.assemble((HORIZON_SIGN, BRIGHT), (f" {HORIZON} tokens{more}", DIM))

    def bottom_labels(self, width: int) -> Labels:
        """Return what is hidden, or `bottom`, then the note; at the right the scale, if it has no
        own row."""
        first = super().bottom_labels(width)[0]
        used = width_of(first[1]) + 5 if first[1] else 3
        scale = Content("")
        if self._texts and not self._legend_rows:
            parts = [*filter(None, (self._horizon_words(), self.scale(wide=False)))]
            scale = Content("  ").join(fitting(parts, width - used - 7, 2))
        at = width - 5 - scale.cell_length if scale else width - 3
        note = self.note if used + self.note.cell_length + 2 <= at else ""
        return [first, (used, segments_of(note)), (at, segments_of(scale))]

    # the mouse

    def on_click(self, event: Click) -> None:
        """Report the clicked token."""
        row, height = event.y - 1, self.inner_size.height - self._legend_rows
        at = self._top + row // self._rows
        token = self._text.token_at(at, event.x - 2) if row < height else None
        if token is not None:
            self.post_message(TokenPointed(token))

    def scroll_lines(self, by: int) -> None:
        """Move the cursor by a line, in the direction of the wheel."""
        self.post_message(TokenPointed(self.vertical(1 if by > 0 else -1)))


@lru_cache(maxsize=4_096)
def surprise_shade(bits: float | None) -> Shade:
    """Return how a token with so many bits of surprise looks."""
    if bits is None or math.isnan(bits):
        return Shade()
    step, whole = surprise_step(bits), int(min(bits, 9))
    background = SURPRISE[step - 1] if step else ""
    dark = step == len(SURPRISE)
    return Shade(background, max(1, min(whole, 7)), str(whole), dark_text=dark)


class HeatStrip(TokenStrip):
    """The surprise of each token: its colour in steps, and a bar of one eighth a bit."""

    BAR_WORDS = "bar height = bits"

    def shade_of(self, value: float | None) -> Shade:
        """Return colour and bar by a token's surprise in bits; None where nothing predicts it."""
        return surprise_shade(value)

    def scale(self, *, wide: bool) -> Content:
        """Return `surprise, bits  <2  2  4  5  6  7+`, or the bars if there are no colours."""
        if self.ascii_only:
            return Content.styled("digits: surprise in bits, 9 and more: 9", DIM)
        if not self.shaded:
            pattern = "surprise, bits  {} <3  {} 3  {} 4  {} 5  {} 6  {} 7+  "
            return line(pattern, BARS[1], *BARS[3:8])
        names, room = (STEPS[0], 7) if wide else (STEPS[1], 3)
        inks = (*[TEXT] * (len(SURPRISE) - 1), BACKGROUND)
        return Content.assemble(
            ("bits   " if wide else "surprise, bits  ", DIM),
            ("<2 ", TEXT),
            *(
                (name.center(room), f"{colour} on {background}")
                for name, colour, background in zip(names, inks, SURPRISE, strict=True)
            ),
        )
