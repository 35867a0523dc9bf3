"""Ends a text that comes in pieces before the first stop string in it."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.errors import InputError


class StopStrings:
    """Passes text on until a stop string is complete; what may be the start of one is held back until that is decided.

    The first stop string to be complete ends the text, of several that end in one place the longest. Where the pieces
    begin and end makes no difference.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """Raises:
        InputError: an empty stop string, which would end every text before it begins.
        """
        if "" in strings:
            raise InputError("a stop string is empty", hint="give at least one character")
        self._strings = tuple(strings)
        self._held = ""
        self.found = ""
        """The stop string that ended the text; empty so far."""

    def push(self, text: str) -> str:
        """What of the text so far is now sure to stand before any stop string; nothing after one was found."""
        if self.found or not text:
            return ""
        if not self._strings:
            return text
        known = self._held + text
        ends = [(start + len(string), -len(string)) for string in self._strings if (start := known.find(string)) >= 0]
        if ends:
            end, negative_length = min(ends)
            start = end + negative_length
            self.found, self._held = known[start:end], ""
            return known[:start]
        held = self._undecided(known)
        self._held = known[len(known) - held :]
        return known[: len(known) - held]

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(text), max(map(len, self._strings)) - 1)
        return next((length for length in range(longest, 0, -1) if any(string.startswith(text[-length:]) for string in self._strings)), 0)
