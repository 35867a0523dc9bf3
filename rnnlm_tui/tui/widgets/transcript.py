"""The transcript of prompts and samples, newest at the bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp

from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.widgets.panel import Panel

KEPT_ENTRIES = 200
ROOMY_LINES = 20
"""Height from which entries show their tokens and seed."""

EntryState = Literal["living", "done", "stopped", "failed"]


@dataclass(slots=True)
class TranscriptEntry:
    """A prompt and its continuation."""

    prompt: str
    text: str = ""
    """The continuation so far."""
    state: EntryState = "living"
    meta: str = ""
    """`31 tokens · seed 1 · step 3,700`."""
    error: str = ""
    """Why it failed, in one sentence."""

    @property
    def whole(self) -> str:
        """Prompt and continuation."""
        return self.prompt + self.text


class Transcript(Panel, can_focus=True):
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
        self._wrapped: list[WrappedText] = []
        self._status = Content("")
        self._empty: tuple[str, ...] = ()
        self._above = 0
        """Lines hidden below the bottom edge; 0 shows the newest."""

    @property
    def newest(self) -> TranscriptEntry | None:
        """The entry at the bottom."""
        return self.entries[-1] if self.entries else None

    def begin(self, prompt: str) -> TranscriptEntry:
        """Add an entry in progress at the bottom."""
        entry = TranscriptEntry(prompt)
        self.entries.append(entry)
        self._wrapped.append(WrappedText(self._text_width, safe_text(prompt)))
        del self.entries[:-KEPT_ENTRIES], self._wrapped[:-KEPT_ENTRIES]
        self._above = 0
        self.redraw()
        return entry

    def extend(self, text: str) -> None:
        """Append to the newest entry's text."""
        if self.entries and text:
            before = len(self._wrapped[-1])
            self.entries[-1].text += text
            self._wrapped[-1].append(safe_text(text))
            if self._above:
                self._above += len(self._wrapped[-1]) - before
            self.redraw()

    def end(self, state: EntryState, *, meta: str = "", error: str = "") -> None:
        """Finish the newest entry."""
        if self.entries:
            self.entries[-1].state, self.entries[-1].meta, self.entries[-1].error = (
                state,
                meta,
                error,
            )
            self.redraw()

    def clear(self) -> None:
        """Remove all entries."""
        self.entries.clear()
        self._wrapped.clear()
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

    def prepare(self, width: int, height: int) -> None:
        """Collect the visible rows from the bottom up."""
        room = max(0, height - 2)
        for wrapped in self._wrapped:
            wrapped.fit(self._text_width)
        if not self.entries:
            rows = [
                Content.styled(safe_text(line, limit=width), DIM if index else TEXT)
                for index, line in enumerate(self._empty)
            ]
            rows = [Content("  ") + row for row in rows]
        else:
            rows = self._gather(room, roomy=height >= ROOMY_LINES)
        self.lines = [Content("")] * (room - len(rows)) + rows[:room] + [Content(""), self._status]
        self.bottom = f"↓ {counted(self._above, 'more line')}" if self._above else ""

    def _gather(self, room: int, *, roomy: bool) -> list[Content]:
        total = (
            sum(self._height(index, roomy) for index in range(len(self.entries)))
            + len(self.entries)
            - 1
        )
        self._above = min(self._above, max(0, total - room))
        rows: list[Content] = []
        needed = room + self._above
        for index in range(len(self.entries) - 1, -1, -1):
            if len(rows) >= needed:
                break
            if rows:
                rows.append(Content(""))
            rows += reversed(self._entry_rows(index, roomy, needed - len(rows)))
        return list(reversed(rows[self._above : needed]))

    def _height(self, index: int, roomy: bool) -> int:
        entry = self.entries[index]
        return len(self._wrapped[index]) + bool(entry.error) + bool(roomy and entry.meta)

    def _entry_rows(self, index: int, roomy: bool, wanted: int) -> list[Content]:
        """Return the last `wanted` rows of an entry."""
        entry, wrapped = self.entries[index], self._wrapped[index]
        living, newest = entry.state == "living", index == len(self.entries) - 1
        prompt_end = len(safe_text(entry.prompt))
        bar = Content.styled("▌ ", TRAIN) if living else Content("  ")
        prompt_style = f"bold {BRIGHT}" if newest else TEXT
        text_style = TEXT if newest else DIM
        rows: list[Content] = []
        for line in range(max(0, len(wrapped) - max(1, wanted)), len(wrapped)):
            start, end = wrapped.span(line)
            split = min(max(prompt_end, start), end)
            row = Content.assemble(
                bar,
                (wrapped.text[start:split], prompt_style),
                (wrapped.text[split:end], text_style),
            )
            rows.append(
                row + Content.styled("█", TRAIN) if living and line == len(wrapped) - 1 else row
            )
        if entry.error:
            rows.append(
                Content.assemble(
                    "  ",
                    ("✗ ", BAD),
                    (safe_text(entry.error, limit=self._text_width - 2, newlines="space"), TEXT),
                )
            )
        if roomy and entry.meta:
            rows.append(
                Content.assemble("  ", (safe_text(entry.meta, limit=self._text_width), FAINT))
            )
        return rows

    @property
    def _text_width(self) -> int:
        return max(10, self.inner_size.width - 5)

    def action_scroll_text(self, lines: int) -> None:
        """Scroll to older text, or to newer text if negative."""
        self._above = max(0, self._above + lines)
        self.redraw()

    def action_scroll_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll_text(pages * max(1, self.inner_size.height - 4))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_text(3)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_text(-3)
