"""Runs a whole `bench`: text, machine, training, sampling, neighbour, each way in turns of one or two seconds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rnnlm_tui import __version__
from rnnlm_tui.contract.bench import (
    BenchData,
    BenchReport,
    BenchTask,
    MachineFigures,
    MachineSurvey,
    MachineTurn,
    NeighbourFigures,
    Saved,
    SaveRequest,
    TaskReady,
    TurnDone,
    TurnRequest,
    naive_memory_bytes,
)
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import parameter_count
from rnnlm_tui.contract.figures import memory
from rnnlm_tui.errors import InputError
from rnnlm_tui.supervisor.bench.children import Busy, Child
from rnnlm_tui.supervisor.bench.plan import Row, sampling_rows, training_rows
from rnnlm_tui.supervisor.bench.report import Measured, sampling_figures, training_figures
from rnnlm_tui.supervisor.bench.statistics import ratio, spread
from rnnlm_tui.supervisor.launch import WORKER_SETTINGS

TURN_SECONDS = 1.5
LEAST_ROUNDS = 3
MACHINE_SECONDS = 0.6
"""Of a turn of the machine task."""

WARM_UP_STEPS = 3
"""Before the measured turns, the same number everywhere."""

OPENMP_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""What the default environment is without."""

PATIENCE = 3.0
"""Rounds end early when they take so many times as long as planned, on a machine that others keep busy; `LEAST_ROUNDS` are always done."""

