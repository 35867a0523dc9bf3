"""Run a `bench`: corpus, machine, training, sampling, neighbour, in alternating turns of one or two
seconds.

Turn measurements into figures: medians, ratios within rounds, and shares of the machine's limits.

The ways to train and sample that a `bench` measures on a device.

The config of a `bench`: a preset on a device, with changes.
"""

from __future__ import annotations

import math
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rnnlm_tui import __version__
from rnnlm_tui.bench.processes import (
    NOTICEABLE_CORES,
    OPENMP_VARIABLES,
    Child,
    Neighbourhood,
    OtherProcesses,
)
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    SAMPLED_TOKENS,
    BenchData,
    BenchReport,
    BenchTask,
    CorpusProgress,
    MachineFigures,
    MachineSurvey,
    MachineTurn,
    NeighbourFigures,
    Numbers,
    Role,
    SamplingFigures,
    Saved,
    SaveRequest,
    TaskReady,
    TrainingFigures,
    TurnDone,
    TurnRequest,
    naive_memory_bytes,
    ratio,
    spread,
)
from rnnlm_tui.client.launch import WORKER_SETTINGS
from rnnlm_tui.client.sampler import SAMPLER_SETTINGS
from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.estimates import (
    FLOAT_BYTES,
    flops_per_token,
    parameter_count,
    positions_per_step,
)
from rnnlm_tui.schema.formatting import counted, duration, memory, percent
from rnnlm_tui.schema.presets import preset as find_preset
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config

NAIVE = "naive"
LIBRARY_NAMES: Mapping[str, str] = {"elman": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}
"""torch's modules by cell."""

PLAIN = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=SAMPLED_TOKENS)
"""Plain sampling, for the naive way and for ours."""
APP = SamplingConfig(max_new_tokens=SAMPLED_TOKENS)
"""The app's default settings."""


@dataclass(frozen=True, slots=True)
class BenchWay:
    """One way to train or sample, and the environment of its process."""

    name: str
    task: BenchTask
    settings: Mapping[str, str] = field(default_factory=dict)


def training_rows(config: RunConfig, survey: MachineSurvey, data: BenchData) -> list[BenchWay]:
    """The naive loop, torch's own layers, and the engine in every number format of the device."""

    def task(role: Role, own: RunConfig) -> BenchTask:
        return BenchTask(role=role, config=own, folder=data.folder, vocab_size=data.vocab_size)

    rows = [BenchWay(NAIVE, task("naive training", config))]
    if config.model.cell_type in LIBRARY_NAMES:
        rows.append(
            BenchWay(LIBRARY_NAMES[config.model.cell_type], task("library training", config))
        )
    for numbers in survey.numbers:
        rows.extend(
            BenchWay(name, task("engine training", own), WORKER_SETTINGS)
            for name, own in _engine_ways(config, numbers, survey.device_type)
        )
    return rows


def sampling_rows(config: RunConfig, data: BenchData, weights: str) -> list[BenchWay]:
    """The naive way and ours, sampled and greedy, and ours with the app's default settings.

    The naive way uses torch's default threads, all cores; ours uses one, as the sampler does.
    """
    alone = config.model_copy(
        update={"training": config.training.model_copy(update={"threads": 1})}
    )

    def task(role: Role, sampling: SamplingConfig) -> BenchTask:
        own = (alone if role == "engine sampling" else config).model_copy(
            update={"sampling": sampling}
        )
        return BenchTask(
            role=role, config=own, folder=data.folder, vocab_size=data.vocab_size, weights=weights
        )

    greedy = PLAIN.model_copy(update={"greedy": True})
    return [
        BenchWay("naive", task("naive sampling", PLAIN)),
        BenchWay("naive, greedy", task("naive sampling", greedy)),
        BenchWay("engine", task("engine sampling", PLAIN), SAMPLER_SETTINGS),
        BenchWay(f"engine, top-p {APP.top_p:g}", task("engine sampling", APP), SAMPLER_SETTINGS),
        BenchWay("engine, greedy", task("engine sampling", greedy), SAMPLER_SETTINGS),
    ]


