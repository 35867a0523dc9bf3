"""The transcript: prompts with their samples and branches, newest at the bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.views.prompt import Drawing
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


@dataclass(slots=True)
class TranscriptEntry:
    """A prompt with everything sampled from it."""

    prompt: str
    """As it was sent first; branches may have edited it."""
    tree: SampleTree = field(default_factory=SampleTree)
    live: list[Sample] = field(default_factory=list)
    """The samples in progress; empty if there are none."""
    before: str = ""
    """What the samples in progress continue, prompt included."""
    error: str = ""
    """Why the newest request failed, in one sentence."""

    @property
    def whole(self) -> str:
        """The text to save or copy: prompt and continuation."""
        current = self.tree.current
        if self.live:
            return self.live[0].whole
        return self.prompt if current is None else current.whole

    @property
    def meta(self) -> str:
        """`31 tokens · seed 1 · step 3,700 · 2 of 3`."""
        current, siblings = self.tree.current, self.tree.siblings()
        if current is None:
            return ""
        place = next(at for at, one in enumerate(siblings, 1) if one.number == current.number)
        among = f"{place} of {len(siblings)}" if len(siblings) > 1 else ""
        return " · ".join(part for part in (current.meta, among) if part)

    @property
    def branched(self) -> bool:
        """Whether the current branch has siblings, so that its place matters."""
        return len(self.tree.siblings()) > 1

    def begin(self, drawing: Drawing) -> None:
        """Show the samples of a request while they are drawn."""
        self.live, self.before, self.error = drawing.samples, drawing.wanted.whole, ""

    def finish(self, drawing: Drawing, figures: Content) -> None:
        """Put the samples of a request into the tree; the first one becomes the current branch."""
        place = self.tree.place
        self.live, self.error = [], drawing.error
        branches = drawing.finished()
        for branch in branches:
            branch.figures = figures
            self.tree.add(branch)
        self.tree.place = branches[0].number if branches else place

    def bold(self, prompt: str) -> int:
        """How much of a branch's text is the prompt as it was sent first."""
        return len(self.prompt) if prompt.startswith(self.prompt) else len(prompt)


class TextBlock:
    """A wrapped text, the beginning of which is bold.

    Args:
        number: in front of the first line; further lines are indented by as much.
        apart: the text begins a line, without a space before it.
    """

    def __init__(
        self, width: int, prompt: str, text: str = "", *, number: str = "", apart: bool = False
    ) -> None:
        self.number, self.apart = number, apart
        self.bold = len(safe_text(prompt))
        self.wrapped = WrappedText(max(1, width - len(number)), safe_text(prompt))
        self.living = False
        self.current = True
        """Whether the text is the current branch's; others are dim."""
        self.marked = False
        """Whether it is marked as the current one of several."""
        self.given = len(prompt)
        """How many characters it has got."""
        self.append(text)

    def append(self, text: str) -> None:
        """Append to the text; only its last line may move."""
        self.given += len(text)
        if self.apart and not self.wrapped.text:
            text = text.lstrip(" ")
        self.wrapped.append(safe_text(text))

    def __len__(self) -> int:
        return len(self.wrapped)

    def row(self, line: int, *, newest: bool) -> Content:
        """Return a line without its margin."""
        bright = newest and self.current
        start, end = self.wrapped.span(line)
        split = min(max(self.bold, start), end)
        row = Content.assemble(
            (self.number if line == 0 else " " * len(self.number), DIM),
            (self.wrapped.text[start:split], f"bold {BRIGHT}" if bright else TEXT),
            (self.wrapped.text[split:end], TEXT if bright else DIM),
        )
        last = line == len(self.wrapped) - 1
        return row + Content.styled("█", TRAIN) if self.living and last else row

    def margin(self, line: int) -> Content:
        """Return what is in front of a line."""
        if self.living:
            return Content.styled("▌ ", TRAIN)
        return Content.styled("› ", f"bold {TRAIN}") if self.marked and not line else Content("  ")


