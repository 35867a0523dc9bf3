"""The list of runs: its columns, its order, and its layout: flat, as a tree of forks, in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import TYPE_CHECKING, Literal, get_args

from textual.content import Content

from rnnlm_tui.client.arrangement import (
    ArrangedRun,
    changed_words,
    group_runs,
    grouped_rows,
    parse_group_keys,
    tree_of,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.filters import RunKey, RunOrder, best_perplexity
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
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import amount, bar, line, safe_content
from rnnlm_tui.tui.views.compare import Marks
from rnnlm_tui.tui.views.status import (
    corpus_name,
    model_name,
    run_status,
    status_colour,
    status_glyph,
)
from rnnlm_tui.tui.views.table import Column

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.queue import Waiting


SortKey = Literal[
    "age",
    "perplexity",
    "name",
    "status",
    "progress",
    "Δ best",
    "tok/s",
    "time",
    "model",
    "corpus",
    "tags",
]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
"""In the order in which the key cycles through them."""
STATUS_ORDER = (
    "running",
    "preparing",
    "paused",
    "stalled",
    "degraded",
    "lost",
    "crashed",
    "failed",
    "stopped",
    "draft",
    "finished",
)
ORDER_SETTING = "runs order"
"""Name of the saved setting."""
_CENTURY = 3e9
"""Seconds added to sort running runs first."""


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
    order = _order(key, best or {})
    order = replace(order, descending=order.descending != backwards)
    ordered = order.sorted((run, None) for run in runs)
    return tuple(sorted((run for run, _ in ordered), key=lambda run: not run.pinned))


def rises(key: SortKey, *, backwards: bool = False) -> bool:
    """Whether values increase from row to row: A to Z, lowest perplexity or age first."""
    return _order(key, {}).descending == backwards


def saved_order(settings: Mapping[str, object]) -> tuple[SortKey, bool]:
    """Return the saved order and whether it is reversed; by age if there is none."""
    match settings.get(ORDER_SETTING):
        case [str() as key, bool() as backwards] if key in SORT_KEYS:
            return key, backwards
    return "age", False


def behind_best(run: RunSummary, best: Mapping[str, float]) -> float | None:
    """Return the distance from the best comparable perplexity; None if there is none."""
    value, least = run.validation.best_perplexity, best.get(run.run)
    return None if value is None or least is None else value - least


def _order(key: SortKey, best: Mapping[str, float]) -> RunOrder:
    reads: dict[SortKey, Callable[[RunSummary], str | float | None]] = {
        "name": lambda run: run.run,
        "model": model_name,
        "corpus": lambda run: corpus_name(run.corpus_source or run.corpus),
        "tags": lambda run: " ".join(run.tags),
        "age": lambda run: -(run.updated or 0.0) - (_CENTURY if run.status in LIVING else 0.0),
        "perplexity": lambda run: run.validation.best_perplexity,
        "status": lambda run: STATUS_ORDER.index(run.status),
        "Δ best": lambda run: behind_best(run, best),
        "progress": lambda run: run.step / run.max_steps if run.max_steps else None,
        "tok/s": lambda run: run.tokens_per_second,
        "time": lambda run: run.active_seconds or None,
    }
    kind: Literal["words", "number"] = (
        "words" if key in ("name", "model", "corpus", "tags") else "number"
    )
    most_first = key in ("progress", "tok/s", "time")
    return RunOrder(RunKey(key, kind, lambda run, _config: reads[key](run)), descending=most_first)


WIDE = 100
"""Table width from which it shows the model and the distance from the best run."""
WITH_MEDIUM_BARS, WITH_BARS = 84, 125
"""Widths from which progress bars are six cells long instead of four, and ten."""
WITH_NOTES = 160
NAME, SPEED, TIME = 14, 6, 12
"""Least width of the name, and widths of the two columns that give way to text columns."""
LEAST_WORDS, MOST_CORPUS, MOST_TAGS = 7, 16, 20
"""Widths of text columns: least with the leading blanks, most without them."""
STATUS_WIDTH = 15
LEAD = 4
"""The cursor's sign and a mark's letter, each with a blank."""


@dataclass(frozen=True, slots=True)
class RowContext:
    """What a row shows besides the run's own figures."""

    marks: Marks = field(default_factory=Marks)
    best: Mapping[str, float] = field(default_factory=dict)
    """By run, the best perplexity among the runs it is comparable with."""
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """By run, its place in the queue and its expected start."""
    arranged: Mapping[str, ArrangedRun] = field(default_factory=dict)
    """By run, its place in a tree or a group."""


