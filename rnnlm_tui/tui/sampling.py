"""SampleTask: one request to the sampler, from the choice of weights to its last sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rnnlm_tui import client, store
from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.errors import InputError, RnnlmError, RunStateError, in_one_sentence
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.sampling import (
    KeepStateRequest,
    SampleDone,
    SamplePiece,
    SampleRequest,
    StateKept,
)
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.views.prompt import SampleProgress
from rnnlm_tui.tui.views.sample_tree import Branch, SampleTree, Weights

if TYPE_CHECKING:
    from rnnlm_tui.store.kept_samples import KeptSample
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """What to sample: a text to continue, and how."""

    prompt: str
    settings: SamplingConfig
    ids: tuple[int, ...] = ()
    """Generated tokens after the prompt, to continue."""
    text: str = ""
    """The text of `ids`."""
    count: int = 1
    state: str = ""
    """Path of the kept state to start from; empty: the initial state."""
    parent: int | None = None
    """The branch of the tree that the samples belong below; None: they begin at the prompt."""

    def branch(self, done: SampleDone, weights: Weights, meta: str) -> Branch:
        """Return the branch of a finished sample; `SampleTree.add` sets its number."""
        seed = (self.settings.seed + done.sample) % 2**63
        return Branch(
            number=0,
            parent=self.parent,
            prompt=self.prompt,
            text=self.text + done.text,
            ids=(*self.ids, *done.ids),
            shared=len(self.ids),
            settings=self.settings.model_copy(update={"seed": seed}),
            weights=weights,
            state=self.state,
            meta=meta,
        )


def continuation(branch: Branch, settings: SamplingConfig, run: str) -> SamplePlan:
    """Plan more tokens after a branch, with its seed: the text is then the same as in one go.

    Args:
        run: the weights' run; another run than the branch's reads its text again, because it may
            have another vocabulary.
    """
    settings = settings.model_copy(update={"seed": branch.settings.seed})
    if branch.weights.run != run:
        return SamplePlan(branch.whole, settings, parent=branch.number)
    return SamplePlan(
        branch.prompt,
        settings,
        branch.ids,
        branch.text,
        state=branch.state,
        parent=branch.number,
    )


def sibling(
    tree: SampleTree, branch: Branch, settings: SamplingConfig, count: int, run: str
) -> SamplePlan:
    """Plan to draw a branch again, from where it left its parent; `count` if that is the prompt.

    Args:
        run: as for `continuation`.
    """
    parent = tree.branches[branch.parent] if branch.parent is not None else None
    shared = parent is not None and branch.shared == len(parent.ids)
    if shared and parent is not None and branch.weights.run != run:
        return SamplePlan(parent.whole, settings, parent=branch.parent)
    return SamplePlan(
        branch.prompt,
        settings,
        branch.ids[: branch.shared] if shared else (),
        parent.text if shared and parent is not None else "",
        count=count if parent is None else 1,
        state=branch.state,
        parent=branch.parent,
    )


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
    if not session.shown_prompt and not session.shown_ids:
        raise InputError("no text to keep the state after: type a prompt first")
    path = await to_thread(lambda: store.states.new_state_path(name))
    weights = session.tree.current.weights if session.tree.current is not None else session.weights
    if weights is None:
        if session.run is None or session.choice is None or not session.choice.possible:
            raise RunStateError("no model to keep a state of: open a run with a checkpoint")
        weights = await take_weights(session.run, None)
    request = KeepStateRequest(
        id=uuid4().hex,
        checkpoint=weights.path,
        prompt=session.shown_prompt,
        ids=session.shown_ids,
        state=session.shown_state,
        settings=session.settings,
        position=position,
        name=name,
        path=str(path),
        run=weights.run,
    )
    return await (await context.warm_sampler()).ask(request, StateKept)


class SampleTask:
    """A request that is running or has ended; finished and stopped samples are kept in the file of
    samples.

    Args:
        run, row: the weights, see `take_weights`.
        ended: called once, after the last sample, an error or `drop`.
        weights: weights that were taken before, instead of `row`.
    """

    def __init__(
        self,
        context: RnnlmApp,
        plan: SamplePlan,
        run: RunDirectory,
        row: CheckpointRow | None,
        ended: Callable[[SampleTask], None],
        *,
        weights: Weights | None = None,
    ) -> None:
        self.plan = plan
        self.weights = weights
        """What it samples from; None until that is known."""
        self.results: list[SampleDone] = []
        """Samples that have ended, in the order in which they did."""
        self.error = ""
        """Why the request failed, in one sentence."""
        self.progress = SampleProgress(
            plan.settings,
            where="now" if row is None else weights_words(row.path, row.step),
            count=plan.count,
            base_tokens=len(plan.ids),
        )
        self._context, self._run, self._row, self._ended = context, run, row, ended
        self._id = uuid4().hex
        self._asked = False
        """Whether the request was sent; before that nothing can be cancelled."""
        self._over = False

    @property
    def dropped(self) -> bool:
        """Whether it was stopped before it was sent."""
        return self._over and not self._asked and not self.error

    async def run(self) -> None:
        """Send the request and take its answers."""
        request: SampleRequest | None = None
        try:
            if self.weights is None:
                self.weights = await take_weights(self._run, self._row)
            state = f"from state {Path(self.plan.state).stem}" if self.plan.state else ""
            named = self._context.prompt_session.several_runs
            where = f"{self.weights.run} {self.weights.label}" if named else self.weights.label
            self.progress.where = " · ".join(filter(None, (where, state)))
            sampler = await self._context.warm_sampler()
            # again, if it died: nothing is awaited between here and the request
            await sampler.start()
            if self._over:
                return
            self._asked = True
            request = SampleRequest(
                id=self._id,
                checkpoint=self.weights.path,
                prompt=self.plan.prompt,
                ids=self.plan.ids,
                state=self.plan.state,
                settings=self.plan.settings,
                count=self.plan.count,
            )
            async for answer in sampler.generate(request):
                if isinstance(answer, SamplePiece):
                    self.progress.take(answer)
                else:
                    self.results.append(answer)
        except (RnnlmError, OSError) as error:
            self.error = in_one_sentence(error)
        if request is not None:
            self._keep(request)
        self._end()

    def branches(self, texts: Sequence[str]) -> list[Branch]:
        """Return the branches of all samples with a text.

        Args:
            texts: what each sample had so far. An error leaves those that haven't ended without
                their tokens: then the whole text counts as a prompt.
        """
        weights, results = self.weights, {done.sample: done for done in self.results}
        if weights is None:
            return []
        found = []
        for sample, text in enumerate(texts):
            done = results.get(sample)
            if done is not None and done.tokens:
                found.append(self.plan.branch(done, weights, self.progress.meta(done)))
            elif done is None and text:
                found.append(
                    Branch(
                        number=0,
                        parent=self.plan.parent,
                        prompt=self.plan.prompt + self.plan.text + text,
                        text="",
                        ids=(),
                        shared=0,
                        settings=self.plan.settings,
                        weights=weights,
                        state=self.plan.state,
                        meta=f"incomplete · {weights.label}",
                    )
                )
        return found

    async def stop(self) -> None:
        """Stop it: samples end as they are. One that wasn't sent yet is dropped."""
        if not self._asked:
            self._end()
        elif self._context.sampler is not None:
            await self._context.sampler.cancel(self._id)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._ended(self)

    def _keep(self, request: SampleRequest) -> None:
        """Keep the samples, in a thread."""
        from rnnlm_tui.store.kept_samples import KeptSample

        weights = self.weights
        if weights is None:
            return
        kept = [
            KeptSample.of(request, done, run=weights.run, step=weights.step, before=self.plan.text)
            for done in sorted(self.results, key=lambda done: done.sample)
            if done.tokens
        ]
        if kept:
            self._context.in_thread(partial(self._write, kept))

    def _write(self, kept: list[KeptSample]) -> None:
        for sample in kept:
            store.kept_samples.all_samples().append(sample)
