"""The choice of a run's weights to sample from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.tui.palette import DIM, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.text import line, safe_text

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
        row, run = self.row, safe_text(self.run, limit=30, newlines="show")
        if row is None and not self.living:
            return Content.styled(run, DIM)
        if row is None:
            now = line("{} {}", (run, DIM), ("@now", f"bold {TRAIN}"))
            if taken is None:
                return now + line(" current weights")
            step, age = taken
            past = formatting.age(age) if age >= 10 else f"{int(age)} s"
            return now + line(
                f" step {{}}, {f'{past} ago' if age >= 1 else 'just now'}", f"{step:,}"
            )
        mark = ("", DIM)
        if row.best or row.last:
            mark = (" @best", f"bold {VALIDATION}") if row.best else (" @last", f"bold {TRAIN}")
        words, _, last = f" {weights_words(row.path, row.step)}".rpartition(" ")
        found = line("{}{}{} {}", (run, DIM), mark, (words, DIM), last)
        loss = row.validation_loss
        return (
            found if loss is None else found + line(", val {}", formatting.figure(perplexity(loss)))
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
        row, shown, parts = self.row, self.rows[:2], []
        for one in shown:
            word = "best" if one.best else "last" if one.last else "step"
            colour = VALIDATION if one.best else TRAIN
            here = row is not None and one.path == row.path
            parts.append((f"{word} {one.step:,}", f"bold underline {colour}" if here else DIM))
        if row is not None and row not in shown:
            parts.append((weights_words(row.path, row.step), f"bold underline {TEXT}"))
        elif len(self.rows) > 2:
            parts.append(("older…", DIM))
        if self.living:
            parts.append(("now", f"bold underline {TRAIN}" if row is None else DIM))
        return line("checkpoint" + "  {}" * len(parts), *parts) if parts else Content("")
