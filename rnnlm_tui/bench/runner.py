"""Run a `bench`: the text, then the ways to train and to sample, in alternating turns."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rnnlm_tui import __version__
from rnnlm_tui.bench.children import NOTICEABLE_CORES, Child, OtherProcesses
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    BenchReport,
    Kind,
    ProcessFigures,
    Ready,
    SamplingFigures,
    TextFigures,
    TrainingFigures,
    Turn,
    ratio,
    spread,
)
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.gpus import process_problems, unused_gpu_warning
from rnnlm_tui.client.sampler import SAMPLER_SETTINGS
from rnnlm_tui.errors import ConfigError, InputError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import gradient_bytes, sent_bytes
from rnnlm_tui.schema.formatting import counted, duration, percent
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.presets import preset as find_preset
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config

TURN_SECONDS = 1.5
MIN_ROUNDS = 3
MAX_SECONDS = 3_600.0
WARM_UP_STEPS = 3
"""Training steps before the measured turns, the same for every way."""
PROGRESS_SECONDS = 2.0
"""A phase of the preparation is reported when it begins, and then this often."""
MAX_OVERTIME = 3.0
"""Rounds end early, but not before `MIN_ROUNDS`, when they take this many times as long as
planned."""
LIBRARY_NAMES: Mapping[str, str] = {"elman": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}
"""torch's modules by cell."""
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
"""Processes of this machine that share each batch need no name with an address."""
LEFT_OUT = "left out: "
"""A note that begins with it names a way that failed."""

Part = Literal["training", "sampling"]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of one `bench`."""

    config: RunConfig
    seconds: float = 20.0
    """Approximate computing time per way."""
    only: Part | None = None
    """Only this part; None: both."""
    processes: tuple[int, ...] = ()
    """Only training by so many processes that share each batch; empty: the parts."""
    logs: Path | None = None
    """Folder that keeps what the children print; None: nothing does."""

    @property
    def rounds(self) -> int:
        """Maximum turns per way."""
        return max(MIN_ROUNDS, round(self.seconds / TURN_SECONDS))


@dataclass(eq=False, slots=True)
class Way:
    """One way to train or sample, and what it did."""

    name: str
    kind: Kind
    child: Child
    others: Sequence[Child] = ()
    """Those that share each batch with it."""
    ready: Ready = field(init=False)
    warm_up: Turn = field(init=False)
    turns: list[Turn] = field(default_factory=list)
    alone: list[Turn] = field(default_factory=list)
    """Turns of several processes that don't add up their gradients."""

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each turn."""
        return [turn.speed for turn in self.turns]

    def answer(self) -> Any:
        """The child's answer, after the others' have come; raises as `Child.answer`."""
        *_, own = [child.answer() for child in (*self.others, self.child)]
        return own

    def ask(self, method: str, **arguments: object) -> Any:
        """Call a method of each child's program, at the same time; raises as `answer`."""
        for child in (self.child, *self.others):
            child.call(method, arguments)
        return self.answer()


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


def process_counts(words: str | None) -> tuple[int, ...]:
    """The numbers of processes in `1,2,4`, from the smallest on; one is always among them.

    Raises:
        InputError: not such numbers.
    """
    counts = [] if words is None else words.split(",")
    if not all(count.strip().isdecimal() and int(count) for count in counts):
        raise InputError(f'--processes is "{words}", must be numbers such as 1,2,4')
    return tuple(sorted({1, *map(int, counts)})) if counts else ()


def run_bench(options: BenchOptions, say: Report) -> BenchReport:
    """Measure. The child processes end with this function, however it ends.

    Args:
        say: called with progress messages.

    Raises:
        InputError: seconds out of range, not enough memory for the naive loop, unknown device.
        ConfigError: more processes than GPUs or rows of a batch.
        WorkerError: a child died.
    """
    if not 0 < options.seconds <= MAX_SECONDS:
        raise InputError(
            f"--seconds must be above 0 and at most {MAX_SECONDS:,.0f}, not {options.seconds:g}"
        )
    if options.processes and options.only:
        raise InputError("--only and --processes are mutually exclusive")
    if options.processes and (problems := process_problems(options.config, options.processes[-1])):
        raise ConfigError(problems)
    others, notes = OtherProcesses(), list[str]()
    if unused := unused_gpu_warning(options.config.training.device, "measures"):
        notes.append(unused)
        say(f"warning: {unused}")
    with (
        _terminable(),
        tempfile.TemporaryDirectory(prefix="rnnlm-tui-bench-") as folder,
        ExitStack() as stack,
    ):
        report = _Bench(options, say, Path(folder), stack, notes).report()
    cores = round(others.cores(), 2)
    if cores > NOTICEABLE_CORES:
        notes.append(
            f"other processes used {cores:.1f} cores meanwhile: speeds are too low and ratios less"
            " certain"
        )
    return report.model_copy(update={"others_cores": cores, "notes": tuple(notes)})


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