class ColumnsBlock:
    """Texts beside each other, each below a title."""

    def __init__(self, texts: Sequence[TextBlock], titles: Sequence[str], width: int) -> None:
        self.texts, self.titles, self.width = list(texts), list(titles), width

    def __len__(self) -> int:
        return 1 + max(map(len, self.texts))

    def row(self, line: int, *, newest: bool) -> Content:
        """Return a line of all columns; the first has their titles."""
        parts = []
        for text, title in zip(self.texts, self.titles, strict=True):
            bright = newest and text.current
            if line == 0:
                sign = "› " if text.marked else ""
                words = safe_text(title, limit=self.width - len(sign))
                part = Content.assemble(
                    (sign, f"bold {TRAIN}"), (words, f"bold {TEXT}" if bright else FAINT)
                )
            else:
                part = (
                    text.row(line - 1, newest=newest) if line <= len(text.wrapped) else Content("")
                )
            parts.append(part + Content(" " * (self.width + COLUMN_GAP - part.cell_length)))
        return Content("").join(parts)

    def margin(self, _line: int) -> Content:
        """Return what is in front of a line."""
        living = any(text.living for text in self.texts)
        return Content.styled("▌ ", TRAIN) if living else Content("  ")


class LineBlock:
    """One line."""

    def __init__(self, line: Content) -> None:
        self.line = line

    def __len__(self) -> int:
        return 1

    def row(self, _line: int, *, newest: bool) -> Content:  # noqa: ARG002
        """Return the line."""
        return self.line

    def margin(self, _line: int) -> Content:
        """Return what is in front of it."""
        return Content("  ")


