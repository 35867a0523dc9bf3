"""Widgets of the train screen: the figures, the other runs and the run's events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.client.remaining import Eta, SteadyEta
from rnnlm_tui.schema.formatting import count, figure, percent
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import ink
from rnnlm_tui.tui.text import safe_content, spread
from rnnlm_tui.tui.views.compare import Marks, best_of_comparable
from rnnlm_tui.tui.views.status import status_glyph, status_word
from rnnlm_tui.tui.views.train import EventEntry, entries_of, figure_lines, nearest_entry
from rnnlm_tui.tui.widgets.panel import Label, Line, Panel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.queue import Waiting


class KeyFigures(Vertical):
    """Three lines: progress and time left; losses; speed and load."""

    ROWS = 3

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steady = SteadyEta()
        self._counted: RunSnapshot | None = None
        self._eta: Eta | None = None

    def compose(self) -> ComposeResult:
        for index in range(self.ROWS):
            yield Line(id=f"figures-{index}")

    def show(self, snapshot: RunSnapshot | None, *, rows: int, width: int) -> None:
        """Show the run's figures in `rows` lines of `width` cells."""
        if snapshot is not self._counted:
            self._counted, self._eta = snapshot, None
            if snapshot is not None:
                self._eta = self._steady.of(snapshot.summary, snapshot.eta_margin)
        lines = [] if snapshot is None else figure_lines(snapshot, self._eta, width)
        for index, line in enumerate(self.query(Line)):
            line.put(lines[index] if index < min(rows, len(lines)) else Content(""))


class OtherRuns(Panel):
    """All runs, two lines each, with the letters of marked runs."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", legend=Content.styled("val ppl", palette.DIM), id=id)
        self._runs: Sequence[RunSummary] = ()
        self._open = ""
        self._best: dict[str, float] = {}
        self._marks = Marks()
        self._waiting: Mapping[str, Waiting] = {}

    def show(
        self,
        runs: Sequence[RunSummary],
        open_run: str,
        marks: Marks,
        waiting: Mapping[str, Waiting],
    ) -> None:
        """Show the runs in the given order; the open one is bright."""
        self._runs, self._open, self._marks, self._waiting = runs, open_run, marks, waiting
        self._best = best_of_comparable(runs)
        self.redraw()

    def content_line(self, y: int, width: int) -> Strip:
        """Return line `y`."""
        index, second = divmod(y, 2)
        most = self.inner_size.height // 2
        if index >= len(self._runs) or index >= most:
            return padded([], width)
        if index == most - 1 and len(self._runs) > most:
            text = f"  {len(self._runs) - most + 1} more, r" if not second else ""
            return padded(segments_of(text, palette.DIM), width)
        line = (self._second if second else self._first)(self._runs[index], width)
        return padded(segments_of(line, palette.TEXT), width)

    def _first(self, run: RunSummary, width: int) -> Content:
        best = run.validation.best_perplexity
        star = best is not None and best == self._best.get(run.run)
        value = figure(best) + ("★" if star else " ")
        name = safe_content(run.run, newlines="show", limit=max(4, width - 3 - len(value)))
        styled = name.stylize(f"bold {palette.BRIGHT}" if run.run == self._open else palette.TEXT)
        left = Content.assemble(status_glyph(run.status), " ", styled)
        style = f"bold {palette.VALIDATION}" if star else palette.TEXT
        return spread(left, Content.styled(value, style), width, least=1)

    def _second(self, run: RunSummary, width: int) -> Content:
        waiting = self._waiting.get(run.run)
        share = (waiting.start if waiting is not None and waiting.start else _share(run)) + " "
        word = Content.styled(run.unreadable or palette.STATUS_WORDS[run.status], palette.DIM)
        if run.status in ("failed", "crashed", "stalled", "degraded"):
            word = status_word(run.status)
        if waiting is not None:
            word = Content.styled(f"waiting {waiting.place}", palette.DIM)
        style = f"bold {self._marks.colour(run.run) or palette.DIM}"
        left = Content.assemble((self._marks.letter(run.run) or " ", style), " ", word)
        return spread(left, Content.styled(share, palette.DIM), width, least=1)


def _share(run: RunSummary) -> str:
    """Return the progress."""
    return percent(run.step / run.max_steps if run.max_steps else None)


class EventsPanel(Panel):
    """The run's events, newest first; the one nearest to the cursor is highlighted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Events", legend=Content.styled("step", palette.DIM), id=id)
        self._entries: list[EventEntry] = []
        self._made_of: object = None
        self._chosen: int | None = None
        self._top = 0

    @property
    def top(self) -> int:
        """How many newer events are scrolled out of view."""
        return self._top

    def show(self, snapshot: RunSnapshot | None, at: float | None = None) -> None:
        """Show the events; highlight the one nearest to step `at` and scroll to it."""
        before = (self._entries, self._chosen, self._top)
        if snapshot is None:
            self._entries, self._made_of = [], None
        else:
            rows = snapshot.evaluations, snapshot.checkpoints, snapshot.events
            made_of = snapshot.summary.run, snapshot.summary.baseline, *map(_ends, rows)
            if made_of != self._made_of:
                self._made_of = made_of
                newest = self._entries[0] if self._entries else None
                self._entries = entries_of(snapshot)
                if self._top and newest in self._entries:
                    self._top += self._entries.index(newest)  # keep the scroll position
        chosen = None if at is None or not self._entries else nearest_entry(self._entries, at)
        if chosen is not None:
            height = max(1, self.inner_size.height)
            if chosen != self._chosen and not self._top <= chosen < self._top + height:
                self._top = chosen - height // 2
        elif self._chosen is not None:
            self._top = 0
        self._chosen = chosen
        self._top = self._within(self._top)
        if (self._entries, self._chosen, self._top) != before:
            self.redraw()

    def scroll_by(self, rows: int) -> None:
        """Scroll to older events, or to newer ones if negative."""
        top = self._within(self._top + rows)
        if top != self._top:
            self._top = top
            self.redraw()

    def _within(self, top: int) -> int:
        return max(0, min(top, len(self._entries) - max(1, self.inner_size.height)))

    def on_mouse_scroll_down(self) -> None:
        self.scroll_by(3)

    def on_mouse_scroll_up(self) -> None:
        self.scroll_by(-3)

    def legend_within(self, room: int) -> Label:
        """Return `step`, or how many newer events are hidden."""
        more = Content.styled(f"{self._top} newer", palette.DIM)
        return more if self._top and more.cell_length <= room else super().legend_within(room)

    def content_line(self, y: int, width: int) -> Strip:
        """Return one event."""
        index = self._top + y
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
        strip = padded(segments_of(line, palette.TEXT), width)
        if chosen:
            return strip.apply_style(ink(palette.TEXT, background=palette.SELECTED))
        return strip


def _ends(rows: Sequence[object]) -> tuple[int, object, object]:
    """Summarize rows: comparing all of a long run's would cost more than drawing them."""
    return (len(rows), rows[0] if rows else None, rows[-1] if rows else None)
