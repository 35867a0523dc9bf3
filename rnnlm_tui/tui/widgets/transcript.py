"""The transcript: prompts with their samples and branches, newest at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import reactive

from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.views.sample_tree import Sample, SampleTree
from rnnlm_tui.tui.widgets.panel import WheelScrolled

KEPT_ENTRIES = 200
ROOMY_LINES = 20
"""Height from which entries show their tokens and seed."""
MOST_CELLS = 116
"""Longer lines are hard to read."""
LEAST_COLUMN, COLUMN_GAP = 30, 3
"""Cells of a text beside others, and between two of them."""
SETTLE_SECONDS = 1.0
"""Text that scrolls sooner again scrolls by several lines, so that it can be read between."""
Row = Callable[[], Content]
"""Draws a row: only those in sight are drawn."""
BLANK = Content("  ")
GROWS = Content.styled("▌ ", TRAIN)
MARKED = Content.styled("› ", f"bold {TRAIN}")


class TextRows:
    """A wrapped text with a bold beginning, drawn row by row.

    Args:
        number: in front of the first row; further rows are indented by as much.
        bright: whether it is the current one of the newest texts.
    """

    def __init__(self, width: int, prompt: str = "", *, number: str = "", bright: bool) -> None:
        self.bright, self.living = bright, False
        """Whether it is drawn brightly, and whether it may grow."""
        self._wrapped = WrappedText(max(1, width - len(number)), safe_text(prompt))
        self._bold, self._number = len(self._wrapped.text), number
        self._given = 0

    def __len__(self) -> int:
        return len(self._wrapped)

    def show(self, text: str, *, living: bool = False, apart: bool = False) -> None:
        """Show this text after the bold one; it begins with the text that was shown before.

        Args:
            apart: it begins a line, without a space before it.
        """
        more, self._given, self.living = text[self._given :], len(text), living
        self._wrapped.append(
            safe_text(more.lstrip(" ") if apart and not self._wrapped.text else more)
        )

    def row(self, place: int) -> Content:
        """Draw a row."""
        start, end = self._wrapped.span(place)
        split = min(max(self._bold, start), end)
        last = place == len(self) - 1
        return Content.assemble(
            (" " * len(self._number) if place else self._number, DIM),
            (self._wrapped.text[start:split], f"bold {BRIGHT}" if self.bright else TEXT),
            (self._wrapped.text[split:end], TEXT if self.bright else DIM),
            ("█" if self.living and last else "", TRAIN),
        )

    def rows(self, first: Content = BLANK) -> list[Row]:
        """Return the rows behind a margin, which says whether it may grow."""
        margins = [GROWS if self.living else BLANK] * len(self)
        margins[:1] = [GROWS if self.living else first]
        return [
            partial(lambda margin, place: margin + self.row(place), margin, place)
            for place, margin in enumerate(margins)
        ]


class EntryRows:
    """The rows of an entry: its current text, or all texts that were drawn together with it.

    Args:
        columns: how many texts have room beside each other.
        roomy: whether the tokens and the seed are shown.
    """

    def __init__(
        self, tree: SampleTree, width: int, columns: int, *, newest: bool, roomy: bool
    ) -> None:
        self.rows: list[Row] = []
        self.current_row = 0
        """The first row of the current one of several texts."""
        group = tree.together
        self._tree, self._group, self._width = tree, group, width
        self._current = None if tree.live else tree.current
        self._has_meta = not tree.live and (roomy or (newest and len(tree.siblings()) > 1))
        readable = min(width, MOST_CELLS)
        begin = group[0].drawing.wanted if len(group) > 1 and group[0].drawing else None
        prompt = begin.prompt if begin else group[0].prompt if group else tree.prompt
        bold = tree.bold(prompt)
        self._head = TextRows(readable, prompt[:bold], bright=newest)
        if begin is None:
            self._skipped, self._columns, self._texts = bold, 1, [self._head]
        else:
            self._head.show(begin.whole[bold:])
            self._skipped = len(begin.whole)
            self._columns = -(-len(group) // -(-len(group) // columns))
            beside = self._columns > 1
            self._cells = (width + COLUMN_GAP) // self._columns - COLUMN_GAP
            digits = 0 if beside else len(str(len(group)))
            self._texts = [
                TextRows(
                    self._cells if beside else readable,
                    number="" if beside else f"{number:{digits}}  ",
                    bright=newest and (self._current is None or self._current is one),
                )
                for number, one in enumerate(group, 1)
            ]
        self.grow()

    def grow(self) -> None:
        """Show what the samples in progress have got."""
        tree, several = self._tree, self._head is not self._texts[0]
        if not self._group:
            self._head.show("")
        for text, one in zip(self._texts, self._group, strict=False):
            living = bool(tree.live) and one.done is None
            text.show(one.whole[self._skipped :], living=living, apart=several)
        self.rows = self._head.rows()
        for at in range(0, len(self._texts) if several else 0, self._columns):
            row = slice(at, at + self._columns)
            if self._columns > 1 or not at:
                self.rows.append(Content)
            current = any(one is self._current for one in self._group[row])
            self.current_row = len(self.rows) if current else self.current_row
            if self._columns > 1:
                self.rows += self._beside(self._texts[row], self._group[row], at + 1)
            else:
                self.rows += self._texts[at].rows(MARKED if current else BLANK)
        if tree.error:
            words = safe_text(tree.error, limit=self._width - 2, newlines="space")
            self.rows.append(partial(Content.assemble, BLANK, ("✗ ", BAD), (words, TEXT)))
        if self._has_meta and tree.meta:
            meta = safe_text(tree.meta, limit=self._width, newlines="space")
            self.rows.append(partial(Content.assemble, BLANK, (meta, FAINT)))

    def _beside(self, texts: Sequence[TextRows], group: Sequence[Sample], number: int) -> list[Row]:
        """Return the rows of texts beside each other, each below its title."""
        heads = []
        for place, (text, one) in enumerate(zip(texts, group, strict=True), number):
            sign = "› " if one is self._current else ""
            title = f"{place} · {one.meta}" if self._current else str(place)
            words = safe_text(title, limit=self._cells - len(sign))
            style = f"bold {TEXT}" if text.bright else FAINT
            heads.append(Content.assemble((sign, f"bold {TRAIN}"), (words, style)))
        margin = GROWS if any(text.living for text in texts) else BLANK
        room = self._cells + COLUMN_GAP

        def row(line: int | None) -> Content:
            cells = heads
            if line is not None:
                cells = [text.row(line) if line < len(text) else Content("") for text in texts]
            padded = [cell.pad_right(room - cell.cell_length) for cell in cells]
            return margin + Content("").join(padded)

        return [partial(row, line) for line in (None, *range(max(map(len, texts))))]


class Transcript(WheelScrolled, can_focus=True):
    """Entries from oldest to newest, wrapped and scrollable; draws only changed rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_text(1)", show=False),
        Binding("down", "scroll_text(-1)", show=False),
        Binding("pageup", "scroll_page(1)", show=False),
        Binding("pagedown", "scroll_page(-1)", show=False),
        Binding("home", "scroll_text(1000000)", show=False),
        Binding("end", "scroll_text(-1000000)", show=False),
    ]

    invitation: reactive[Sequence[str]] = reactive((), init=False, repaint=False)
    """Lines that are shown before the first entry."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Sampling", id=id)
        self.entries: list[SampleTree] = []
        self.side_by_side = False
        """Show samples of one request in columns, if at least two have room."""
        self._rows: dict[int, EntryRows] = {}
        """Of the entries that are laid out, by their places."""
        self._laid_out_for: tuple[int, bool, bool] = (0, False, False)
        self._above = 0
        """Lines hidden below the bottom edge; 0 shows the newest."""
        self._slack = 0
        """Empty lines below a text in progress, for the lines to come."""
        self._height, self._scrolled = 0, 0.0
        """Lines of the newest entry, and the time at which it scrolled last."""
        self._find_current = False
        self._shown_place: int | None = None
        """The newest entry's branch that is shown."""

    @property
    def newest(self) -> SampleTree | None:
        """The entry at the bottom."""
        return self.entries[-1] if self.entries else None

    @property
    def columns(self) -> int:
        """How many texts have room beside each other."""
        room = max(10, self.inner_size.width - 5)
        return max(1, (room + COLUMN_GAP) // (LEAST_COLUMN + COLUMN_GAP))

    def add(self, entry: SampleTree) -> None:
        """Show an entry at the bottom, where the newest may be already."""
        if entry is not self.newest:
            self.entries = [*self.entries, entry][-KEPT_ENTRIES:]
            self._height = 0
        self.show_newest()

    def show_newest(self, *, current: bool = False) -> None:
        """Lay out the entries again, and scroll to the end or to the newest's current branch."""
        self._rows.clear()
        self._shown_place = self.newest.place if self.newest is not None else None
        self._above, self._find_current = 0, current
        self.redraw()

    def show_branch(self) -> None:
        """Show the newest entry's current branch, if it isn't shown."""
        if self.newest is not None and self.newest.place != self._shown_place:
            self.show_newest(current=True)

    def watch_invitation(self) -> None:
        self.redraw()

    def clear(self) -> None:
        """Remove all entries."""
        self.entries = []
        self.show_newest()

    # layout

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible rows."""
        room = max(0, height - 2)
        laid_out_for = (width, height >= ROOMY_LINES, self.side_by_side)
        if laid_out_for != self._laid_out_for:
            self._laid_out_for = laid_out_for
            self._rows.clear()
        newest, status = self.newest, Content("")
        if newest is None:
            words = [safe_text(line, limit=width) for line in self.invitation]
            styles = [TEXT, *[DIM] * len(words)]
            rows = [Content.assemble("  ", part) for part in zip(words, styles, strict=False)][
                :room
            ]
        else:
            rows = self._visible(newest, room)
            if newest.drawing is not None:
                status = newest.drawing.status(max(20, width))
        self.lines = [Content("")] * (room - len(rows)) + rows + [Content(""), status]
        below = f"↓ {counted(self._above, 'more line')}" if self._above else ""
        self.set_reactive(Transcript.bottom, below)

    def _visible(self, newest: SampleTree, room: int) -> list[Content]:
        """Return the rows in sight; entries further up are laid out once they are scrolled to."""
        last = len(self.entries) - 1
        found = self._rows_of(last)
        if newest.live:
            found.grow()
        grown, self._height = len(found.rows) - self._height, len(found.rows)
        if self._find_current:
            self._find_current = False
            if len(newest.together) > 1:
                self._above = max(0, len(found.rows) - found.current_row - room)
        elif self._above and newest.live:
            self._above += max(0, grown)
        self._make_slack(newest, grown, room)
        rows = [*found.rows, *[Content] * self._slack]
        for place in range(last - 1, -1, -1):
            if len(rows) >= room + self._above:
                break
            rows = [*self._rows_of(place).rows, Content, *rows]
        self._above = max(0, min(self._above, len(rows) - room))
        end = len(rows) - self._above
        return [row() for row in rows[max(0, end - room) : end]]

    def _make_slack(self, newest: SampleTree, grown: int, room: int) -> None:
        """Leave lines free below a text in progress that scrolls fast; it then grows into them.

        A scrolled line changes every row, which costs a slow link more than the text.
        """
        if not newest.live or self._above:
            self._slack = 0
            return
        self._slack -= max(0, grown)
        if self._slack < 0:
            now = monotonic()
            self._slack = room // 3 if now - self._scrolled < SETTLE_SECONDS else 0
            self._scrolled = now

    def _rows_of(self, place: int) -> EntryRows:
        if place not in self._rows:
            width, roomy, beside = self._laid_out_for
            columns = self.columns if beside else 1
            newest = place == len(self.entries) - 1
            self._rows[place] = EntryRows(
                self.entries[place], max(10, width - 5), columns, newest=newest, roomy=roomy
            )
        return self._rows[place]

    # scrolling

    def action_scroll_text(self, lines: int) -> None:
        """Scroll to older text, or to newer text if negative."""
        self._above = max(0, self._above + lines)
        self.redraw()

    def action_scroll_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll_text(pages * max(1, self.inner_size.height - 4))

    def scroll_lines(self, by: int) -> None:
        self.action_scroll_text(-by)
