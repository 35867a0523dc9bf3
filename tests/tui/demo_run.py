"""The runs of the pictures: as the store writes them, at a moment that stands still."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cache, partial
from pathlib import Path
from shutil import copy2, copystat, copytree
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    EvaluationRow,
    EventKind,
    EventRow,
    GpuRow,
    HardwareRow,
    RankReading,
    RanksRow,
    SampleRow,
    StepRow,
)
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.log import Row, RunLog
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import LockPage, RunLock
from rnnlm_tui.system.machine import MachineFacts
from tests.fakes.answers import CHANGES
from tests.homes import STATE, model_file

NOW = 1_795_617_114.0
"""2026-11-25 14:31:54 UTC."""
MOST, EPOCHS, PAUSED = 4_754, 8, 1_512
SECONDS_A_STEP, HOUR, PID = 0.0264, 3_600.0, 41_207
TEXTS = (
    (
        "The state of the Union",
        " is strong, and the Congress must act on the program of the American people. We have a"
        " great responsibility to the free nations of the world, and I ask you to join me",
    ),
    (
        "My fellow Americans,",
        " we are now in the second year of a new effort to bring down the cost of health care, and"
        " we will not let our children pay for it. Last year we made more than",
    ),
    (
        "We must",
        " work together to reduce the deficit and strengthen the security of the nation. That is"
        " why I propose tonight that the Congress raise the minimum",
    ),
)
SHAPES = ((2_048, 192), (192, 192), (192, 192), (2_048,))
MODEL = model_file({name: shape for (name, _), shape in zip(CHANGES, SHAPES, strict=True)})
MODEL_BYTES, HEADER = len(MODEL), MODEL.rstrip(b"\0")
FACTS = Facts(
    device="cuda",
    max_steps=MOST,
    epochs=float(EPOCHS),
    steps_per_epoch=MOST // DEMO.training.epochs,
    warmup_steps=100,
    parameters=543_488,
    vocab_size=2_048,
    corpus_title="57 State of the Union addresses",
    baseline_loss=math.log(74.1),
    baseline_validation_loss=math.log(73.0),
)
GIB = 2**30
CARD = GpuRow(0, "NVIDIA L4", 71.0, int(4.7 * GIB), int(0.6 * GIB), 23 * GIB, 48.0, 61.0)
Recorded = StepRow | EvaluationRow | SampleRow | HardwareRow | HealthRow | RanksRow
H100 = "NVIDIA H100 80GB HBM3"
BUSY = (
    (97, 0.05),
    (96, 0.06),
    (98, 0.04),
    (97, 0.05),
    (93, 0.11),
    (99, 0.0),
    (94, 0.10),
    (93, 0.11),
)
RANKS = tuple(
    RankReading(
        rank=rank, host=f"gpu{1 + rank // 4}", device=H100, tokens_per_second=3_320.0 - 1.2 * rank,
        use=float(use), memory=61 * GIB, memory_total=80 * GIB, waiting=waiting,
    )
    for rank, (use, waiting) in enumerate(BUSY)
)  # fmt: skip
"""Eight ranks on two hosts; the others wait for rank 5."""
IDLE = GpuRow(0, "NVIDIA L4", memory_used=int(4.1 * GIB), memory_total=23 * GIB)
"""The same card as `describe_machine` finds it."""
CLOCKS = (
    "app", "screens.checkpoints", "screens.kept_samples", "screens.queue", "screens.states",
    "screens.trash", "views.status", "views.versus", "widgets.machine_panel",
    "widgets.runs_table",
)  # fmt: skip
"""The app's modules that read the clock."""
CLOCK = SimpleNamespace(time=lambda: NOW, monotonic=lambda: 0.0)


def train_loss(step: float) -> float:
    """A curve from ln V down to 3.9."""
    return 3.86 + 3.7 * math.exp(-step / 120) + 1.35 * math.exp(-step / 900)


def validation_loss(step: float) -> float:
    """Slightly above the training loss, at the end more."""
    return train_loss(step) + 0.13 * min(1, step / 900)


