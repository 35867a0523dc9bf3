"""Runs a whole `bench`: text, machine, training, sampling, neighbour, each way in turns of one or two seconds."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rnnlm_tui import __version__
from rnnlm_tui.contract.bench import (
    COMPARED_TOKENS,
    BenchData,
    BenchReport,
    BenchTask,
    MachineFigures,
    MachineSurvey,
    MachineTurn,
    NeighbourFigures,
    Preparing,
    Saved,
    SaveRequest,
    TaskReady,
    TurnDone,
    TurnRequest,
    naive_memory_bytes,
)
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import parameter_count
from rnnlm_tui.contract.figures import counted, duration, memory, percent
from rnnlm_tui.contract.memory import positions_per_step
from rnnlm_tui.errors import InputError
from rnnlm_tui.supervisor.bench.children import Child
from rnnlm_tui.supervisor.bench.neighbour import OPENMP_VARIABLES, Neighbourhood
from rnnlm_tui.supervisor.bench.others import NOTICED, Others
from rnnlm_tui.supervisor.bench.plan import NAIVE, Row, sampling_rows, training_rows
from rnnlm_tui.supervisor.bench.report import Measured, sampling_figures, training_figures
from rnnlm_tui.supervisor.launch import WORKER_SETTINGS

TURN_SECONDS = 1.5
LEAST_ROUNDS = 3
MAX_SECONDS = 3_600.0
MACHINE_SECONDS = 0.6
"""Of a turn of the machine task."""

WARM_UP_STEPS = 3
"""Of training before the measured turns, the same number everywhere."""

NEIGHBOUR_WAYS = 4
"""Turns of a round: two environments, alone and beside the busy process."""

FULL_LOGITS = ("naive training", "library training")
"""Roles that make the logits of all positions at once."""

TOLD_SECONDS = 2.0
"""A phase of preparing is told when it begins, and again this often."""

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
        """Turns of each way, at most."""
        return max(LEAST_ROUNDS, round(self.seconds / TURN_SECONDS))

    @property
    def turn_seconds(self) -> float:
        """Of each turn."""
        return self.seconds / self.rounds


def run_bench(options: BenchOptions, say: Say) -> BenchReport:
    """Measure; the children end with it, whatever ends it.

    Args:
        say: told what is done now, for people.

    Raises:
        InputError: seconds that are no time, not enough memory for the naive loop, no such device.
        WorkerError: a child died.
    """
    if not 0 < options.seconds <= MAX_SECONDS:
        raise InputError(f"--seconds is {options.seconds:g}, it must be above 0 and at most {MAX_SECONDS:,.0f}")
    others = Others()
    with _terminable(), tempfile.TemporaryDirectory(prefix="rnnlm-tui-bench-") as folder, ExitStack() as stack:
        report = _Bench(options, say, Path(folder), stack).report()
    cores = round(others.cores(), 2)
    crowded = f"other processes held {cores:.1f} cores meanwhile: the speeds are too low, and the ratios less certain"
    return report.model_copy(update={"others_cores": cores, "notes": report.notes + ((crowded,) if cores > NOTICED else ())})


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, so that the folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_memory(config: RunConfig, data: BenchData, survey: MachineSurvey, rows: Sequence[Row]) -> None:
    """Raise InputError where all logits at once would not fit: such a way would be killed in the midst, or others with it.

    On a CPU a process gives back what its last turn held, so that one of `rows` counts; on a GPU it keeps it, and all of them count.
    """
    ways = [row for row in rows if row.task.role in FULL_LOGITS]
    held = ways if survey.device_type == "cuda" else ways[:1]
    need = len(held) * naive_memory_bytes(positions_per_step(config), data.vocab_size, parameter_count(config.model, data.vocab_size).total)
    if need > survey.memory_free:
        names = " and ".join("the naive loop" if row.name == NAIVE else row.name for row in held)
        raise InputError(
            f"{names} need{'s' if len(held) == 1 else ''} {memory(need)} of memory for all logits, {memory(survey.memory_free)} are free",
            hint="a preset with a smaller batch or vocabulary needs less",
        )


class _Bench:
    """One bench in the making; the stack ends every child."""

    def __init__(self, options: BenchOptions, say: Say, folder: Path, stack: ExitStack) -> None:
        self._options, self._config, self._say, self._folder, self._stack = options, options.config, say, folder, stack
        self._data = self._prepare()
        self._machine = self._child("the machine", self._task("machine"), WORKER_SETTINGS)
        self._survey = self._machine.ready(MachineSurvey)
        self._ways = training_rows(self._config, self._survey, self._data)
        if options.only in (None, "training"):
            check_memory(self._config, self._data, self._survey, self._ways)
        self._peaks: list[MachineTurn] = []

    def report(self) -> BenchReport:
        """Measure all that was asked for."""
        options, config, data, survey, ways = self._options, self._config, self._data, self._survey, self._ways
        say_own = "" if data.own else " in place of the preset's own text"
        self._say(f"{survey.device}; {data.title}{say_own}, {data.used:.0%} of the positions count")
        weights = self._folder / "weights.safetensors"
        training, sampling, beside = options.only in (None, "training"), options.only in (None, "sampling"), options.neighbour or options.only == "neighbour"
        draws = sampling_rows(config, data, str(weights) if training else "")
        self._say(self._time_words(training * len(ways) + sampling * len(draws) + beside * NEIGHBOUR_WAYS, training + sampling))
        trained = self._train(ways, weights) if training else {}
        drawn = self._sample(draws) if sampling else {}
        neighbour = self._beside() if beside else None
        machine = self._limits()
        return BenchReport(
            version=__version__,
            preset=config.preset,
            seconds=options.seconds,
            others_cores=0.0,
            machine=machine,
            data=data,
            training=training_figures(config, data, machine, ways, trained) if trained else (),
            sampling=sampling_figures(config, data, machine, draws, drawn) if drawn else (),
            neighbour=neighbour,
            notes=(*_text_notes(data), *(f"{name}: {found.warm_up.note}" for name, found in trained.items() if found.warm_up.note)),
        )

    def _time_words(self, ways: int, parts: int) -> str:
        """How long so many ways will take about, with the turns of the machine in the rounds of `parts`."""
        seconds = ways * self._options.seconds + parts * self._options.rounds * MACHINE_SECONDS
        return f"{ways} ways, {self._options.seconds:g} s each: about {duration(seconds)}, and more where a step or a continuation takes longer than a turn"

    def _prepare(self) -> BenchData:
        self._say("preparing the text")
        child = self._child("the text", BenchTask(role="corpus", config=self._config, folder=str(self._folder / "corpora")))
        data = child.ready(BenchData, _Teller(self._say))
        child.close()
        return data

    def _train(self, rows: Sequence[Row], weights: Path) -> dict[str, Measured]:
        """Every way to train; the weights that the engine reached are kept, so that sampling draws from a model that has learned."""
        children = self._children(rows)
        measured = self._measure(children, "training", TurnRequest(seconds=0, least=WARM_UP_STEPS))
        children[next(row.name for row in rows if row.task.role == "engine training")].ask(SaveRequest(path=str(weights)), Saved)
        for child in children.values():
            child.close()
        return measured

    def _sample(self, rows: Sequence[Row]) -> dict[str, Measured]:
        """Every way to continue a prompt."""
        children = self._children(rows)
        measured = self._measure(children, "sampling", TurnRequest(seconds=0, tokens=COMPARED_TOKENS))
        for child in children.values():
            child.close()
        return measured

    def _beside(self) -> NeighbourFigures:
        """The engine with the config as runs have it, alone and beside a busy process."""
        task = self._task("engine training")
        default = self._child("torch's environment", task, without=OPENMP_VARIABLES)
        pair = Neighbourhood(default, self._child("a run's environment", task, WORKER_SETTINGS), WARM_UP_STEPS)
        for _ in self._rounds("neighbour", ways=NEIGHBOUR_WAYS):
            pair.round(self._options.turn_seconds)
        return pair.figures()

    def _measure(self, children: Mapping[str, Child], what: str, warm_up: TurnRequest) -> dict[str, Measured]:
        """Warm all up one after the other, then give each its turn in every round."""
        ready = {name: child.ready(TaskReady) for name, child in children.items()}
        found: dict[str, Measured] = {}
        for name, child in children.items():
            self._say(f"{what}: warming up {name}")
            found[name] = Measured(ready[name], child.ask(warm_up, TurnDone))
        for _ in self._rounds(what, ways=len(children)):
            for name, child in children.items():
                found[name].turns.append(child.ask(TurnRequest(seconds=self._options.turn_seconds), TurnDone))
            self._look_at_machine()
        return found

    def _rounds(self, what: str, *, ways: int) -> Iterator[int]:
        until = time.monotonic() + PATIENCE * ways * self._options.seconds
        for number in range(1, self._options.rounds + 1):
            if number > LEAST_ROUNDS and time.monotonic() > until:
                return
            self._say(f"{what}: round {number} of {self._options.rounds}")
            yield number

    def _look_at_machine(self) -> None:
        self._peaks.append(self._machine.ask(TurnRequest(seconds=MACHINE_SECONDS), MachineTurn))

    def _limits(self) -> MachineFigures:
        """The best of all turns: a limit is what was reached once."""
        if not self._peaks:
            self._look_at_machine()
        survey, peaks = self._survey, self._peaks
        return MachineFigures(
            device=survey.device,
            torch=survey.torch,
            threads=survey.threads,
            auto=survey.auto,
            gflops={numbers: max(peak.gflops[numbers] for peak in peaks) for numbers in survey.numbers},
            bandwidth=max(peak.bandwidth for peak in peaks),
            bandwidth_one=max(peak.bandwidth_one for peak in peaks),
        )

    def _task(self, role: Literal["machine", "engine training"]) -> BenchTask:
        return BenchTask(role=role, config=self._config, folder=self._data.folder, vocab_size=self._data.vocab_size)

    def _children(self, rows: Sequence[Row]) -> dict[str, Child]:
        return {row.name: self._child(row.name, row.task, row.settings) for row in rows}

    def _child(self, name: str, task: BenchTask, settings: Mapping[str, str] | None = None, *, without: Sequence[str] = ()) -> Child:
        log = self._folder / f"{name.replace(' ', '-')}.log"
        child = Child(name, task, log, settings, without=without, command=self._options.child_command)
        self._stack.callback(child.close)
        return child


class _Teller:
    """Says how far the text is."""

    def __init__(self, say: Say) -> None:
        self._say, self._phase, self._next = say, "", 0.0

    def __call__(self, progress: Preparing) -> None:
        now = time.monotonic()
        if progress.phase != self._phase or now >= self._next:
            self._phase, self._next = progress.phase, now + TOLD_SECONDS
            self._say(f"preparing the text: {progress.phase}" + (f" {percent(progress.done / progress.total)}" if progress.total else ""))


def _text_notes(data: BenchData) -> tuple[str, ...]:
    if data.own:
        return ()
    return (
        f"the preset's own text is not on this machine: {data.title} in its place, {data.tokenizer} tokens of {counted(data.corpus_vocab_size, 'type')} "
        f"under a vocabulary of {data.vocab_size:,}",
    )
