"""Runs marked for comparison, each with a letter and a colour, and what they have in common.

Only runs on the same text with the same tokens are comparable and share a best perplexity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.tui.palette import MARK_COLOURS
from rnnlm_tui.tui.views.chart_data import Axis
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import Runs

if TYPE_CHECKING:
    from rnnlm_tui.client.comparison import Comparison
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary


def best_of_comparable(runs: Sequence[RunSummary]) -> dict[str, float]:
    """Map each run to the best validation perplexity among the runs it is comparable with.

    Runs that are comparable with no other are left out.
    """
    groups: dict[tuple[object, ...], dict[str, float]] = {}
    for run in runs:
        if run.validation.best_perplexity is not None:
            same = run.corpus, run.corpus_hash, run.evaluation.scored_bytes
            group = groups.setdefault(same, {})
            group[run.run] = run.validation.best_perplexity
    known = [group for group in groups.values() if len(group) > 1]
    return {name: min(group.values()) for group in known for name in group}


LETTERS = "ABCDEFGH"
MOST_MARKED = len(LETTERS)
"""More curves would be hard to distinguish."""


class Marks(NamedTuple):
    """A run per letter; unmarking one leaves the others' letters unchanged."""

    places: tuple[str, ...] = ()
    """Run names by letter, A first; empty if the letter is free."""

    @classmethod
    def from_json(cls, kept: object) -> Marks:
        """Return saved marks; none if the value isn't a list of names."""
        if (
            not isinstance(kept, list)
            or len(kept) > MOST_MARKED
            or not all(isinstance(name, str) for name in kept)
        ):
            return cls()
        names = [name for name in kept if name]
        return cls(tuple(kept)) if len(set(names)) == len(names) else cls()

    @property
    def names(self) -> tuple[str, ...]:
        """The marked runs in the order of their letters."""
        return tuple(name for name in self.places if name)

    @property
    def full(self) -> bool:
        """Whether all letters are used."""
        return len(self.names) == MOST_MARKED

    def letter(self, run: str) -> str:
        """Return the run's letter; empty if it isn't marked."""
        return LETTERS[self.places.index(run)] if run and run in self.places else ""

    def colour(self, run: str) -> str:
        """Return the run's colour; empty if it isn't marked."""
        return MARK_COLOURS[self.places.index(run)] if run and run in self.places else ""

    def toggled(self, run: str, place: int | None = None) -> Marks:
        """Unmark the run, or mark it with this letter, or the first free one if it isn't free.

        No change if no letter is free.
        """
        if run in self.places:
            return self._with("" if name == run else name for name in self.places)
        places = [*self.places, *[""] * (MOST_MARKED - len(self.places))]
        free = [at for at, name in enumerate(places) if not name]
        if free:
            places[place if place in free else free[0]] = run
        return self._with(places)

    def marked_at(self, run: str, place: int) -> Marks:
        """Mark the run with its former letter or another free one, if it isn't marked."""
        return self if run in self.places else self.toggled(run, place)

    def renamed(self, run: str, name: str) -> Marks:
        """Return the marks with the run renamed."""
        return self._with(name if known == run else known for known in self.places)

    def among(self, runs: Iterable[str]) -> Marks:
        """Return the marks without runs that no longer exist."""
        there = set(runs)
        return self._with(name if name in there else "" for name in self.places)

    def _with(self, places: Iterable[str]) -> Marks:
        found = list(places)
        while found and not found[-1]:
            found.pop()
        return Marks(tuple(found))


def compared(
    marks: Marks, snapshots: Sequence[RunSnapshot], axis: Axis = "step"
) -> list[ChartedRun]:
    """Return the marked runs that have been read, in the order of their letters."""
    known = {snapshot.summary.run: snapshot for snapshot in snapshots}
    return [
        ChartedRun(known[name], axis, marks.letter(name), marks.colour(name))
        for name in marks.names
        if name in known
    ]


def comparison(runs: Runs) -> Comparison:
    """Compare the runs: the settings that differ, and their figures."""
    from rnnlm_tui.client.comparison import (
        ComparedRun,
        changed_settings,
        comparison_of,
        config_at_start,
    )

    def row(run: ChartedRun) -> ComparedRun:
        snapshot = run.snapshot
        return ComparedRun(
            run.letter,
            snapshot.summary.run,
            snapshot.summary,
            config_at_start(snapshot.config, snapshot.changes),
            _best_seconds(snapshot),
            changed_settings(snapshot.changes),
        )

    return comparison_of([row(run) for run in runs])


def _best_seconds(snapshot: RunSnapshot) -> float | None:
    """Return the training time at the best evaluation."""
    step = snapshot.summary.evaluation.best_step
    if step is None or not len(snapshot.series.step):
        return None
    return ChartedRun(snapshot, "active").x_of_step(step)
