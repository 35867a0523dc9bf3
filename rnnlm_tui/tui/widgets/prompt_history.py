"""Earlier prompts and a place among them, as a shell has it."""

from __future__ import annotations

from collections.abc import Iterable


class PromptHistory:
    """Prompts from oldest to newest; going back keeps what was being written."""

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)
        self._place: int | None = None
        self._unsent = ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """All of them, newest last."""
        return tuple(self._prompts)

    def load(self, prompts: Iterable[str]) -> None:
        """Prompts of earlier days, before those of today."""
        self._prompts = [*prompts, *self._prompts]
        self._place = None

    def add(self, prompt: str) -> bool:
        """A prompt that was sent; False where it is empty or the newest already."""
        self._place = None
        if not prompt.strip() or (self._prompts and self._prompts[-1] == prompt):
            return False
        self._prompts.append(prompt)
        return True

    def older(self, present: str) -> str | None:
        """The prompt before; `present` is what stands in the box now. None at the oldest."""
        if self._place is None:
            self._unsent = present
        place = (len(self._prompts) if self._place is None else self._place) - 1
        if place < 0:
            return None
        self._place = place
        return self._prompts[place]

    def newer(self) -> str | None:
        """The prompt after; at the end what was being written. None when already there."""
        if self._place is None:
            return None
        self._place += 1
        if self._place >= len(self._prompts):
            self._place = None
            return self._unsent
        return self._prompts[self._place]