Part = Literal["training", "sampling", "neighbour"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What was asked for."""

    config: RunConfig
    seconds: float = 20.0
    """Computing time of each way, about."""
    neighbour: bool = False
    only: Part | None = None
    """Nothing but this part; None: training and sampling."""
    child_command: Sequence[str] | None = None
    """Another process that speaks the children's protocol."""

    @property
    def rounds(self) -> int:
        return max(LEAST_ROUNDS, round(self.seconds / TURN_SECONDS))

    @property
    def turn_seconds(self) -> float:
        return self.seconds / self.rounds


@dataclass
class Bench:
    """One bench in the making; closing the stack ends every child."""

    options: BenchOptions
    say: Say
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def child(self, name: str, task: BenchTask, settings: Mapping[str, str] | None = None, *, without: Sequence[str] = ()) -> Child:
        """A process for a task, which ends with the stack."""
        log = self.folder / f"{name.replace(' ', '-').replace(',', '')}.log"
        child = Child(name, task, log, settings, without=without, command=self.options.child_command)
        self.stack.callback(child.close)
        return child

    def measure(self, children: Mapping[str, Child], what: str) -> dict[str, Measured]:
        """Warm all up one after the other, then give each its turn in every round."""
        ready = {name: child.ready(TaskReady) for name, child in children.items()}
        found: dict[str, Measured] = {}
        for name, child in children.items():
            self.say(f"{what}: warming up {name}")
            found[name] = Measured(ready[name], child.ask(TurnRequest(seconds=0, least=_warm_up(what)), TurnDone))
        request = TurnRequest(seconds=self.options.turn_seconds)
        until = time.monotonic() + PATIENCE * len(children) * self.options.seconds
        for number in range(1, self.options.rounds + 1):
            if number > LEAST_ROUNDS and time.monotonic() > until:
                break
            self.say(f"{what}: round {number} of {self.options.rounds}")
            for name, child in children.items():
                found[name].turns.append(child.ask(request, TurnDone))
            if self.machine is not None:
                self.peaks.append(self.machine.ask(TurnRequest(seconds=MACHINE_SECONDS), MachineTurn))
        return found

    machine: Child | None = None
    peaks: list[MachineTurn] = field(default_factory=list)


def run_bench(options: BenchOptions, say: Say) -> BenchReport:
    """Measure; children end with it, whatever ends it.

    Args:
        say: told what is done now, for people.

    Raises:
        InputError: seconds that are no time, not enough memory for the naive loop.
        DeviceError: no such device.
        WorkerError: a child died.
    """
    if not 0 < options.seconds <= 3_600:
        raise InputError(f"--seconds is {options.seconds:g}, it must be above 0 and at most 3,600")
    with tempfile.TemporaryDirectory(prefix="rnnlm-tui-bench-") as name, ExitStack() as stack:
        return _whole(Bench(options, say, Path(name), stack))


def _whole(bench: Bench) -> BenchReport:
    options, config = bench.options, bench.options.config
    bench.say("preparing the text")
    data = bench.child("the text", BenchTask(role="corpus", config=config, folder=str(bench.folder / "corpora"))).ready(BenchData)
    bench.machine = bench.child("the machine", BenchTask(role="machine", config=config, vocab_size=data.vocab_size), WORKER_SETTINGS)
    survey = bench.machine.ready(MachineSurvey)
    check_memory(config, data, survey)
    bench.say(f"{survey.device}; {data.title}{'' if data.own else ' in place of the own text'}, {data.used:.0%} of the positions count")

    rows = training_rows(config, survey, data)
    weights = bench.folder / "weights.safetensors"
    training = _train(bench, rows, weights) if options.only in (None, "training") else {}
    drawing = sampling_rows(config, data, str(weights) if training else "")
    sampling = _sample(bench, drawing) if options.only in (None, "sampling") else {}
    neighbour = _beside(bench, rows) if options.neighbour or options.only == "neighbour" else None
    machine = _machine(survey, bench.peaks or [bench.machine.ask(TurnRequest(seconds=MACHINE_SECONDS), MachineTurn)])
    return BenchReport(
        version=__version__,
        preset=config.preset,
        seconds=options.seconds,
        rounds=options.rounds,
        machine=machine,
        data=data,
        training=training_figures(config, data, machine, rows, training) if training else (),
        sampling=sampling_figures(config, data, machine, drawing, sampling) if sampling else (),
        neighbour=neighbour,
        notes=(*_notes(data), *(f"{name}: {found.warm_up.note}" for name, found in training.items() if found.warm_up.note)),
    )


def _train(bench: Bench, rows: Sequence[Row], weights: Path) -> dict[str, Measured]:
    """Every way to train; the weights that the engine reached are kept, so that sampling draws from a model that has learned."""
    children = {row.name: bench.child(row.name, row.task, row.settings) for row in rows}
    measured = bench.measure(children, "training")
    children[next(row.name for row in rows if row.task.role == "engine training")].ask(SaveRequest(path=str(weights)), Saved)
    for child in children.values():
        child.close()
    return measured


def _sample(bench: Bench, rows: Sequence[Row]) -> dict[str, Measured]:
    """Every way to continue a prompt."""
    children = {row.name: bench.child(row.name, row.task, row.settings) for row in rows}
    measured = bench.measure(children, "sampling")
    for child in children.values():
        child.close()
    return measured


def check_memory(config: RunConfig, data: BenchData, survey: MachineSurvey) -> None:
    """Raise InputError where the naive loop's logits would not fit: it would be killed in the midst, or others with it."""
    length = config.training.bptt if config.training.data_mode == "stream" else config.training.context_length - 1
    need = naive_memory_bytes(config.training.batch_size * length, data.vocab_size, parameter_count(config.model, data.vocab_size).total)
    if need > survey.memory_free:
        raise InputError(
            f"the naive loop needs {memory(need)} of memory for its logits, {memory(survey.memory_free)} are free",
            hint="a preset with a smaller batch or vocabulary needs less",
        )


def _beside(bench: Bench, rows: Sequence[Row]) -> NeighbourFigures:
    """The engine with the config as runs have it, alone and beside a busy process, in both environments."""
    task = next(row.task for row in rows if row.task.role == "engine training").model_copy(update={"config": bench.options.config})
    children = {
        "default": bench.child("the default environment", task, without=OPENMP_VARIABLES),
        "ours": bench.child("our environment", task, WORKER_SETTINGS),
    }
    for child in children.values():
        child.ready(TaskReady)
    for child in children.values():
        child.ask(TurnRequest(seconds=0, least=WARM_UP_STEPS), TurnDone)
    speeds: dict[str, list[float]] = {f"{place} {name}": [] for place in ("alone", "beside") for name in children}
    request = TurnRequest(seconds=bench.options.turn_seconds)

    def turns(place: str) -> None:
        for name, child in children.items():
            done = child.ask(request, TurnDone)
            speeds[f"{place} {name}"].append(done.tokens / done.seconds)

    for number in range(1, bench.options.rounds + 1):
        bench.say(f"neighbour: round {number} of {bench.options.rounds}")
        turns("alone")
        with ExitStack() as busy:
            busy.callback(Busy().close)
            turns("beside")
    return NeighbourFigures(
        alone_default=spread(speeds["alone default"]),
        alone_ours=spread(speeds["alone ours"]),
        beside_default=spread(speeds["beside default"]),
        beside_ours=spread(speeds["beside ours"]),
        kept_default=ratio(speeds["beside default"], speeds["alone default"]),
        kept_ours=ratio(speeds["beside ours"], speeds["alone ours"]),
        alone_ratio=ratio(speeds["alone ours"], speeds["alone default"]),
    )


def _machine(survey: MachineSurvey, peaks: Sequence[MachineTurn]) -> MachineFigures:
    """The best of all turns: a limit is what was reached once."""
    return MachineFigures(
        device=survey.device,
        torch=survey.torch,
        threads=survey.threads,
        auto=survey.auto,
        gflops={numbers: max(peak.gflops[numbers] for peak in peaks) for numbers in survey.numbers},
        bandwidth=max(peak.bandwidth for peak in peaks),
        bandwidth_one=max(peak.bandwidth_one for peak in peaks),
    )


def _warm_up(what: str) -> int:
    return WARM_UP_STEPS if what == "training" else 1


def _notes(data: BenchData) -> tuple[str, ...]:
    if data.own:
        return ()
    return (
        f"the preset's own text is not on this machine: {data.title} stand in, {data.tokenizer} tokens of {data.corpus_vocab_size:,} types, "
        f"under the preset's vocabulary of {data.vocab_size:,}",
    )
