"""The train screen's other runs and the run's events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.schema.formatting import count, figure, percent
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import safe_content, selected, spread
from rnnlm_tui.tui.views.compare import Marks, best_of_comparable
from rnnlm_tui.tui.views.status import status_glyph, status_word
from rnnlm_tui.tui.views.train import EventEntry, entries_of, nearest_entry
from rnnlm_tui.tui.widgets.panel import Label, ScrolledPanel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.queue import Waiting


def run_lines(
    runs: Sequence[RunSummary],
    open_run: str,
    marks: Marks,
    queue: Mapping[str, Waiting],
    list_key: str,
    width: int,
    height: int,
) -> list[Content]:
    """Return all runs, two lines each, with the letters of marked runs; the open one is bright."""
    best, most = best_of_comparable(runs), height // 2
    shown = runs[: most - 1] if len(runs) > most > 0 else runs[:most]
    lines: list[Content] = []
    for run in shown:
        value, waiting = run.validation.best_perplexity, queue.get(run.run)
        star = value is not None and value == best.get(run.run)
        words = figure(value) + ("★" if star else " ")
        name = safe_content(run.run, newlines="show", limit=max(4, width - 3 - len(words)))
        styled = name.stylize(f"bold {palette.BRIGHT}" if run.run == open_run else palette.TEXT)
        left = Content.assemble(status_glyph(run.status), " ", styled)
        style = f"bold {palette.VALIDATION}" if star else palette.TEXT
        lines.append(spread(left, Content.styled(words, style), width, least=1))
        word = Content.styled(run.unreadable or palette.STATUS_WORDS[run.status], palette.DIM)
        if run.status in ("failed", "crashed", "stalled", "degraded"):
            word = status_word(run.status)
        share = percent(run.step / run.max_steps if run.max_steps else None)
        if waiting is not None:
            word = Content.styled(f"waiting {waiting.place}", palette.DIM)
            share = waiting.start or share
        letter = (marks.letter(run.run) or " ", f"bold {marks.colour(run.run) or palette.DIM}")
        left = Content.assemble(letter, " ", word)
        lines.append(spread(left, Content.styled(f"{share} ", palette.DIM), width, least=1))
    if len(shown) < len(runs) and most > 0:
        lines.append(Content.styled(f"  {len(runs) - len(shown)} more, {list_key}", palette.DIM))
    return lines


class EventsPanel(ScrolledPanel):
    """The run's events, newest first; the one nearest to the cursor is highlighted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Events", legend=Content.styled("step", palette.DIM), id=id)
        self._entries: list[EventEntry] = []
        self._made_of: object = None
        self._chosen: int | None = None

    @property
    def row_count(self) -> int:
        return len(self._entries)

    def show(self, snapshot: RunSnapshot | None, at: float | None = None) -> None:
        """Show the events; highlight the one nearest to step `at` and scroll to it."""
        top = self.top
        if snapshot is None:
            self._entries, self._made_of = [], None
        else:
            rows = snapshot.evaluations, snapshot.checkpoints, snapshot.events
            made_of = snapshot.summary.run, snapshot.summary.baseline, *map(_ends, rows)
            if made_of != self._made_of:
                self._made_of = made_of
                newest = self._entries[0] if self._entries else None
                self._entries = entries_of(snapshot)
                if top and newest in self._entries:
                    top += self._entries.index(newest)  # keep the scroll position
        chosen = None if at is None or not self._entries else nearest_entry(self._entries, at)
        if chosen is not None:
            height = max(1, self.inner_size.height)
            if chosen != self._chosen and not top <= chosen < top + height:
                top = chosen - height // 2
        elif self._chosen is not None:
            top = 0
        self._chosen = chosen
        self.show_from(top)

    def legend_within(self, room: int) -> Label:
        """Return `step`, or how many newer events are hidden."""
        more = Content.styled(f"{self.top} newer", palette.DIM)
        return more if self.top and more.cell_length <= room else super().legend_within(room)

    def content_line(self, y: int, width: int) -> Strip:
        """Return one event."""
        index = self.top + y
        if index >= len(self._entries):
            return padded([], width)
        entry, chosen = self._entries[index], index == self._chosen
        digits = max(5, len(count(self._entries[0].step)))
        step = (count(entry.step).rjust(digits), palette.BRIGHT if chosen else palette.DIM)
        style = palette.TEXT if entry.sign in "★c" else palette.BASELINE
        text = safe_content(entry.text, newlines="space", limit=max(1, width - digits - 3))
        line = Content.assemble(
            step, "›" if chosen else " ", (entry.sign, entry.colour), " ",
            text.stylize(f"bold {palette.BRIGHT}" if chosen else style),
        )  # fmt: skip
        return padded(segments_of(selected(line, width) if chosen else line, palette.TEXT), width)


def _ends(rows: Sequence[object]) -> tuple[int, object, object]:
    """Summarize rows: comparing all of a long run's would cost more than drawing them."""
    return (len(rows), rows[0] if rows else None, rows[-1] if rows else None)
