"""Sampled texts: what each is drawn with, and the tree of everything drawn from one prompt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.metrics import SEEDS, CheckpointRow
from rnnlm_tui.schema.sampling import SampleDone
from rnnlm_tui.store.paths import RunDirectory


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights that a text is sampled from."""

    run: str
    path: str
    """Absolute path of the checkpoint or snapshot directory; empty: the current weights, of which
    a snapshot is still to be taken."""
    step: int
    row: CheckpointRow | None = None
    """None for a running worker's weights."""

    @classmethod
    def of(cls, run: RunDirectory, row: CheckpointRow | None) -> Weights:
        """A checkpoint's weights; for None the current ones, before a snapshot of them is taken."""
        if row is None:
            return cls(run.name, "", 0)
        return cls(run.name, str(run.path / row.path), row.step, row)

    @property
    def label(self) -> str:
        """`step 3,700`, `average-3700`, or `now, step 3,712`."""
        if self.row is None:
            return f"now, step {self.step:,}"
        return weights_words(self.row.path, self.step)


def with_seed(settings: SamplingConfig, seed: int) -> SamplingConfig:
    """Return the settings with another seed; after the largest comes 0."""
    return settings.model_copy(update={"seed": seed % SEEDS})


@dataclass(slots=True)
class Sample:
    """A text: a prompt and the tokens after it, which are drawn or still to be drawn."""

    prompt: str
    settings: SamplingConfig
    weights: Weights
    ids: tuple[int, ...] = ()
    """The tokens of `text`, those of a stop string included; of a text that is still drawn, those
    that it continues."""
    text: str = ""
    """Everything after the prompt, as far as it is drawn."""
    state: str = ""
    """Path of the kept state that it starts from; empty: the initial state."""
    parent: int | None = None
    """The branch that it was continued or branched from; None: sampled from the prompt."""
    shared: int = 0
    """How many of the first tokens it has from its parent."""
    number: int = 0
    """Its place in `SampleTree.branches`."""
    meta: str = ""
    """`31 tokens · seed 1 · step 3,700`."""
    tokens: int = 0
    """How many tokens were drawn so far."""
    bits: float | None = None
    """Their mean surprise at temperature 1."""
    done: SampleDone | None = None
    """The sampler's last word on it."""
    request: str = ""
    """The id of the request that drew it, perhaps with others."""
    figures: Content = field(default_factory=lambda: Content(""))
    """The line of figures of that request."""

    @property
    def whole(self) -> str:
        """Prompt and text."""
        return self.prompt + self.text

    @property
    def seed(self) -> str:
        """`seed 7` or `greedy`."""
        return "greedy" if self.settings.is_greedy else f"seed {self.settings.seed}"

    def continued(self, settings: SamplingConfig, weights: Weights) -> Sample:
        """Plan more tokens after this text, with its seed: the text is then the same as in one go.

        Weights of another run read the text again, because it may have another vocabulary.
        """
        settings = with_seed(settings, self.settings.seed)
        if self.weights.run != weights.run:
            return Sample(self.whole, settings, weights, parent=self.number)
        return Sample(
            self.prompt,
            settings,
            weights,
            self.ids,
            self.text,
            self.state,
            parent=self.number,
            shared=len(self.ids),
        )


@dataclass(slots=True)
class SampleTree:
    """The branches of one prompt, and the current one. Undo goes to the parent, redo back."""

    branches: list[Sample] = field(default_factory=list)
    place: int | None = None
    """The current branch; None: only the prompt."""
    _undone: list[int] = field(default_factory=list)

    @property
    def current(self) -> Sample | None:
        """The current branch."""
        return None if self.place is None else self.branches[self.place]

    def add(self, branch: Sample) -> None:
        """Add a branch and make it the current one; its number is set here."""
        self.place = branch.number = len(self.branches)
        self.branches.append(branch)
        self._undone.clear()

    def again(self, settings: SamplingConfig, weights: Weights) -> Sample:
        """Plan to draw the current branch again, from where it left its parent."""
        branch = self.branches[self.place or 0]
        parent = None if branch.parent is None else self.branches[branch.parent]
        if parent is not None and branch.shared and branch.shared == len(parent.ids):
            return replace(parent.continued(settings, weights), settings=settings)
        return Sample(branch.prompt, settings, weights, state=branch.state, parent=branch.parent)

    def undo(self) -> bool:
        """Go to the parent, or from a first branch to the one made before; False if none."""
        current = self.current
        if current is None:
            return False
        target = current.parent
        if target is None:
            earlier = [one.number for one in self.siblings() if one.number < current.number]
            target = earlier[-1] if earlier else None
        if target is None:
            return False
        self._undone.append(current.number)
        self.place = target
        return True

    def redo(self) -> bool:
        """Take the last undo back; False if there is none."""
        if not self._undone:
            return False
        self.place = self._undone.pop()
        return True

    def siblings(self) -> list[Sample]:
        """The branches with the current one's parent, itself included, oldest first."""
        current = self.current
        if current is None:
            return []
        return [one for one in self.branches if one.parent == current.parent]

    def drawn_together(self) -> list[Sample]:
        """The branches drawn by one request with the current one, itself included."""
        current = self.current
        if current is None or not current.request:
            return [] if current is None else [current]
        return [one for one in self.branches if one.request == current.request]

    def move(self, by: int) -> bool:
        """Go to the next or previous sibling, around the end; False if there is no other."""
        among = self.siblings()
        if len(among) < 2:
            return False
        here = next(index for index, one in enumerate(among) if one.number == self.place)
        self.place = among[(here + by) % len(among)].number
        self._undone.clear()
        return True
