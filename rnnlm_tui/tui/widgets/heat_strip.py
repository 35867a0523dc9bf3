"""A text token by token: each has a colour and, below it, a bar; one is under the cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.tui import palette
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import BACKGROUND, BRIGHT, DIM, FAINT, FOCUS, GREY, TEXT, ink
from rnnlm_tui.tui.text import Label, padded, safe_text, segments_of, width_of
from rnnlm_tui.tui.views.token_text import TokenCells, TokenLines, lay_out
from rnnlm_tui.tui.widgets.panel import WheelScrolled

HORIZON = 30
"""Tokens of a sentence that the book's reference model reads (its training cuts them there)."""
BARS = " ▁▂▃▄▅▆▇█"
NEXT = "…"
"""The place after the last token: what comes next."""
ROOMY_ROWS = 10
"""Inner rows from which the legend has its own row."""


class Shade(NamedTuple):
    """How a token looks."""

    background: str | None
    """None: the app's."""
    level: int | None
    """Height of its bar, 0 to 8; None: no bar."""
    digit: str = ""
    """Replaces the bar in ASCII."""
    colour: str = GREY
    """Of the bar."""
    dark_text: bool = False
    """Text in the app's background colour."""


PLAIN = Shade(None, None)


def has_shades(app: object) -> bool:
    """Whether values can have different backgrounds: not with 16 colours or none."""
    look = getattr(app, "appearance", None)
    return getattr(look, "colours", "dark") in ("dark", "light")


class TokenPointed(Message):
    """A token was clicked."""

    def __init__(self, token: int) -> None:
        super().__init__()
        self.token = token