Bucket = tuple[int, tuple[float, ...], tuple[float, ...]]
"""Its last step, then the mean of each metric in it and how far its ends are from that."""


def bucketed(
    buckets: Iterable[Bucket], last: int, tokens: int, epoch: float, seconds: float, began: float
) -> Iterator[StepRow]:
    """The last two steps of each bucket, at the ends of what all of it would have, and the very
    last one; tokens, epochs and seconds are those of a step."""

    def row(at: int, figures: Iterable[float]) -> StepRow:
        loss, norm, rate, speed = figures
        metrics = loss, norm, rate, speed, seconds * at, began + seconds * at
        return StepRow(1, at, tokens * at, epoch * at, *metrics)

    end, means = 0, tuple[float, ...]()
    for end, means, spreads in buckets:
        for at, side in ((end - 1, -1), (end, 1)):
            yield row(at, (m + side * s for m, s in zip(means, spreads, strict=True)))
    if last > end:
        yield row(last, means)


@cache
def steps(last: int, began: float, lower: float) -> tuple[StepRow, ...]:
    """In buckets of four."""
    noise, ends = random.Random(7), range(4, last + 1, 4)
    losses = [train_loss(at) + noise.gauss(0, 0.03) - lower for at in ends]
    spreads = [abs(noise.gauss(0.06, 0.03)) for _ in ends]
    speeds = [
        (27_600 if not 0.42 < at / MOST < 0.44 else 14_000) + noise.gauss(0, 300) for at in ends
    ]
    norms = [0.4 + 1.2 * math.exp(-at / 150) + abs(noise.gauss(0, 0.02)) for at in ends]
    rates = [3e-3 * min(1, at / 100) * (0.51 + 0.49 * math.cos(math.pi * at / MOST)) for at in ends]
    means = zip(losses, norms, rates, speeds, strict=True)
    sides = ((spread, 0.03, 0.0, 400.0) for spread in spreads)
    buckets = zip(ends, means, sides, strict=True)
    return tuple(bucketed(buckets, last, 700, EPOCHS / MOST, SECONDS_A_STEP, began))


def evaluations(last: int, began: float, lower: float) -> list[EvaluationRow]:
    """One each 100 steps."""
    return [
        EvaluationRow(
            1, at, "validation", "validation", validation_loss(at) - lower, 20_000,
            1.67 + math.exp(-at / 600), 0.4, began + at * SECONDS_A_STEP,
            scored_bytes=120_000, text_bytes=120_012,
        )
        for at in range(100, last + 1, 100)
    ]  # fmt: skip


def samples(last: int, began: float) -> list[SampleRow]:
    """Of three steps."""
    return [
        SampleRow(1, at, prompt, text, 40, 7, began + at * SECONDS_A_STEP)
        for at in (1_000, 2_000, 3_700)
        if at <= last
        for prompt, text in TEXTS
    ]


def readings(
    now: float = NOW, card: GpuRow = CARD, others: Sequence[GpuRow] = (), *, busy: float = 71
) -> list[HardwareRow]:
    """The machine, oldest first; a card that reports no load has none."""
    noise, rows = random.Random(3), list[HardwareRow]()
    on_gpu = card.index is not None
    for index in range(40):
        level = busy if index >= 37 else max(0.0, min(100.0, busy + noise.gauss(0, 6)))
        load = None if card.percent is None else min(100.0, card.percent + level - 71)
        rows.append(
            HardwareRow(
                time=now - 99 + 2 * index,
                cpu_percent=12.0 if on_gpu else level,
                process_cpu_percent=11.0 if on_gpu else level * 0.9,
                memory_used=int(9.1 * GIB),
                memory_total=62 * GIB,
                process_memory=int(0.9 * GIB),
                disk_free=212 * 10**9,
                gpu=card._replace(percent=load),
                other_gpus=tuple(others),
            )
        )
    return rows


def checkpoints(last: int, lower: float) -> dict[int, float | None]:
    """Step and validation loss of the checkpoints."""
    kept = (1_000, 2_000, 3_000, 3_500, 3_700, 3_750)
    return {at: None if at % 100 else validation_loss(at) - lower for at in kept if at <= last}