Block = TextBlock | ColumnsBlock | LineBlock


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
        self.entries: list[TranscriptEntry] = []
        self.side_by_side = False
        """Show samples of one request in columns, if at least two have room."""
        self._blocks: list[list[Block]] = []
        """Of each entry; empty if it has to be laid out again."""
        self._live: list[TextBlock] = []
        """Blocks of the newest entry's samples in progress."""
        self._laid_out_for: tuple[int, bool, bool] = (0, False, False)
        self._status = Content("")
        self._empty: tuple[str, ...] = ()
        self._above = 0
        """Lines hidden below the bottom edge; 0 shows the newest."""
        self._slack = 0
        """Empty lines below a text in progress, for the lines to come."""
        self._total, self._scrolled = 0, 0.0
        """Lines of all entries, and the time at which they scrolled last."""
        self._find_current = False
        self._shown_place: int | None = None
        """The newest entry's branch that is shown."""

    @property
    def newest(self) -> TranscriptEntry | None:
        """The entry at the bottom."""
        return self.entries[-1] if self.entries else None

    @property
    def columns(self) -> int:
        """How many texts have room beside each other."""
        room = max(10, self.inner_size.width - 5)
        return max(1, (room + COLUMN_GAP) // (LEAST_COLUMN + COLUMN_GAP))

    def add(self, entry: TranscriptEntry) -> None:
        """Add an entry at the bottom."""
        self.entries.append(entry)
        self._blocks.append([])
        del self.entries[:-KEPT_ENTRIES], self._blocks[:-KEPT_ENTRIES]
        if len(self._blocks) > 1:
            self._blocks[-2] = []
        self.show_newest()
        self._show_figures(entry)

    def show_newest(self, *, current: bool = False) -> None:
        """Lay out the newest entry again, and scroll to its end or to its current branch."""
        if self.entries:
            self._blocks[-1] = []
            self._shown_place = self.entries[-1].tree.place
            self._above, self._find_current = 0, current
            self.redraw()

    def show_branch(self) -> None:
        """Show the newest entry's current branch with its figures, if it isn't shown."""
        entry = self.newest
        if entry is not None and entry.tree.place != self._shown_place:
            self.show_newest(current=True)
            self._show_figures(entry)

    def _show_figures(self, entry: TranscriptEntry) -> None:
        """Show the figures of the current branch; none of one that another mode sampled."""
        current = entry.tree.current
        self.show_status(Content("") if current is None else current.figures)

    def grow(self) -> None:
        """Show what the samples in progress have got."""
        entry = self.newest
        if entry is None or not entry.live:
            return
        before = self._entry_height(-1)
        skipped = 0 if len(entry.live) == 1 else len(entry.before)
        texts = [
            sample.whole[skipped + block.given :]
            for block, sample in zip(self._live, entry.live, strict=True)
        ]
        if not any(texts):
            return
        for block, text in zip(self._live, texts, strict=True):
            block.append(text)
        if self._above:
            self._above += max(0, self._entry_height(-1) - before)
        self.redraw()

    def clear(self) -> None:
        """Remove all entries."""
        self.entries.clear()
        self._blocks.clear()
        self._above = 0
        self.redraw()

    def show_status(self, status: Content) -> None:
        """Show this line at the bottom."""
        if status != self._status or status.spans != self._status.spans:
            self._status = status
            self.redraw()

    def show_when_empty(self, *lines: str) -> None:
        """Set what is shown before the first entry."""
        if lines != self._empty:
            self._empty = lines
            self.redraw()

    # layout

    def prepare(self, width: int, height: int) -> None:
        """Collect the visible rows from the bottom up."""
        room = max(0, height - 2)
        laid_out_for = (width, height >= ROOMY_LINES, self.side_by_side)
        if laid_out_for != self._laid_out_for:
            self._laid_out_for = laid_out_for
            self._blocks = [[] for _ in self.entries]
        if not self.entries:
            rows = [
                Content.styled(safe_text(line, limit=width), DIM if index else TEXT)
                for index, line in enumerate(self._empty)
            ]
            rows = [Content("  ") + row for row in rows]
        else:
            rows = self._gather(room)
        self.lines = [Content("")] * (room - len(rows)) + rows[:room] + [Content(""), self._status]
        self.bottom = f"↓ {counted(self._above, 'more line')}" if self._above else ""

    def _gather(self, room: int) -> list[Content]:
        heights = [self._entry_height(index) for index in range(len(self.entries))]
        if self._find_current:
            self._find_current = False
            if len(self.entries[-1].tree.drawn_together()) > 1:
                self._above = self._rows_after_current(room)
        total = sum(heights) + len(heights) - 1
        self._above = min(self._above, max(0, total - room))
        self._make_slack(total, room)
        rows: list[Content] = [Content("")] * self._slack
        needed = room + self._above
        for index in range(len(self.entries) - 1, -1, -1):
            if len(rows) >= needed:
                break
            if index < len(self.entries) - 1:
                rows.append(Content(""))
            for row in self._rows_from_the_end(index):
                rows.append(row)
                if len(rows) >= needed:
                    break
        return list(reversed(rows[self._above : needed]))

    def _make_slack(self, total: int, room: int) -> None:
        """Leave lines free below a text in progress that scrolls fast; it then grows into them.

        A scrolled line changes every row, which costs a slow link more than the text.
        """
        grown, self._total = total - self._total, total
        if not self.entries[-1].live or self._above:
            self._slack = 0
            return
        self._slack -= max(0, grown)
        if self._slack < 0:
            now = monotonic()
            self._slack = room // 3 if now - self._scrolled < SETTLE_SECONDS else 0
            self._scrolled = now

    def _rows_from_the_end(self, index: int) -> Iterator[Content]:
        newest = index == len(self.entries) - 1
        for block in reversed(self._blocks[index]):
            for line in range(len(block) - 1, -1, -1):
                yield block.margin(line) + block.row(line, newest=newest)

    def _entry_height(self, index: int) -> int:
        if not self._blocks[index]:
            self._blocks[index] = self._lay_out(self.entries[index], index % len(self.entries))
        return sum(map(len, self._blocks[index]))

    def _rows_after_current(self, room: int) -> int:
        """How many rows to scroll back so that the current one of several samples is visible."""
        hidden, blocks = 0, self._blocks[-1]
        for block in reversed(blocks):
            texts = block.texts if isinstance(block, ColumnsBlock) else [block]
            if any(isinstance(text, TextBlock) and text.current for text in texts):
                return max(0, hidden + len(block) - room)
            hidden += len(block)
        return 0

    def _lay_out(self, entry: TranscriptEntry, index: int) -> list[Block]:
        width, roomy, _ = self._laid_out_for
        width = max(10, width - 5)
        readable = min(width, MOST_CELLS)
        newest = index == len(self.entries) - 1
        if entry.live:
            blocks = self._live_blocks(entry, width, readable)
        else:
            blocks = self._branch_blocks(entry, width, readable)
        if entry.error:
            words = safe_text(entry.error, limit=width - 2, newlines="space")
            blocks.append(LineBlock(Content.assemble(("✗ ", BAD), (words, TEXT))))
        if entry.meta and not entry.live and (roomy or (newest and entry.branched)):
            meta = safe_text(entry.meta, limit=width, newlines="space")
            blocks.append(LineBlock(Content.styled(meta, FAINT)))
        return blocks

    def _live_blocks(self, entry: TranscriptEntry, width: int, readable: int) -> list[Block]:
        bold = entry.bold(entry.before)
        prompt, rest = entry.before[:bold], entry.before[bold:]
        if len(entry.live) == 1:
            self._live = [TextBlock(readable, prompt, entry.live[0].whole[bold:])]
            self._live[0].living = True
            return [*self._live]
        titles = list(map(str, range(1, len(entry.live) + 1)))
        texts = [live.whole[len(entry.before) :] for live in entry.live]
        blocks, self._live = self._together(
            TextBlock(readable, prompt, rest), texts, titles, width, readable
        )
        for block, live in zip(self._live, entry.live, strict=True):
            block.living = live.done is None
        return blocks

    def _branch_blocks(self, entry: TranscriptEntry, width: int, readable: int) -> list[Block]:
        group, current = entry.tree.drawn_together(), entry.tree.current
        if current is None:
            return [TextBlock(readable, entry.prompt)]
        bold = entry.bold(current.prompt)
        prompt, rest = current.whole[:bold], current.whole[bold:]
        if len(group) < 2:
            return [TextBlock(readable, prompt, rest)]
        shared = len(current.prompt)
        titles = [f"{number} · {one.meta}" for number, one in enumerate(group, 1)]
        blocks, texts = self._together(
            TextBlock(readable, prompt, current.prompt[bold:]),
            [one.whole[shared:] for one in group],
            titles,
            width,
            readable,
        )
        for text, one in zip(texts, group, strict=True):
            text.current = text.marked = one.number == current.number
        return blocks

    def _together(
        self,
        prompt: TextBlock,
        texts: Sequence[str],
        titles: Sequence[str],
        width: int,
        readable: int,
    ) -> tuple[list[Block], list[TextBlock]]:
        """Return the blocks of a prompt and several texts after it, and the texts' own."""
        rows = -(-len(texts) // self.columns)
        columns = -(-len(texts) // rows) if self.side_by_side else 1
        if columns < 2:
            digits = len(str(len(texts)))
            own = [
                TextBlock(readable, "", text, number=f"{number:{digits}}  ", apart=True)
                for number, text in enumerate(texts, 1)
            ]
            return [prompt, LineBlock(Content("")), *own], own
        each = (width + COLUMN_GAP) // columns - COLUMN_GAP
        own = [TextBlock(each, "", text, apart=True) for text in texts]
        blocks: list[Block] = [prompt]
        for first in range(0, len(own), columns):
            row = slice(first, first + columns)
            blocks += [LineBlock(Content("")), ColumnsBlock(own[row], titles[row], each)]
        return blocks, own

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
