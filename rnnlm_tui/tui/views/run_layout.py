"""How the list of runs is laid out: flat, as a tree of forks, or in groups; and what is folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from rnnlm_tui.schema.filters import RunKey, best_perplexity
from rnnlm_tui.schema.formatting import change, counted, figure
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.runs import LEAD, NAME, RowContext, RunColumn, columns_for

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.runs import TextWidths

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
    found = (
        Content.assemble(
            ("best ", palette.DIM),
            (f"{figure(best)} ", f"bold {palette.VALIDATION}"),
            safe_content(group.best.run, newlines="show", limit=40),
        )
        if best is not None
        else Content.styled("none evaluated", palette.DIM)
    )
    return Content.assemble(
        f"  {sign} ",
        safe_content(group.label, newlines="show", limit=60).stylize(f"bold {palette.BRIGHT}"),
        (f"   {counted(len(group.runs), 'run')}   ", palette.DIM),
        found,
    )


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
