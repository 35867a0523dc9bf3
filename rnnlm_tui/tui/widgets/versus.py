"""The views of Compare: the columns of the sides, which scroll together; one text scored by two of
them; and a grid of short samples."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import ClassVar, Literal

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.tui.palette import (
    BACKGROUND,
    BAD,
    BRIGHT,
    DIM,
    FOCUS,
    MARK_COLOURS,
    SELECTED,
    SIDE_BANDS,
    TEXT,
    TRAIN,
)
from rnnlm_tui.tui.text import WrappedText, line, safe_content, safe_text, sentence
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.side_facts import TextScores
from rnnlm_tui.tui.views.text_differences import ScoredSpan, common_start, level
from rnnlm_tui.tui.views.versus import (
    LEAST_SIDES,
    SampleRound,
    Side,
    SideBySide,
    SideText,
    legends,
    letter,
    title,
)
from rnnlm_tui.tui.widgets.panel import Label, Panel, ScrolledPanel, WheelScrolled, first_shown
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

    def legends(self) -> Iterable[Label]:
        sides = self._columns.shown.sides
        return legends(sides[self.place]) if self.place < len(sides) else ()

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


# one text scored by two sides


SIGNS = ("", "·", "─", "━")
"""Follows a side's letter below a piece of text, by the size of the difference."""


class DifferenceStrip(ScrolledPanel, can_focus=True):
    """A text whose background shows which of two models predicts each piece better.

    Without colour, a line below each line of text has the letter of that model.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.walk_text(-1)", show=False),
        Binding("right", "screen.walk_text(1)", show=False),
        Binding("up", "screen.scroll_texts(-1)", show=False),
        Binding("down", "screen.scroll_texts(1)", show=False),
    ]

    def __init__(self, scores: TextScores, *, id: str | None = None) -> None:
        super().__init__(title="Difference of surprise", id=id)
        self._scores = scores
        self._spans: Sequence[ScoredSpan] = ()
        """The pieces that are wrapped."""
        self._reveals = True
        """Whether to scroll to the marked piece."""
        self._starts: list[int] = [0]
        self._wrapped = WrappedText(10)

    def _wrap(self, width: int) -> None:
        """Wrap the text to a width."""
        if self._scores.spans is not self._spans:
            self._spans, self._reveals, self.top = self._scores.spans, True, 0
            pieces = [_visible(span) for span in self._spans]
            self._starts = [0, *accumulate(map(len, pieces))]
            self._wrapped = WrappedText(width, "".join(pieces))
        self._wrapped.fit(width)
        self.row_count = len(self._wrapped) * (1 + self._signed)

    def show_mark(self) -> None:
        """Draw again, and scroll to the marked piece."""
        self._reveals = True
        self.redraw()

    @property
    def _signed(self) -> bool:
        return bool(getattr(self.app, "no_color", False))

    def height_in(self, width: int) -> int:
        """Return the rows that the whole text takes, with the border, at this width."""
        self._wrap(max(10, width - 6))
        return 2 + max(3 * (1 + self._signed), self.row_count)

    def prepare(self, width: int, height: int) -> None:
        """Wrap the text, and scroll to a piece that was just marked; without a text, say why."""
        scores, each = self._scores, 1 + self._signed
        self.set_reactive(Panel.panel_title, scores.title)
        self.set_reactive(Panel.legend, scores.legend)
        self._wrap(max(10, width - 2))
        if not self._spans:
            style = TEXT if scores.trouble else DIM
            self.hidden, self.bottom_right = (0, 0), ""
            self.lines = sentence(scores.note, width - 4, scores.trouble, style=style, indent=1)
            return
        if self._reveals and scores.at is not None:
            shown = _visible(self._spans[scores.at])
            start = self._starts[scores.at] + len(shown) - len(shown.lstrip())
            row = (bisect_right(self._wrapped.starts, start) - 1) * each
            if not self.top <= row < self.top + height:
                self.top = row - height // 2
        self._reveals = False
        self.top = max(0, min(self.top, self.last_top))
        in_view = range(self.top, min(self.top + height, self.row_count))
        self.lines = [self._text_line(row // each)[row % each] for row in in_view]
        self.hidden, self.bottom_right = (self.top, self.last_top - self.top), self._key()

    def _text_line(self, row: int) -> tuple[Content, Content]:
        """Return a line of the text, and the letters below it."""
        start, end = self._wrapped.span(row)
        text, signs = Content(" "), Content(" ")
        first = max(0, bisect_right(self._starts, start) - 1)
        for index in range(first, bisect_left(self._starts, end)):
            piece = slice(max(start, self._starts[index]), min(end, self._starts[index + 1]))
            part = self._wrapped.text[piece]
            size, place = level(self._spans[index].difference), self._scores.better(index)
            style = f"{BRIGHT} on {SIDE_BANDS[place][size - 1]}" if size else TEXT
            if index == self._scores.at:
                style = f"bold {BACKGROUND} on {BRIGHT}"
            text += Content.styled(part, style)
            cells, blank = cell_len(part), len(part) - len(part.lstrip(" "))
            below = f"{' ' * blank}{LETTERS[place]}{SIGNS[size] * cells}" if size else ""
            signs += Content.styled(below[:cells].ljust(cells), MARK_COLOURS[place])
        return text, signs

    def _key(self) -> Content:
        """Return the key of the colours."""
        a, b = self._scores.pair
        bands = (*reversed(SIDE_BANDS[a]), "", *SIDE_BANDS[b])
        parts = (("  ", f"{BRIGHT} on {band}") if band else " " for band in bands)
        swatches = Content.assemble(*parts)
        if self._signed:
            swatches = Content.styled(f"{''.join(SIGNS[:0:-1])} {''.join(SIGNS)}", TEXT)
        return line("{} better {} better {}", letter(a), swatches, letter(b))


def _visible(span: ScoredSpan) -> str:
    """Return the text of a piece, sanitized; a line break that matters has a sign."""
    shown = safe_text(span.text)
    return shown.replace("\n", "↵\n") if level(span.difference) else shown


class DifferenceList(Panel):
    """The largest differences, the largest first."""

    LEFT_PADDING = 0

    def __init__(self, scores: TextScores, *, id: str | None = None) -> None:
        super().__init__(title="Largest differences", id=id)
        self._scores = scores
        self._top = 0

    def prepare(self, width: int, height: int) -> None:
        """Lay out the totals, the heading and the visible rows."""
        scores, order, room = self._scores, self._scores.order, max(0, height - 2)
        self.set_reactive(Panel.legend, f"{len(order):,}" if order else "")
        at = order.index(scores.at) if scores.at in order else self._top
        self._top = first_shown(self._top, at, room, len(order))
        rows = [scores.row(index, width) for index in order[self._top : self._top + room]]
        self.lines = [*scores.heads(), *rows] if scores.spans else []
        self.hidden = self._top, len(order) - self._top - room


# the grid of checkpoint × temperature


TEMPERATURES = (0.4, 0.7, 1.0, 1.3)
GRID_TOKENS = 60
"""Most tokens of a cell."""
LABEL_CELLS = 12
LEAST_CELL, LEAST_ROW = 20, 3
GAP = 2
CELLS_PER_TOKEN = 6
"""A long text's cells per token, to make all rows of the grid high enough from the start."""


