"""What Compare reads and asks about its sides: their checkpoints and tokenizers, and scores."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.errors import CheckpointError, InputError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS, Inspection, InspectRequest
from rnnlm_tui.tui.sampling import take_weights
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.views.prompt import CheckpointChoice
from rnnlm_tui.tui.views.sample_tree import Weights
from rnnlm_tui.tui.views.text_differences import TextScore
from rnnlm_tui.tui.views.versus import Side, SideBySide, SideText

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

TOKENIZER_FILE = "tokenizer.json"
MOST_KEPT_SCORES = 64
"""Scored texts that aren't scored again."""


async def read_other_runs(sides: Iterable[Side], open_run: Path | None) -> None:
    """Read the checkpoints of sides that aren't from the open run: they may have changed."""
    for side in sides:
        if side.run.path != open_run:
            try:
                rows = await to_thread(lambda run: client.checkpoints.rows_on_disk(run), side.run)
            except (RnnlmError, OSError) as error:
                side.unreadable = in_one_sentence(error)
            else:
                old, side.unreadable = side.choice, ""
                side.choice = CheckpointChoice.of(old.run, rows, old.wanted, living=old.living)


async def read_tokenizer(side: Side, weights: Weights) -> None:
    """Read the hash of a side's tokenizer from its weights; it stays empty if it can't be read."""
    if not side.tokenizer:
        with suppress(RnnlmError, OSError, KeyError):
            manifest = await to_thread(lambda: store.manifest.read_manifest(Path(weights.path)))
            side.tokenizer = manifest.files[TOKENIZER_FILE].sha256


class SideScores:
    """Scores texts by the weights of sides."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, tuple[int, ...], str], Inspection] = {}

    async def inspect(
        self, context: RnnlmApp, weights: Weights, text: SideText, *, same: bool
    ) -> Inspection:
        """Score a side's text after its prompt; of one that isn't sampled, the prompt.

        Args:
            same: the weights read the text in the side's tokens; else it is sent as a text.

        Raises:
            RnnlmError: the text is too long, or the sampler refused it.
        """
        prompt, ids = text.wanted.prompt, text.samples[0].ids
        if text.done is not None and not same:
            prompt, ids = "".join(text.split()), ()
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"the text has {counted(len(prompt), 'character')}, at most"
                f" {MAX_PROMPT_CHARACTERS:,} can be scored"
            )
        key = (weights.path, prompt, ids, text.wanted.state)
        if key not in self._known:
            sampler = await context.warm_sampler()
            await sampler.start()
            sample = replace(text.wanted, weights=weights, prompt=prompt, ids=ids)
            request = sample.request(InspectRequest)
            self._known[key] = await sampler.ask(request, Inspection)
            while len(self._known) > MOST_KEPT_SCORES:
                del self._known[next(iter(self._known))]
        return self._known[key]

    async def score(self, context: RnnlmApp, text: SideText, by: SideText) -> None:
        """Score a text by the weights of another one; why that failed is kept."""
        if text.done is None or not text.done.tokens or not by.asked or by.error:
            return
        same = text.side.tokenizer == by.side.tokenizer
        try:
            inspection = await self.inspect(context, by.wanted.weights, text, same=same)
            if inspection.unknown and not same:  # it hides how many bytes it replaces
                raise InputError(f"no token for {', '.join(inspection.unknown)}")
            text.scores[by.side] = TextScore.of(inspection, text.split()[0], whole=not same)
        except (RnnlmError, OSError) as error:
            text.refused[by.side] = in_one_sentence(error)

    async def score_pair(
        self, context: RnnlmApp, found: SideBySide, scored: SideText
    ) -> tuple[Inspection, Inspection]:
        """Score one text by the two sides of the pair: the chosen side's newest, or a prompt.

        Raises:
            RnnlmError: a side has no weights, or can't read the text.
        """
        pair = []
        for place in found.pair:
            side, text = found.sides[place], found.text(place)
            if text is not None and text.asked:
                weights = text.wanted.weights
            elif side.problem:
                raise CheckpointError(context.with_keys(side.problem))
            else:
                weights = await take_weights(side.run, side.row)
            await read_tokenizer(side, weights)
            pair.append((side.tokenizer, weights))
        # another tokenizer reads the text, which lacks a stop string that ended it
        stopped = scored.done is not None and bool(scored.done.stop)
        own = {None if stopped else found.side.tokenizer}
        if pair[0][0] == pair[1][0]:
            own.add(pair[0][0])
        a, b = [
            await self.inspect(context, weights, scored, same=tokenizer in own)
            for tokenizer, weights in pair
        ]
        return a, b