def save(run: RunDirectory, losses: Mapping[int, float | None], began: float) -> None:
    """Write checkpoints of 6.5 MB, nearly all of them holes."""

    def write(folder: Path) -> None:
        for name, size in (("model", MODEL_BYTES), ("training_state", 4_600_000)):
            with (folder / f"{name}.safetensors").open("wb") as file:
                file.write(HEADER)
                file.truncate(size)
        (folder / "training_state.json").write_text(json.dumps(STATE))

    environment = {"torch": "2.13.0+cpu", "deterministic": True, "device": "cpu", "host": "gpu1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnlm_tui.store.manifest.__version__", "0.1.0")
        for step, loss in losses.items():
            clock = SimpleNamespace(time=partial(float, began + step * SECONDS_A_STEP))
            patch.setattr("rnnlm_tui.store.manifest.time", clock)
            facts = {
                "attempt": 1,
                "epoch": step * EPOCHS / MOST,
                "tokens_seen": 700 * step,
                "train_loss": train_loss(step),
                "environment": environment,
                "changed": {"model.dropout": 0.2} if step > PAUSED else {},
            }
            known = {} if loss is None else {"validation_loss": loss}
            write_checkpoint(run, step, write, None, {**facts, **known})


@contextmanager
def demo_run(
    status: RunStatus = "running",
    step: int = 3_751,
    *,
    name: str = "plain-otter",
    now: float = NOW,
    config: RunConfig = DEMO,
    facts: Facts = FACTS,
    hardware: Sequence[HardwareRow] | None = None,
    page: LockPage | None = None,
    lower: float = 0.0,
    curve: bool = True,
    saved: Mapping[int, float | None] | None = None,
    health: Sequence[HealthRow] = (),
    ranks: Sequence[RankReading] = (),
    runs: Path | None = None,
) -> Iterator[RunDirectory]:
    """A demo run whose last row is of this moment, with losses so many nats lower; without the
    curve, with its last steps alone. In the folder `runs`, or in the test's home."""
    began = now - step * SECONDS_A_STEP
    known = tuple(readings(now) if hardware is None else hardware)
    losses = tuple((saved or checkpoints(step, lower)).items())

    def write(run: RunDirectory) -> None:
        rows: list[Recorded] = []
        if step:
            rows += steps(step, began, lower)[0 if curve else -8 :]
            rows += [*evaluations(step, began, lower), *samples(step, began), *known, *health]
            rows += [RanksRow(1, step, tuple(ranks), now)] if ranks else []
            save(run, dict(losses), began)
        record(run, status, step, rows, facts, began=began, pause=PAUSED)

    run = RunDirectory((runs or runs_dir()) / name)
    with recorded(
        run,
        config,
        status,
        now,
        write,
        step,
        facts,
        known,
        losses,
        curve,
        str(health),
        str(ranks),
        page=page,
    ):
        yield run


HOMES: dict[str, TemporaryDirectory[str]] = {}
"""Runs that were written once, by what they were made of."""


@contextmanager
def recorded(
    run: RunDirectory,
    config: RunConfig,
    status: RunStatus,
    now: float,
    write: Callable[[RunDirectory], None],
    *made_of: object,
    page: LockPage | None = None,
) -> Iterator[None]:
    """A run with what is written into it, at first, and later copied; while the caller is inside,
    its worker lives if it has one."""
    key = repr((run.name, config, status, now, *made_of))
    if key in HOMES:
        make_private_directory(run.path.parent)
        copytree(HOMES[key].name, run.path, copy_function=_copy)
    else:
        make_private_directory(run.path)
        run.config_path.write_text(toml_text(config_to_raw(config)))
        write(run)
        HOMES[key] = TemporaryDirectory()
        copytree(run.path, HOMES[key].name, copy_function=_copy, dirs_exist_ok=True)
    if status == "degraded" and page is None:
        page = LockPage(degraded="the disk is full")
    with ExitStack() as held:
        if status in LIVING:
            held.enter_context(worker(run.lock_path, page))
        if status == "stalled":
            os.utime(run.lock_path, (now - HOUR, now - HOUR))
        yield


