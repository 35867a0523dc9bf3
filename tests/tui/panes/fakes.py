"""The seams that the panes' tests stand on: services without disk, a sampler without a process, a run made of figures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from rnnlm_tui.contract.commands import CommandResult, Verb
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.corpora import CorpusManifest
from rnnlm_tui.contract.estimates import parameter_count
from rnnlm_tui.contract.memory import memory_parts
from rnnlm_tui.contract.metrics import CheckpointRow, SampleRow
from rnnlm_tui.contract.requests import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.contract.status import RunStatus
from rnnlm_tui.contract.summary import CheckpointFigures, EvaluationFigures, ModelFigures, RunSummary
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.errors import CheckpointError, InputError, RnnlmError
from rnnlm_tui.store.manifest import CheckpointFile, Manifest
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.series import empty_table
from rnnlm_tui.supervisor.estimate import Estimate
from rnnlm_tui.supervisor.machine import MachineFacts
from rnnlm_tui.supervisor.monitor import RunSnapshot
from rnnlm_tui.supervisor.preview import Preview
from rnnlm_tui.supervisor.sampler_client import SamplerClient
from rnnlm_tui.tui.services import Monitor, Services

NOW = 1_760_000_000.0
RUN = RunDirectory(Path("/runs/plain-otter"))


CONFIG = parse_config(
    merge(RunConfig(), {
        "model.embedding_dim": 192, "model.hidden_size": 192, "model.num_layers": 2, "model.dropout": 0.15, "optimizer.learning_rate": 3e-3, "optimizer.weight_decay": 0.01,
        "optimizer.max_grad_norm": 1.0, "schedule.warmup_steps": 100, "schedule.final_fraction": 0.02, "training.epochs": 8, "training.batch_size": 20, "training.bptt": 35,
        "tokenizer.vocab_size": 2_048, "evaluation.every": 500, "checkpoint.every": 500, "checkpoint.keep_last": 3, "sampling.temperature": 0.8, "sampling.top_p": 0.95,
    })
)  # fmt: skip
"""Figures that stay when the preset is tuned."""


def checkpoint(step: int, loss: float | None, *, best: bool = False, last: bool = False, age: float = 0.0) -> CheckpointRow:
    """A checkpoint of the index."""
    return CheckpointRow(1, step, step / 594, step * 640, 3.93, loss, 6_500_000, f"checkpoints/step-{step:09d}", best, last, NOW - age)


CHECKPOINTS = (checkpoint(1000, 4.4671, age=150), checkpoint(2000, 4.2077, age=43), checkpoint(3000, 4.1059, age=19), checkpoint(3700, 4.0622, best=True, age=12), checkpoint(3750, None, last=True))  # fmt: skip
SAMPLES = (
    SampleRow(
        1,
        3700,
        "The state of the Union",
        " is strong, and the Congress must act on the program of the American people. We have a great responsibility.",
        40,
        7,
        NOW,
    ),
    SampleRow(
        1,
        3700,
        "My fellow Americans,",
        " we are now in the second year of a new effort to bring down the cost of health care, and we will not let it.",
        40,
        7,
        NOW + 1,
    ),
    SampleRow(
        1, 3700, "We must", " work together to reduce the deficit and strengthen the security of the nation. That is why I propose tonight.", 40, 7, NOW + 2
    ),
    SampleRow(1, 1000, "The state of the Union", " of the the people of the world. We have to the Congress.", 40, 7, NOW - 90),
)


def make_snapshot(
    status: RunStatus = "running",
    *,
    name: str = "plain-otter",
    config: RunConfig | None = None,
    checkpoints: Sequence[CheckpointRow] = CHECKPOINTS,
    samples: Sequence[SampleRow] = SAMPLES,
) -> RunSnapshot:
    """A run at one moment."""
    config = config or CONFIG
    summary = RunSummary(
        run=name, status=status, attempt=1, step=3751, max_steps=4754, epoch=6.3, epochs=8.0, tokens_seen=2_400_000, active_seconds=99.0, preset=config.preset,
        corpus="presidents", updated=NOW, model=ModelFigures(cell_type="elman", num_layers=2, hidden_size=192, tie_weights=True, parameters=543_488),
        validation=EvaluationFigures(perplexity=58.1), checkpoints=CheckpointFigures(best=3700, last=3750, count=len(checkpoints)),
    )  # fmt: skip
    return RunSnapshot(summary, config, empty_table(), (), tuple(samples), (), tuple(checkpoints), (), (), None)


@dataclass
class FakeMonitor:
    """Gives each snapshot once."""

    snapshots: list[RunSnapshot]

    def poll(self) -> RunSnapshot | None:
        """The next one."""
        return self.snapshots.pop(0) if self.snapshots else None

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """Its snapshots are whole."""

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass
class FakeSampler:
    """Speaks a fixed text in pieces, when `gate` lets it."""

    words: Sequence[str] = (" is", " strong", ".")
    failure: RnnlmError | None = None
    requests: list[SampleRequest] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """Where given, the text ends only after it is set, or is cancelled."""

    waking: asyncio.Event | None = None
    """Where given, the sampler is ready only after it is set."""

    async def start(self) -> None:
        """Ready at once, or as soon as it may."""
        if self.waking is not None:
            await self.waking.wait()

    async def close(self) -> None:
        """Nothing to end."""

    async def load(self, checkpoint: str) -> None:
        """Remember what was asked for."""
        self.loaded.append(checkpoint)

    async def cancel(self, request_id: str) -> None:
        """Let the running sample end as cancelled."""
        self.cancelled.append(request_id)
        if self.gate is not None:
            self.gate.set()

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        """The words, then the end."""
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        text = ""
        for count, word in enumerate(self.words, start=1):
            text += word
            yield SamplePiece(id=request.id, text=word, tokens=count)
        if self.gate is not None:
            await self.gate.wait()
        reason: Literal["cancelled", "length"] = "cancelled" if request.id in self.cancelled else "length"
        yield SampleDone(
            id=request.id, reason=reason, text=text, tokens=len(self.words), prompt_tokens=5, seconds=0.02, first_token_seconds=0.004, bits_per_token=4.1
        )  # fmt: skip


class FakeServices(Services):
    """Store and supervisor in memory; `calls` tells what was asked of them."""

    def __init__(self, *snapshots: RunSnapshot, sampler: FakeSampler | None = None) -> None:
        self.snapshots = list(snapshots)
        self.fake_sampler = sampler or FakeSampler()
        self.calls: list[tuple[object, ...]] = []
        self.kept_prompts: list[str] = []
        self.saved: list[tuple[str, str]] = []
        self.damaged: dict[str, str] = {}
        self.steps: int | None = 4_752
        self.start_failure: RnnlmError | None = None
        self.missing: InputError | None = None
        self.begins: Preview | None = None
        """How the text of every config begins."""
        self.slow_worker: threading.Event | None = None
        """Where given, a worker answers only after it is set."""

    def preview(self, config: RunConfig) -> Preview | None:
        return self.begins

    def monitor(self, run: RunDirectory) -> Monitor:
        return FakeMonitor(list(self.snapshots))

    def summaries(self) -> list[RunSummary]:
        return [snapshot.summary for snapshot in self.snapshots[-1:]]

    def machine(self) -> MachineFacts:
        return MACHINE

    def start(self, config: RunConfig, name: str | None) -> RunDirectory:
        if self.start_failure is not None:
            raise self.start_failure
        self.calls.append(("start", config, name))
        return RUN

    def create(self, config: RunConfig, name: str | None) -> RunDirectory:
        self.calls.append(("create", config, name))
        return RUN

    def start_saved(self, run: RunDirectory) -> RunDirectory:
        if self.start_failure is not None:
            raise self.start_failure
        self.calls.append(("start_saved", run.name))
        return run

    def send(self, run: RunDirectory, verb: Verb, **arguments: object) -> CommandResult:
        self.calls.append(("send", verb))
        if self.slow_worker is not None:
            self.slow_worker.wait()
        return CommandResult(id="1", ok=True, status="running", step=3_751, checkpoint="snapshots/step-000003751-aa")

    def suggest_name(self) -> str:
        return "calm-badger"

    def corpus(self, config: RunConfig) -> CorpusManifest | None:
        return None

    def estimate(self, config: RunConfig) -> Estimate:
        return make_estimate(config, self.steps)

    def missing_source(self, config: RunConfig) -> InputError | None:
        return self.missing

    def sampler(self) -> SamplerClient:
        return cast(SamplerClient, self.fake_sampler)

    def history(self) -> list[str]:
        return ["The economy", "Tonight I want"]

    def remember_prompt(self, prompt: str) -> None:
        self.kept_prompts.append(prompt)

    def save_text(self, name: str, text: str, ending: str = ".txt") -> Path:
        self.saved.append((name, text))
        return Path(f"/home/{name}.txt")

    def manifest(self, checkpoint: Path) -> Manifest:
        files = {"model.safetensors": CheckpointFile(size=2_200_000, sha256="9f3c" + "0" * 56 + "a71e"), "training_state.safetensors": CheckpointFile(size=4_300_000, sha256="02bd" + "0" * 56 + "54c8"), "training_state.json": CheckpointFile(size=3_000, sha256="c7e1" + "0" * 56 + "0f92")}  # fmt: skip
        step = int(checkpoint.name.removeprefix("step-"))
        return Manifest(
            kind="checkpoint",
            run="plain-otter",
            step=step,
            created=NOW,
            versions={"rnnlm_tui": "0.1.0", "python": "3.11"},
            facts={"environment": {"torch": "2.13", "device": "cpu"}},
            files=files,
        )

    def pin(self, run: RunDirectory, step: int, *, pinned: bool) -> None:
        self.calls.append(("pin" if pinned else "unpin", run.name, step))

    def verify(self, checkpoint: Path) -> Manifest:
        if checkpoint.name in self.damaged:
            raise CheckpointError(f"{checkpoint}/{self.damaged[checkpoint.name]}")
        return self.manifest(checkpoint)


def make_estimate(config: RunConfig, steps: int | None) -> Estimate:
    """The figures of a config on a corpus of 380,320 tokens, timed by an earlier run."""
    vocabulary = config.tokenizer.vocab_size
    count = parameter_count(config.model, vocabulary)
    return Estimate(
        parameters=count, vocab_size=vocabulary, vocab_exact=True, train_tokens=None if steps is None else 380_320, steps_per_epoch=None if steps is None else 594, steps=steps,
        memory=memory_parts(config, vocabulary), memory_bytes=600 * 2**20, memory_measured=False, memory_free=None, largest_fitting_batch=None,
        checkpoint_bytes=6_500_000, checkpoints=6, disk_bytes=39_000_000, seconds=None if steps is None else 125.0, calibrated_by="run", calibrated_run="plain-otter", baseline_perplexity=73.0,
    )  # fmt: skip


MACHINE = MachineFacts("gpu1", 2, 16 * 2**30, 12 * 2**30, 212 * 10**9, gpu_name="NVIDIA L4", gpu_memory_total=23 * 2**30, gpu_memory_used=4_402_341_478)
"""A machine with a GPU."""