class TokenStrip(OrderedKeys, WheelScrolled, can_focus=True):
    """Wrapped tokens with a cursor; a subclass shades each token."""

    CURSOR: ClassVar[str] = FOCUS
    """Colour of the token under the cursor; none of the shades."""

    def __init__(self, *, title: Label = "", id: str | None = None) -> None:
        super().__init__(title=title, id=id)
        self.cursor = 0
        """The token under the cursor; the number of tokens means the place after the last."""
        self.note = Content("")
        """Figures of the text, in the bottom edge if there is room."""
        self._empty: tuple[str, ...] = ()
        """Lines shown without tokens."""
        self._texts: tuple[str, ...] = ()
        self._prompt_tokens = 0
        self._text = TokenLines(1)
        self._top = 0
        """The first visible line."""
        self._shaded = True
        self._rows = 2
        """Rows of a line: text, bars and perhaps a blank."""
        self._legend_rows = 0

    # for a subclass to override

    def shade(self, token: int) -> Shade:  # noqa: ARG002
        """Return how a token looks."""
        return PLAIN

    def scale(self, *, wide: bool) -> Content:  # noqa: ARG002
        """Return the explanation of the colours."""
        return Content("")

    @property
    def bar_words(self) -> Content:
        """What the height of a bar means."""
        return Content("")

    # what is shown

    @property
    def tokens(self) -> int:
        """Number of tokens shown."""
        return max(0, len(self._texts) - 1)

    def show_tokens(self, texts: Sequence[str], prompt_tokens: int) -> None:
        """Show these tokens; the cursor stays where it is, if there still is a token."""
        shown = (*texts, NEXT) if texts else ()
        if shown != self._texts:
            self._texts, self._text = shown, TokenLines(0)
        self._prompt_tokens = prompt_tokens
        self.cursor = min(self.cursor, len(texts))
        self.redraw()

    def show_when_empty(self, *lines: str) -> None:
        """Show these lines while there are no tokens."""
        if lines != self._empty:
            self._empty = lines
            self.redraw()

    def move_to(self, token: int) -> None:
        """Put the cursor on a token and scroll to it."""
        token = max(0, min(token, self.tokens))
        if token != self.cursor:
            self.cursor = token
            self.redraw()

    def vertical(self, by: int) -> int:
        """Return the token `by` lines below the cursor."""
        return self._text.vertical(self.cursor, by)

    @property
    def page_lines(self) -> int:
        """Lines of text that fit."""
        return max(1, (self.inner_size.height - self._legend_rows + self._rows - 2) // self._rows)

    def prepare(self, width: int, height: int) -> None:
        """Wrap the text to the width, and scroll so that the cursor is visible."""
        if self._text.width != max(1, width):
            self._text = lay_out(self._texts, width)
        lines = len(self._text.lines)
        self._shaded = has_shades(self.app)
        roomy = height >= ROOMY_ROWS and (2 * lines + 2 <= height or height >= 2 * ROOMY_ROWS)
        self._legend_rows = 2 if roomy and self.scale(wide=True) else 0
        self._rows = 3 if lines * 3 - 1 <= height - self._legend_rows else 2
        shown, line = self.page_lines, self._text.line_of(self.cursor)
        margin = 1 if shown > 2 else 0
        self._top = min(max(self._top, line + margin + 1 - shown), line - margin)
        self._top = max(0, min(self._top, lines - shown))

    def _runs(self, line: int) -> Sequence[TokenCells]:
        return self._text.lines[line] if line < len(self._text.lines) else ()

    def _line_at(self, y: int) -> tuple[int | None, int]:
        if y >= self.inner_size.height - self._legend_rows or not self._texts:
            return None, 0
        line, row = divmod(y, self._rows)
        return self._top + line, row

    def content_line(self, y: int, width: int) -> Strip:
        """Return a row of text, of bars, or of the legend."""
        height = self.inner_size.height
        if not self._texts:
            row = self._empty[y] if y < len(self._empty) else ""
            return padded([Segment(safe_text(row, limit=width), ink(DIM if y else TEXT))], width)
        line, row_of_line = self._line_at(y)
        if line is None:
            return self._legend_row(width) if y == height - 1 else padded([], width)
        draw = self._bar_cells if row_of_line else self._text_cells
        cells = [] if row_of_line > 1 else [draw(run, line) for run in self._runs(line)]
        return padded([segment for segments in cells for segment in segments], width)

    def _text_cells(self, run: TokenCells, line: int) -> list[Segment]:
        style = self._token_style(run)
        if not self._at_horizon(run, line):
            return [Segment(run.text, style)]
        if run.blank:
            return [Segment(run.text[:-1], style), Segment("╎", ink(BRIGHT))]
        return [Segment(run.text[:1], style + Style(underline=True)), Segment(run.text[1:], style)]

    def _at_horizon(self, run: TokenCells, line: int) -> bool:
        """Whether the mark of the horizon is here: the space before its token, or its start."""
        if run.token != HORIZON:
            return False
        if run.blank:
            return self._text.places[HORIZON] == (line, run.column + run.width)
        before = [other for other in self._runs(line) if other.column + other.width == run.column]
        spaced = any(other.token == HORIZON and other.blank for other in before)
        return self._text.places[HORIZON] == (line, run.column) and not spaced

    def _token_style(self, run: TokenCells) -> Style:
        bold = run.token < self._prompt_tokens
        if run.token == self.tokens:
            return (
                ink(BACKGROUND, background=self.CURSOR, bold=True)
                if run.token == self.cursor
                else ink(FAINT)
            )
        if run.blank:
            return ink(TEXT)
        if run.token == self.cursor:
            return ink(BACKGROUND, background=self.CURSOR, bold=True)
        shade = self.shade(run.token)
        colour = BRIGHT if bold else TEXT
        if shade.background is None or not self._shaded:
            return ink(colour, bold=bold)
        if shade.dark_text:
            colour = BACKGROUND
        return ink(colour, bold=bold, background=shade.background)

    def _bar_cells(self, run: TokenCells, line: int) -> list[Segment]:
        if run.blank or run.token == self.tokens:
            blanks = " " * run.width
            if run.blank and self._at_horizon(run, line):
                return [Segment(blanks[:-1], ink(TEXT)), Segment("╎", ink(BRIGHT))]
            return [Segment(blanks, ink(TEXT))]
        shade, here = self.shade(run.token), run.token == self.cursor
        if self.ascii_only:
            digit = shade.digit if self._text.places[run.token] == (line, run.column) else ""
            return [Segment(digit.ljust(run.width), ink(self.CURSOR if here else DIM, bold=here))]
        level = BARS[shade.level] if shade.level is not None else " "
        colour = shade.colour if self._shaded or shade.colour != GREY else DIM
        return [Segment(level * run.width, ink(self.CURSOR if here else colour))]

    # the legend

    def _legend_row(self, width: int) -> Strip:
        left = segments_of(self.scale(wide=True))
        room = width - width_of(left) - 3
        brief = self._horizon_words(long=False)
        rights = [
            Content("   ").join([part for part in parts if part])
            for parts in (
                (self.bar_words, self._horizon_words(long=True)),
                (self.bar_words, brief),
                (brief,),
                (self.bar_words,),
            )
        ]
        right = next(
            (words for words in rights if words and words.cell_length <= room), Content("")
        )
        gap = Segment(" " * max(0, width - width_of(left) - right.cell_length), ink(TEXT))
        return padded([*left, gap, *segments_of(right)], width)

    def _horizon_words(self, *, long: bool) -> Content:
        if self.tokens <= HORIZON:
            return Content("")
        words = f" {HORIZON} tokens" + (", where the reference stops" if long else "")
        return Content.assemble(("╎", BRIGHT), (words, DIM))

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return what is hidden, or `bottom`, then the note; at the right the scale, if it has no
        own row."""
        left: list[tuple[int, Sequence[Segment]]] = (
            [(3, segments_of(self.bottom))]
            if self.bottom
            else self.hidden_labels(self._top, len(self._text.lines) - self._top - self.page_lines)
        )
        used = width_of(left[0][1]) + 5 if left else 3
        scales = [Content("")]
        if not self._legend_rows and self._texts:
            scale, horizon = self.scale(wide=False), self._horizon_words(long=False)
            scales = [Content.assemble(horizon, "  ", scale), scale] if horizon else [scale]
        for scale in scales:
            first = width - 5 - scale.cell_length if scale else width - 3
            if used + 2 > first:
                continue
            if self.note and used + self.note.cell_length + 2 <= first:
                left.append((used, segments_of(self.note)))
            return [*left, (first, segments_of(scale))] if scale else left
        return left

    # the mouse

    def on_click(self, event: Click) -> None:
        """Report the clicked token."""
        line, _ = self._line_at(event.y - 1)
        token = None if line is None else self._text.token_at(line, event.x - 2)
        if token is not None:
            self.post_message(TokenPointed(token))

    def scroll_lines(self, by: int) -> None:
        """Move the cursor by a line, in the direction of the wheel."""
        self.post_message(TokenPointed(self.vertical(1 if by > 0 else -1)))


class HeatStrip(TokenStrip):
    """The surprise of each token: its colour in steps, and a bar of one eighth a bit."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Inspect", id=id)
        self._bits: tuple[float | None, ...] = ()

    def show(self, texts: Sequence[str], bits: Sequence[float | None], prompt_tokens: int) -> None:
        """Show tokens with their surprise in bits; None where nothing predicts a token."""
        self._bits = tuple(bits)
        self.show_tokens(texts, prompt_tokens)

    def shade(self, token: int) -> Shade:
        """Return colour and bar by the token's surprise."""
        bits = self._bits[token] if token < len(self._bits) else None
        if bits is None or math.isnan(bits):
            return PLAIN
        step, whole = palette.surprise_step(bits), int(min(bits, 9))
        return Shade(
            palette.SURPRISE[step - 1] if step else None,
            max(1, min(whole, 7)),
            str(whole),
            dark_text=step == len(palette.SURPRISE),
        )

    def scale(self, *, wide: bool) -> Content:
        """Return `surprise, bits  <2  2  4  5  6  7+`, or the bars if there are no colours."""
        if self.ascii_only:
            return Content.styled("digits: surprise in bits, 9 and more: 9", DIM)
        if not self._shaded:
            return Content.assemble(
                ("surprise, bits  ", DIM),
                *(
                    part
                    for step in (2, 3, 4, 5, 6, 7)
                    for part in (
                        (BARS[step if step > 2 else 1], TEXT),
                        (f" {'<3' if step == 2 else step}{'+' if step == 7 else ''}  ", DIM),
                    )
                ),
            )
        names = ("2–4", "4–5", "5–6", "6–7", ">7") if wide else ("2", "4", "5", "6", "7+")
        room = 7 if wide else 3
        last = len(names) - 1
        return Content.assemble(
            ("bits   " if wide else "surprise, bits  ", DIM),
            ("<2 ", TEXT),
            *(
                (
                    name.center(room),
                    f"{BACKGROUND if place == last else TEXT} on {palette.SURPRISE[place]}",
                )
                for place, name in enumerate(names)
            ),
        )

    @property
    def bar_words(self) -> Content:
        """What the height of a bar means."""
        return Content.styled("" if self.ascii_only else "bar height = bits", DIM)
