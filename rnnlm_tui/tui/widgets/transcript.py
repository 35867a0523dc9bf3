"""The transcript: prompts with their samples and branches, newest at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.views.sample_tree import SampleTree
from rnnlm_tui.tui.widgets.panel import WheelScrolled

KEPT_ENTRIES = 200
ROOMY_LINES = 20
"""Height from which entries show their tokens and seed."""
MOST_CELLS = 116
"""Longer lines are hard to read."""
LEAST_COLUMN, COLUMN_GAP = 30, 3
"""Cells of a text beside others, and between two of them."""
MOST_GROWN = 100
"""Rows by which a text may grow between two updates."""
SETTLE_SECONDS = 1.0
"""Text that scrolls sooner again scrolls by several lines, so that it can be read between."""
NO_MARGIN, BLANK = Content(""), Content("  ")
GROWS = Content.styled("▌ ", TRAIN)
MARKED = Content.styled("› ", f"bold {TRAIN}")


class GrowingText(WrappedText):
    """A text in progress, as far as it is wrapped."""

    given = 0
    """How many of its characters were appended."""


Growing = dict[tuple[int, int], GrowingText]
"""Texts in progress, by their place among others and their width."""


def text_rows(
    prompt: str,
    text: str,
    width: int,
    *,
    bright: bool,
    margin: Content = NO_MARGIN,
    number: str = "",
    growing: GrowingText | None = None,
    last: int = 0,
) -> list[Content]:
    """Wrap a text with a bold beginning.

    Args:
        bright: whether it is the current one of the newest texts.
        number: in front of the first row; further rows are indented by as much.
        growing: the text, if it is in progress: then it costs only what is new.
        last: how many of its last rows are drawn then; those before are blank.
    """
    bold, wrapped = safe_text(prompt), growing or GrowingText(max(1, width - len(number)))
    if not wrapped.text:
        wrapped.append(bold)
    wrapped.append(safe_text(text[wrapped.given :]))
    wrapped.given, count = len(text), len(wrapped)
    rows = [NO_MARGIN] * (max(0, count - last) if growing else 0)
    for at in range(len(rows), count):
        start, end = wrapped.span(at)
        split = min(max(len(bold), start), end)
        row = Content.assemble(
            margin,
            (" " * len(number) if at else number, DIM),
            (wrapped.text[start:split], f"bold {BRIGHT}" if bright else TEXT),
            (wrapped.text[split:end], TEXT if bright else DIM),
            ("█" if growing and at == count - 1 else "", TRAIN),
        )
        rows.append(row)
    return rows


def entry_rows(
    tree: SampleTree,
    width: int,
    columns: int,
    *,
    newest: bool,
    roomy: bool,
    growing: Growing,
    last: int,
) -> tuple[list[Content], int]:
    """Return the rows of an entry: its current text, or all texts that were drawn together with it;
    and the first row of the current one of several.

    Args:
        columns: how many texts have room beside each other.
        roomy: whether the tokens and the seed are shown.
        last: how many of the last rows of a text in progress are drawn.
    """

    def wrapped(place: int, width: int) -> GrowingText | None:
        return growing.setdefault((place, width), GrowingText(width)) if grows[place] else None

    group, current, current_row = tree.together, None if tree.live else tree.current, 0
    begin = group[0].drawing.wanted if len(group) > 1 and group[0].drawing else None
    head = begin or next(iter(group), None)
    prompt, whole = (head.prompt, head.whole) if head else (tree.prompt, tree.prompt)
    # of a branch whose prompt was edited after its beginning, only that is bold
    bold = len(tree.prompt) if prompt.startswith(tree.prompt) else len(prompt)
    readable = min(width, MOST_CELLS)
    grows = [bool(tree.live) and one.done is None for one in group]
    living = begin is None and any(grows)
    known = wrapped(0, readable) if living else None
    margin, start, rest = GROWS if living else BLANK, prompt[:bold], whole[bold:]
    rows = text_rows(start, rest, readable, bright=newest, margin=margin, growing=known, last=last)
    if begin is not None:
        columns = -(-len(group) // -(-len(group) // columns))
        cells = (width + COLUMN_GAP) // columns - COLUMN_GAP if columns > 1 else readable
        digits = len(str(len(group)))
        for at in range(0, len(group), columns):
            if columns > 1 or not at:
                rows.append(Content(""))
            texts = []
            for number, one in enumerate(group[at : at + columns], at + 1):
                bright = newest and (current is None or current is one)
                text = one.whole[len(begin.whole) :].lstrip(" ")
                before = "" if columns > 1 else f"{number:{digits}}  "
                known = wrapped(number - 1, cells - len(before))
                lines = text_rows(
                    "", text, cells, bright=bright, number=before, growing=known, last=last
                )
                current_row = len(rows) if one is current else current_row
                if columns > 1:
                    title = f"{number} · {one.meta}" if current else str(number)
                    sign = "› " if one is current else ""
                    words = safe_text(title, limit=cells - len(sign))
                    style = f"bold {TEXT}" if bright else FAINT
                    lines.insert(0, Content.assemble((sign, f"bold {TRAIN}"), (words, style)))
                texts.append(lines)
            margins = [GROWS if any(grows[at : at + columns]) else BLANK] * max(map(len, texts))
            if columns == 1 and group[at] is current:
                margins[0] = MARKED
            gap = cells + COLUMN_GAP if columns > 1 else 0
            for margin, *row in zip_longest(margins, *texts, fillvalue=Content("")):
                padded = [cell.pad_right(max(0, gap - cell.cell_length)) for cell in row]
                rows.append(margin + Content("").join(padded))
    if tree.drawing is not None and tree.drawing.error:
        words = safe_text(tree.drawing.error, limit=width - 2, newlines="space")
        rows.append(Content.assemble(BLANK, ("✗ ", BAD), (words, TEXT)))
    siblings = [one.number for one in tree.siblings()]
    several = len(siblings) > 1
    if current is not None and current.meta and (roomy or (newest and several)):
        place = f" · {siblings.index(current.number) + 1} of {len(siblings)}" if several else ""
        words = safe_text(current.meta + place, limit=width, newlines="space")
        rows.append(Content.assemble(BLANK, (words, FAINT)))
    return rows, current_row


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

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Sampling", id=id)
        self.entries: list[SampleTree] = []
        self.invitation: Sequence[str] = ()
        """Lines that are shown before the first entry."""
        self.side_by_side = False
        """Show samples of one request in columns, if at least two have room."""
        self._rows: dict[object, tuple[list[Content], int]] = {}
        """`entry_rows` by place and layout."""
        self._growing: Growing = {}
        self._above = 0
        """Lines hidden below the bottom edge; 0 shows the newest."""
        self._slack = 0
        """Empty lines below a text in progress, for the lines to come."""
        self._height, self._scrolled = 0, 0.0
        """Lines of the newest entry, and the time at which it scrolled last."""
        self._shown_place: int | None = None
        """The newest entry's branch that is shown; -1: none yet."""

    @property
    def newest(self) -> SampleTree | None:
        """The entry at the bottom."""
        return self.entries[-1] if self.entries else None

    def add(self, entry: SampleTree) -> None:
        """Show an entry at the bottom, where the newest may be already."""
        if entry is not self.newest:
            self.entries = [*self.entries, entry][-KEPT_ENTRIES:]
            self._height = 0
        self.show_newest()

    def show_newest(self) -> None:
        """Draw, and scroll to the end or to the newest's current branch."""
        self._shown_place = -1
        self.redraw()

    def clear(self) -> None:
        """Remove all entries."""
        self.entries = []
        self.show_newest()

    # layout

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible rows."""
        room = max(0, height - 2)
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
        moved = self._shown_place != newest.place
        if moved:
            self._shown_place, self._above = newest.place, 0
            self._rows.clear()
            self._growing.clear()
        found, current_row = self._laid_out(last)
        grown, self._height = len(found) - self._height, len(found)
        if moved and not newest.live and len(newest.together) > 1:
            self._above = max(0, len(found) - current_row - room)
        elif self._above and newest.live:
            self._above += max(0, grown)
        self._make_slack(newest, grown, room)
        rows = [*found, *[Content("")] * self._slack]
        for place in range(last - 1, -1, -1):
            if len(rows) >= room + self._above:
                break
            rows = [*self._laid_out(place)[0], Content(""), *rows]
        self._above = max(0, min(self._above, len(rows) - room))
        end = len(rows) - self._above
        return rows[max(0, end - room) : end]

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

    def _laid_out(self, place: int) -> tuple[list[Content], int]:
        entry, (width, height) = self.entries[place], self.inner_size
        key = (place, width, height, self.side_by_side)
        if entry.live or key not in self._rows:
            room, last = max(10, width - 5), self._above + height + MOST_GROWN
            columns = (room + COLUMN_GAP) // (LEAST_COLUMN + COLUMN_GAP) if self.side_by_side else 1
            look = {"newest": entry is self.newest, "roomy": height >= ROOMY_LINES}
            self._rows[key] = entry_rows(
                entry, room, max(1, columns), **look, growing=self._growing, last=last
            )
        return self._rows[key]

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