class _Bench:
    """A running bench; the stack ends every child."""

    def __init__(
        self, options: BenchOptions, say: Report, folder: Path, stack: ExitStack, notes: list[str]
    ) -> None:
        self._options, self._config, self._say = options, options.config, say
        self._folder, self._stack, self._notes = folder, stack, notes

    def report(self) -> BenchReport:
        """Measure everything and return the report."""
        options, config = self._options, self._config
        shared = options.processes
        training = not shared and options.only != "sampling"
        sampling = not shared and options.only != "training"
        text = self._prepare()
        names = self._training_names()
        count = training * len(names) + sampling * 2 + sum(1 + (one > 1) for one in shared)
        self._say(
            f"{count} ways, {options.seconds:g} s each: about {duration(count * options.seconds)},"
            " longer if a step or continuation takes longer than a turn"
        )
        weights = self._folder / "weights.safetensors" if training else None
        trained = self._train(names, text, weights) if weights is not None else []
        drawn = self._sample(text, weights) if sampling else []
        teams = self._train_together(text) if shared else []
        ready = (*trained, *drawn, *teams)[0].ready
        return BenchReport(
            version=__version__,
            preset=config.preset,
            seconds=options.seconds,
            device=ready.device,
            torch=ready.torch,
            others_cores=0.0,
            data=text,
            training=training_figures(text, trained) if trained else (),
            sampling=sampling_figures(drawn, greedy=config.sampling.is_greedy) if drawn else (),
            processes=process_figures(config, text.vocab_size, shared, teams) if shared else (),
        )

    def _prepare(self) -> TextFigures:
        self._say("preparing the text")
        shown, next_time = "", 0.0

        def tell(progress: Progress) -> None:
            nonlocal shown, next_time
            now = time.monotonic()
            if progress.phase != shown or now >= next_time:
                shown, next_time = progress.phase, now + PROGRESS_SECONDS
                done = f" {percent(progress.done / progress.total)}" if progress.total else ""
                self._say(f"preparing the text: {progress.phase}{done}")

        child = self._child("the text", "text", {}, folder=self._folder / "corpora")
        text: TextFigures = child.answer(tell)
        child.close()
        instead = ""
        if not text.own:
            instead = " instead of the preset's own text"
            self._notes.append(
                f"the preset's own text is not prepared on this machine: {text.title} instead,"
                f" {text.tokenizer} tokens of {counted(text.corpus_vocab_size, 'type')} in a"
                f" vocabulary of {text.vocab_size:,}"
            )
        self._say(f"{text.title}{instead}, {text.used:.0%} of the positions are tokens")
        return text

    def _training_names(self) -> dict[Kind, str]:
        library = LIBRARY_NAMES.get(self._config.model.cell_type)
        names: dict[Kind, str] = {"naive": "naive"}
        return {**names, **({"library": library} if library else {}), "engine": "engine"}

    def _train(self, names: Mapping[Kind, str], text: TextFigures, weights: Path) -> list[Way]:
        """Measure every way to train, and save the engine's weights, so that sampling uses a
        trained model. torch's own layers are left out if they fail."""
        ways = [
            Way(
                name,
                kind,
                self._child(
                    name,
                    "training",
                    WORKER_SETTINGS if kind == "engine" else {},
                    kind=kind,
                    text=text,
                ),
            )
            for kind, name in names.items()
        ]
        self._measure(ways, "training", {"seconds": 0.0, "least": WARM_UP_STEPS})
        ways[-1].ask("save", path=weights)
        for way in ways:
            way.child.close()
        return ways

    def _train_together(self, text: TextFigures) -> list[Way]:
        """Measure training by each number of processes; by several also without adding up their
        gradients."""
        ways = []
        for count in self._options.processes:
            child, *others = [
                self._child(
                    f"process {rank + 1} of {count}",
                    "training",
                    WORKER_SETTINGS | LOOPBACK,
                    kind="engine",
                    text=text,
                    store=self._folder / f"store of {count}",
                    rank=rank,
                    processes=count,
                )
                for rank in range(count)
            ]
            ways.append(Way(counted(count, "process", "processes"), "engine", child, others))
        self._measure(ways, "training", {"seconds": 0.0, "least": WARM_UP_STEPS})
        return ways

    def _sample(self, text: TextFigures, weights: Path | None) -> list[Way]:
        """Measure the naive way to continue a prompt, with torch's default threads, and ours, with
        one, as the sampler does."""
        alone = self._config.training.model_copy(update={"threads": 1})
        configs: dict[Kind, RunConfig] = {
            "naive": self._config,
            "engine": self._config.model_copy(update={"training": alone}),
        }
        ways = [
            Way(
                kind,
                kind,
                self._child(
                    kind,
                    "sampling",
                    SAMPLER_SETTINGS if kind == "engine" else {},
                    kind=kind,
                    text=text,
                    weights=weights,
                    greedy=config.sampling.is_greedy,
                    config=config,
                ),
            )
            for kind, config in configs.items()
        ]
        self._measure(ways, "sampling", {"seconds": 0.0, "tokens": COMPARED_TOKENS})
        for way in ways:
            way.child.close()
        return ways

    def _measure(self, ways: list[Way], what: str, warm_up: Mapping[str, object]) -> None:
        """Warm up all ways one after the other, then give each a turn per round.

        torch's own layers may fail: then they leave `ways`, and a note says why.
        """

        def each(work: Callable[[Way], None]) -> None:
            for way in list(ways):
                try:
                    work(way)
                except RnnlmError as error:
                    if way.kind != "library":
                        raise
                    self._notes.append(f"{LEFT_OUT}{way.name}: {error.message}")
                    self._say(self._notes[-1])
                    way.child.close()
                    ways.remove(way)

        def start(way: Way) -> None:
            way.ready = way.answer()

        def warm(way: Way) -> None:
            self._say(f"{what}: warming up {way.name}")
            way.warm_up = way.ask("turn", **warm_up)

        def turn(way: Way) -> None:
            way.turns.append(way.ask("turn", seconds=seconds / rounds))
            if way.others:
                way.alone.append(way.ask("turn", seconds=seconds / rounds, adds_up=False))

        seconds, rounds = self._options.seconds, self._options.rounds
        each(start)  # all of them: none is warmed up while others import
        each(warm)
        until = time.monotonic() + MAX_OVERTIME * len(ways) * seconds
        for number in range(1, rounds + 1):
            if number > MIN_ROUNDS and time.monotonic() > until:
                return
            self._say(f"{what}: round {number} of {rounds}")
            each(turn)

    def _child(
        self, name: str, program: str, settings: Mapping[str, str], **arguments: object
    ) -> Child:
        log = (self._options.logs or self._folder) / f"{program}-{name.replace(' ', '-')}.log"
        child = Child(name, program, {"config": self._config, **arguments}, log, settings)
        self._stack.callback(child.close)
        return child


