"""PromptSession: what the modes of the prompt share, from the text to the weights."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.views.prompt import CheckpointChoice
from rnnlm_tui.tui.views.sample_tree import Sample, SampleTree, Weights

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
