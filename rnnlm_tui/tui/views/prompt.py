"""The prompt screen's data: choice of weights, and prompt history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.tui.palette import DIM, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.text import safe_content, safe_text


class PromptHistory:
    """Prompts from oldest to newest; recalling one keeps the unsent text.

    An unsent text that other prompts contain is a search: only those are recalled.
    """

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)
        self._found: list[str] = []
        """The prompts that are recalled, all or those with the unsent text."""
        self._place: int | None = None
        self._unsent = ""

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

    def matches(self, text: str) -> list[str]:
        """Return the longer prompts that contain a text, in any case; none for an empty one."""
        wanted = text.strip().casefold()
        if not wanted or text in self._prompts:
            return []
        return [prompt for prompt in self._prompts if wanted in prompt.casefold()]

    def older(self, present: str) -> str | None:
        """Return the previous prompt, keeping `present` as unsent text; None at the oldest."""
        if self._place is None:
            self._unsent, self._found = present, self.matches(present) or self._prompts
        place = (len(self._found) if self._place is None else self._place) - 1
        if place < 0:
            return None
        self._place = place
        return self._found[place]

    def newer(self) -> str | None:
        """Return the next prompt, or at the end the unsent text; None if already there."""
        if self._place is None:
            return None
        self._place += 1
        if self._place >= len(self._found):
            self._place = None
            return self._unsent
        return self._found[self._place]


LAST, BEST, NOW = "last", "best", "now"
"""Choices that follow the run: its newest checkpoint, its best one, its current weights."""


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """The available weights, and the chosen ones."""

    run: str
    rows: tuple[CheckpointRow, ...]
    """The last checkpoint, the best one, then older ones."""
    living: bool
    """A worker is running, so its current weights are available."""
    wanted: str | None = None
    """The directory of a checkpoint, or LAST, BEST or NOW; None means the best."""

    @classmethod
    def of(
        cls, run: str, checkpoints: Sequence[CheckpointRow], wanted: str | None, *, living: bool
    ) -> CheckpointChoice:
        """Sort the checkpoints in the order in which the key cycles through them."""
        newest_first = sorted(checkpoints, key=lambda row: row.step, reverse=True)
        marked = [row for row in newest_first if row.last] + [
            row for row in newest_first if row.best and not row.last
        ]
        return cls(
            run,
            tuple(marked + [row for row in newest_first if not row.last and not row.best]),
            living,
            wanted,
        )

    @property
    def row(self) -> CheckpointRow | None:
        """The chosen checkpoint, or the best if it is gone; None for current weights."""
        if self.wanted == NOW and self.living:
            return None
        best = next((row for row in self.rows if row.best), self.rows[0] if self.rows else None)
        return next(
            (
                row
                for row in self.rows
                if row.path == self.wanted or (self.wanted == LAST and row.last)
            ),
            best,
        )

    @property
    def gone(self) -> bool:
        """Whether the chosen checkpoint no longer exists."""
        return self.wanted not in (None, LAST, BEST, NOW) and self.wanted not in {
            row.path for row in self.rows
        }

    @property
    def possible(self) -> bool:
        """Whether there are weights to sample from."""
        return bool(self.rows) or self.living

    def next(self) -> str | None:
        """Return the choice after the current one; None if there is nothing to choose."""
        choices = [BEST if row.best else LAST if row.last else row.path for row in self.rows] + (
            [NOW] if self.living else []
        )
        if not choices:
            return None
        row = self.row
        here = len(choices) - 1 if row is None else self.rows.index(row)
        return choices[(here + 1) % len(choices)]

    def legend(self, taken: tuple[int, float] | None = None) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`.

        Args:
            taken: step and age in seconds of the last snapshot of current weights.
        """
        row = self.row
        name = safe_content(self.run, limit=30, newlines="show").stylize(DIM)
        if row is None and not self.living:
            return name
        if row is None:
            now = Content.assemble(name, (" @now", f"bold {TRAIN}"))
            if taken is None:
                return Content.assemble(now, (" current weights", DIM))
            step, age = taken
            past = formatting.age(age) if age >= 10 else f"{int(age)} s"
            when = f"{past} ago" if age >= 1 else "just now"
            return Content.assemble(now, (" step ", DIM), (f"{step:,}", TEXT), (f", {when}", DIM))
        mark = (
            Content.styled(" @best", f"bold {VALIDATION}")
            if row.best
            else Content.styled(" @last", f"bold {TRAIN}")
            if row.last
            else Content("")
        )
        value = (
            ""
            if row.validation_loss is None
            else formatting.figure(perplexity(row.validation_loss))
        )
        before, _, last = f" {weights_words(row.path, row.step)}".rpartition(" ")
        return Content.assemble(
            name,
            mark,
            (f"{before} ", DIM),
            (last, TEXT),
            (", val " if value else "", DIM),
            (value, TEXT),
        )

    def invitation(self) -> tuple[str, ...]:
        """Return the lines shown before the first text, with `{key:id}` for keys."""
        if self.row is not None:
            return ("Type a prompt and press {key:generate} to continue it.",)
        if self.living:
            return (
                "No checkpoint yet: {key:generate} samples from the current weights.",
                "This does not change the run.",
            )
        return (
            f"{safe_text(self.run, limit=40)} has no checkpoint to sample from.",
            "Press {key:leave_field}, then {key:show_train} to watch it train.",
        )

    def row_of_choices(self) -> Content:
        """Return `checkpoint  last 3,750  best 3,700  older…  now`; empty without choices."""
        row, parts = self.row, []
        for candidate in self.rows[:2]:
            word = "best" if candidate.best else "last" if candidate.last else "step"
            here = row is not None and candidate.path == row.path
            parts.append(
                Content.styled(
                    f"{word} {candidate.step:,}",
                    f"bold underline {VALIDATION if candidate.best else TRAIN}" if here else DIM,
                )
            )
        if row is not None and row not in self.rows[:2]:
            words = weights_words(row.path, row.step)
            parts.append(Content.styled(words, f"bold underline {TEXT}"))
        elif len(self.rows) > 2:
            parts.append(Content.styled("older…", DIM))
        if self.living:
            parts.append(Content.styled("now", f"bold underline {TRAIN}" if row is None else DIM))
        return (
            Content.assemble(("checkpoint  ", DIM), Content("  ").join(parts))
            if parts
            else Content("")
        )