def training_figures(text: TextFigures, ways: Sequence[Way]) -> tuple[TrainingFigures, ...]:
    """One row per way to train, in order."""
    naive = ways[0]
    library = next((way for way in ways if way.kind == "library"), None)
    figures = []
    for way in ways:
        speed, peak, steps = spread(way.speeds), way.turns[-1].peak_bytes, text.steps_per_epoch
        figures.append(
            TrainingFigures(
                name=way.name,
                numbers=way.ready.numbers,
                threads=way.ready.threads,
                turns=len(way.turns),
                tokens_per_second=speed,
                ratio=ratio(way.speeds, naive.speeds),
                ratio_to_library=None if library is None else ratio(way.speeds, library.speeds),
                peak_bytes=peak,
                peak_share=peak / naive.turns[-1].peak_bytes,
                first_loss=way.warm_up.first,
                first_tokens=way.warm_up.tokens,
                steps=sum(turn.steps for turn in way.turns),
                epoch_seconds=steps and steps * text.tokens_per_step / speed.median,
            )
        )
    return tuple(figures)


def sampling_figures(ways: Sequence[Way], *, greedy: bool) -> tuple[SamplingFigures, ...]:
    """One row per way to continue a prompt, in order."""
    naive = ways[0]
    return tuple(
        SamplingFigures(
            name=way.name,
            threads=way.ready.threads,
            turns=len(way.turns),
            tokens_per_second=spread(way.speeds),
            ratio=ratio(way.speeds, naive.speeds),
            first_token_seconds=spread([turn.first for turn in way.turns]).median,
            same_tokens=way.warm_up.ids == naive.warm_up.ids if greedy else None,
        )
        for way in ways
    )


def process_figures(
    config: RunConfig, vocab_size: int, counts: Sequence[int], ways: Sequence[Way]
) -> tuple[ProcessFigures, ...]:
    """One row for each number of processes."""
    figures, gradients, one = [], gradient_bytes(config, vocab_size), ways[0]
    for count, way in zip(counts, ways, strict=True):
        hardware = float(count)
        if way.ready.device.startswith("cpu"):  # cores, not GPUs
            hardware *= way.ready.threads / one.ready.threads
        pairs = zip(way.turns, way.alone, strict=False)
        waits = [1 - both.speed / alone.speed for both, alone in pairs]
        ratios = ratio(way.speeds, one.speeds)
        figures.append(
            ProcessFigures(
                name=way.name,
                processes=count,
                threads=way.ready.threads,
                turns=len(way.turns),
                tokens_per_second=spread(way.speeds),
                ratio=ratios,
                efficiency=ratios.median / hardware,
                communication=spread(waits) if waits else None,
                gradient_bytes=gradients if count > 1 else 0,
                sent_bytes=sent_bytes(gradients, count),
            )
        )
    return tuple(figures)