def grid_columns(settings: SamplingConfig) -> list[SamplingConfig]:
    """Return the settings of the columns; the chosen temperature replaces the nearest."""
    values, chosen = set(TEMPERATURES), settings.temperature
    if not settings.is_greedy:
        values = values - {min(values, key=lambda one: abs(one - chosen))} | {chosen}
    most = min(settings.max_new_tokens, GRID_TOKENS)
    short = {"greedy": False, "max_new_tokens": most}
    return [settings.model_copy(update={**short, "temperature": one}) for one in sorted(values)]


class SampleGrid(Panel, can_focus=True):
    """Short samples of the same prompt and seed."""

    LEFT_PADDING = 0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"move_cell({by})", show=False)
        for key, by in (("up", "-1, 0"), ("down", "1, 0"), ("left", "0, -1"), ("right", "0, 1"))
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoint × temperature", id=id)
        self.shown: SampleRound | None = None
        """None until one is sampled."""
        self.row, self.column = 0, 0
        """The chosen cell."""
        self._rows, self._columns = range(0), range(0)
        """The visible ones."""

    def show(self, grid: SampleRound | None, temperature: float = 0.0) -> None:
        """Show a grid with the cell of this temperature chosen, or how to sample one."""
        self.shown = grid
        if grid is not None:
            values = [one.temperature for one in grid.columns]
            here = values.index(temperature) if temperature in values else len(values) // 2
            self.row, self.column = 0, here
        self.redraw()

    def action_move_cell(self, rows: int, columns: int) -> None:
        """Choose another cell, up to the edges."""
        if self.shown is not None:
            self.row = max(0, min(len(self.shown.texts) - 1, self.row + rows))
            self.column = max(0, min(len(self.shown.columns) - 1, self.column + columns))
            self.redraw()

    @property
    def cell(self) -> SideText | None:
        """The chosen cell's text."""
        return None if self.shown is None else [*self.shown.texts.values()][self.row][self.column]

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible cells."""
        grid = self.shown
        if grid is None:
            self.hidden, self.bottom_right = (0, 0), ""
            self.lines = [Content.styled("  enter samples the grid", DIM)]
            return
        count = len(grid.columns), len(grid.texts)
        columns = max(1, min(count[0], (width - LABEL_CELLS) // LEAST_CELL))
        rows = max(1, min(count[1], (height - 1) // LEAST_ROW))
        left = first_shown(self._columns.start, self.column, columns, count[0])
        top = first_shown(self._rows.start, self.row, rows, count[1])
        self._columns, self._rows = range(left, left + columns), range(top, top + rows)
        self.hidden, right = (top, count[1] - top - rows), count[0] - left - columns
        sides = [f"{sign} {hidden} more" for sign, hidden in (("←", left), ("→", right)) if hidden]
        self.bottom_right = "  ".join(sides)
        cells = (width - LABEL_CELLS) // columns - GAP
        needed = max(LEAST_ROW + 1, GRID_TOKENS * CELLS_PER_TOKEN // cells + 2)
        tall = min((height - 1) // rows, needed)
        head = Content.styled(" temperature".ljust(LABEL_CELLS), DIM)
        for column in self._columns:
            value = grid.columns[column].temperature
            words = f"  {value:.1f}" if round(value, 1) == value else f"  {value:g}"
            colour = FOCUS if column == self.column else TEXT
            head += Content.styled(words.ljust(cells + GAP), f"bold {colour}")
        lines = [head]
        named = len({side.run.path for side in grid.texts}) > 1
        texts = list(grid.texts.items())
        for row in self._rows:
            side, of_row = texts[row]
            parts = [_block(_labels(side, row, named=named), LABEL_CELLS, tall)]
            for column in self._columns:
                here = (row, column) == (self.row, self.column)
                cell = _block(_cell(of_row[column], cells, tall - 1), cells + GAP, tall)
                if here:
                    cell = [line.stylize(f"on {SELECTED}") for line in cell[:-1]] + cell[-1:]
                    cell[0] = Content.styled("› ", f"{BRIGHT} on {SELECTED}") + cell[0][2:]
                parts.append(cell)
            lines += [Content("").join(line) for line in zip(*parts, strict=True)]
        self.lines = lines


def _block(lines: Sequence[Content], width: int, tall: int) -> list[Content]:
    """Return as many lines as high and as wide as a cell is."""
    filled = [*lines, *[Content("")] * tall][:tall]
    return [line.pad_right(max(0, width - line.cell_length)) for line in filled]


def _labels(side: Side, row: int, *, named: bool) -> list[Content]:
    """Return a checkpoint's letter and step, its mark, perplexity and, if wanted, the run."""
    step = "now" if side.row is None else f"{side.row.step:,}"
    words = [
        side.mark if side.row is not None else "",
        f"val {side.perplexity}" if side.perplexity else "",
        side.run.name if named else "",
    ]
    return [
        Content.assemble(" ", letter(row), " ", (step, f"bold {BRIGHT}")),
        *(safe_content(f"   {word}", limit=LABEL_CELLS - 1).stylize(DIM) for word in words if word),
    ]


def _cell(cell: SideText, width: int, tall: int) -> list[Content]:
    """Return the lines of one cell, cut with `…` where there is no room for more."""
    error = safe_text(cell.error, newlines="space", limit=400)
    sign, text = "✗ " if error else "", error or cell.shown.strip("\n")
    if not text:
        ended = cell.over and cell.done and cell.done.reason != "cancelled"
        return [Content.styled("  no text" if ended else "  …", DIM)]
    wrapped = WrappedText(max(8, width - len(sign)), text.lstrip())
    lines = []
    for at in range(min(len(wrapped), tall)):
        words = wrapped.text[slice(*wrapped.span(at))]
        if at == tall - 1 and len(wrapped) > tall:
            words = safe_text(f"{words} …", limit=width)
        lines.append(Content.assemble("  ", ("" if at else sign, BAD), (words, TEXT)))
    if cell.living and len(wrapped) <= tall:
        lines[-1] += Content.styled("█", TRAIN)
    return lines
