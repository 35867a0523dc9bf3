"""What the compared runs came to, a run a line with its letter, and below it the settings in which they differ, a setting a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp
from textual.strip import Strip

from rnnlm_tui.contract.figures import NOTHING, change, count, duration, figure, short
from rnnlm_tui.contract.status import RunSummary
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.compare_data import Compared, ComparedRun, comparable
from rnnlm_tui.tui.widgets.content import from_outside, plain
from rnnlm_tui.tui.widgets.identity import model_name
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.status_line import status_glyph
from rnnlm_tui.tui.widgets.train_data import held_out

Differences = Sequence[tuple[str, Sequence[str]]]
"""A setting's key, and its value in each run."""
LEAST_NAME, MOST_NAME = 12, 32
MOST_VALUE = 18
GAP = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of the figures."""

    head: str
    width: int
    cell: Callable[[ComparedRun, float | None], Content]
    """The content for a run, given the best perplexity of all."""


def figure_columns(room: int) -> list[Figure]:
    """As many columns as have room, the most wanted first; all right-aligned."""
    wanted = [
        Figure("best ppl ", 9, _best), Figure("Δ best", 7, _behind), Figure("at step", 8, _when), Figure("newest", 7, _newest),
        Figure("tok/s", 7, _speed), Figure("bits/byte", 10, _bits), Figure("time", 13, _time),
        Figure("loss", 6, _loss), Figure("step", 9, _step), Figure("params", 11, _parameters), Figure("model", 15, _model),
    ]  # fmt: skip
    used, columns = 0, []
    for column in wanted:
        if used + column.width + 1 <= room:
            columns.append(column)
            used += column.width + 1
    return columns


class ComparedRunsPanel(Panel):
    """Figures over settings; what does not fit is scrolled to."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", id=id)
        self._runs: Compared = ()
        self._differences: Differences = ()
        self._top = 0
        self._rows: list[Content] = []

    @property
    def lines(self) -> int:
        """How many it has to show."""
        return 1 + len(self._runs) + (1 + len(self._differences) if self._differences else 1) if self._runs else 0

    def show(self, runs: Compared, differences: Differences) -> None:
        """These runs, in the order of their letters."""
        self._runs, self._differences = runs, differences
        warn = "" if comparable(runs) else "other text, tokens or set: bits/byte compares, perplexity does not"
        self.set_reactive(Panel.legend, Content.styled(warn, palette.WARN))
        self._begin_at(self._top)
        self.redraw()

    def scroll_lines(self, by: int) -> None:
        """Further down, or up where negative."""
        before = self._top
        self._begin_at(self._top + by)
        if self._top != before:
            self.redraw()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.scroll_lines(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.scroll_lines(-1)

    def on_resize(self) -> None:
        self._begin_at(self._top)

    def _begin_at(self, top: int) -> None:
        self._top = max(0, min(top, self.lines - self.inner_size.height))

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """All lines for this width."""
        self._rows = [*self._figures(width), *self._settings(width)] if self._runs else []

    def content_line(self, y: int, width: int) -> Strip:
        """A line of either table."""
        index = self._top + y
        return padded(segments_of(self._rows[index], palette.TEXT) if index < len(self._rows) else [], width)

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002 (the panel's)
        """How many lines lie above and below what is seen."""
        up, down = ("^", "v") if self.ascii_only else ("↑", "↓")
        below = len(self._rows) - self._top - self.inner_size.height
        signs = [f"{sign} {hidden} more" for sign, hidden in ((up, self._top), (down, below)) if hidden > 0]
        return [(3, segments_of("  ".join(signs), palette.DIM))] if signs else []

    def _figures(self, width: int) -> list[Content]:
        longest = max(len(run.snapshot.summary.run) for run in self._runs)
        name = min(max(LEAST_NAME, longest), MOST_NAME, max(LEAST_NAME, width - 60))
        columns = figure_columns(width - name - 4)
        bests = [value for run in self._runs if (value := run.snapshot.summary.evaluation.best_perplexity) is not None]
        best = min(bests, default=None) if comparable(self._runs) else None
        head = Content.styled(" " * (name + 4) + "".join(f" {column.head:>{column.width}}" for column in columns), palette.DIM)
        return [head, *(self._figure_line(run, name, columns, best) for run in self._runs)]

    def _figure_line(self, run: ComparedRun, name: int, columns: Sequence[Figure], best: float | None) -> Content:
        summary = run.snapshot.summary
        shown = from_outside(summary.run, newlines="show", limit=name).stylize(palette.BRIGHT)
        start = Content.assemble(
            (run.letter, f"bold {run.colour}"), " ", status_glyph(summary.status, ascii_only=self.ascii_only), " ", shown, " " * (name - shown.cell_length)
        )
        cells = [column.cell(run, best) for column in columns]
        return start + Content("").join(
            Content.assemble(" " * max(1, column.width + 1 - cell.cell_length), cell) for column, cell in zip(columns, cells, strict=True)
        )

    def _settings(self, width: int) -> list[Content]:
        if not self._differences:
            return [Content.styled("    no setting differs", palette.DIM)]
        key_width = min(max(len(key) for key, _ in self._differences), width // 3)
        room = max(4, min(MOST_VALUE, (width - 4 - key_width) // len(self._runs) - GAP))
        head = Content.styled("    " + "differs in".ljust(key_width), palette.DIM)
        for run in self._runs:
            head += Content.styled(" " * (GAP + room - 1) + run.letter, f"bold {run.colour}")
        lines = [head]
        for key, values in self._differences:
            line = Content.styled("    " + plain(key, limit=key_width).ljust(key_width), palette.TEXT)
            for value in values:
                shown = from_outside(value, newlines="show", limit=room)
                line += Content.assemble(" " * (GAP + room - shown.cell_length), shown.stylize(palette.TEXT))
            lines.append(line)
        return lines


def _text(value: str, colour: str = palette.TEXT) -> Content:
    return Content.styled(value, palette.DIM if value == NOTHING else colour)


def _best(run: ComparedRun, best: float | None) -> Content:
    value = run.snapshot.summary.evaluation.best_perplexity
    if value is not None and value == best:
        return Content.styled(f"{figure(value)}★", f"bold {palette.VALIDATION}")
    return _text(figure(value)) + Content(" ")


def _behind(run: ComparedRun, best: float | None) -> Content:
    value = run.snapshot.summary.evaluation.best_perplexity
    return _text(NOTHING if value is None or best is None else "0.0" if value == best else change(value - best), palette.DIM)


def _when(run: ComparedRun, _best: float | None) -> Content:
    return _text(count(_summary(run).evaluation.best_step))


def _newest(run: ComparedRun, _best: float | None) -> Content:
    rows = held_out(run.snapshot)
    return _text(figure(rows[-1].perplexity) if rows else NOTHING)


def _bits(run: ComparedRun, _best: float | None) -> Content:
    return _text(figure(_summary(run).evaluation.bits_per_byte))


def _speed(run: ComparedRun, _best: float | None) -> Content:
    return _text(short(_summary(run).tokens_per_second))


def _time(run: ComparedRun, _best: float | None) -> Content:
    seconds = _summary(run).active_seconds
    return _text(duration(seconds) if seconds else NOTHING)


def _loss(run: ComparedRun, _best: float | None) -> Content:
    return _text(figure(_summary(run).train.loss))


def _step(run: ComparedRun, _best: float | None) -> Content:
    return _text(count(_summary(run).step))


def _parameters(run: ComparedRun, _best: float | None) -> Content:
    return _text(count(_summary(run).model.parameters))


def _model(run: ComparedRun, _best: float | None) -> Content:
    return _text(plain(model_name(_summary(run)), limit=14, newlines="show"))


def _summary(run: ComparedRun) -> RunSummary:
    return run.snapshot.summary
