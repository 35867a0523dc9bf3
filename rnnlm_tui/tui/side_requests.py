"""SideRequests: what the side-by-side pane asks of the sampler, one request after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING
from uuid import uuid4

from rnnlm_tui import client, store
from rnnlm_tui.errors import CheckpointError, InputError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.sampling import (
    MAX_PROMPT_CHARACTERS,
    Inspection,
    InspectRequest,
    SampleDone,
)
from rnnlm_tui.tui.sampling import draw, stop_drawing, take_weights
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.views.prompt import CheckpointChoice
from rnnlm_tui.tui.views.sample_grid import Grid
from rnnlm_tui.tui.views.sample_tree import Weights
from rnnlm_tui.tui.views.text_differences import TextScore
from rnnlm_tui.tui.views.versus import SampleRound, Side, SideBySide, SideText

if TYPE_CHECKING:
    from rnnlm_tui.tui.screens.pane import PaneScreen

TOKENIZER_FILE = "tokenizer.json"
MOST_KEPT_SCORES = 64
"""Scored texts that aren't scored again."""


class SideRequests:
    """Samples and scores texts; errors are kept with the text that they concern."""

    def __init__(self, screen: PaneScreen) -> None:
        self._screen = screen
        self._drawing: SideText | None = None
        """The text that is being sampled."""
        self.stopping = False
        """Whether the requests that have not begun are dropped."""
        self._kept_scores: dict[tuple[str, str, tuple[int, ...], str], Inspection] = {}

    def stop(self) -> None:
        """Stop the running request and drop those that have not begun."""
        self.stopping = True
        if self._drawing is not None:
            stop_drawing(self._screen.context, self._drawing)

    async def weights(self, side: Side) -> Weights:
        """Return the weights that a side samples from; of current weights, a fresh snapshot.

        Raises:
            RnnlmError: there are none, or the worker has ended.
        """
        if side.problem:
            raise CheckpointError(self._screen.context.with_keys(side.problem))
        weights = await take_weights(side.run, side.row)
        if weights.row is None:
            side.snapshot = (weights.step, time())
        return weights

    async def fill(self, text: SideText, side: Side, weights: Weights | None = None) -> None:
        """Sample a text of a side; an error is kept with it.

        Args:
            weights: those that the side has had for another text.
        """
        self._drawing = text
        try:
            text.use(weights or await self.weights(side))
        except (RnnlmError, OSError) as error:
            text.error = in_one_sentence(error)
        else:
            await draw(self._screen.context, text, side.run)
        text.over, self._drawing = True, None

    async def sample_round(
        self, found: SideBySide, asked: SampleRound, changed: Callable[[], None]
    ) -> SampleDone | None:
        """Sample from one side after the other; return the end of the first text."""
        sides = list(found.sides)
        await self.read_other_runs(sides)
        texts = [side.texts[asked.number] for side in sides]
        for side, text in zip(sides, texts, strict=True):
            if self.stopping:
                text.over = True
                continue
            await self.fill(text, side)
            changed()
        for side, text in zip(sides, texts, strict=True):
            if text.asked and not side.tokenizer:
                side.tokenizer = await self.tokenizer(text.wanted.weights)
        return next((text.done for text in texts if text.done is not None), None)

    async def score_round(
        self, found: SideBySide, asked: SampleRound, changed: Callable[[], None]
    ) -> None:
        """Score each side's text by all sides, its own first."""
        places = range(len(found.sides))
        for owner in places:
            for scorer in sorted(places, key=lambda place: place != owner):
                if not self.stopping:
                    await self.score(found, asked, owner, scorer)
                    changed()

    async def sample_grid(self, grid: Grid, changed: Callable[[], None]) -> None:
        """Sample all cells, row by row; a row has the same weights."""
        await self.read_other_runs(grid.sides)
        for side, cells in zip(grid.sides, grid.cells, strict=True):
            weights: Weights | None = None
            for cell in cells:
                if self.stopping:
                    cell.over = True
                else:
                    await self.fill(cell, side, weights)
                    weights = cell.wanted.weights if cell.asked else None
                changed()

    async def read_other_runs(self, sides: Sequence[Side]) -> None:
        """Read the checkpoints of sides that aren't from the open run: they may have changed."""
        for side in sides:
            if side.run.path == self._screen.run_path:
                continue
            side.unreadable = ""
            try:
                rows = await to_thread(lambda run: client.checkpoints.rows_on_disk(run), side.run)
            except (RnnlmError, OSError) as error:
                side.unreadable = in_one_sentence(error)
            else:
                side.choice = CheckpointChoice.of(
                    side.run.name, rows, side.choice.wanted, living=side.choice.living
                )

    async def tokenizer(self, weights: Weights) -> str:
        """Return the hash of the checkpoint's tokenizer; empty if it can't be read."""
        try:
            manifest = await to_thread(lambda: store.manifest.read_manifest(Path(weights.path)))
        except (RnnlmError, OSError):
            return ""
        file = manifest.files.get(TOKENIZER_FILE)
        return file.sha256 if file is not None else ""

    # scores

    async def inspect(
        self, weights: Weights, prompt: str, ids: tuple[int, ...], start: str
    ) -> Inspection:
        """Score a text after a kept state, or return what is known from before.

        Raises:
            RnnlmError: the text is too long, or the sampler refused it.
        """
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"the text has {counted(len(prompt), 'character')}, at most"
                f" {MAX_PROMPT_CHARACTERS:,} can be scored"
            )
        key = (weights.path, prompt, ids, start)
        if key not in self._kept_scores:
            sampler = await self._screen.context.warm_sampler()
            await sampler.start()
            request = InspectRequest(
                id=uuid4().hex, checkpoint=weights.path, prompt=prompt, ids=ids, state=start
            )
            self._kept_scores[key] = await sampler.ask(request, Inspection)
            while len(self._kept_scores) > MOST_KEPT_SCORES:
                del self._kept_scores[next(iter(self._kept_scores))]
        return self._kept_scores[key]

    async def inspect_text(self, weights: Weights, text: SideText, *, same: bool) -> Inspection:
        """Score a side's text after its prompt; of one that isn't sampled, the prompt.

        Args:
            same: the weights read the text in the side's tokens; else it is sent as a text.

        Raises:
            RnnlmError: as for `inspect`.
        """
        prompt, ids = text.wanted.prompt, text.samples[0].ids
        if text.done is not None and not same:
            prompt, ids = "".join(text.split()), ()
        return await self.inspect(weights, prompt, ids, text.wanted.state)

    async def score(self, found: SideBySide, asked: SampleRound, owner: int, scorer: int) -> None:
        """Score the text of one side by another; why that failed is kept."""
        text, other = (found.text(place, asked) for place in (owner, scorer))
        if text is None or text.done is None or not text.done.tokens:
            return
        if other is None or not other.asked or other.error:
            return
        same = found.sides[owner].tokenizer == found.sides[scorer].tokenizer
        try:
            inspection = await self.inspect_text(other.wanted.weights, text, same=same)
        except (RnnlmError, OSError) as error:
            text.refused[scorer] = in_one_sentence(error)
        else:
            if inspection.unknown and not same:
                # an unknown token hides how many bytes it replaces
                text.refused[scorer] = f"no token for {', '.join(inspection.unknown)}"
            else:
                text.scores[scorer] = TextScore.of(inspection, text.split()[0], whole=not same)

    async def score_pair(
        self, found: SideBySide, scored: SideText
    ) -> tuple[Inspection, Inspection]:
        """Score one text by the two sides of the pair: the chosen side's newest, or a prompt.

        Raises:
            RnnlmError: a side has no weights, or can't read the text.
        """
        sides = [found.sides[place] for place in found.pair]
        weights = []
        for place, side in zip(found.pair, sides, strict=True):
            text = found.text(place)
            known = text.wanted.weights if text is not None and text.asked else None
            weights.append(known or await self.weights(side))
            side.tokenizer = side.tokenizer or await self.tokenizer(weights[-1])
        # another tokenizer reads the text, which lacks a stop string that ended it
        stopped = scored.done is not None and bool(scored.done.stop)
        own = found.sides[found.chosen].tokenizer
        same = sides[0].tokenizer == sides[1].tokenizer
        a, b = [
            await self.inspect_text(
                one, scored, same=same or (side.tokenizer == own and not stopped)
            )
            for side, one in zip(sides, weights, strict=True)
        ]
        return a, b