RunColumn = Column[SortKey, "RunSummary", RowContext]


@dataclass(frozen=True, slots=True)
class TextWidths:
    """How wide the text columns of the listed runs are."""

    corpus: int = 0
    """Cells of the longest corpus name."""
    several: bool = False
    """Whether the runs have different corpora."""
    tags: int = 0
    """Cells of the longest tags; 0 if no run has any."""


def text_widths(runs: Sequence[RunSummary]) -> TextWidths:
    """Measure the corpus names and tags of these runs."""
    corpora = {run.corpus_source or run.corpus for run in runs} - {""}
    return TextWidths(
        max((len(corpus_name(source)) for source in corpora), default=0),
        len(corpora) > 1,
        max((len(" ".join(run.tags)) for run in runs), default=0),
    )


def columns_for(width: int, status_width: int, words: TextWidths) -> list[RunColumn]:
    """Return the columns that fit into `width` cells, in order."""
    choose = _wide_columns if width >= WIDE else _narrow_columns
    return choose(width, status_width, words)


def _narrow_columns(width: int, status_width: int, words: TextWidths) -> list[RunColumn]:
    """Choose columns for a narrow table.

    One text column fits beside the speed: tags, otherwise the corpus. If the corpora differ, both
    replace the speed.
    """
    bars = 6 if width >= WITH_MEDIUM_BARS else 4
    columns = [
        RunColumn("perplexity", "val ppl ", 9, _perplexity),
        RunColumn("age", "age", 7, _age),
    ]
    room = width - LEAD - status_width - (bars + 6) - sum(column.width for column in columns)
    if room < NAME + SPEED:
        return [*_first_columns(max(9, room), status_width, bars), *columns]
    name, room = NAME, room - NAME
    corpus = words.corpus if words.several or not words.tags else 0
    wanted = _word_columns(replace(words, corpus=corpus))
    if len(wanted) == 2 and room >= 2 * LEAST_WORDS:
        name, room = name - 1, room + 1
    else:
        columns.insert(1, RunColumn("tok/s", "tok/s", SPEED, _speed))
        room, wanted = room - SPEED, wanted[-1:]
    for more in wanted:
        others = LEAST_WORDS * (len(wanted) - 1) if more is wanted[0] else 0
        taken = min(more.width, room - others)
        if taken >= LEAST_WORDS:
            columns.append(replace(more, width=taken))
            room -= taken
    return [*_first_columns(name + room, status_width, bars), *columns]


