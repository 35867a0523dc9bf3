"""Draw samples, take the weights for them, and keep states of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.errors import InputError, RnnlmError, RunStateError, in_one_sentence
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.sampling import KeepStateRequest, SampleDone, StateKept
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.views.sample_tree import Drawing, Weights

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
