"""Invented runs for the app's tests: snapshots like a demo's, and services that record requests."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from pydantic import BaseModel

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.client.estimate import Estimate, TrainingText
from rnnlm_tui.client.gpus import DeviceChoice, TrainingDevice
from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.client.sampler import AnswerT, SamplerClient
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import (
    config_flops_per_token,
    parameter_count,
    warmup_problem,
)
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.metrics import (
    METRIC_COLUMNS,
    CheckpointRow,
    GpuRow,
    HardwareRow,
    SampleRow,
)
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.protocol import CommandResult, Verb
from rnnlm_tui.schema.queue import QueueListing
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
    SourceFigures,
    TrainFigures,
)
from rnnlm_tui.store.manifest import Manifest, ManifestFile
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.series import Band, SeriesTable
from rnnlm_tui.system.machine import MachineFacts
from rnnlm_tui.tui.screens.log import LogFollower
from tests.fakes import answers as plausible
from tests.tui.demo_run import (
    CARD,
    EPOCHS,
    IDLE,
    MOST,
    NOW,
    SECONDS_A_STEP,
    demo_run,
    machine,
    readings,
    seen,
    train_loss,
)
from tests.tui.fake_checkpoints import FakeCheckpoints
from tests.tui.fake_steering import FakeSteering

START = NOW - 99


@cache
def recorded(step: int, gpu: bool, config: RunConfig) -> RunSnapshot:
    """A demo run at that step, written and read in a home of its own."""
    hardware = readings(card=CARD if gpu else GpuRow())
    with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", home)
        return seen(demo_run(step=step, config=config, hardware=hardware))


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
    name: str = "plain-otter", status: RunStatus = "running", step: int = 3_751, **changes: object
) -> RunSummary:
    """The figures of a demo run; everything can be changed."""
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
    return recorded(step, True, DEMO).summary.model_copy(update=known)


def make_hardware(*, gpu: bool = True, busy: float = 71) -> tuple[HardwareRow, ...]:
    """The machine, oldest first."""
    return tuple(readings(card=CARD if gpu else GpuRow(), busy=busy))


def with_cards(
    rows: Sequence[HardwareRow], card: GpuRow, others: tuple[GpuRow, ...]
) -> tuple[HardwareRow, ...]:
    """As many readings with other GPUs."""
    return tuple(readings(card=card, others=others)[-len(rows) :])


def make_snapshot(
    status: RunStatus = "running",
    step: int = 3_751,
    *,
    name: str = "plain-otter",
    gpu: bool = True,
    config: RunConfig = DEMO,
    **changes: object,
) -> RunSnapshot:
    """A demo run at that step with the figures of `make_summary`."""
    return replace(
        recorded(step, gpu, config),
        summary=make_summary(name, status, step, **changes),
        log_tail=("evaluation at 3,751",),
        eta_margin=3.0 if status == "running" else None,
    )


def make_machine(*, gpu: bool = True) -> MachineFacts:
    """A machine with a card, or without."""
    return machine(IDLE if gpu else GpuRow())


def preparing(step: int = 0) -> RunSnapshot:
    """A run that builds its corpus."""
    return make_snapshot(
        "preparing",
        step,
        preparing=PreparingFigures(phase="encoding", done=900_000, total=1_880_000),
        train=TrainFigures(),
        eta_seconds=None,
    )


def elman() -> RunSnapshot:
    """A run with a known floor."""
    return make_snapshot(source=SourceFigures(perplexity=40.2))


def make_estimate(config: RunConfig, steps: int | None, seconds: float | None = 125.0) -> Estimate:
    """The figures of a config on a corpus of 380,320 tokens, timed by an earlier run."""
    vocabulary = config.tokenizer.vocab_size
    count = parameter_count(config.model, vocabulary)
    tokens = None if steps is None else 380_320
    warmup = config.schedule.warmup_steps
    problem = None if steps is None else warmup_problem(warmup, config.preset, steps)
    return Estimate(
        text=TrainingText("unknown", None, None, tokens, vocabulary, vocab_exact=True),
        parameters=count,
        steps_per_epoch=None if steps is None else 594,
        steps=steps,
        memory=memory_parts(config, vocabulary),
        memory_bytes=600 * 2**20,
        memory_measured=False,
        memory_free=None,
        largest_fitting_batch=None,
        checkpoint_bytes=6_500_000,
        checkpoints=6,
        disk_bytes=39_000_000,
        seconds=None if steps is None else seconds,
        calibrated_by="run",
        calibrated_run="plain-otter",
        baseline_perplexity=73.0,
        step_flops=640 * config_flops_per_token(config, vocabulary),
        tokens_seen=None if steps is None else 640.0 * steps,
        problems=() if problem is None else (problem,),
    )


@dataclass
class FakeSampler:
    """Streams a fixed text in pieces, once `gate` is set, and answers all other requests at once
    as `tests.fakes.answers` does."""

    words: Sequence[str] = (" is", " strong", ".")
    """The tokens of the first sample of a request; further ones are these turned around."""
    failure: RnnlmError | None = None
    """Raised by every request."""
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

    async def load(self, checkpoint: str) -> None:
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
        error = found if isinstance(found, RnnlmError) else self.failure
        if error is not None:
            raise error
        return found(request) if callable(found) else cast(BaseModel | None, found)


DEVICES = DeviceChoice(
    "",
    "cuda:0",
    (
        TrainingDevice("auto", "the best of them"),
        TrainingDevice("cuda:0", "NVIDIA H100 PCIe, 78.1 GiB free"),
        TrainingDevice("cpu", "2 cores, 6.5 GiB free"),
    ),
)


class FakeReader:
    """A machine with a constant load."""

    def sample(self) -> HardwareRow:
        return make_hardware(busy=4)[0]

    def close(self) -> None:
        pass


class FakeServices(FakeSteering):
    """The app's services on invented runs; lists record what was asked of them."""

    def __init__(
        self,
        *snapshots: RunSnapshot,
        sampler: FakeSampler | None = None,
        machine: MachineFacts | None = None,
    ) -> None:
        """Know these runs, the first one the newest."""
        self.checkpoint_files = FakeCheckpoints(self)
        self.queue: QueueListing | None = None
        """None: there is no queue."""
        self.runs = [snapshot.summary for snapshot in snapshots]
        self.snapshots = {snapshot.summary.run: snapshot for snapshot in snapshots}
        self.fake_sampler = sampler or FakeSampler()
        self.machine_facts = machine or make_machine()
        self.seconds: float | None = 125.0
        """The training time in estimates."""
        self.preview_found: Preview | None = None
        """The preview of every config's text."""
        self.log_path = Path("/nowhere/worker.log")
        self.sent: list[tuple[str, str, dict[str, object]]] = []
        self.saved: list[tuple[str, str]] = []

    def places(self) -> dict[str, Callable[..., object]]:
        """What stands in the place of each function that the app calls."""
        files = self.checkpoint_files
        return {
            "client.checkpoint_detail.read_detail": files.detail,
            "client.checkpoints.quick_problems": files.problems,
            "client.checkpoints.rows_on_disk": self.checkpoints,
            "client.control.send": self.send,
            "client.corpora.preview": lambda _config: self.preview_found,
            "client.estimate.estimate": self.estimate,
            "client.estimate.warning_before_start": lambda _config: None,
            "client.gpus.device_choice": lambda _run, **_: DEVICES,
            "client.listing.RunList": lambda _report: FakeRunList(self),
            "client.monitor.RunMonitor": self.monitor,
            "client.queue.ensure_running": lambda: "",
            "client.queue.list_queue": lambda _runs: self.queue or QueueListing(),
            "client.sampler.SamplerClient": lambda **_: self.sampler(),
            "client.start.check_source": lambda _corpus: None,
            "client.start.resume_run": lambda run, _device="": f"{run.name} resumed",
            "client.start.start_draft": lambda run: run,
            "client.start.start_run": lambda config: create_run(config, "calm-badger"),
            "client.start.with_available_corpus": lambda config: config,
            "client.steering.read_steering": self.steering,
            "store.manifest.verify_checkpoint": self.manifest,
            "store.paths.queue_file": lambda: SimpleNamespace(exists=lambda: bool(self.queue)),
            "store.reader.RunReader": self.reader,
            "store.retention.plan_prune": files.plan_prune,
            "store.runs.find_run": self.run,
            "store.runs.suggest_name": lambda: "calm-badger",
            "system.machine.MachineReader": lambda *_: FakeReader(),
            "system.machine.describe_machine": lambda _home: self.machine_facts,
            "system.processes.ends_at_logout": lambda: None,
            "tui.folders.save_text": self.save_text,
            "tui.screens.log.LogFollower": self.log,
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the app use these services in place of the real ones."""
        with pytest.MonkeyPatch.context() as patch:
            for place, service in self.places().items():
                patch.setattr(f"rnnlm_tui.{place}", service)
            yield

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(runs_dir() / name)

    def monitor(
        self, run: RunDirectory, *, report: Callable[[int, int], None] | None = None
    ) -> FakeMonitor | RunMonitor:
        """Watch an invented run, or one on the disk, such as a draft that the app has written."""
        is_invented = run.name in self.snapshots
        return FakeMonitor(self, run.name) if is_invented else RunMonitor(run, report=report)

    def reader(self, run: RunDirectory) -> FakeRunReader | RunReader:
        return FakeRunReader(self, run) if run.name in self.snapshots else RunReader(run)

    def sampler(self) -> SamplerClient:
        return cast(SamplerClient, self.fake_sampler)

    def send(self, run: RunDirectory, verb: Verb, **arguments: Any) -> CommandResult:
        self.sent.append((run.name, verb, arguments))
        return CommandResult(id="1", ok=True, status="running", step=3_752)

    def log(self, path: Path) -> LogFollower:
        return LogFollower(self.log_path)

    def save_text(self, name: str, text: str, ending: str = ".txt") -> Path:
        self.saved.append((f"{name}{ending}", text))
        return Path("/home") / f"{name}{ending}"

    def estimate(self, config: RunConfig) -> Estimate:
        return make_estimate(config, 4_752, self.seconds)

    def checkpoints(self, run: RunDirectory) -> list[CheckpointRow]:
        return list(self.snapshots[run.name].checkpoints)

    def manifest(self, checkpoint: Path) -> Manifest:
        files = {
            "model.safetensors": ManifestFile(size=2_200_000, sha256="9f3c" + "0" * 56 + "a71e"),
            "training_state.safetensors": ManifestFile(
                size=4_300_000, sha256="02bd" + "0" * 56 + "54c8"
            ),
            "training_state.json": ManifestFile(size=3_000, sha256="c7e1" + "0" * 56 + "0f92"),
        }
        return Manifest(
            kind="checkpoint",
            run="plain-otter",
            step=int(checkpoint.name.split("-")[1]),
            created=START,
            versions={"rnnlm_tui": "0.1.0", "python": "3.11"},
            facts={"environment": {"torch": "2.13", "device": "cpu"}},
            files=files,
        )


@dataclass
class FakeMonitor:
    """Hands out what the services hold, once for each change."""

    services: FakeServices
    name: str
    last: RunSnapshot | None = None

    def poll(self) -> RunSnapshot | None:
        snapshot = self.services.snapshots.get(self.name)
        if snapshot is self.last:
            return None
        self.last = snapshot
        return snapshot

    def look_at(self, steps: tuple[int, int] | None) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class FakeRunList:
    """Lists the runs of the services."""

    services: FakeServices

    complete = True

    def look(self, patience: float) -> list[RunSummary]:
        return list(self.services.runs)

    def configs(self, names: Sequence[str]) -> dict[str, RunConfig]:
        known = self.services.snapshots
        return {name: known[name].config for name in names if name in known}


@dataclass
class FakeRunReader:
    """Reads samples of the services."""

    services: FakeServices
    run: RunDirectory

    def __enter__(self) -> FakeRunReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def sample_steps(self) -> list[int]:
        return sorted({row.step for row in self.services.snapshots[self.run.name].samples})

    def samples_at(self, step: int) -> list[SampleRow]:
        rows = self.services.snapshots[self.run.name].samples
        return [row for row in rows if row.step == step]
