"""Which weights to sample from: the best, last or an older checkpoint, or a running run's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from rnnlm_tui.contract import figures
from rnnlm_tui.contract.metrics import CheckpointRow, perplexity
from rnnlm_tui.tui.widgets.content import safe_content, safe_text
from rnnlm_tui.tui.widgets.palette import DIM, TEXT, TRAIN, VALIDATION

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
    def of(cls, run: str, checkpoints: Sequence[CheckpointRow], wanted: str | None, *, living: bool) -> CheckpointChoice:
        """Sort the checkpoints in the order in which the key cycles through them."""
        newest_first = sorted(checkpoints, key=lambda row: row.step, reverse=True)
        marked = [row for row in newest_first if row.last] + [row for row in newest_first if row.best and not row.last]
        return cls(run, tuple(marked + [row for row in newest_first if not row.last and not row.best]), living, wanted)

    @property
    def row(self) -> CheckpointRow | None:
        """The chosen checkpoint, or the best if it is gone; None for current weights or no
        checkpoint.
        """
        if self.wanted == NOW and self.living:
            return None
        best = next((row for row in self.rows if row.best), self.rows[0] if self.rows else None)
        return next((row for row in self.rows if row.path == self.wanted or (self.wanted == LAST and row.last)), best)

    @property
    def gone(self) -> bool:
        """Whether the chosen checkpoint no longer exists."""
        return self.wanted not in (None, LAST, BEST, NOW) and self.wanted not in {row.path for row in self.rows}

    @property
    def possible(self) -> bool:
        """Whether there are weights to sample from."""
        return bool(self.rows) or self.living

    def next(self) -> str | None:
        """Return the choice after the current one; None if there is nothing to choose."""
        choices = [BEST if row.best else LAST if row.last else row.path for row in self.rows] + ([NOW] if self.living else [])
        if not choices:
            return None
        row = self.row
        here = len(choices) - 1 if row is None else self.rows.index(row)
        return choices[(here + 1) % len(choices)]

    def legend(self) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`."""
        row = self.row
        name = safe_content(self.run, limit=30, newlines="show").stylize(DIM)
        if row is None:
            return Content.assemble(name, (" @now", f"bold {TRAIN}"), (" current weights", DIM)) if self.living else name
        mark = Content.styled(" @best", f"bold {VALIDATION}") if row.best else Content.styled(" @last", f"bold {TRAIN}") if row.last else Content("")
        value = "" if row.validation_loss is None else figures.figure(perplexity(row.validation_loss))
        return Content.assemble(name, mark, (" step ", DIM), (f"{row.step:,}", TEXT), (", val " if value else "", DIM), (value, TEXT))

    def invitation(self) -> tuple[str, ...]:
        """Return the lines shown before the first text."""
        if self.row is not None:
            return ("Type a prompt and press enter to continue it.",)
        if self.living:
            return ("No checkpoint yet: enter samples from the current weights.", "This does not change the run.")
        return (f"{safe_text(self.run, limit=40)} has no checkpoint to sample from.", "Press 2 to watch it train.")

    def row_of_choices(self) -> Content:
        """Return `checkpoint  last 3,750  best 3,700  older…  now`; empty if there is nothing to
        choose.
        """
        row, parts = self.row, []
        for candidate in self.rows[:2]:
            word = "best" if candidate.best else "last" if candidate.last else "step"
            here = row is not None and candidate.path == row.path
            parts.append(Content.styled(f"{word} {candidate.step:,}", f"bold underline {VALIDATION if candidate.best else TRAIN}" if here else DIM))
        if row is not None and row not in self.rows[:2]:
            parts.append(Content.styled(f"step {row.step:,}", f"bold underline {TEXT}"))
        elif len(self.rows) > 2:
            parts.append(Content.styled("older…", DIM))
        if self.living:
            parts.append(Content.styled("now", f"bold underline {TRAIN}" if row is None else DIM))
        return Content.assemble(("checkpoint  ", DIM), Content("  ").join(parts)) if parts else Content("")
