"""Run a `bench`: text, machine, training, sampling, neighbour, in alternating turns."""

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
from rnnlm_tui.bench.plan import (
    NAIVE,
    BenchWay,
    Measurement,
    sampling_figures,
    sampling_rows,
    training_figures,
    training_rows,
)
from rnnlm_tui.bench.processes import (
    NOTICEABLE_CORES,
    OPENMP_VARIABLES,
    Child,
    Neighbourhood,
    OtherProcesses,
)
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    BenchData,
    BenchReport,
    BenchTask,
    CorpusProgress,
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
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.gpus import unused_gpu_warning
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import parameter_count, positions_per_step
from rnnlm_tui.schema.formatting import counted, duration, memory, percent

TURN_SECONDS = 1.5
MIN_ROUNDS = 3
MAX_SECONDS = 3_600.0
MACHINE_SECONDS = 0.6
"""Length of a turn of the machine task."""

WARM_UP_STEPS = 3
"""Training steps before the measured turns, the same for every way."""

NEIGHBOUR_WAYS = 4
"""Turns per round: two environments, alone and next to the busy process."""

LEFT_OUT = "left out: "
"""A note that begins with it names a way that failed."""

FULL_LOGITS = ("naive training", "library training")
"""Roles that compute the logits of all positions at once."""

PROGRESS_SECONDS = 2.0
"""A phase of the preparation is reported when it begins, and then this often."""

MAX_OVERTIME = 3.0
"""Rounds end early, but not before `MIN_ROUNDS`, when they take this many times as long as
planned."""

Part = Literal["training", "sampling", "neighbour"]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of one `bench`."""

    config: RunConfig
    seconds: float = 20.0
    """Approximate computing time per way."""
    neighbour: bool = False
    only: Part | None = None
    """Only this part; None: training and sampling."""
    child_command: Sequence[str] | None = None
    """Another program that speaks the children's protocol."""
    logs: Path | None = None
    """Folder that keeps what the children print; None: nothing does."""

    @property
    def rounds(self) -> int:
        """Maximum turns per way."""
        return max(MIN_ROUNDS, round(self.seconds / TURN_SECONDS))

    @property
    def turn_seconds(self) -> float:
        """Length of a turn."""
        return self.seconds / self.rounds


