"""A screen with a transcript that samples run into: one at a time, ten looks a second, stopped by its id."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from textual.content import Content
from textual.timer import Timer

from rnnlm_tui.contract.config import SamplingConfig
from rnnlm_tui.contract.metrics import CheckpointRow
from rnnlm_tui.contract.requests import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.errors import RnnlmError, RunStateError
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.sizes import WIDE_FROM
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.widgets.palette import BAD, DIM
from rnnlm_tui.tui.widgets.sample_progress import SampleProgress
from rnnlm_tui.tui.widgets.transcript import Transcript

LOOK_SECONDS = 0.1
"""Between two looks at what was drawn since: ten a second read as a stream."""


SAMPLE_RUNS = "a sample runs, esc stops it"
"""Said to whoever wants another one meanwhile."""


class SamplingScreen(PaneScreen):
    """Asks the app's sampler and shows what comes in its transcript."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: SampleProgress | None = None
        """The sample that runs."""
        self._ticker: Timer | None = None

    @property
    def transcript(self) -> Transcript:
        """The conversation."""
        return self.query_one(Transcript)

    @property
    def sampling(self) -> bool:
        """Whether a sample runs."""
        return self._progress is not None

    def begin(self, prompt: str, settings: SamplingConfig, row: CheckpointRow | None) -> None:
        """Sample from a checkpoint, or (None) from the weights of this moment."""
        progress = SampleProgress(uuid4().hex, settings, where="now" if row is None else f"step {row.step:,}")
        self._progress = progress
        self.transcript.begin(prompt)
        self._ticker = self.set_interval(LOOK_SECONDS, self._look)
        self._look()
        self.refresh_footer()
        self.run_worker(self._sample(progress, prompt, settings, row), group="sample")

    async def _sample(self, progress: SampleProgress, prompt: str, settings: SamplingConfig, row: CheckpointRow | None) -> None:
        """Ask the sampler and take what comes; a sample whose run was left meanwhile is drawn to its end unseen."""
        try:
            checkpoint = await self._checkpoint(row)
            sampler = await self.context.warm_sampler()
            await sampler.start()  # again, where it died since: from here to the request nothing is waited for
            if self._progress is not progress:
                return
            progress.asked = True
            request = SampleRequest(id=progress.request_id, checkpoint=str(checkpoint), prompt=prompt, settings=settings)
            async for answer in sampler.generate(request):
                if self._progress is not progress:
                    continue
                if isinstance(answer, SamplePiece):
                    progress.take(answer)
                else:
                    self._finish(progress, answer)
        except (RnnlmError, OSError) as error:
            if self._progress is progress:
                self._fail(". ".join(part for part in (error.message, error.hint) if part) if isinstance(error, RnnlmError) else str(error))

    async def _checkpoint(self, row: CheckpointRow | None) -> Path:
        """The directory to sample from; for the weights of this moment the worker writes a snapshot first."""
        run = self.context.run_directory
        if run is None:
            raise RunStateError("no run is open")
        if row is not None:
            return run.path / row.path
        result = await to_thread(self.context.services.send, run, "snapshot")
        return run.path / result.checkpoint

    def _look(self) -> None:
        if self._progress is not None:
            self.transcript.extend(self._progress.drain())
            self.transcript.show_status(self._progress.living())

    def _finish(self, progress: SampleProgress, done: SampleDone) -> None:
        self.transcript.extend(progress.drain())
        entry = self.transcript.newest
        if entry is not None and done.text.startswith(entry.text):
            self.transcript.extend(done.text[len(entry.text) :])
        self.transcript.end("stopped" if done.reason == "cancelled" else "done", meta=progress.meta(done))
        self.transcript.show_status(progress.ended(done, wide=self.size.width >= WIDE_FROM, cells=self.transcript.size.width - 4))
        self._rest()

    def _fail(self, error: str) -> None:
        self._look()
        self.transcript.end("failed", error=error)
        self.transcript.show_status(Content.assemble(("✗ ", BAD), ("no text came", DIM)))
        self._rest()

    def _rest(self) -> None:
        """No sample runs any more."""
        self._progress = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self.end_notice(SAMPLE_RUNS)
        self.refresh_footer()

    def stop(self) -> None:
        """Ask the sampler to stop; what was drawn so far comes with its answer. A sampler that was not asked yet never is."""
        progress = self._progress
        if progress is None:
            return
        if progress.asked:
            self.run_worker(self._cancel(progress), group="cancel")
        else:
            self.transcript.end("stopped", meta=f"{progress.where} · stopped")
            self.transcript.show_status(progress.given_up())
            self._rest()

    def abandon(self) -> None:
        """Stop, and show nothing more of it."""
        if self._progress is not None:
            self.stop()
            self._rest()

    async def _cancel(self, progress: SampleProgress) -> None:
        if self.context.sampler is not None:
            await self.context.sampler.cancel(progress.request_id)
