"""SamplingScreen: samples that stream into a transcript, one at a time."""

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

UPDATE_SECONDS = 0.1
"""Seconds between updates of the text: ten a second read as a stream."""


ALREADY_SAMPLING = "already sampling, esc stops it"
"""Shown when another sample is requested meanwhile."""


class SamplingScreen(PaneScreen):
    """Requests samples from the app's sampler and shows them in its transcript."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: SampleProgress | None = None
        """The running sample."""
        self._ticker: Timer | None = None

    @property
    def transcript(self) -> Transcript:
        """The transcript."""
        return self.query_one(Transcript)

    @property
    def sampling(self) -> bool:
        """Whether a sample is running."""
        return self._progress is not None

    def begin(self, prompt: str, settings: SamplingConfig, row: CheckpointRow | None) -> None:
        """Sample from a checkpoint, or from the current weights (None)."""
        progress = SampleProgress(uuid4().hex, settings, where="now" if row is None else f"step {row.step:,}")
        self._progress = progress
        self.transcript.begin(prompt)
        self._ticker = self.set_interval(UPDATE_SECONDS, self._update_text)
        self._update_text()
        self.refresh_footer()
        self.run_worker(self._sample(progress, prompt, settings, row), group="sample")

    async def _sample(self, progress: SampleProgress, prompt: str, settings: SamplingConfig, row: CheckpointRow | None) -> None:
        """Request a sample and take its pieces; a sample whose run was left continues unseen."""
        try:
            checkpoint = await self._checkpoint(row)
            sampler = await self.context.warm_sampler()
            await sampler.start()  # again, if it died: nothing is awaited between here and the request
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
        """Return the directory to sample from.

        For the current weights the worker writes a snapshot first.
        """
        run = self.context.run_directory
        if run is None:
            raise RunStateError("no run open")
        if row is not None:
            return run.path / row.path
        result = await to_thread(self.context.services.send, run, "snapshot")
        return run.path / result.checkpoint

    def _update_text(self) -> None:
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
        self._end_sample()

    def _fail(self, error: str) -> None:
        self._update_text()
        self.transcript.end("failed", error=error)
        self.transcript.show_status(Content.assemble(("✗ ", BAD), ("no text", DIM)))
        self._end_sample()

    def _end_sample(self) -> None:
        """Reset after the end of a sample."""
        self._progress = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self.end_notice(ALREADY_SAMPLING)
        self.refresh_footer()

    def stop(self) -> None:
        """Stop the sample; its text so far comes with the answer.

        A sample that wasn't requested yet is dropped.
        """
        progress = self._progress
        if progress is None:
            return
        if progress.asked:
            self.run_worker(self._cancel(progress), group="cancel")
        else:
            self.transcript.end("stopped", meta=f"{progress.where} · stopped")
            self.transcript.show_status(progress.given_up())
            self._end_sample()

    def abandon(self) -> None:
        """Stop the sample, and show nothing more of it."""
        if self._progress is not None:
            self.stop()
            self._end_sample()

    async def _cancel(self, progress: SampleProgress) -> None:
        if self.context.sampler is not None:
            await self.context.sampler.cancel(progress.request_id)