def _wide_columns(width: int, status_width: int, words: TextWidths) -> list[RunColumn]:
    """Choose columns for a wide table.

    Corpus and tags come before the training time; spare room goes to the names and, from WITH_NOTES
    on, to the notes.
    """
    bars, model = 10 if width >= WITH_BARS else 6, 13 if width < 140 else 20
    figures = [
        RunColumn("perplexity", "val ppl ", 9, _perplexity),
        RunColumn("Δ best", "Δ best", 9, _behind),
        RunColumn("tok/s", "tok/s", 7, _speed),
        RunColumn("age", "age", 8, _age),
        RunColumn("model", "  model", model, _model, left=True),
    ]
    room = width - LEAD - NAME - STATUS_WIDTH - (bars + 6) - sum(column.width for column in figures)
    for more in _word_columns(words):
        taken = min(more.width, room)
        if taken >= LEAST_WORDS:
            figures.append(replace(more, width=taken))
            room -= taken
    if room >= TIME:
        figures.insert(3, RunColumn("time", "time", TIME, _duration))
        room -= TIME
    name = min(16, room // 3 if width >= WITH_NOTES else room)
    columns = _first_columns(NAME + name + STATUS_WIDTH - status_width, status_width, bars)
    columns += figures
    if width >= WITH_NOTES:
        columns.append(RunColumn(None, "  note", room - name, _note, left=True))
    return columns


def _word_columns(words: TextWidths) -> list[RunColumn]:
    """Return the corpus and tags columns, as wide as their texts."""
    columns = []
    if words.corpus:
        width = max(8, min(words.corpus, MOST_CORPUS) + 2)
        columns.append(RunColumn("corpus", "  corpus", width, _corpus, left=True))
    if words.tags:
        width = max(LEAST_WORDS, min(words.tags, MOST_TAGS) + 2)
        columns.append(RunColumn("tags", "  tags", width, _tags, left=True))
    return columns


def _first_columns(name: int, status_width: int, bars: int) -> list[RunColumn]:
    return [
        RunColumn("name", "    name", LEAD + name, _name, left=True),
        RunColumn("status", "status", status_width, _status, left=True),
        RunColumn("progress", "progress", bars + 6, _progress, left=True),
    ]


def _name(run: RunSummary, room: int, beside: RowContext) -> Content:
    letter = beside.marks.letter(run.run)
    pin = " ⚑" if run.pinned else ""
    lead, more = lead_of(beside.arranged.get(run.run), room // 2)
    taken = LEAD + 1 + len(pin) + len(lead) + len(more)
    name = safe_content(run.run, newlines="show", limit=max(1, room - taken))
    mark = (letter or " ", f"bold {beside.marks.colour(run.run) or palette.TEXT}")
    return Content.assemble(
        "  ", mark, " ", (lead, palette.DIM), name, (more, palette.DIM), (pin, palette.VALIDATION)
    )


def lead_of(row: ArrangedRun | None, room: int) -> tuple[str, str]:
    """Return what stands before and after a run's name: the tree's lines, and what is folded.

    Args:
        room: most cells of the lines; of a deeper tree the outer ones are left out.
    """
    if row is None:
        return "", ""
    lead = row.lead if len(row.lead) <= room else f"…{row.lead[len(row.lead) - room + 1 :]}"
    return lead, f" +{row.hidden}" if row.hidden else ""


def _status(run: RunSummary, _room: int, beside: RowContext) -> Content:
    waiting = beside.waiting.get(run.run)
    if waiting is not None:
        words = f"waiting {waiting.place}"
        return Content.assemble(status_glyph(run.status), " ", (words, palette.TEXT))
    return run_status(run)


def _progress(run: RunSummary, room: int, beside: RowContext) -> Content:
    waiting = beside.waiting.get(run.run)
    if waiting is not None and waiting.start:
        return Content.styled(waiting.start, palette.TEXT)
    fraction = run.step / run.max_steps if run.max_steps else None
    trains = run.status in ("running", "stalled", "degraded")
    colour = status_colour(run.status) if trains else palette.BASELINE
    done = bar(room - 6, fraction, colour=colour)
    return done + amount(percent(fraction), width=4)


def _perplexity(run: RunSummary, _room: int, beside: RowContext) -> Content:
    value = run.validation.best_perplexity
    if value is not None and value == beside.best.get(run.run):
        return Content.styled(f"{figure(value)}★", f"bold {palette.VALIDATION}")
    return Content.styled(f"{figure(value)} ", palette.TEXT if value is not None else palette.DIM)


def _behind(run: RunSummary, _room: int, beside: RowContext) -> Content:
    value = behind_best(run, beside.best)
    return Content.styled("0.0" if value == 0 else change(value), palette.DIM)


def _speed(run: RunSummary, _room: int, _beside: RowContext) -> Content:
    colour = palette.WARN if run.status in ("stalled", "degraded") else palette.TEXT
    return Content.styled(short(run.tokens_per_second), colour)


def _age(run: RunSummary, _room: int, _beside: RowContext) -> Content:
    return Content.styled(age_of(run), palette.DIM)


def age_of(run: RunSummary) -> str:
    """Return the time since the run last changed; `now` while it is running."""
    living = run.status in ("running", "preparing", "degraded")
    return "now" if living else age(None if run.updated is None else time() - run.updated)


def _duration(run: RunSummary, _room: int, _beside: RowContext) -> Content:
    seconds = run.active_seconds
    return Content.styled(duration(seconds) if seconds else NOTHING, palette.DIM)


def _model(run: RunSummary, room: int, _beside: RowContext) -> Content:
    return _words(model_name(run), room, palette.TEXT)


def _corpus(run: RunSummary, room: int, _beside: RowContext) -> Content:
    return _words(corpus_name(run.corpus_source or run.corpus), room, palette.TEXT)


def _tags(run: RunSummary, room: int, _beside: RowContext) -> Content:
    return _words(" ".join(run.tags), room, palette.DIM)


def _note(run: RunSummary, room: int, _beside: RowContext) -> Content:
    return _words(run.note, room, palette.DIM)


def _words(text: str, room: int, colour: str) -> Content:
    """Return text after two blanks that separate it from the column before."""
    shown = safe_content(text, newlines="show", limit=max(0, room - 2))
    return Content.assemble("  ", shown.stylize(colour))


LayoutName = Literal["list", "tree", "groups"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
LAYOUT_SETTING = "runs layout"
"""Name of the saved setting."""
DEFAULT_KEYS = "corpus,cell"
_DELTA, _PERPLEXITY = 10, 9
_MOST_NAME = 34


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

    def fold(self, row: ArrangedRun, rows: Sequence[ArrangedRun]) -> ArrangedRun | None:
        """Fold a row, or the one above it that it belongs to; return that row, if there is one."""
        owner = row if row.foldable and not row.hidden else _owner(row, rows)
        if owner is not None:
            self.folded.add(owner.id)
        return owner

    def unfold(self, row: ArrangedRun) -> bool:
        """Unfold a row; False if it isn't folded."""
        if row.id not in self.folded:
            return False
        self.folded.discard(row.id)
        return True

    def rows(
        self, runs: Sequence[RunSummary], configs: Mapping[str, RunConfig]
    ) -> Sequence[ArrangedRun]:
        """Arrange the runs, which are sorted."""
        match self.name:
            case "tree":
                rows = tree_of(runs, self.folded)
                longest = max((len(row.lead) + len(row.run.run) for row in rows), default=0)
                self.name_width = max(NAME, -(-(longest + 4) // 4) * 4)
                return rows
            case "groups":
                return grouped_rows(group_runs(runs, self.keys, configs), self.folded)
        return [ArrangedRun(run) for run in runs]

    @property
    def needs_config(self) -> bool:
        """Whether the groups depend on the runs' configs."""
        return self.name == "groups" and any(key.needs_config for key in self.keys)

    def columns(self, width: int, status_width: int, words: TextWidths) -> list[RunColumn]:
        """Return the columns that fit into `width` cells."""
        columns = columns_for(width, status_width, words)
        if self.name != "tree":
            return columns
        by_key = {column.key: column for column in columns if column.key is not None}
        name = min(_MOST_NAME, self.name_width, width // 3)
        kept = [
            replace(by_key["name"], width=LEAD + name),
            by_key["status"],
            replace(by_key["perplexity"], width=_PERPLEXITY),
            RunColumn(None, "Δ parent", _DELTA, _delta),
        ]
        rest = width - sum(column.width for column in kept)
        return [*kept, RunColumn(None, "  changed", rest, _changed, left=True)]

    def legend(self) -> str:
        """Return `tree`, or `by hidden_size, cell`; empty for the list."""
        if self.name == "groups":
            return f"by {', '.join(key.name.rpartition('.')[2] for key in self.keys)}"
        return "tree" if self.name == "tree" else ""


def group_line(row: ArrangedRun) -> Content:
    """Return the head of a group: `▾ hidden_size 192   5 runs   best 58.1 plain-otter`."""
    group = row.group
    assert group is not None
    sign = "▸" if row.hidden else "▾"
    best = best_perplexity(group.best)
    found = line("none evaluated")
    if best is not None:
        name = safe_content(group.best.run, newlines="show", limit=40)
        found = line("best {} {}", (figure(best), f"bold {palette.VALIDATION}"), name)
    label = safe_content(group.label, newlines="show", limit=60)
    head = label.stylize(f"bold {palette.BRIGHT}")
    return line(f"  {{}} {{}}   {counted(len(group.runs), 'run')}   {{}}", sign, head, found)


def _owner(row: ArrangedRun, rows: Sequence[ArrangedRun]) -> ArrangedRun | None:
    """The nearest row above that this one belongs to."""
    place = next((index for index, other in enumerate(rows) if other.id == row.id), 0)
    if not row.lead:
        return None
    return next(
        (other for other in reversed(rows[:place]) if len(other.lead) < len(row.lead)), None
    )


def _delta(run: RunSummary, _room: int, beside: RowContext) -> Content:
    row = beside.arranged.get(run.run)
    if row is None or row.delta is None:
        return Content("")
    colour = palette.GOOD if row.delta < 0 else palette.TEXT
    return Content.styled(change(row.delta), colour)


def _changed(run: RunSummary, room: int, _beside: RowContext) -> Content:
    if not run.parent:
        return Content("")
    where = f"@{run.lineage.checkpoint} " if run.lineage is not None else ""
    shown = safe_content(f"{where}{changed_words(run)}", newlines="show", limit=max(0, room - 2))
    return Content.assemble("  ", shown.stylize(palette.DIM))


def arranged_by_run(rows: Sequence[ArrangedRun]) -> Mapping[str, ArrangedRun]:
    """Map runs to their rows, without the heads of groups."""
    return {row.run.run: row for row in rows if row.group is None}
