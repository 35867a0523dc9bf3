"""Runs marked for comparison; each keeps its letter and colour as long as it is marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnnlm_tui.tui.widgets.palette import MARK_COLOURS

LETTERS = "ABCDEFGH"
MOST_MARKED = len(LETTERS)
"""The most curves that can still be told apart."""


@dataclass(frozen=True, slots=True)
class Marks:
    """A run per letter; unmarking one leaves the others' letters unchanged."""

    places: tuple[str, ...] = ()
    """Run names by letter, A first; empty if the letter is free."""

    @classmethod
    def from_json(cls, kept: object) -> Marks:
        """Return saved marks; none if the value isn't a list of names."""
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
        """Whether all letters are used."""
        return len(self.names) == MOST_MARKED

    def letter(self, run: str) -> str:
        """Return the run's letter; empty if it isn't marked."""
        return LETTERS[self.places.index(run)] if run and run in self.places else ""

    def colour(self, run: str) -> str:
        """Return the run's colour; empty if it isn't marked."""
        return MARK_COLOURS[self.places.index(run)] if run and run in self.places else ""

    def toggled(self, run: str) -> Marks:
        """Mark the run with the first free letter, or unmark it; no change if no letter is free."""
        if run in self.places:
            return self._with("" if name == run else name for name in self.places)
        if "" in self.places:
            at = self.places.index("")
            return self._with((*self.places[:at], run, *self.places[at + 1 :]))
        return self if self.full else self._with((*self.places, run))

    def marked_at(self, run: str, place: int) -> Marks:
        """Mark the run with its former letter, or another free one if that is taken.

        No change if the run is marked or no letter is free.
        """
        if run in self.places:
            return self
        places = [*self.places, *[""] * (place + 1 - len(self.places))]
        if places[place]:
            return self.toggled(run)
        return self._with(run if index == place else name for index, name in enumerate(places))

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
