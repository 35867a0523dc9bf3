"""The runs that are marked to compare: each has a letter and a colour of its own, and keeps both for as long as it is marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnnlm_tui.tui.widgets.palette import MARK_COLOURS

LETTERS = "ABCDEFGH"
MOST_MARKED = len(LETTERS)
"""So many curves can still be told from each other."""


@dataclass(frozen=True, slots=True)
class Marks:
    """A place for each letter, so that a run that is no longer marked leaves the others theirs."""

    places: tuple[str, ...] = ()
    """The run's name by letter, A first; empty where the letter is free."""

    @classmethod
    def from_json(cls, kept: object) -> Marks:
        """From what was written down; nothing where that is no list of names."""
        if not isinstance(kept, list) or len(kept) > MOST_MARKED or not all(isinstance(name, str) for name in kept):
            return cls()
        names = [name for name in kept if name]
        return cls(tuple(kept)) if len(set(names)) == len(names) else cls()

    @property
    def names(self) -> tuple[str, ...]:
        """The marked runs in the order of their letters."""
        return tuple(name for name in self.places if name)

    @property
    def full(self) -> bool:
        """Whether no letter is free."""
        return len(self.names) == MOST_MARKED

    def letter(self, run: str) -> str:
        """The run's letter; empty where it is not marked."""
        return LETTERS[self.places.index(run)] if run and run in self.places else ""

    def colour(self, run: str) -> str:
        """The run's colour; an empty string where it is not marked."""
        return MARK_COLOURS[self.places.index(run)] if run and run in self.places else ""

    def toggled(self, run: str) -> Marks:
        """The run marked under the first free letter, or no longer marked; the same marks where no letter is free."""
        if run in self.places:
            return self._with("" if name == run else name for name in self.places)
        if "" in self.places:
            at = self.places.index("")
            return self._with((*self.places[:at], run, *self.places[at + 1 :]))
        return self if self.full else self._with((*self.places, run))

    def marked_at(self, run: str, place: int) -> Marks:
        """The run marked where it was before, or under another free letter where a run has that by now; the same marks where it has one, or none is free."""
        if run in self.places:
            return self
        places = [*self.places, *[""] * (place + 1 - len(self.places))]
        if places[place]:
            return self.toggled(run)
        return self._with(run if index == place else name for index, name in enumerate(places))

    def renamed(self, run: str, name: str) -> Marks:
        """The run under another name, with its letter."""
        return self._with(name if known == run else known for known in self.places)

    def among(self, runs: Iterable[str]) -> Marks:
        """Without those that are gone."""
        there = set(runs)
        return self._with(name if name in there else "" for name in self.places)

    def _with(self, places: Iterable[str]) -> Marks:
        found = list(places)
        while found and not found[-1]:
            found.pop()
        return Marks(tuple(found))
