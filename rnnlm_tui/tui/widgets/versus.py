"""The columns of the sides, which scroll together, and what their texts have in common."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size

from rnnlm_tui.tui.palette import BRIGHT, DIM, MARK_COLOURS, SELECTED, TEXT
from rnnlm_tui.tui.text import line, safe_text, sentence
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.text_differences import common_start
from rnnlm_tui.tui.views.versus import (
    LEAST_SIDES,
    SampleRound,
    SideBySide,
    SideText,
    legend,
    letter,
    title,
)
from rnnlm_tui.tui.widgets.panel import Panel, WheelScrolled
from rnnlm_tui.tui.widgets.train_layout import Places

SLACK_LINES = 5
"""Empty lines below a text in progress that has scrolled, for the lines to come."""
ROOMY_LINES, ROOMY_CELLS = 9, 44
"""Inner size from which a column has margins."""


def side_id(place: int) -> str:
    """Return the id of a side's column."""
    return f"side-{LETTERS[place].lower()}"


class SideColumns:
    """The shown columns: each prompt begins on the same line in all of them."""

    def __init__(self, shown: SideBySide, with_keys: Callable[[str], str]) -> None:
        self.shown = shown
        self.with_keys = with_keys
        """Returns a text with the user's keys in place of `{key:id}`."""
        self.panels: list[SidePanel] = []
        """Those on the screen, from the left."""
        self.top = 0
        """Lines above the first visible one."""
        self.following = True
        """Whether the end of the text that streams is kept in view; without one, the beginning."""

    def rounds(self) -> list[tuple[SampleRound, int]]:
        """Return the shown rounds, the newest first, each with the lines that it takes.

        Only the newest while its texts grow: they would push the older ones down with every line,
        which costs much over a slow link.
        """
        rounds, newest = self.shown.rounds[::-1], self.shown.newest
        if newest is not None and not all(text.over for [text] in newest.texts.values()):
            rounds = [newest]
        return [(one, 1 + max(panel.height_of(one) for panel in self.panels)) for one in rounds]

    def scroll(self, lines: int) -> None:
        """Scroll all columns down, or up if negative."""
        self.following = False
        self.top += lines
        self.redraw()

    def walk(self, by: int) -> bool:
        """Mark the next difference of the newest texts, and scroll to it; False if none."""
        shown = self.shown
        count = len(shown.hunks())
        if not count:
            return False
        at = -1 if shown.difference is None and by > 0 else shown.difference or 0
        shown.difference = (at + by) % count
        row, room = self.panels[0].marked_line, self.panels[0].room
        if not self.top <= row < self.top + room:
            self.top = max(0, row - room // 3)
        self.following = False
        self.redraw()
        return True

    def place(self, lines: int, room: int) -> int:
        """Return the first visible line, within the existing lines."""
        end, slack = 0, 0
        if self.following:
            growing = (one.growing_lines for one in self.panels)
            end = next((lines for lines in growing if lines), 0)
            self.top = self.top if end else 0
        if end > room:
            # by several lines at once, so that it can be read between
            slack = min(SLACK_LINES, room // 2)
            if not self.top < end <= self.top + room:
                self.top = end - room + slack
        self.top = max(0, min(self.top, lines - room + slack))
        return self.top

    def redraw(self) -> None:
        """Draw all columns: a longer text moves the older ones in the others."""
        for panel in self.panels:
            panel.redraw()


class SidePanel(WheelScrolled, can_focus=True):
    """One side: the newest text at the top, older ones dim below, and a status line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"screen.scroll_texts({lines})", show=False)
        for key, lines in (("up", -1), ("down", 1), ("home", -1_000_000), ("end", 1_000_000))
    ]

    def __init__(self, place: int, columns: SideColumns) -> None:
        super().__init__(id=side_id(place))
        self.place = place
        self._columns = columns

    @property
    def room(self) -> int:
        """Lines for texts."""
        height = self.inner_size.height
        return max(0, height - (3 if height >= ROOMY_LINES else 1))

    @property
    def _margin(self) -> int:
        return 1 if self.inner_size.width >= ROOMY_CELLS else 0

    @property
    def _text_width(self) -> int:
        return max(10, self.inner_size.width - 2 * self._margin)

    def _text(self, asked: SampleRound | None = None) -> SideText | None:
        return self._columns.shown.text(self.place, asked)

    def _error_lines(self, text: SideText) -> list[Content]:
        if not text.error:
            return []
        words = safe_text(text.error, limit=600, newlines="space")
        return sentence(words, self._text_width - 2, trouble=True)

    def height_of(self, asked: SampleRound) -> int:
        """Return the lines of a round's prompt, text and error."""
        text = self._text(asked)
        if text is None:
            return 0
        return len(text.wrapped(self._text_width)) + len(self._error_lines(text))

    @property
    def growing_lines(self) -> int:
        """The lines of the newest text while it grows; else 0."""
        text = self._text()
        return len(text.wrapped(self._text_width)) if text is not None and text.living else 0

    @property
    def marked_line(self) -> int:
        """The line of the newest text where the marked difference begins."""
        text, marked = self._text(), self._columns.shown.marked(self.place)
        if text is None or marked is None:
            return 0
        start = len(safe_text(text.wanted.prompt)) + marked[0]
        return max(0, bisect_right(text.wrapped(self._text_width).starts, start) - 1)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible lines of all rounds, then the status line."""
        self.lines, columns, found = (), self._columns, self._columns.shown
        if self.place >= len(found.sides):
            return
        side, text, room = found.sides[self.place], self._text(), self.room
        marked = self.place == found.chosen and not self.has_focus
        head = title(side, self.place, max(8, width - 4), marked=marked)
        self.set_reactive(Panel.panel_title, head)
        self.set_reactive(Panel.legend, legend(side, self.size.width - 9 - head.cell_length))
        rounds = columns.rounds()
        end = sum(lines for _, lines in rounds) - 1
        top = columns.place(end, room)
        # the first panel says which lines are out of view, the last one which sides
        self.hidden = (top, end - top - room) if columns.panels[:1] == [self] else (0, 0)
        here = {panel.place for panel in columns.panels}
        others = [letter(at) for at in range(len(found.sides)) if at not in here]
        also = Content(" ").join([line("also"), *others])
        self.bottom_right = also if others and columns.panels[-1:] == [self] else ""
        rows: list[Content] = []
        for asked, lines in rounds:
            in_view = top - lines < len(rows) < top + room
            shown = self._round_lines(asked) if in_view else []
            rows += [*shown, *[Content("")] * lines][:lines]
        rows = rows[top:]
        if not any(side in asked.texts for asked in found.rounds):
            rows = [*self._invitation(), *rows]
        rows = [*rows, *[Content("")] * room][:room]
        by_bytes = not found.one_tokenizer
        status = text.figures(self._text_width, by_bytes=by_bytes) if text else Content("")
        blank = [Content("")] if height >= ROOMY_LINES else []
        self.lines = [one.pad_left(self._margin) for one in (*blank, *rows, *blank, status)]

    def _round_lines(self, asked: SampleRound) -> list[Content]:
        found, text = self._columns.shown, self._text(asked)
        if text is None:
            return []
        newest = asked is found.newest
        wrapped, prompt = text.wrapped(self._text_width), len(safe_text(asked.prompt))
        # as far as it begins like A's text; A's own, like that of the other one of the pair
        texts = found.texts((0, self.place or found.pair[1])) if newest else None
        same = prompt + (common_start(*texts) if texts else 0)
        styled = (
            Content(wrapped.text)
            .stylize(f"bold {BRIGHT}" if newest else TEXT, 0, prompt)
            .stylize(DIM, prompt, same)
            .stylize(TEXT if newest else DIM, same)
        )
        marked = found.marked(self.place) if newest else None
        if marked is not None:
            first, last = prompt + marked[0], prompt + max(marked[1], marked[0] + 1)
            styled = styled.stylize(f"bold {BRIGHT} on {SELECTED}", first, last)
        rows = [styled[slice(*wrapped.span(at))] for at in range(len(wrapped))]
        if text.living and newest:
            rows[-1] += Content.styled("█", MARK_COLOURS[self.place])
        return [*rows, *self._error_lines(text)]

    def _invitation(self) -> list[Content]:
        found = self._columns.shown
        problem = found.sides[self.place].problem
        many = "both sides" if len(found.sides) == LEAST_SIDES else "all sides"
        words = (
            f"✗ {problem}"
            if problem
            else "{key:generate} generates its text"
            if found.rounds
            else f"Type a prompt and press {{key:generate}} to continue it on {many}."
            if self.place == 0
            else "{key:next_checkpoint} chooses the checkpoint of a side,"
            " {key:choose_weights} its run."
        )
        style = DIM if self.place or found.rounds else TEXT
        return sentence(self._columns.with_keys(words), self._text_width, style=style)

    def scroll_lines(self, by: int) -> None:
        """Scroll all columns."""
        self._columns.scroll(by)


VersusView = Literal["texts", "differences", "grid"]
LEAST_COLUMN = 30
"""Fewest cells of a column."""
LOWER_LEAST, LOWER_MOST = 7, 16
"""Fewest and most rows of the chart and what is beside it."""
TOP_LEAST = 6
FACTS_LEAST, CHART_LEAST = 38, 30
CHART_SHARE = 3 / 5


def shown_sides(width: int, count: int, chosen: int) -> list[int]:
    """Return the places of the sides with a column: A, and the chosen one if not all fit."""
    fit = min(count, max(1, width // LEAST_COLUMN))
    if fit < 2:
        return [chosen][:fit]
    last = max(fit - 1, chosen)
    return [0, *range(last - fit + 2, last + 1)]


def versus_arrangement(
    size: Size, view: VersusView, places: Sequence[int], *, upper: int, lower: int
) -> Places:
    """Return the regions for a body of this size.

    Args:
        places: the sides with a column.
        upper: rows that the text needs, with its border.
        lower: rows that the panels below it would fill, with theirs.
    """
    width, height = size
    if view == "grid":
        return {"sample-grid": Region(0, 0, width, height)}
    lower = min(lower, height - max(upper, TOP_LEAST))
    lower = max(lower, LOWER_LEAST, min(LOWER_MOST, height // 3))
    if height - lower < TOP_LEAST:
        lower = 0
    top = height - lower
    regions: dict[str, Region] = {}
    if view == "texts":
        for index, place in enumerate(places):
            left, right = (width * at // len(places) for at in (index, index + 1))
            regions[side_id(place)] = Region(left, 0, right - left, top)
    else:
        regions["difference-strip"] = Region(0, 0, width, top)
    chart = min(round(width * CHART_SHARE), width - FACTS_LEAST)
    chart = chart if chart >= CHART_LEAST else 0
    beside = "versus-facts" if view == "texts" else "difference-list"
    regions["versus-chart"] = Region(0, top, chart, lower)
    regions[beside] = Region(chart, top, width - chart, lower)
    return {name: region for name, region in regions.items() if region.area}