def _copy(source: str, target: str) -> None:
    """Copy a file with its times; of weights, all behind the head is a hole."""
    if source.endswith(".safetensors"):
        with Path(target).open("wb") as file:
            file.write(HEADER)
            file.truncate(Path(source).stat().st_size)
        copystat(source, target)
    else:
        copy2(source, target)


def record(
    run: RunDirectory,
    status: RunStatus,
    step: int,
    rows: Sequence[Recorded],
    facts: Facts,
    *,
    began: float,
    seconds: float = SECONDS_A_STEP,
    pause: int = 2**40,
) -> None:
    """Let the run have these rows and this status at this step, after a pause if it is further."""
    os.utime(run.config_path, (began, began))

    def event(kind: EventKind, at: int, text: str = "") -> EventRow:
        return EventRow(1, at, kind, text or kind, began + at * seconds)

    first: list[Row] = [event("started", 0), *([event("running", 0)] if step else ())]
    later: list[Row] = []
    if step > pause:
        first.append(event("paused", pause))
        later += [event("resumed", pause), event("running", pause)]
        later.append(event("setting", pause, "learning rate 3e-3 → 2.5e-3"))
    for row in rows:
        is_first = not later or (not isinstance(row, HardwareRow) and row.step <= pause)
        (first if is_first else later).append(row)
    if status in ("paused", "stopped", "finished", "failed", "preparing"):
        (later or first).append(event(status, step))
    for start, part in ((0, [facts, *first]), (pause, later)):
        if part:
            host = "gpu2" if status == "lost" else "gpu1"
            attempt = AttemptRow(1, PID, host, "", "cuda:0", start, {}, began)
            with RunLog.begin(run, attempt) as log:
                log.append(*part)
    lines = "\n".join(f"step {at:,}: a line of the worker" for at in range(step - 51, step + 1))
    run.log_path.write_text(f"{lines}\n")


@contextmanager
def worker(lock: Path, page: LockPage | None = None) -> Iterator[None]:
    """A process that holds this lock since this moment."""
    held = RunLock(lock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", lambda: PID)
        patch.setattr("rnnlm_tui.system.locks.time", CLOCK)
        held.acquire()
        held.show(page or LockPage())
    with held:
        yield


def seen(made: AbstractContextManager[RunDirectory]) -> RunSnapshot:
    """The run as the app reads it at this moment."""
    with pytest.MonkeyPatch.context() as patch, made as run, closing(RunMonitor(run)) as monitor:
        stand_still(patch)
        return monitor.snapshot()


def stand_still(patch: pytest.MonkeyPatch) -> None:
    """Let the app read this clock and this machine."""
    for module in CLOCKS:
        patch.setattr(f"rnnlm_tui.tui.{module}.time", lambda: NOW)
    patch.setattr("rnnlm_tui.store.summaries.time", CLOCK)
    patch.setattr("rnnlm_tui.client.remaining.monotonic", lambda: 0.0)
    patch.setattr("socket.gethostname", lambda: "gpu1")
    use_machine(patch, IDLE)
    patch.setattr("rnnlm_tui.system.processes.ends_at_logout", lambda: None)


def machine(card: GpuRow = IDLE) -> MachineFacts:
    """What is known of a machine with this card."""
    return MachineFacts("gpu1", 8, 62 * GIB, int(52.9 * GIB), 212 * 10**9, card)


def use_machine(patch: pytest.MonkeyPatch, card: GpuRow) -> None:
    """Let the app run on a machine with this card."""
    patch.setattr("rnnlm_tui.system.machine.describe_machine", lambda _home: machine(card))
    idle = SimpleNamespace(sample=lambda: readings(busy=4)[-1], close=lambda: None)
    patch.setattr("rnnlm_tui.system.machine.MachineReader", lambda *_, **__: idle)
