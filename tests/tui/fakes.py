"""The fake sampler, and figures and snapshots of a demo run for tests of views."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel

from rnnlm_tui.client.estimate import Estimate, TrainingText
from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.client.sampler import AnswerT
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import config_flops_per_token, parameter_count
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.metrics import METRIC_COLUMNS, GpuRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.sampling import (
    SampleDone,
    SamplePiece,
    SampleRequest,
    SamplerRequest,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
)
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import (
    BaselineFigures,
    PreparingFigures,
    RunSummary,
    TrainFigures,
)
from rnnlm_tui.store.series import Band, SeriesTable
from tests.fakes import answers as plausible
from tests.tui.demo_run import (
    CARD,
    EPOCHS,
    MOST,
    NOW,
    SECONDS_A_STEP,
    demo_run,
    readings,
    seen,
    train_loss,
)

START = NOW - 99


@cache
def recorded(step: int, gpu: bool, config: RunConfig, lower: float = 0.0) -> RunSnapshot:
    """A demo run at that step, written and read outside the data home: there, an app that runs
    meanwhile would list it."""
    hardware = readings(card=CARD if gpu else GpuRow())
    with TemporaryDirectory() as runs:
        return seen(
            demo_run(step=step, config=config, hardware=hardware, lower=lower, runs=Path(runs))
        )


def make_series(steps: int, width: int = 4) -> SeriesTable:
    """Smooth curves of this many steps."""

    def column(of: Callable[[float], float]) -> array[float]:
        return array("d", map(of, range(width, steps + 1, width)))

    loss, active = column(train_loss), column(lambda at: SECONDS_A_STEP * at)
    return SeriesTable(
        width,
        column(float),
        column(lambda at: 700.0 * at),
        column(lambda at: at * EPOCHS / MOST),
        active,
        array("d", (START + seconds for seconds in active)),
        column(lambda _: 0.0),
        dict.fromkeys(METRIC_COLUMNS, Band(loss, loss, loss)),
    )


def make_summary(
    name: str = "plain-otter",
    status: RunStatus = "running",
    step: int = 3_751,
    base: RunSummary | None = None,
    **changes: object,
) -> RunSummary:
    """The figures of a demo run, or of this one; everything can be changed."""
    train = TrainFigures(loss=3.93, perplexity=50.9, grad_norm=0.41, learning_rate=8.1e-4)
    known: dict[str, object] = {
        "run": name,
        "status": status,
        "attempt": 1,
        "created": None,
        "baseline": BaselineFigures(perplexity=74.1, validation_perplexity=73.0),
        "train": train if step else TrainFigures(),
        "tokens_per_second": {"running": 27_600.0, "stalled": 0.0}.get(status),
        "eta_seconds": (MOST - step) * 0.0239 if status == "running" else None,
        **changes,
    }
    if "validation" in changes:
        known.setdefault("evaluation", changes["validation"])
    return (base or recorded(step, True, DEMO).summary).model_copy(update=known)


def make_snapshot(
    status: RunStatus = "running",
    step: int = 3_751,
    *,
    name: str = "plain-otter",
    gpu: bool = True,
    config: RunConfig = DEMO,
    lower: float = 0.0,
    **changes: object,
) -> RunSnapshot:
    """A demo run at that step with the figures of `make_summary`, and losses so much lower."""
    found = recorded(step, gpu, config, lower)
    return found._replace(
        summary=make_summary(name, status, step, found.summary, **changes),
        log_tail=("evaluation at 3,751",),
        eta_margin=3.0 if status == "running" else None,
    )


def preparing(step: int = 0) -> RunSnapshot:
    """A run that builds its corpus."""
    return make_snapshot(
        "preparing",
        step,
        preparing=PreparingFigures(phase="encoding", done=900_000, total=1_880_000),
        train=TrainFigures(),
        eta_seconds=None,
    )


def make_estimate(config: RunConfig) -> Estimate:
    """The figures of a config on a corpus of 380,320 tokens, timed by an earlier run."""
    vocabulary = config.tokenizer.vocab_size
    count = parameter_count(config.model, vocabulary)
    return Estimate(
        text=TrainingText("unknown", None, None, 380_320, vocabulary, vocab_exact=True),
        parameters=count,
        steps_per_epoch=594,
        steps=MOST - 2,
        memory=memory_parts(config, vocabulary),
        memory_bytes=600 * 2**20,
        memory_measured=False,
        memory_free=None,
        largest_fitting_batch=None,
        checkpoint_bytes=6_500_000,
        checkpoints=6,
        disk_bytes=39_000_000,
        seconds=125.0,
        calibrated_by="run",
        calibrated_run="plain-otter",
        baseline_perplexity=73.0,
        step_flops=640 * config_flops_per_token(config, vocabulary),
        tokens_seen=640.0 * (MOST - 2),
    )


@dataclass
class FakeSampler:
    """Streams a fixed text in pieces, once `gate` is set, and answers all other requests at once
    as `tests.fakes.answers` does."""

    words: Sequence[str] = (" is", " strong", ".")
    """The tokens of the first sample of a request; further ones are these turned around."""
    answers: dict[type[BaseModel], Callable[[Any], BaseModel] | BaseModel | RnnlmError] = field(
        default_factory=dict
    )
    """By type of request: the answer, a function of the request, or an error to raise, instead of
    the usual one. Only an error counts for SampleRequest."""
    texts: Callable[[SampleRequest], Sequence[Sequence[str]]] | None = None
    """The tokens of each sample of a request; None: `words`."""
    requests: list[SampleRequest] = field(default_factory=list)
    """Requests for samples."""
    asked: list[BaseModel] = field(default_factory=list)
    """All other requests."""
    loaded: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    """Ids of requests that were cancelled, or whose call was left before its answer."""
    gate: asyncio.Event | None = None
    """If given, the text ends only once it is set or the sample is cancelled."""
    ask_gate: asyncio.Event | None = None
    """If given, other requests are answered only once it is set."""
    waking: asyncio.Event | None = None
    """If given, the sampler is ready only once it is set."""

    async def start(self) -> None:
        """Become ready, at once or once it is allowed."""
        if self.waking is not None:
            await self.waking.wait()

    async def close(self) -> None:
        """Nothing to end."""

    async def load(self, checkpoint: str, folder: object = None) -> None:
        """Record the request."""
        self.loaded.append(checkpoint)

    async def cancel(self, request_id: str) -> None:
        """End the running sample as cancelled."""
        self.cancelled.append(request_id)
        if self.gate is not None:
            self.gate.set()

    async def ask(self, request: SamplerRequest, kind: type[AnswerT]) -> AnswerT:
        """The configured answer, or a plausible one."""
        self.asked.append(request)
        try:
            if self.ask_gate is not None:
                await self.ask_gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.id)
            raise
        answer = self._configured(request)
        if answer is None:
            answer = plausible.answer(request)
        assert isinstance(answer, kind)
        return answer

    async def score(
        self, request: ScoreRequest
    ) -> AsyncIterator[ScoreProgress | ScorePiece | ScoreDone]:
        """Progress, then the configured ScoreDone or the words of the file."""
        self.asked.append(request)
        answer = self._configured(request)
        if isinstance(answer, ScoreDone):
            yield ScoreProgress(id=request.id, phase="scoring", done=1)
            yield answer
        else:
            for part in plausible.score_answers(request):
                yield part

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        """The words, then the ends."""
        self.requests.append(request)
        self._configured(request)
        texts = (
            plausible.sample_texts(request, self.words)
            if self.texts is None
            else self.texts(request)
        )
        for piece in plausible.sample_answers(request, texts)[0]:
            yield piece
        if self.gate is not None:
            await self.gate.wait()
        reason: Literal["cancelled", "length"] = (
            "cancelled" if request.id in self.cancelled else "length"
        )
        for done in plausible.sample_answers(request, texts, reason)[1]:
            yield done

    def _configured(self, request: BaseModel) -> BaseModel | None:
        found = self.answers.get(type(request))
        if isinstance(found, RnnlmError):
            raise found
        return found(request) if callable(found) else found
