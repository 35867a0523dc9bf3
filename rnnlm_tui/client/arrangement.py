"""Arrange runs: as a tree of forks with what each changed, or in groups by config."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.filters import ConfigOf, RunKey, Value, best_perplexity, find_key

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import LineageFigures, RunSummary

SAME_SECONDS = 1.0
"""A parent is recognized by the time at which it was created, within this: it may be renamed, and
another run may have its name."""
MOST_KEYS = 4
_EMPTY = "none"


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs with the same values of some keys."""

    values: tuple[tuple[str, str], ...]
    """(key, value) of each key."""
    runs: tuple[RunSummary, ...]
    """In the order of the list."""
    best: RunSummary
    """The one with the lowest validation perplexity, or the first if none was evaluated."""

    @property
    def label(self) -> str:
        """`hidden_size 192, cell lstm`."""
        return ", ".join(f"{key} {value}" for key, value in self.values)


@dataclass(frozen=True, slots=True)
class ArrangedRun:
    """A row of the list."""

    run: RunSummary
    """Of a group's head: its best run."""
    lead: str = ""
    """The lines of the tree before the name: `│ └ `."""
    delta: float | None = None
    """The best validation perplexity minus the parent's; None without a comparable parent."""
    group: RunGroup | None = None
    """The group whose head this row is."""
    foldable: bool = False
    """Whether rows below belong to this one."""
    hidden: int = 0
    """How many rows are folded into this one."""

    @property
    def id(self) -> str:
        """Identifies the row, also after the list has changed."""
        return self.run.run if self.group is None else f"group {self.group.label}"


def tree_of(runs: Sequence[RunSummary], folded: Collection[str] = ()) -> list[ArrangedRun]:
    """The runs with their children below them; both keep the order of `runs`.

    A run whose parent isn't among them is a tree by itself.

    Args:
        folded: ids of the rows whose children are hidden.
    """
    parents = _parents(runs)
    children: dict[str, list[RunSummary]] = {}
    roots = []
    for run in runs:
        parent = parents.get(run.run)
        if parent is None:
            roots.append(run)
        else:
            children.setdefault(parent.run, []).append(run)
    rows: list[ArrangedRun] = []
    waiting = [(root, "", "") for root in reversed(roots)]
    while waiting:
        run, before, branch = waiting.pop()
        below, folds = children.get(run.run, []), run.run in folded
        hidden = _descendants(run.run, children) if folds else 0
        delta = delta_to(parents.get(run.run), run)
        rows.append(ArrangedRun(run, before + branch, delta, foldable=bool(below), hidden=hidden))
        inner = before + {"": "", "├ ": "│ ", "└ ": "  "}[branch]
        waiting += [
            (child, inner, "└ " if child is below[-1] else "├ ")
            for child in reversed(() if folds else below)
        ]
    return rows


def delta_to(parent: RunSummary | None, run: RunSummary) -> float | None:
    """A fork's best validation perplexity minus its parent's: below 0 is better.

    The parent's is that of the checkpoint if the run is gone. None if one wasn't evaluated, or on
    different texts.
    """
    lineage, own = run.lineage, best_perplexity(run)
    if own is None or lineage is None:
        return None
    text = parent.corpus_hash if parent is not None else lineage.corpus_hash
    theirs = best_perplexity(parent) if parent is not None else lineage.perplexity
    if theirs is None or text is None or text != run.corpus_hash:
        return None
    return own - theirs


def changed_words(run: RunSummary) -> str:
    """`learning_rate 0.003 → 0.0001, seed 42 → 7`; empty without a known parent.

    Keys whose last parts are equal are whole.
    """
    if run.lineage is None:
        return ""
    changed = run.lineage.changed
    ends = [field.key.rpartition(".")[2] for field in changed]
    return (
        ", ".join(
            f"{end if ends.count(end) == 1 else field.key}"
            f" {_words(field.before)} → {_words(field.after)}"
            for field, end in zip(changed, ends, strict=True)
        )
        or "nothing changed"
    )


def parse_group_keys(text: str) -> tuple[RunKey, ...]:
    """Parse `hidden_size,cell`.

    Raises:
        InputError: a key is unknown (with similar names as a hint), or there are too many.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("no key to group by", hint="such as hidden_size or cell,corpus")
    if len(names) > MOST_KEYS:
        raise InputError(
            f"{len(names)} keys to group by: at most {MOST_KEYS}", hint="leave some out"
        )
    return tuple(dict.fromkeys(map(find_key, names)))


def group_runs(
    runs: Iterable[RunSummary], keys: Sequence[RunKey], config_of: ConfigOf
) -> list[RunGroup]:
    """Group runs by the values of keys, the group with the best run first."""
    found: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in runs:
        values = tuple(_value_words(key, key.read(run, config_of)) for key in keys)
        found.setdefault(values, []).append(run)
    names = [key.name.rpartition(".")[2] for key in keys]
    groups = [
        RunGroup(tuple(zip(names, values, strict=True)), tuple(members), min(members, key=_rank))
        for values, members in found.items()
    ]
    return sorted(groups, key=lambda group: _rank(group.best))


def grouped_rows(groups: Iterable[RunGroup], folded: Collection[str] = ()) -> list[ArrangedRun]:
    """The heads of the groups, each with its runs below it unless its id is in `folded`."""
    rows = []
    for group in groups:
        head = ArrangedRun(group.best, group=group, foldable=True)
        if head.id in folded:
            rows.append(replace(head, hidden=len(group.runs)))
            continue
        rows.append(head)
        rows += [ArrangedRun(run, lead="  ") for run in group.runs]
    return rows


def _parents(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """By run, its parent among `runs`. Cycles in the files are cut."""
    by_time = sorted((run.created, run.run, run) for run in runs if run.created is not None)

    def find(run: RunSummary, lineage: LineageFigures) -> RunSummary | None:
        first = bisect_left(by_time, lineage.created - SAME_SECONDS, key=itemgetter(0))
        last = bisect_right(by_time, lineage.created + SAME_SECONDS, key=itemgetter(0))
        near = [found for found in by_time[first:last] if found[1] != run.run]
        named = [found for found in near if found[1] == lineage.run]
        nearest = min(named or near, key=lambda one: abs(one[0] - lineage.created), default=None)
        return None if nearest is None else nearest[2]

    parents: dict[str, RunSummary] = {}
    for run in runs:
        parent = None if run.lineage is None else find(run, run.lineage)
        if parent is None:
            continue
        above: RunSummary | None = parent
        while above is not None and above.run != run.run:
            above = parents.get(above.run)
        if above is None:  # it doesn't lead back to the run itself
            parents[run.run] = parent
    return parents


def _descendants(name: str, children: Mapping[str, Sequence[RunSummary]]) -> int:
    count, waiting = 0, [name]
    while waiting:
        below = children.get(waiting.pop(), ())
        count += len(below)
        waiting += [child.run for child in below]
    return count


def _rank(run: RunSummary) -> float:
    found = best_perplexity(run)
    return float("inf") if found is None or found != found else found


def _value_words(key: RunKey, value: Value) -> str:
    if isinstance(value, tuple):
        texts = [text for text in value if text]
        if key.name == "tag" or "." in key.name:  # a list of the config
            return "; ".join(texts) or _EMPTY
        return texts[-1] if texts else _EMPTY  # of one thing's names, the shortest is the last
    return _words(value)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return _EMPTY if value is None or value == "" else str(value)
