"""Sampled texts: what each is drawn with, and the tree of everything drawn from one prompt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel
from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted, escaped
from rnnlm_tui.schema.metrics import SEEDS, CheckpointRow
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.palette import BAD, DIM, GOOD, TEXT, TRAIN, WARN
from rnnlm_tui.tui.text import line, safe_text

RequestT = TypeVar("RequestT", bound=BaseModel)

WAKING_SECONDS = 0.5
"""A longer wait for the first token is explained."""
NARROW_CELLS = 74
"""Room for the status line at 80 columns."""
STOP_CELLS = 20
"""Most cells of a stop string."""
RATE_SECONDS = 0.2
"""Below this time, a speed is noise."""


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
    drawing: Drawing | None = field(default=None, compare=False, repr=False)
    """The request that drew it, perhaps with others."""

    @property
    def whole(self) -> str:
        """Prompt and text."""
        return self.prompt + self.text

    @property
    def seed(self) -> str:
        """`seed 7` or `greedy`."""
        return "greedy" if self.settings.is_greedy else f"seed {self.settings.seed}"

    def request(self, kind: type[RequestT], **more: object) -> RequestT:
        """Return a request about this text, with a new id unless it is given."""
        asked: dict[str, object] = {"id": uuid4().hex, "checkpoint": self.weights.path}
        asked |= {"prompt": self.prompt, "ids": self.ids, "state": self.state}
        return kind.model_validate({**asked, "settings": self.settings, **more})

    def continued(self, settings: SamplingConfig, weights: Weights) -> Sample:
        """Plan more tokens after this text, with its seed: the text is then the same as in one go.

        Weights of another run read the text again, because it may have another vocabulary.
        """
        settings = with_seed(settings, self.settings.seed)
        if self.weights.run != weights.run:
            return Sample(self.whole, settings, weights, parent=self.number)
        shared = len(self.ids)
        return replace(self, settings=settings, weights=weights, parent=self.number, shared=shared)


def with_seed(settings: SamplingConfig, seed: int) -> SamplingConfig:
    """Return the settings with another seed; after the largest comes 0."""
    return settings.model_copy(update={"seed": seed % SEEDS})


class Drawing:
    """Samples of one text that are drawn at once, and the line of their figures.

    Args:
        wanted: the text to continue; each sample has the next seed.
        length: how many tokens are drawn, if not as many as the settings say.
    """

    def __init__(self, wanted: Sample, count: int = 1, length: int | None = None) -> None:
        self.id = uuid4().hex
        self.wanted = wanted
        fresh = replace(wanted, meta="", tokens=0, bits=None, done=None, drawing=self)
        self.samples = [
            replace(fresh, settings=with_seed(wanted.settings, seed))
            for seed in range(wanted.settings.seed, wanted.settings.seed + count)
        ]
        self.where = ""
        """The weights: `step 3,700`, `now, step 3,712`."""
        self.error = ""
        """Why the request failed, in one sentence."""
        self.asked = self.over = False
        """Whether the request was sent, and whether it has ended."""
        self._length = wanted.settings.max_new_tokens if length is None else length
        self._started, self._first = monotonic(), 0.0
        """When it began, and when the first token came; 0: not yet."""

    @property
    def request(self) -> SampleRequest:
        """What the sampler is asked."""
        wanted = self.wanted
        settings = wanted.settings.model_copy(update={"max_new_tokens": self._length})
        return wanted.request(SampleRequest, id=self.id, settings=settings, count=len(self.samples))

    def use(self, weights: Weights) -> None:
        """Draw from these weights."""
        for sample in (self.wanted, *self.samples):
            sample.weights = weights

    def take(self, answer: SamplePiece | SampleDone) -> None:
        """Add new text, or take the end of a sample."""
        sample = self.samples[answer.sample]
        sample.tokens, sample.bits = answer.tokens, answer.bits_per_token
        if isinstance(answer, SamplePiece):
            self._first = self._first or monotonic()
            sample.text += answer.text
            return
        sample.done = answer
        sample.text, sample.ids = self.wanted.text + answer.text, sample.ids + answer.ids
        end = {"length": "", "cancelled": " · stopped", "stop": f" · {_stop(answer)}"}
        tokens = counted(len(self.wanted.ids) + answer.tokens, "token")
        if answer.tokens:
            sample.meta = f"{tokens} · {sample.seed} · {self.where}{end[answer.reason]}"

    def finished(self) -> list[Sample]:
        """Return the samples with a text.

        One that an error has left without its tokens counts as a prompt.
        """
        for sample in self.samples:
            if sample.done is None and sample.text != self.wanted.text:
                sample.prompt, sample.text, sample.ids, sample.shared = sample.whole, "", (), 0
                sample.meta = f"incomplete · {sample.weights.label}"
        return [sample for sample in self.samples if sample.meta]

    def status(self, cells: int = NARROW_CELLS) -> Content:
        """Return `● 42 of 100 tokens   2,110 tok/s   first token 38 ms   4.1 bits/token   seed 7`,
        with the parts that fit into `cells`.

        At the end it begins with `✓`, or `■` if it was stopped; after a stop string it is
        `✓ 42 tokens, stopped at "\\n"`.
        """
        if self.over and self.error:
            begun = any(sample.whole != self.wanted.whole for sample in self.samples)
            return Content.assemble(("✗ ", BAD), ("incomplete" if begun else "no text", DIM))
        if self.over and not self.asked:
            return Content.styled("■ stopped before the first token", DIM)
        if not self.over and not self._first:
            waiting = monotonic() - self._started > WAKING_SECONDS
            return Content.assemble(("● ", TRAIN), ("loading the model …" if waiting else "…", DIM))
        parts = self._parts()
        for name in ("seed", "first token", "rate", "bits"):
            if sum(part.cell_length + 3 for part in parts.values()) - 3 > cells:
                parts.pop(name, None)
        return Content("   ").join(parts.values())

    def _parts(self) -> dict[str, Content]:
        """Return the figures that are known."""
        count, tokens = len(self.samples), sum(sample.tokens for sample in self.samples)
        words = f" of {counted(self._length * count, 'token')}"
        unknown: tuple[str, ...] = ()
        if self.over:
            ends = [sample.done for sample in self.samples if sample.done is not None]
            last = max(ends, key=lambda done: done.seconds)
            stopped = any(done.reason == "cancelled" for done in ends)
            sign = ("■ ", DIM) if stopped else ("✓ ", GOOD)
            if stopped:
                words += ", stopped"
            elif last.reason == "stop" and count == 1:
                words = f" {counted(tokens, 'token').partition(' ')[2]}, {_stop(last)}"
            # the first token includes loading the model and reading the prompt
            first, drawn, unknown = last.first_token_seconds, tokens - count, last.unknown
            seconds = last.seconds - first
            rate = formatting.count(drawn / seconds if drawn > 0 and seconds > 0 else None)
        else:
            sign, first = ("● ", TRAIN), self._first - self._started
            seconds = monotonic() - self._first
            rate = formatting.count(tokens / seconds) if seconds > RATE_SECONDS else ""
        samples = line("{} samples   ", count) if count > 1 else ""
        parts = {"tokens": Content.assemble(sign, samples, (f"{tokens:,}", TEXT), (words, DIM))}
        if unknown:  # more important than the speed
            named = safe_text(", ".join(unknown), newlines="show", limit=30)
            before = Content.styled("no token for ", WARN)
            parts["unknown"] = line("{}{}, read as <unk>", before, named)
        else:
            if rate:
                parts["rate"] = line("{} tok/s", rate)
            parts["first token"] = line("first token {} ms", f"{first * 1000:,.0f}")
        known = [(one.tokens, one.bits) for one in self.samples if one.bits is not None]
        if read := sum(tokens for tokens, _ in known):
            mean = sum(tokens * bits for tokens, bits in known if tokens) / read
            parts["bits"] = line("{} bits/token", f"{mean:.1f}")
        settings, last_seed = self.wanted.settings, self.samples[-1].settings.seed
        if settings.is_greedy:
            parts["seed"] = line("greedy")
        elif count > 1:
            parts["seed"] = line("seeds {}", f"{settings.seed}–{last_seed}")
        else:
            parts["seed"] = line("seed {}", last_seed)
        return parts


def _stop(done: SampleDone) -> str:
    return f'stopped at "{safe_text(escaped(done.stop), limit=STOP_CELLS)}"'


@dataclass(slots=True)
class SampleTree:
    """The branches of one prompt, and the current one. Undo goes to the parent, redo back."""

    prompt: str = ""
    """As it was sent first; branches may have edited it."""
    branches: list[Sample] = field(default_factory=list)
    place: int | None = None
    """The current branch; None: only the prompt."""
    drawing: Drawing | None = None
    """The request whose figures are shown: the one that runs or has failed, else the current
    branch's."""
    _undone: list[int] = field(default_factory=list)

    @property
    def current(self) -> Sample | None:
        """The current branch."""
        return None if self.place is None else self.branches[self.place]

    @property
    def live(self) -> list[Sample]:
        """The samples in progress."""
        return [] if self.drawing is None or self.drawing.over else self.drawing.samples

    @property
    def together(self) -> list[Sample]:
        """The samples in progress, else the branches drawn by one request with the current one."""
        current = self.current
        if self.live or current is None:
            return self.live
        if current.drawing is None:
            return [current]
        return [one for one in self.branches if one.drawing is current.drawing]

    @property
    def whole(self) -> str:
        """The newest text, or without one the prompt."""
        shown = self.live[0] if self.live else self.current
        return self.prompt if shown is None else shown.whole

    def add(self, branch: Sample) -> None:
        """Add a branch and make it the current one; its number is set here."""
        branch.number = len(self.branches)
        self.branches.append(branch)
        self._undone.clear()
        self._go(branch.number)

    def end(self, drawing: Drawing) -> None:
        """Add the samples of a request; the first one becomes the current branch."""
        found = drawing.finished()
        for branch in found:
            self.add(branch)
        if found:
            self._go(found[0].number)

    def _go(self, place: int) -> bool:
        self.place, self.drawing = place, self.branches[place].drawing
        return True

    def again(self, settings: SamplingConfig, weights: Weights) -> Sample:
        """Plan to draw the current branch again, from where it left its parent."""
        branch = self.branches[self.place or 0]
        parent = None if branch.parent is None else self.branches[branch.parent]
        if parent is not None and branch.shared and branch.shared == len(parent.ids):
            return replace(parent.continued(settings, weights), settings=settings)
        return Sample(branch.prompt, settings, weights, state=branch.state, parent=branch.parent)

    def undo(self) -> bool:
        """Go to the parent, or from a first branch to the one made before; False if none."""
        if (current := self.current) is None:
            return False
        earlier = [one.number for one in self.siblings() if one.number < current.number]
        target = earlier[-1] if earlier and current.parent is None else current.parent
        if target is None:
            return False
        self._undone.append(current.number)
        return self._go(target)

    def redo(self) -> bool:
        """Take the last undo back; False if there is none."""
        return bool(self._undone) and self._go(self._undone.pop())

    def siblings(self) -> list[Sample]:
        """The branches with the current one's parent, itself included, oldest first."""
        current = self.current
        return [one for one in self.branches if current and one.parent == current.parent]

    def move(self, by: int) -> bool:
        """Go to the next or previous sibling, around the end; False if there is no other."""
        among = [one.number for one in self.siblings()]
        if len(among) < 2 or self.place is None:
            return False
        self._undone.clear()
        return self._go(among[(among.index(self.place) + by) % len(among)])
