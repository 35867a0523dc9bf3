"""Earlier prompts, recalled like in a shell."""

from __future__ import annotations

from collections.abc import Iterable


class PromptHistory:
    """Prompts from oldest to newest; recalling one keeps the unsent text."""

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)
        self._place: int | None = None
        self._unsent = ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, newest last."""
        return tuple(self._prompts)

    def load(self, prompts: Iterable[str]) -> None:
        """Add prompts of earlier sessions before those of this one."""
        self._prompts = [*prompts, *self._prompts]
        self._place = None

    def add(self, prompt: str) -> bool:
        """Add a sent prompt; return False if it is empty or repeats the newest."""
        self._place = None
        if not prompt.strip() or (self._prompts and self._prompts[-1] == prompt):
            return False
        self._prompts.append(prompt)
        return True

    def older(self, present: str) -> str | None:
        """Return the previous prompt, keeping `present` as unsent text; None at the oldest."""
        if self._place is None:
            self._unsent = present
        place = (len(self._prompts) if self._place is None else self._place) - 1
        if place < 0:
            return None
        self._place = place
        return self._prompts[place]

    def newer(self) -> str | None:
        """Return the next prompt, or at the end the unsent text; None if already there."""
        if self._place is None:
            return None
        self._place += 1
        if self._place >= len(self._prompts):
            self._place = None
            return self._unsent
        return self._prompts[self._place]
