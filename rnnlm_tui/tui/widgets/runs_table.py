"""The list of runs: its columns, order, layout (flat, forks as a tree, groups), and its filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from rnnlm_tui.client.arrangement import (
    ArrangedRun,
    changed_words,
    group_runs,
    grouped_rows,
    parse_group_keys,
    tree_of,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.filters import ConfigOf, RunKey, best_perplexity, in_order
from rnnlm_tui.schema.formatting import (
    NOTHING,
    age,
    change,
    counted,
    duration,
    figure,
    percent,
    short,
)
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, BASELINE, BRIGHT, DIM, GOOD, TEXT, VALIDATION, WARN
from rnnlm_tui.tui.text import amount, bar, line, safe_content
from rnnlm_tui.tui.views.compare import Marks, best_of_comparable
from rnnlm_tui.tui.views.status import (
    corpus_name,
    model_name,
    run_status,
    status_colour,
    status_glyph,
)
from rnnlm_tui.tui.widgets.panel import Line
from rnnlm_tui.tui.widgets.table import Column, ListPanel, fit_columns, row_of
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.status import Waiting

SortKey = Literal[
    "age", "perplexity", "name", "status", "progress", "Δ best", "tok/s", "time", "model",
    "corpus", "tags",
]  # fmt: skip
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
"""In the order in which the key cycles through them."""
STATUS_ORDER = (
    "running", "preparing", "paused", "stalled", "degraded", "lost", "crashed", "failed",
    "stopped", "draft", "finished",
)  # fmt: skip
ORDER_SETTING = "runs order"
"""Name of the saved setting."""
_CENTURY = 3e9
"""Seconds added to sort running runs first."""
_WORDS, _MOST_FIRST = ("name", "model", "corpus", "tags"), ("progress", "tok/s", "time")


def with_newest(runs: Sequence[RunSummary], snapshot: RunSnapshot | None) -> list[RunSummary]:
    """Return the list with the open run's newest state.

    Its labels come from the list, because they have their own file.
    """
    newest = None if snapshot is None else snapshot.summary
    return [
        newest.model_copy(update={"tags": run.tags, "note": run.note, "pinned": run.pinned})
        if newest is not None and newest.run == run.run
        else run
        for run in runs
    ]


def sorted_runs(
    runs: Sequence[RunSummary],
    key: SortKey,
    *,
    backwards: bool = False,
    best: Mapping[str, float] | None = None,
) -> tuple[RunSummary, ...]:
    """Sort runs by a column: newest, best or furthest first, text alphabetically.

    Args:
        backwards: reverse the order.
        best: by run, the best perplexity it is comparable with, for the order by `Δ best`.
    """
    known = best or {}
    reads: dict[SortKey, Callable[[RunSummary], str | float | None]] = {
        "name": lambda run: run.run,
        "model": model_name,
        "corpus": corpus_of,
        "tags": lambda run: " ".join(run.tags),
        "age": lambda run: -(run.updated or 0.0) - (_CENTURY if run.status in LIVING else 0.0),
        "perplexity": lambda run: run.validation.best_perplexity,
        "status": lambda run: STATUS_ORDER.index(run.status),
        "Δ best": lambda run: behind_best(run, known),
        "progress": lambda run: run.step / run.max_steps if run.max_steps else None,
        "tok/s": lambda run: run.tokens_per_second,
        "time": lambda run: run.active_seconds or None,
    }
    read = reads[key]
    ordered = in_order(runs, read, descending=not rises(key, backwards=backwards))
    return tuple(sorted(ordered, key=lambda run: not run.pinned))


def rises(key: SortKey, *, backwards: bool = False) -> bool:
    """Whether values increase from row to row: A to Z, lowest perplexity or age first."""
    return (key in _MOST_FIRST) == backwards


def behind_best(run: RunSummary, best: Mapping[str, float]) -> float | None:
    """Return the distance from the best comparable perplexity; None if there is none."""
    value, least = run.validation.best_perplexity, best.get(run.run)
    return None if value is None or least is None else value - least


def corpus_of(run: RunSummary) -> str:
    """Return the short name of the text that a run trains on."""
    return corpus_name(run.corpus_source or run.corpus)


WIDE = 100
"""Width of the list from which it shows the model and the distance from the best run."""
NAME, MOST_NAME = 14, 34
"""Least width of a name, and the most in a tree, where the lines count too."""
LEAST_WORDS = 7
"""Least width of a text column, with the leading blanks."""
STATUS_WIDTH = 15
LEAD = 4
"""The cursor's sign and a mark's letter, each with a blank."""

RunColumn = Column[SortKey, ArrangedRun, "RunsTable"]


def columns_for(width: int, status_width: int, longest: Mapping[SortKey, int]) -> list[RunColumn]:
    """Return the columns that fit into `width` cells, in order.

    From WIDE on there are more figures, and corpus and tags come before the training time. Below it
    there is room for one text beside the speed: tags, otherwise the corpus. Spare room goes to the
    names.

    Args:
        longest: the cells of the longest texts of a text column; 0 if there are none.
    """
    wide = width >= WIDE
    columns = [
        RunColumn("status", "status", status_width, _status, left=True),
        RunColumn("progress", "progress", 12 if wide else 10, _progress, left=True),
        RunColumn("perplexity", "val ppl ", 9, _perplexity),
        RunColumn("age", "age", 8 if wide else 7, _age),
    ]
    speed = RunColumn("tok/s", "tok/s", 7 if wide else 6, _speed)
    more = [
        RunColumn(key, f"  {key}", max(8, min(cells, most) + 2), cell, True, LEAST_WORDS)
        for key, cell, most in TEXTS
        if (cells := longest[key])
    ]
    if wide:
        model = RunColumn("model", "  model", 13 if width < 140 else 20, _model, left=True)
        columns += [RunColumn("Δ best", "Δ best", 9, _behind), speed, model]
        more.append(RunColumn("time", "time", 12, _duration))
    else:
        more = [speed, *more[-1:]]
    room = width - LEAD - NAME - sum(one.width for one in columns)
    more, left = fit_columns(more, max(0, room))
    name = max(9, NAME + min(0, room) + (min(16, left) if wide else left))
    columns.append(RunColumn("name", "    name", LEAD + name, _name, left=True))
    return sorted((*columns, *more), key=lambda one: PLACES.index(one.key))


PLACES = (
    "name", "status", "progress", "perplexity", "Δ best", "tok/s", "time", "age", "model",
    "corpus", "tags",
)  # fmt: skip
"""The columns from left to right."""


def _name(row: ArrangedRun, room: int, table: RunsTable) -> Content:
    """Return a mark's letter, the tree's lines, the name, how many rows are folded, and a pin.

    Of the lines of a deep tree the outer ones are left out.
    """
    run, lead, most = row.run, row.lead, room // 2
    if len(lead) > most:
        lead = f"…{lead[len(lead) - most + 1 :]}"
    pin, more = " ⚑" if run.pinned else "", f" +{row.hidden}" if row.hidden else ""
    taken = LEAD + 1 + len(pin) + len(lead) + len(more)
    name = safe_content(run.run, newlines="show", limit=max(1, room - taken))
    mark = (table.marks.letter(run.run) or " ", f"bold {table.marks.colour(run.run) or TEXT}")
    return Content.assemble("  ", mark, " ", (lead, DIM), name, (more, DIM), (pin, VALIDATION))


def _status(row: ArrangedRun, _room: int, table: RunsTable) -> Content:
    waiting = table.waiting.get(row.run.run)
    if waiting is None:
        return run_status(row.run)
    return Content.assemble(status_glyph(row.run.status), " ", (f"waiting {waiting.place}", TEXT))


def _progress(row: ArrangedRun, room: int, table: RunsTable) -> Content:
    run, waiting = row.run, table.waiting.get(row.run.run)
    if waiting is not None and waiting.start:
        return Content.styled(waiting.start, TEXT)
    fraction = run.step / run.max_steps if run.max_steps else None
    trains = run.status in ("running", "stalled", "degraded")
    done = bar(room - 6, fraction, colour=status_colour(run.status) if trains else BASELINE)
    return done + amount(percent(fraction), width=4)


def _perplexity(row: ArrangedRun, _room: int, table: RunsTable) -> Content:
    value = row.run.validation.best_perplexity
    if value is not None and value == table.best.get(row.run.run):
        return Content.styled(f"{figure(value)}★", f"bold {VALIDATION}")
    return Content.styled(f"{figure(value)} ", TEXT if value is not None else DIM)


def _behind(row: ArrangedRun, _room: int, table: RunsTable) -> Content:
    value = behind_best(row.run, table.best)
    return Content.styled("0.0" if value == 0 else change(value), DIM)


def _speed(row: ArrangedRun, _room: int, _table: RunsTable) -> Content:
    colour = WARN if row.run.status in ("stalled", "degraded") else TEXT
    return Content.styled(short(row.run.tokens_per_second), colour)


def _age(row: ArrangedRun, _room: int, _table: RunsTable) -> Content:
    return Content.styled(age_of(row.run), DIM)


def age_of(run: RunSummary) -> str:
    """Return the time since the run last changed; `now` while it is running."""
    living = run.status in ("running", "preparing", "degraded")
    return "now" if living else age(None if run.updated is None else time() - run.updated)


def _duration(row: ArrangedRun, _room: int, _table: RunsTable) -> Content:
    seconds = row.run.active_seconds
    return Content.styled(duration(seconds) if seconds else NOTHING, DIM)


def _model(row: ArrangedRun, room: int, _table: RunsTable) -> Content:
    return _words(model_name(row.run), room, TEXT)


def _corpus(row: ArrangedRun, room: int, _table: RunsTable) -> Content:
    return _words(corpus_of(row.run), room, TEXT)


def _tags(row: ArrangedRun, room: int, _table: RunsTable) -> Content:
    return _words(" ".join(row.run.tags), room)


def _delta(row: ArrangedRun, _room: int, _table: RunsTable) -> Content:
    if row.delta is None:
        return Content("")
    return Content.styled(change(row.delta), GOOD if row.delta < 0 else TEXT)


def _changed(row: ArrangedRun, room: int, _table: RunsTable) -> Content:
    run = row.run
    where = f"@{run.lineage.checkpoint} " if run.lineage is not None else ""
    return _words(f"{where}{changed_words(run)}", room) if run.parent else Content("")


def _words(text: str, room: int, colour: str = DIM) -> Content:
    """Return text after two blanks that separate it from the column before."""
    shown = safe_content(text, newlines="show", limit=max(0, room - 2))
    return Content.assemble("  ", shown.stylize(colour))


def group_line(row: ArrangedRun) -> Content:
    """Return the head of a group: `▾ hidden_size 192   5 runs   best 58.1 plain-otter`."""
    group = row.group
    assert group is not None
    best = best_perplexity(group.best)
    found = line("none evaluated")
    if best is not None:
        name = safe_content(group.best.run, newlines="show", limit=40)
        found = line("best {} {}", (figure(best), f"bold {VALIDATION}"), name)
    head = safe_content(group.label, newlines="show", limit=60).stylize(f"bold {BRIGHT}")
    runs = counted(len(group.runs), "run")
    return line(f"  {{}} {{}}   {runs}   {{}}", "▸" if row.hidden else "▾", head, found)


TEXTS: tuple[tuple[SortKey, Callable[[ArrangedRun, int, RunsTable], Content], int], ...] = (
    ("corpus", _corpus, 16),
    ("tags", _tags, 20),
)
"""The columns that are as wide as their texts, up to so many cells."""


LayoutName = Literal["list", "tree", "groups"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
LAYOUT_SETTING = "runs layout"
"""Name of the saved setting."""
DEFAULT_KEYS = "corpus,cell"


@dataclass(slots=True)
class RunLayout:
    """The layout, its group keys, and the folded rows."""

    name: LayoutName = "list"
    keys: tuple[RunKey, ...] = ()
    keys_text: str = ""
    """The keys as typed."""
    folded: set[str] = field(default_factory=set)
    """Ids of rows."""
    name_width: int = NAME
    """Cells of the longest name in the tree, its lines included; in steps, so that columns stay."""

    @classmethod
    def from_setting(cls, kept: object) -> RunLayout:
        """Return the saved layout; the list if there is none or its keys no longer exist."""
        layout = cls()
        match kept:
            case [("tree" | "groups" | "list") as name, str() as keys]:
                if layout.group_by(keys) or name != "groups":
                    layout.name = name
        return layout

    def setting(self) -> list[str]:
        """Return the layout as JSON values for the next start."""
        return [self.name, self.keys_text]

    def group_by(self, text: str) -> bool:
        """Set the keys; False if they are invalid."""
        try:
            self.keys = parse_group_keys(text)
        except InputError:
            return False
        self.keys_text = text
        self.folded = {row for row in self.folded if not row.startswith("group ")}
        return True

    def next(self) -> None:
        """Go to the next layout; groups begin with the corpus and the cell."""
        self.name = LAYOUTS[(LAYOUTS.index(self.name) + 1) % len(LAYOUTS)]
        if self.name == "groups" and not self.keys:
            self.group_by(DEFAULT_KEYS)

    def rows(self, runs: Sequence[RunSummary], config_of: ConfigOf) -> Sequence[ArrangedRun]:
        """Arrange the runs, which are sorted."""
        match self.name:
            case "tree":
                rows = tree_of(runs, self.folded)
                longest = max((len(row.lead) + len(row.run.run) for row in rows), default=0)
                self.name_width = max(NAME, -(-(longest + 4) // 4) * 4)
                return rows
            case "groups":
                return grouped_rows(group_runs(runs, self.keys, config_of), self.folded)
        return [ArrangedRun(run) for run in runs]

    def columns(
        self, width: int, status_width: int, longest: Mapping[SortKey, int]
    ) -> list[RunColumn]:
        """Return the columns that fit into `width` cells."""
        columns = columns_for(width, status_width, longest)
        if self.name != "tree":
            return columns
        name, status, _, perplexity, *_ = columns
        kept = [
            replace(name, width=LEAD + min(MOST_NAME, self.name_width, width // 3)),
            status,
            perplexity,
            RunColumn(None, "Δ parent", 10, _delta),
        ]
        rest = width - sum(column.width for column in kept)
        return [*kept, RunColumn(None, "  changed", rest, _changed, left=True)]

    def legend(self) -> str:
        """Return `tree`, or `by hidden_size, cell`; empty for the list."""
        if self.name == "groups":
            return f"by {', '.join(key.name.rpartition('.')[2] for key in self.keys)}"
        return "tree" if self.name == "tree" else ""


class RunsTable(ListPanel[SortKey, ArrangedRun]):
    """Runs, or a tree or groups of them; a double click opens one."""

    columns: Sequence[RunColumn]
    OPENS = "screen.open_selected"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Runs", keys=SORT_KEYS, setting=ORDER_SETTING, id=id)
        self.runs: Sequence[RunSummary] = ()
        """The listed runs in order."""
        self.arrangement = RunLayout()
        self.configs: dict[str, RunConfig] = {}
        """The configs that a filter or a layout has needed; they never change."""
        self.wanted: set[str] = set()
        """The runs whose configs are needed and not read yet."""
        self.marks = Marks()
        self.best: Mapping[str, float] = {}
        """By run, the best perplexity among the runs it is comparable with."""
        self.waiting: Mapping[str, Waiting] = {}
        """By run, its place in the queue and its expected start."""
        self._width = 0
        self._drawn: dict[str, tuple[tuple[object, ...], Content]] = {}
        """Drawn rows by run: most stay the same between polls and keys."""
        self._longest: Mapping[SortKey, int] = {"corpus": 0, "tags": 0}

    def config_of(self, run: str) -> RunConfig | None:
        """Return a run's config; if it isn't read yet, None, and it is wanted."""
        if run not in self.configs:
            self.wanted.add(run)
        return self.configs.get(run)

    def on_mount(self) -> None:
        """Lay the runs out as when the app was left."""
        kept = self.context.settings.get(LAYOUT_SETTING)
        self.arrangement = RunLayout.from_setting(kept)

    def show(
        self,
        runs: Sequence[RunSummary],
        *,
        among: Sequence[RunSummary],
        marks: Marks,
        waiting: Mapping[str, Waiting],
        choose: str | None,
    ) -> None:
        """Show these runs; the cursor stays on its run, or moves to `choose`.

        Args:
            among: all runs, to find the best ones.
        """
        self._longest = {
            "corpus": max((len(corpus_of(run)) for run in among), default=0),
            "tags": max((len(" ".join(run.tags)) for run in among), default=0),
        }
        self.runs, self.marks, self.waiting = runs, marks, waiting
        self.best = best_of_comparable(among)
        self.put_in_order(choose)

    def fold(self) -> bool:
        """Fold the row under the cursor, or the one above that it belongs to, and go there."""
        row = self.row
        if row is not None and (row.hidden or not row.foldable):
            lead, above = row.lead, reversed(self.rows[: self._at])
            row = next((other for other in above if len(other.lead) < len(lead)), None)
        if row is None:
            return False
        self.arrangement.folded.add(row.id)
        self.go(self.rows.index(row))
        return True

    def unfold(self) -> bool:
        """Unfold the row under the cursor; False if it isn't folded."""
        folded = self.name_at in self.arrangement.folded
        self.arrangement.folded.discard(self.name_at)
        return folded

    def name_of(self, row: ArrangedRun) -> str:
        return row.id

    def arranged(self) -> Sequence[ArrangedRun]:
        """Sort the runs, and lay them out."""
        order, backwards = self.order, self.backwards
        self.runs = sorted_runs(self.runs, order, backwards=backwards, best=self.best)
        return self.arrangement.rows(self.runs, self.config_of)

    def rises(self) -> bool:
        return rises(self.order, backwards=self.backwards)

    def columns_in(self, width: int) -> Sequence[RunColumn]:
        unusual = (run for run in self.runs if run.unreadable or run.job)
        longest = max((run_status(run).cell_length + 1 for run in unusual), default=0)
        columns = self.arrangement.columns(width, max(STATUS_WIDTH, longest), self._longest)
        if (width, columns) != (self._width, self.columns):
            self._drawn, self._width = {}, width
        return columns

    def legend_words(self) -> str:
        return ", ".join(filter(None, (self.arrangement.legend(), super().legend_words())))

    def line_of(self, row: ArrangedRun, width: int) -> Content:
        run = row.run
        drawn = (
            run,
            self.marks.letter(run.run),
            age_of(run),
            self.best.get(run.run),
            self.waiting.get(run.run),
            (row.lead, row.hidden, row.delta, row.group),
        )
        before = self._drawn.get(row.id)
        if before is not None and before[0][0] is run and before[0][1:] == drawn[1:]:
            return before[1]
        if row.group is None:
            line = row_of(self.columns, row, self)
        else:
            line = group_line(row).truncate(width, ellipsis=True)
        self._drawn[row.id] = (drawn, line)
        return line


class FilterInput(SafeInput):
    """The filter's text field; enter keeps the filter, up and down move in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "screen.part('table', 'action_move', -1)"),
        ("down", "screen.part('table', 'action_move', 1)"),
    ]  # fmt: skip


class FilterLine(Horizontal):
    """`/ ppl<80 demo      3 of 7 runs`; hidden without a filter."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; background: #121212; padding: 0 1; }
    FilterLine.-open { display: block; }
    FilterLine .sign { width: 2; color: #d0d0d0; text-style: bold; }
    FilterLine FilterInput { width: 1fr; }
    FilterLine .outcome { width: 2fr; margin: 0 0 0 2; }
    """

    def compose(self) -> ComposeResult:
        yield Static("/", classes="sign")
        yield FilterInput(placeholder="name, tag, ppl<80, failed", compact=True)
        yield Line(classes="outcome")

    @property
    def text(self) -> str:
        """The filter as typed, without blanks around it."""
        return self.query_one(FilterInput).value.strip()

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
            words = [problem, problem.partition("; ")[2] or problem]
            told = [safe_content(f"✗ {text}", newlines="space").stylize(BAD) for text in words]
            shown = told[0] if not room or told[0].cell_length <= room else told[1]
        line.put(shown)
