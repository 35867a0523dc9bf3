"""Draw samples, take the weights for them, keep states of the model, and score texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.errors import CheckpointError, InputError, RnnlmError, RunStateError, in_one_sentence
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.sampling import (
    MAX_PROMPT_CHARACTERS,
    Inspection,
    InspectRequest,
    KeepStateRequest,
    SampleDone,
    StateKept,
)
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.views.prompt import CheckpointChoice
from rnnlm_tui.tui.views.sample_tree import Drawing, Weights
from rnnlm_tui.tui.views.text_differences import TextScore
from rnnlm_tui.tui.views.versus import Side, SideBySide, SideText

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp


async def take_weights(run: RunDirectory, row: CheckpointRow | None) -> Weights:
    """Return a checkpoint's weights, or for None a fresh snapshot of the running worker's.

    Raises:
        RnnlmError: the worker has ended, or refuses.
    """
    if row is not None:
        return Weights(run.name, str(run.path / row.path), row.step, row)
    answer = await to_thread(lambda: client.control.send(run, "snapshot"))
    return Weights(run.name, str(run.path / answer.checkpoint), answer.step)


async def keep_state(context: RnnlmApp, name: str, position: int | None = None) -> StateKept:
    """Keep the state of the session's model after a token of its text, the last one by default.

    Raises:
        RnnlmError: the name is invalid or taken, there is no text, or the sampler refuses.
    """
    session = context.prompt_session
    text, weights = session.shown, session.shown.weights
    if not text.prompt and not text.ids:
        raise InputError("no text to keep the state after: type a prompt first")
    path = await to_thread(lambda: store.states.new_state_path(name))
    if not weights.path:
        if session.run is None or session.choice is None or not session.choice.possible:
            raise RunStateError("no model to keep a state of: open a run with a checkpoint")
        weights = await take_weights(session.run, None)
    text = replace(text, weights=weights, settings=session.settings)
    named = {"position": position, "name": name, "path": str(path), "run": weights.run}
    request = text.request(KeepStateRequest, **named)
    return await (await context.warm_sampler()).ask(request, StateKept)


async def draw(context: RnnlmApp, drawing: Drawing, run: RunDirectory) -> None:
    """Draw samples; an error is kept with them. Finished and stopped ones are kept in the file of
    samples.

    Args:
        run: the run whose worker is asked for current weights.
    """
    weights = drawing.wanted.weights
    try:
        if not weights.path:
            weights = await take_weights(run, None)
            drawing.use(weights)
        state = f"from state {Path(drawing.wanted.state).stem}" if drawing.wanted.state else ""
        named = f"{weights.run} " if context.prompt_session.several_runs else ""
        drawing.where = " · ".join(filter(None, (f"{named}{weights.label}", state)))
        sampler = await context.warm_sampler()
        # again, if it died: nothing is awaited between here and the request
        await sampler.start()
        if drawing.over:
            return
        drawing.asked = True
        async for answer in sampler.generate(drawing.request):
            drawing.take(answer)
    except (RnnlmError, OSError) as error:
        drawing.error = in_one_sentence(error)
    ends = [sample.done for sample in drawing.samples if sample.done and sample.done.tokens]
    if ends:  # beside: on a slow disk, the next text and key would wait
        context.run_beside(_keep(context, drawing, ends))


def stop_drawing(context: RnnlmApp, drawing: Drawing) -> None:
    """Stop a request: the texts so far come with its answer; one that wasn't sent is over."""
    drawing.over = not drawing.asked
    if drawing.asked and context.sampler is not None:
        context.run_beside(context.sampler.cancel(drawing.id))


async def _keep(context: RnnlmApp, drawing: Drawing, ends: Sequence[SampleDone]) -> None:
    weights, before = drawing.wanted.weights, drawing.wanted.text

    def write() -> None:
        from rnnlm_tui.store.kept_samples import KeptSample

        for done in ends:
            kept = KeptSample.of(
                drawing.request, done, run=weights.run, step=weights.step, before=before
            )
            store.kept_samples.all_samples().append(kept)

    async with context.prompt_session.keeping:
        await to_thread(write)


# scores of texts by the sides of Compare


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