def _engine_ways(
    config: RunConfig, numbers: Numbers, device_type: str
) -> list[tuple[str, RunConfig]]:
    changes: dict[str, object] = {
        "training.matmul": "float32" if numbers == "float32" else "medium"
    }
    if numbers == "bf16":
        changes["training.precision"] = "bf16"
    name = f"engine {numbers}"
    if device_type != "cuda":
        return [(name, parse_config(merge(config, changes)))]
    with_graphs, without = ({**changes, "training.cuda_graphs": on} for on in (True, False))
    return [
        (f"{name}, CUDA graphs", parse_config(merge(config, with_graphs))),
        (name, parse_config(merge(config, without))),
    ]


@dataclass
class Measurement:
    """The answers of one child."""

    ready: TaskReady
    warm_up: TurnDone
    turns: list[TurnDone] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each turn."""
        return [turn.tokens / turn.seconds for turn in self.turns]


def training_figures(
    config: RunConfig,
    data: BenchData,
    machine: MachineFigures,
    rows: Sequence[BenchWay],
    measured: Mapping[str, Measurement],
) -> tuple[TrainingFigures, ...]:
    """One row per way to train, in order."""
    naive = measured[NAIVE]
    library = next(
        (measured[row.name] for row in rows if row.task.role == "library training"), None
    )
    flops = flops_per_token(config.model, data.vocab_size)
    figures = []
    for row in rows:
        found = measured[row.name]
        speed = spread(found.speeds)
        gflops = flops * speed.median / 1e9
        peak = found.turns[-1].peak_bytes
        figures.append(
            TrainingFigures(
                name=row.name,
                numbers=found.ready.numbers,
                threads=found.ready.threads,
                tokens_per_second=speed,
                ratio=ratio(found.speeds, naive.speeds),
                ratio_to_library=None if library is None else ratio(found.speeds, library.speeds),
                peak_bytes=peak,
                peak_share=peak / naive.turns[-1].peak_bytes,
                gflops=gflops,
                gemm_share=gflops / machine.gflops[found.ready.numbers],
                first_loss=found.warm_up.first or 0.0,
                first_tokens=found.warm_up.tokens,
                turns=len(found.turns),
                steps=sum(turn.steps for turn in found.turns),
                epoch_seconds=_epoch_seconds(config, data, speed.median),
            )
        )
    return tuple(figures)


def sampling_figures(
    config: RunConfig,
    data: BenchData,
    machine: MachineFigures,
    rows: Sequence[BenchWay],
    measured: Mapping[str, Measurement],
) -> tuple[SamplingFigures, ...]:
    """One row per way to continue a prompt, in order."""
    count = parameter_count(config.model, data.vocab_size)
    # A token reads one row of the embedding, and all of the layers and the head.
    read = FLOAT_BYTES * (
        sum(count.layers) + config.model.hidden_size * data.vocab_size + data.vocab_size
    )
    naive = {
        row.task.config.sampling.greedy: measured[row.name]
        for row in rows
        if row.task.role == "naive sampling"
    }
    figures = []
    for row in rows:
        found, greedy = measured[row.name], row.task.config.sampling.greedy
        speed = spread(found.speeds)
        bandwidth = machine.bandwidth_one if found.ready.threads == 1 else machine.bandwidth
        figures.append(
            SamplingFigures(
                name=row.name,
                greedy=greedy,
                turns=len(found.turns),
                threads=found.ready.threads,
                tokens_per_second=speed,
                ratio=ratio(found.speeds, naive[greedy].speeds),
                first_token_seconds=spread([turn.first or 0.0 for turn in found.turns]).median,
                bandwidth_share=read * speed.median / bandwidth,
                same_tokens=found.warm_up.ids == naive[greedy].warm_up.ids if greedy else None,
            )
        )
    return tuple(figures)


def _epoch_seconds(config: RunConfig, data: BenchData, speed: float) -> float | None:
    """Seconds of one pass over the config's own text; of a missing text only the news has a known
    length."""
    steps = data.steps_per_epoch
    if not data.own:
        if config.corpus.source != NEWS or config.training.data_mode != "sentences":
            return None
        steps = math.ceil(SENTENCES / config.training.batch_size)
    return steps * data.tokens_per_step / speed


TURN_SECONDS = 1.5
MIN_ROUNDS = 3
MAX_SECONDS = 3_600.0
MACHINE_SECONDS = 0.6
"""Length of a turn of the machine task."""

WARM_UP_STEPS = 3
"""Training steps before the measured turns, the same for every way."""

NEIGHBOUR_WAYS = 4
"""Turns per round: two environments, alone and next to the busy process."""

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
            "notes": report.notes + ((crowded,) if cores > NOTICEABLE_CORES else ()),
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
    it
    keeps it, so all count.
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
        self._options, self._config, self._say, self._folder, self._stack = (
            options,
            options.config,
            say,
            folder,
            stack,
        )
        self._data = self._prepare()
        self._machine = self._child("the machine", self._task("machine"), WORKER_SETTINGS)
        self._survey = self._machine.ready(MachineSurvey)
        self._ways = training_rows(self._config, self._survey, self._data)
        if options.only in (None, "training"):
            check_memory(self._config, self._data, self._survey, self._ways)
        self._peaks: list[MachineTurn] = []

    def report(self) -> BenchReport:
        """Measure everything and return the report."""
        options, config, data, survey, ways = (
            self._options,
            self._config,
            self._data,
            self._survey,
            self._ways,
        )
        instead = "" if data.own else " instead of the preset's own text"
        self._say(
            f"{survey.device}; {data.title}{instead}, {data.used:.0%} of the positions are tokens"
        )
        weights = self._folder / "weights.safetensors"
        training, sampling, neighbour = (
            options.only in (None, "training"),
            options.only in (None, "sampling"),
            options.neighbour or options.only == "neighbour",
        )
        draws = sampling_rows(config, data, str(weights) if training else "")
        self._say(
            self._time_words(
                training * len(ways) + sampling * len(draws) + neighbour * NEIGHBOUR_WAYS,
                training + sampling,
            )
        )
        trained = self._train(ways, weights) if training else {}
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
        trained model."""
        children = self._children(rows)
        measured = self._measure(children, "training", TurnRequest(seconds=0, least=WARM_UP_STEPS))
        children[next(row.name for row in rows if row.task.role == "engine training")].ask(
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
        self, children: Mapping[str, Child], what: str, warm_up: TurnRequest
    ) -> dict[str, Measurement]:
        """Warm up all ways one after the other, then give each a turn per round."""
        ready = {name: child.ready(TaskReady) for name, child in children.items()}
        found: dict[str, Measurement] = {}
        for name, child in children.items():
            self._say(f"{what}: warming up {name}")
            found[name] = Measurement(ready[name], child.ask(warm_up, TurnDone))
        for _ in self._rounds(what, ways=len(children)):
            for name, child in children.items():
                found[name].turns.append(
                    child.ask(TurnRequest(seconds=self._options.turn_seconds), TurnDone)
                )
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
        log = self._folder / f"{name.replace(' ', '-')}.log"
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


def bench_config(preset: str, device: str, assignments: Sequence[str] = ()) -> RunConfig:
    """The preset with these changes, on this device, always in fast mode.

    Raises:
        InputError: unknown preset; suggests similar ones.
        ConfigError: lists every problem of the device name and the changes.
    """
    changes = {
        **parse_assignments(list(assignments)),
        "training.device": device,
        "training.deterministic": False,
    }
    return parse_config(merge(find_preset(preset), changes))
