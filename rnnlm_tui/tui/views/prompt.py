"""PromptSession: what the modes of the prompt share, from the text to the choice of weights."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.palette import DIM, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.text import line, safe_text
from rnnlm_tui.tui.views.sample_tree import Sample, SampleTree, Weights

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
        in_order = sorted(checkpoints, key=lambda row: (not row.last, not row.best, -row.step))
        return cls(run, tuple(in_order), living, wanted)

    @property
    def row(self) -> CheckpointRow | None:
        """The chosen checkpoint, or the best if it is gone; None for current weights."""
        if self.wanted == NOW and self.living:
            return None
        newest = self.wanted == LAST
        chosen = [row for row in self.rows if row.path == self.wanted or (newest and row.last)]
        best = [row for row in self.rows if row.best]
        return next(iter((*chosen, *best, *self.rows)), None)

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

    def chosen(self, taken: tuple[int, float] | None = None) -> tuple[Content, Content, Content]:
        """Return the chosen weights in parts: `step `, `3,700` and `, val 58.1`.

        Args:
            taken: step and age in seconds of the last snapshot of current weights.
        """
        row, after = self.row, Content("")
        if row is None and taken is not None:
            step, age = taken
            past = formatting.age(age) if age >= 10 else f"{int(age)} s"
            after = line(f", {past} ago" if age >= 1 else ", just now")
            return line("step "), line("{}", f"{step:,}"), after
        if row is None:
            return line("current weights" if self.living else ""), after, after
        words, space, last = weights_words(row.path, row.step).rpartition(" ")
        if row.validation_loss is not None:
            after = line(", val {}", formatting.figure(perplexity(row.validation_loss)))
        return line(words + space), line("{}", last), after

    def legend(self, taken: tuple[int, float] | None = None) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`; see `chosen` for `taken`."""
        row, run = self.row, (safe_text(self.run, limit=30, newlines="show"), DIM)
        if row is None and not self.living:
            return line("{}", run)
        mark = " @now" if row is None else " @best" if row.best else " @last" if row.last else ""
        style = f"bold {VALIDATION if mark == ' @best' else TRAIN}"
        return line("{}{} {}{}{}", run, (mark, style), *self.chosen(taken))

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


LARGEST_RANDOM_SEED = 10**6
"""Random seeds are below it, short enough to be typed again."""
ALREADY_SAMPLING = "already sampling, {key:leave_field} stops it"
"""Said in every mode when another sample is requested meanwhile."""
NO_RUN = "no run open: {key:show_runs} lists the runs"


def draw_seed() -> int:
    """Return a random seed."""
    return secrets.randbelow(LARGEST_RANDOM_SEED)


@dataclass(slots=True)
class PromptSession:
    """The open text and what it is sampled with, kept as long as the app runs.

    The mode Sample writes it. A mode that branches from the text adds to `tree`, and the
    others show the tree's current branch when they are opened.
    """

    tree: SampleTree = field(default_factory=SampleTree)
    """The open text, with its branches; empty before the first sample."""
    prompt: str = ""
    """The text in the prompt's box."""
    settings: SamplingConfig = field(default_factory=SamplingConfig)
    """The newest valid settings; its seed is the next one, or the last one that was drawn."""
    random_seed: bool = False
    """Draw a new seed for every request."""
    changed: bool = False
    """Another mode has changed prompt or settings, and the mode Sample hasn't shown that yet."""
    samples: int = 1
    """Samples of one request."""
    run: RunDirectory | None = None
    """The run whose weights are chosen, the open one; None until `settings` are for it."""
    choice: CheckpointChoice | None = None
    """That run's weights, and the chosen ones; None until they are known."""
    state: str = ""
    """Path of the kept state to start from; empty: the initial state."""
    compared: tuple[Weights, ...] = ()
    """The checkpoints of the sides of Compare."""
    several_runs: bool = False
    """The open texts are of several runs, so each names its own."""
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a request's samples are written, so that they are kept in order."""
    _of: Path | None = None
    """The run that the open text belongs to."""

    def keep_only(self, run: Path | None) -> None:
        """Forget the open text and its weights, unless they are this run's."""
        if run != self._of:
            self._of, self.tree, self.state, self.compared = run, SampleTree(), "", ()
            self.run = self.choice = None
            self.several_runs = False

    def move_to(self, run: RunDirectory) -> None:
        """Keep text and settings for another run, whose weights continue the text."""
        self._of, self.compared, self.run, self.choice = run.path, (), run, None
        self.several_runs = True

    def open(self, branch: Sample) -> None:
        """Open a text that another mode has sampled, as a separate tree."""
        self.prompt, self.settings, self.changed = branch.prompt, branch.settings, True
        self.tree = SampleTree()
        self.tree.add(branch)

    @property
    def weights(self) -> Weights:
        """The chosen weights; without a place for current ones, or if there are none."""
        row = self.choice.row if self.choice is not None else None
        return Weights("", "", 0) if self.run is None else Weights.of(self.run, row)

    @property
    def shown(self) -> Sample:
        """The open text; before the first sample the prompt in the box."""
        return self.tree.current or self.wanted(self.prompt)

    def wanted(self, prompt: str) -> Sample:
        """Return a text that is still to be drawn."""
        return Sample(prompt, self.settings, self.weights, state=self.state)
