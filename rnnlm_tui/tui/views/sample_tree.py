"""SampleTree: a prompt and everything sampled from it, as branches that can be walked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.metrics import CheckpointRow


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights that a text was sampled from."""

    run: str
    path: str
    """Absolute path of the checkpoint or snapshot directory."""
    step: int
    row: CheckpointRow | None = None
    """None for a snapshot of a running worker's weights."""

    @property
    def label(self) -> str:
        """`step 3,700`, `average-3700`, or `now, step 3,712`."""
        if self.row is None:
            return f"now, step {self.step:,}"
        return weights_words(self.row.path, self.step)


@dataclass(frozen=True, slots=True)
class Branch:
    """One text: the prompt and the tokens after it."""

    number: int
    """Its place in `SampleTree.branches`."""
    parent: int | None
    """The branch that it was continued or branched from; None: sampled from the prompt."""
    prompt: str
    text: str
    """Everything after the prompt."""
    ids: tuple[int, ...]
    """The tokens of `text`, those of a stop string included."""
    shared: int
    """How many of the first tokens it has from its parent."""
    settings: SamplingConfig
    weights: Weights
    state: str = ""
    """Path of the kept state that it started from; empty: the initial state."""
    meta: str = ""
    """`31 tokens · seed 1 · step 3,700`."""

    @property
    def whole(self) -> str:
        """Prompt and text."""
        return self.prompt + self.text


@dataclass(slots=True)
class SampleTree:
    """The branches of one prompt, and the current one. Undo goes to the parent, redo back."""

    branches: list[Branch] = field(default_factory=list)
    place: int | None = None
    """The current branch; None: only the prompt."""
    _undone: list[int] = field(default_factory=list)

    @property
    def current(self) -> Branch | None:
        """The current branch."""
        return None if self.place is None else self.branches[self.place]

    def add(self, branch: Branch) -> Branch:
        """Add a branch and make it the current one; its number is set here."""
        branch = replace(branch, number=len(self.branches))
        self.branches.append(branch)
        self.place = branch.number
        self._undone.clear()
        return branch

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

    def siblings(self) -> list[Branch]:
        """The branches with the current one's parent, itself included, oldest first."""
        current = self.current
        if current is None:
            return []
        return [one for one in self.branches if one.parent == current.parent]

    def move(self, by: int) -> bool:
        """Go to the next or previous sibling, around the end; False if there is no other."""
        among = self.siblings()
        if len(among) < 2:
            return False
        here = next(index for index, one in enumerate(among) if one.number == self.place)
        self.place = among[(here + by) % len(among)].number
        self._undone.clear()
        return True