def run_bench(options: BenchOptions, say: Report) -> BenchReport:
    """Measure. The child processes end with this function, however it ends.

    Args:
        say: called with progress messages.

    Raises:
        InputError: seconds out of range, not enough memory for the naive loop, unknown device.
        WorkerError: a child died.
    """
    if not 0 < options.seconds <= MAX_SECONDS:
        raise InputError(
            f"--seconds must be above 0 and at most {MAX_SECONDS:,.0f}, not {options.seconds:g}"
        )
    unused = unused_gpu_warning(options.config.training.device, "measures")
    if unused:
        say(f"warning: {unused}")
    others = OtherProcesses()
    with (
        _terminable(),
        tempfile.TemporaryDirectory(prefix="rnnlm-tui-bench-") as folder,
        ExitStack() as stack,
    ):
        report = _Bench(options, say, Path(folder), stack).report()
    cores = round(others.cores(), 2)
    crowded = (
        f"other processes used {cores:.1f} cores meanwhile: speeds are too low and ratios less"
        " certain"
    )
    return report.model_copy(
        update={
            "others_cores": cores,
            "notes": (
                *((unused,) if unused else ()),
                *report.notes,
                *((crowded,) if cores > NOTICEABLE_CORES else ()),
            ),
        }
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the temporary folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_memory(
    config: RunConfig, data: BenchData, survey: MachineSurvey, rows: Sequence[BenchWay]
) -> None:
    """Raise InputError if all logits at once don't fit in memory: the system would kill such a
    process, or others.

    On a CPU a process releases the memory of its last turn, so only one of `rows` counts; on a GPU
    it keeps it, so all count.
    """
    ways = [row for row in rows if row.task.role in FULL_LOGITS]
    held = ways if survey.device_type == "cuda" else ways[:1]
    need = len(held) * naive_memory_bytes(
        positions_per_step(config),
        data.vocab_size,
        parameter_count(config.model, data.vocab_size).total,
    )
    if need > survey.memory_free:
        names = " and ".join("the naive loop" if row.name == NAIVE else row.name for row in held)
        raise InputError(
            f"{names} need{'s' if len(held) == 1 else ''} {memory(need)} of memory for all logits,"
            f" {memory(survey.memory_free)} are free",
            hint="a preset with a smaller batch or vocabulary needs less",
        )


class _Bench:
    """A running bench; the stack ends every child."""

    def __init__(self, options: BenchOptions, say: Report, folder: Path, stack: ExitStack) -> None:
        self._options = options
        self._config = options.config
        self._say = say
        self._folder = folder
        self._stack = stack
        self._data = self._prepare()
        self._machine = self._child("the machine", self._task("machine"), WORKER_SETTINGS)
        self._survey = self._machine.ready(MachineSurvey)
        self._ways = training_rows(self._config, self._survey, self._data)
        if options.only in (None, "training"):
            check_memory(self._config, self._data, self._survey, self._ways)
        self._peaks: list[MachineTurn] = []
        self._left_out: list[str] = []

    def report(self) -> BenchReport:
        """Measure everything and return the report."""
        options = self._options
        config = self._config
        data = self._data
        survey = self._survey
        ways = self._ways
        instead = "" if data.own else " instead of the preset's own text"
        self._say(
            f"{survey.device}; {data.title}{instead}, {data.used:.0%} of the positions are tokens"
        )
        weights = self._folder / "weights.safetensors"
        training = options.only in (None, "training")
        sampling = options.only in (None, "sampling")
        neighbour = options.neighbour or options.only == "neighbour"
        draws = sampling_rows(config, data, str(weights) if training else "")
        self._say(
            self._time_words(
                training * len(ways) + sampling * len(draws) + neighbour * NEIGHBOUR_WAYS,
                training + sampling,
            )
        )
        trained = self._train(ways, weights) if training else {}
        ways = [way for way in ways if way.name in trained]
        drawn = self._sample(draws) if sampling else {}
        neighbour_figures = self._measure_neighbour() if neighbour else None
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
            neighbour=neighbour_figures,
            notes=(
                *_text_notes(data),
                *self._left_out,
                *(
                    f"{name}: {found.warm_up.note}"
                    for name, found in trained.items()
                    if found.warm_up.note
                ),
            ),
        )

    def _time_words(self, ways: int, parts: int) -> str:
        """Approximate time for this many ways, with the machine task's turns in the rounds of
        `parts`."""
        seconds = ways * self._options.seconds + parts * self._options.rounds * MACHINE_SECONDS
        return (
            f"{ways} ways, {self._options.seconds:g} s each: about {duration(seconds)}, longer if a"
            " step or continuation takes longer than a turn"
        )

    def _prepare(self) -> BenchData:
        self._say("preparing the text")
        child = self._child(
            "the text",
            BenchTask(role="corpus", config=self._config, folder=str(self._folder / "corpora")),
        )
        data = child.ready(BenchData, _ProgressReporter(self._say))
        child.close()
        return data

    def _train(self, rows: Sequence[BenchWay], weights: Path) -> dict[str, Measurement]:
        """Measure every way to train, and save the engine's weights, so that sampling uses a
        trained model. A way that fails is left out, but for the naive one and the engine's last."""
        children = self._children(rows)
        engine = {row.name for row in rows if row.task.role == "engine training"}

        def spared(name: str) -> bool:
            return name != NAIVE and bool(engine & children.keys() - {name})

        warm_up = TurnRequest(seconds=0, least=WARM_UP_STEPS)
        measured = self._measure(children, "training", warm_up, spared)
        children[next(row.name for row in rows if row.name in engine & children.keys())].ask(
            SaveRequest(path=str(weights)), Saved
        )
        for child in children.values():
            child.close()
        return measured

    def _sample(self, rows: Sequence[BenchWay]) -> dict[str, Measurement]:
        """Measure every way to continue a prompt."""
        children = self._children(rows)
        measured = self._measure(
            children, "sampling", TurnRequest(seconds=0, tokens=COMPARED_TOKENS)
        )
        for child in children.values():
            child.close()
        return measured

    def _measure_neighbour(self) -> NeighbourFigures:
        """Measure the engine with the run's config, alone and next to a busy process."""
        task = self._task("engine training")
        default = self._child("torch's environment", task, without=OPENMP_VARIABLES)
        pair = Neighbourhood(
            default, self._child("a run's environment", task, WORKER_SETTINGS), WARM_UP_STEPS
        )
        for _ in self._rounds("neighbour", ways=NEIGHBOUR_WAYS):
            pair.round(self._options.turn_seconds)
        return pair.figures()

    def _measure(
        self,
        children: dict[str, Child],
        what: str,
        warm_up: TurnRequest,
        spared: Callable[[str], bool] = lambda _: False,
    ) -> dict[str, Measurement]:
        """Warm up all ways one after the other, then give each a turn per round.

        Args:
            spared: whether a way may fail: then its child is closed and leaves `children`.
        """
        ready: dict[str, TaskReady] = {}
        found: dict[str, Measurement] = {}

        def each(work: Callable[[str, Child], None]) -> None:
            for name, child in list(children.items()):
                try:
                    work(name, child)
                except RnnlmError as error:
                    if not spared(name):
                        raise
                    self._left_out.append(f"{LEFT_OUT}{name}: {error.message}")
                    self._say(self._left_out[-1])
                    children.pop(name).close()
                    found.pop(name, None)

        def started(name: str, child: Child) -> None:
            ready[name] = child.ready(TaskReady)

        def warm(name: str, child: Child) -> None:
            self._say(f"{what}: warming up {name}")
            found[name] = Measurement(ready[name], child.ask(warm_up, TurnDone))

        def turn(name: str, child: Child) -> None:
            request = TurnRequest(seconds=self._options.turn_seconds)
            found[name].turns.append(child.ask(request, TurnDone))

        each(started)  # all of them: none is warmed up while others import
        each(warm)
        for _ in self._rounds(what, ways=len(children)):
            each(turn)
            self._measure_machine()
        return found

    def _rounds(self, what: str, *, ways: int) -> Iterator[int]:
        until = time.monotonic() + MAX_OVERTIME * ways * self._options.seconds
        for number in range(1, self._options.rounds + 1):
            if number > MIN_ROUNDS and time.monotonic() > until:
                return
            self._say(f"{what}: round {number} of {self._options.rounds}")
            yield number

    def _measure_machine(self) -> None:
        self._peaks.append(self._machine.ask(TurnRequest(seconds=MACHINE_SECONDS), MachineTurn))

    def _limits(self) -> MachineFigures:
        """The best of all turns."""
        if not self._peaks:
            self._measure_machine()
        survey, peaks = self._survey, self._peaks
        return MachineFigures(
            device=survey.device,
            torch=survey.torch,
            threads=survey.threads,
            auto=survey.auto,
            gflops={
                numbers: max(peak.gflops[numbers] for peak in peaks) for numbers in survey.numbers
            },
            bandwidth=max(peak.bandwidth for peak in peaks),
            bandwidth_one=max(peak.bandwidth_one for peak in peaks),
        )

    def _task(self, role: Literal["machine", "engine training"]) -> BenchTask:
        return BenchTask(
            role=role,
            config=self._config,
            folder=self._data.folder,
            vocab_size=self._data.vocab_size,
        )

    def _children(self, rows: Sequence[BenchWay]) -> dict[str, Child]:
        return {row.name: self._child(row.name, row.task, row.settings) for row in rows}

    def _child(
        self,
        name: str,
        task: BenchTask,
        settings: Mapping[str, str] | None = None,
        *,
        without: Sequence[str] = (),
    ) -> Child:
        log = (self._options.logs or self._folder) / f"{name.replace(' ', '-')}.log"
        child = Child(
            name, task, log, settings, without=without, command=self._options.child_command
        )
        self._stack.callback(child.close)
        return child


class _ProgressReporter:
    """Reports the progress of the corpus."""

    def __init__(self, say: Report) -> None:
        self._say, self._phase, self._next = say, "", 0.0

    def __call__(self, progress: CorpusProgress) -> None:
        now = time.monotonic()
        if progress.phase != self._phase or now >= self._next:
            self._phase, self._next = progress.phase, now + PROGRESS_SECONDS
            self._say(
                f"preparing the text: {progress.phase}"
                + (f" {percent(progress.done / progress.total)}" if progress.total else "")
            )


def _text_notes(data: BenchData) -> tuple[str, ...]:
    if data.own:
        return ()
    return (
        (
            f"the preset's own text is not on this machine: {data.title} instead, {data.tokenizer}"
            f" tokens of {counted(data.corpus_vocab_size, 'type')} in a vocabulary of"
            f" {data.vocab_size:,}"
        ),
    )
