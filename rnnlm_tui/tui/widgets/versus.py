"""The columns of the sides, which scroll together, and what their texts have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size

from rnnlm_tui.tui.palette import BRIGHT, DIM, SELECTED, TEXT
from rnnlm_tui.tui.text import WrappedText, line, safe_text, sentence
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.side_facts import fact_lines, facts
from rnnlm_tui.tui.views.versus import (
    LEAST_SIDES,
    SampleRound,
    SideBySide,
    legends,
    letter,
    letter_of,
    status_line,
    status_parts,
    title,
)
from rnnlm_tui.tui.widgets.panel import Label, Panel, WheelScrolled, segments_of, width_of
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
        self.writing = False
        """Whether the prompt has the focus: the chosen side's letter is marked instead."""

    def heights(self) -> list[int]:
        """Return the lines of each round, the newest first, with the blank line after it."""
        return [
            1 + max((len(one.wrapped(asked)) + len(one.error_lines(asked)) for one in self.panels),
                default=0)
            for asked in self.rounds()
        ]  # fmt: skip

    def rounds(self) -> list[SampleRound]:
        """Return the shown rounds, the newest first; only that one while its texts grow.

        They would push the older ones down with every line, which costs much over a slow link.
        """
        newest = self.shown.newest
        if newest is None:
            return []
        texts = [side.texts.get(newest.number) for side in self.shown.sides]
        if any(text is not None and not text.over for text in texts):
            return [newest]
        return self.shown.rounds[::-1]

    def scroll(self, lines: int) -> None:
        """Scroll all columns down, or up if negative."""
        self.following = False
        self.top += lines
        self.redraw()

    def _begin_at(self, line: int) -> None:
        """Scroll until a line of the newest round is in view."""
        room = min((panel.room for panel in self.panels), default=0)
        if not self.top <= line < self.top + room:
            self.top = max(0, line - room // 3)
        self.following = False

    def walk(self, by: int) -> bool:
        """Mark the next difference of the newest texts, and scroll to it; False if none."""
        shown = self.shown
        count = len(shown.hunks())
        if not count:
            return False
        at = -1 if shown.difference is None and by > 0 else shown.difference or 0
        shown.difference = (at + by) % count
        first = next((panel for panel in self.panels if panel.place == shown.pair[0]), None)
        marked = shown.marked(shown.pair[0])
        if first is not None and marked is not None:
            self._begin_at(first.line_of(marked[0]))
        self.redraw()
        return True

    def place(self, heights: Sequence[int], room: int) -> int:
        """Return the first visible line, within the existing lines."""
        end, slack = self._streamed() if self.following else 0, 0
        if self.following and end == 0:
            self.top = 0
        elif self.following and end > room:
            # by several lines at once, so that it can be read between
            slack = min(SLACK_LINES, room // 2)
            if not self.top < end <= self.top + room:
                self.top = end - room + slack
        self.top = max(0, min(self.top, sum(heights) - 1 - room + slack))
        return self.top

    def _streamed(self) -> int:
        """Return the lines of the text that streams; 0 if none does."""
        asked = self.shown.newest
        for panel in self.panels:
            text = self.shown.text(panel.place)
            if asked is not None and text is not None and text.living:
                return len(panel.wrapped(asked))
        return 0

    def redraw(self) -> None:
        """Draw all columns: a longer text moves the older ones in the others."""
        for panel in self.panels:
            panel.redraw()


class SidePanel(WheelScrolled, can_focus=True):
    """One side: the newest text at the top, older ones dim below, and a status line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.scroll_texts(-1)", show=False),
        Binding("down", "screen.scroll_texts(1)", show=False),
        Binding("home", "screen.scroll_texts(-1000000)", show=False),
        Binding("end", "screen.scroll_texts(1000000)", show=False),
    ]

    def __init__(self, place: int, columns: SideColumns) -> None:
        super().__init__(id=side_id(place))
        self.place = place
        self._columns = columns
        self._hidden = (0, 0)

    # its lines

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

    def wrapped(self, asked: SampleRound) -> WrappedText:
        """Return prompt and text of a round, wrapped; empty if the side has none."""
        text = self._columns.shown.text(self.place, asked)
        if text is None:
            return WrappedText(self._text_width)
        return text.wrapped(self._text_width)

    def error_lines(self, asked: SampleRound) -> list[Content]:
        """Return the lines of a round's error."""
        text = self._columns.shown.text(self.place, asked)
        if text is None or not text.error:
            return []
        words = safe_text(text.error, limit=600, newlines="space")
        return sentence(words, self._text_width - 2, trouble=True)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible lines of all rounds, then the status line."""
        found = self._columns.shown
        if self.place >= len(found.sides):
            self.lines = []
            return
        side = found.sides[self.place]
        marked = self._columns.writing and self.place == found.chosen
        head = title(side, self.place, max(8, width - 4), marked=marked)
        self.set_reactive(Panel.panel_title, head)
        heights = self._columns.heights()
        top = self._columns.place(heights, self.room)
        visible, first = [Content("")] * self.room, 0
        for asked, size in zip(self._columns.rounds(), heights, strict=True):
            if first < top + self.room and first + size > top:
                for y, row in enumerate(self._round_lines(asked), first - top):
                    if 0 <= y < self.room:
                        visible[y] = row
            first += size
        self._hidden = (top, max(0, first - 1 - top - self.room))
        if not side.texts:
            visible[:] = [*self._invitation(), *visible][: self.room]
        blank = [Content("")] if height >= ROOMY_LINES else []
        margin = " " * self._margin
        self.lines = [
            *blank,
            *(Content.assemble(margin, line) for line in visible),
            *blank,
            Content.assemble(margin, self._status()),
        ]

    def _round_lines(self, asked: SampleRound) -> list[Content]:
        found = self._columns.shown
        text = found.text(self.place, asked)
        if text is None:
            return []
        wrapped, newest = self.wrapped(asked), asked is found.newest
        prompt = len(safe_text(asked.prompt))
        same, marked = prompt, None
        if newest:
            same += found.same_start(self.place)
            marked = found.marked(self.place)
        rows = []
        for at in range(len(wrapped)):
            start, end = wrapped.span(at)
            spans = [
                (0, prompt, f"bold {BRIGHT}" if newest else TEXT),
                (prompt, same, DIM),
                (same, len(wrapped.text), TEXT if newest else DIM),
            ]
            if marked is not None:
                first, last = prompt + marked[0], prompt + max(marked[1], marked[0] + 1)
                spans = [
                    *((a, min(b, first), style) for a, b, style in spans),
                    (first, last, f"bold {BRIGHT} on {SELECTED}"),
                    *((max(a, last), b, style) for a, b, style in spans),
                ]
            rows.append(
                Content.assemble(
                    *(
                        (wrapped.text[max(a, start) : min(b, end)], style)
                        for a, b, style in spans
                        if max(a, start) < min(b, end)
                    )
                )
            )
        if text.living and newest:
            cursor = Content.styled("█", letter_of(self.place)[1])
            rows[-1:] = [rows[-1] + cursor] if rows else [cursor]
        return [*rows, *self.error_lines(asked)]

    def line_of(self, character: int) -> int:
        """Return the line of a character of the newest text."""
        asked = self._columns.shown.newest
        if asked is None:
            return 0
        wrapped, at = self.wrapped(asked), len(safe_text(asked.prompt)) + character
        return max(0, sum(start <= at for start in wrapped.starts) - 1)

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

    def _status(self) -> Content:
        found = self._columns.shown
        if found.newest is None:
            return Content("")
        side, by_bytes = found.sides[self.place], not found.one_tokenizer
        parts = status_parts(side, found.newest, self.place, by_bytes=by_bytes)
        return status_line(parts, self._text_width)

    def legend_within(self, room: int) -> Label:
        """Return the longest form of the checkpoint that fits."""
        found = self._columns.shown
        if self.place >= len(found.sides):
            return ""
        forms = legends(found.sides[self.place])
        return next((form for form in forms if width_of(segments_of(form)) <= room), "")

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return how many lines are out of view, at the left, and which sides, at the right."""
        panels, found = self._columns.panels, self._columns.shown
        labels = self.hidden_labels(*self._hidden) if panels[:1] == [self] else []
        if panels[-1:] == [self]:
            here = {panel.place for panel in panels}
            others = [letter(place) for place in range(len(found.sides)) if place not in here]
            if others:
                also = Content(" ").join([line("also"), *others])
                labels.append((width - 3 - also.cell_length, segments_of(also)))
        return labels

    def scroll_lines(self, by: int) -> None:
        """Scroll all columns."""
        self._columns.scroll(by)


class FactsPanel(Panel):
    """What the newest texts have in common, and how each side predicts the others' texts."""

    def __init__(self, shown: SideBySide, *, id: str | None = None) -> None:
        super().__init__(title="Same and different", id=id)
        self._shown = shown

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines."""
        shown = self._shown
        unit = "bits/token" if shown.one_tokenizer else "bits/byte"
        for places in (range(len(shown.sides)), shown.pair):  # all sides, if there is room
            found = facts(shown, places)
            self.lines = fact_lines(found, width, unit)
            if len(self.lines) <= height:
                break
        if not self._shown.rounds and not found:
            self.lines = [Content.styled("no texts yet", DIM)]

    def legend_within(self, room: int) -> Label:
        """Return which sides are compared, and whether their tokens differ."""
        a, b = (LETTERS[place] for place in self._shown.pair)
        pair = f"{a} against {b}" if a != b else ""
        two = "" if self._shown.one_tokenizer else "two tokenizers"
        forms = [", ".join(part for part in (pair, two) if part), two or pair, ""]
        return Content.styled(next(form for form in forms if len(form) <= room), DIM)


VersusView = Literal["texts", "differences", "grid"]
LEAST_COLUMN = 30
"""Fewest cells of a column."""
LOWER_LEAST, LOWER_MOST = 7, 16
"""Fewest and most rows of the chart and what is beside it."""
TOP_LEAST = 6
LIST_ROWS = 4
"""Border and heading of the list of differences."""
FACT_ROWS, ROOMY_HEIGHT = 7, 28
"""Rows of the facts besides one for each of three or four sides, from this height."""
FACTS_LEAST, CHART_LEAST = 38, 30
CHART_SHARE = 3 / 5


def shown_sides(width: int, count: int, chosen: int) -> list[int]:
    """Return the places of the sides with a column: A, and the chosen one if not all fit."""
    fit = max(1, min(count, width // LEAST_COLUMN))
    if fit == count:
        return list(range(count))
    if fit == 1:
        return [chosen]
    others = range(1, count)
    at = max(1, chosen)
    first = max(1, min(at - (fit - 2), count - (fit - 1))) if at > fit - 1 else 1
    return [0, *others[first - 1 : first + fit - 2]]


def versus_arrangement(
    size: Size,
    view: VersusView,
    places: Sequence[int],
    *,
    count: int,
    text_rows: int = 0,
    listed: int = 0,
) -> Places:
    """Return the regions for a body of this size.

    Args:
        places: the sides with a column.
        count: how many sides there are.
        text_rows: rows that a scored text takes, with its border.
        listed: differences in its list.
    """
    width, height = size
    if view == "grid":
        return {"sample-grid": Region(0, 0, width, height)}
    lower = max(LOWER_LEAST, min(LOWER_MOST, height // 3))
    if height - lower < TOP_LEAST:
        lower = 0
    elif view == "texts" and count > LEAST_SIDES and height >= ROOMY_HEIGHT:
        lower = max(lower, count + FACT_ROWS)
    elif view == "differences":
        lower = max(lower, min(listed + LIST_ROWS, height - max(TOP_LEAST, text_rows)))
    top = height - lower
    regions: dict[str, Region] = {}
    if view == "texts":
        for index, place in enumerate(places):
            left, right = (width * at // len(places) for at in (index, index + 1))
            regions[side_id(place)] = Region(left, 0, right - left, top)
    else:
        regions["difference-strip"] = Region(0, 0, width, top)
    if lower:
        chart = min(round(width * CHART_SHARE), width - FACTS_LEAST)
        beside = "versus-facts" if view == "texts" else "difference-list"
        if chart >= CHART_LEAST:
            regions["versus-chart"] = Region(0, top, chart, lower)
            regions[beside] = Region(chart, top, width - chart, lower)
        else:
            regions[beside] = Region(0, top, width, lower)
    return regions
