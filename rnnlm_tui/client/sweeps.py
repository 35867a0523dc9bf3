"""Sweeps: a grid or random draws of settings as runs in the queue, and what they found.

Nothing is stored beside the runs: a sweep is a tag of its runs, and the swept keys are those in
which their configs differ.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count, product
from operator import attrgetter, itemgetter
from random import Random
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.client.arrangement import RunGroup, group_runs
from rnnlm_tui.errors import (
    ConfigError,
    InputError,
    Problem,
    RnnlmError,
    RunNameError,
    did_you_mean,
)
from rnnlm_tui.schema.filters import ConfigOf, best_perplexity, find_key
from rnnlm_tui.schema.formatting import counted, perplexity_text, plain, read_number
from rnnlm_tui.schema.formatting import figure as figure_of
from rnnlm_tui.schema.status import PRUNED
from rnnlm_tui.store.labels import MOST_TAG_CHARACTERS, SWEEP, check_tags
from rnnlm_tui.store.paths import RunDirectory, check_run_name

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.lineage import ParentCheckpoint


MOST_RUNS = 10_000
_RANGE = re.compile(r"(?P<log>log:)?(?P<low>.+?)\.\.(?P<high>.+)")
_DIGITS = 4
"""Significant digits of a drawn number."""
_NAME = MOST_TAG_CHARACTERS - len(SWEEP)
MOST_VALUES = 8
"""The values of a numeric key with more of them are compared in three ranges."""
SEED = ".seed"
"""How keys end that aren't settings: runs that differ in them alone have a mean and a spread."""
Settings = Mapping[str, object]
"""Values of the swept keys by dotted path."""


class Range(NamedTuple):
    """Numbers to draw from."""

    low: float
    high: float
    log: bool
    """Whether their logarithms are uniform."""
    whole: bool

    def draw(self, source: Random) -> float:
        """A number between both ends."""
        low, high = self.low, self.high + self.whole  # a whole number is rounded down
        if self.log:
            drawn = math.exp(source.uniform(math.log(low), math.log(high)))
        else:
            drawn = source.uniform(low, high)
        if self.whole:
            return min(int(self.high), max(int(low), int(drawn)))
        return min(high, max(low, float(f"{drawn:.{_DIGITS}g}")))


Choices = Sequence[object] | Range


def parse_sweep(assignments: Iterable[str], *, drawn: bool) -> dict[str, Choices]:
    """Parse `KEY=a,b,c`, and for random draws also `KEY=a..b` and `KEY=log:a..b`.

    Raises:
        ConfigError: all unknown keys and all values that are invalid whatever the others are.
    """
    from rnnlm_tui.schema.validation import fields, parse_assignments, value_problems

    found: dict[str, Choices] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path, values = path.strip(), list[object]()
        numeric = path in fields() and fields()[path].kind in ("whole", "number")
        between = _RANGE.fullmatch(text.strip()) if numeric else None
        parts = [between["low"], between["high"]] if between else _split(text)
        for part in parts:
            try:
                values += parse_assignments([f"{path}{equals}{part}"]).values()
            except ConfigError as error:
                problems += error.problems
        if len(values) < len(parts):
            continue
        if path in found:
            problems.append(Problem(path, "is swept twice", "write all of its values once"))
        if not all(part.strip() for part in parts):
            problems.append(Problem(path, "has an empty value", f"write {path}=a,b,c"))
            continue
        wrong = [problem for value in values for problem in value_problems(path, value)]
        problems += wrong
        if between and not wrong:
            low, high = (value for value in values if isinstance(value, int | float))
            if not drawn:
                problems.append(Problem(path, "has a range", "--sweep-random N draws from it"))
            elif low >= high or (between["log"] and low <= 0):
                least = "0" if low < high else plain(high)
                sign = "above" if low < high else "below"
                problems.append(Problem(path, f"starts at {plain(low)}, must be {sign} {least}"))
            found[path] = Range(low, high, bool(between["log"]), fields()[path].kind == "whole")
        else:
            found[path] = values
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return found


def _split(text: str) -> list[str]:
    """The values between commas; one with a comma is in double quotes."""
    return next(csv.reader([text], skipinitialspace=True), [""])


def grid_size(choices: Mapping[str, Choices]) -> int:
    """The number of a grid's settings."""
    return math.prod(len(values) for values in choices.values() if not isinstance(values, Range))


def settings_of(choices: Mapping[str, Choices], draws: int = 0, seed: int = 0) -> list[Settings]:
    """All settings of a grid, or random draws, each once."""
    if draws:
        source = Random(seed)
        rows: Iterable[Iterable[object]] = (
            [
                values.draw(source) if isinstance(values, Range) else source.choice(values)
                for values in choices.values()
            ]
            for _ in range(draws)
        )
    else:
        rows = product(*(values for values in choices.values() if not isinstance(values, Range)))
    once = dict.fromkeys(map(tuple, rows))
    return [dict(zip(choices, row, strict=True)) for row in once]


def configs_of(
    base: RunConfig, settings: Sequence[Settings], parent: ParentCheckpoint | None = None
) -> list[RunConfig]:
    """The configs of a sweep's runs, with absolute paths, checked as `start_run` checks one.

    Raises:
        ConfigError: all settings that contradict each other, or can't run here.
        InputError: what has nothing to do with the swept keys.
    """
    from rnnlm_tui.client.start import check_before_start
    from rnnlm_tui.schema.validation import merge, parse_config
    from rnnlm_tui.store.lineage import check_fits
    from rnnlm_tui.store.runs import with_absolute_paths

    configs: list[RunConfig] = []
    problems: list[Problem] = []
    checked: set[object] = set()
    for one in settings:
        try:
            config = with_absolute_paths(parse_config(merge(base, one)))
            parts = config.corpus, config.tokenizer, config.training
            if parts not in checked:
                checked.add(parts)
                check_before_start(config)
            if parent is not None:
                check_fits(config, parent)
            configs.append(config)
        except ConfigError as error:
            problems += (_named(problem, one) for problem in error.problems)
        except InputError as error:
            swept = {path: value for path, value in one.items() if not path.startswith("model.")}
            if not swept:
                raise
            problems.append(Problem(words_of(swept), error.message, error.hint))
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return configs


def _named(problem: Problem, settings: Settings) -> Problem:
    """The problem with those swept values that it may come from."""
    from rnnlm_tui.schema.rules import dependent_fields

    related = {problem.path, *dependent_fields(problem.path)}
    own = {path: value for path, value in settings.items() if path in related} or settings
    return Problem(words_of(own), f"{problem.path} {problem.message}", problem.hint)


def words_of(settings: Settings) -> str:
    """`optimizer.learning_rate=0.001, training.seed=2`."""
    return ", ".join(
        f"{path}={value:g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in settings.items()
    )


def name_of(configs: Iterable[RunConfig]) -> str:
    """A sweep's name if none is given: the same for the same configs, so that the same command
    completes a sweep that was interrupted."""
    from rnnlm_tui.schema.toml import toml_text
    from rnnlm_tui.schema.validation import config_to_raw

    texts = sorted(toml_text(config_to_raw(config)) for config in configs)
    return f"sweep-{sha256(''.join(texts).encode()).hexdigest()[:4]}"


def check_name(name: str) -> str:
    """The tag of a sweep with this name.

    Raises:
        InputError: the name is invalid.
    """

    if len(name) > _NAME:
        raise InputError(
            f'the sweep\'s name "{name[:64]}" has {counted(len(name), "character")}: at most'
            f" {_NAME} are allowed",
            hint="shorten it",
        )
    check_run_name(f"{name}-1")
    return check_tags([SWEEP + name])[0]


class Queued(NamedTuple):
    """What `queue_sweep` did, by names of runs."""

    created: list[str]
    again: list[str]
    """Drafts that were there and didn't wait in the queue."""
    known: list[str]
    """Other runs of the sweep with a wanted config."""


def queue_sweep(
    name: str,
    configs: Iterable[RunConfig],
    parent: ParentCheckpoint | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> Queued:
    """Create the runs that a sweep doesn't have yet, and put its drafts into the queue.

    A run is named, tagged and complete or not there at all: an interrupted call is completed by the
    next.

    Args:
        report: called with the number of created runs.

    Raises:
        InputError: the name is invalid.
        StorageError: a run or the queue can't be written.
        WorkerError: the queue's process failed to start; the runs wait.
    """
    from rnnlm_tui.client.queue import add_drafts
    from rnnlm_tui.store.runs import create_run, tagged_runs

    tag = check_name(name)
    there: dict[RunConfig, RunDirectory] = {}
    for run in tagged_runs(tag):
        with suppress(RnnlmError):
            there[run.read_config()] = run
    names, created, known = _free_names(name), list[RunDirectory](), list[RunDirectory]()
    for config in configs:
        if config in there:
            known.append(there[config])
        else:
            created.append(create_run(config, next(names), parent, tags=[tag]))
            report(len(created))
    added = add_drafts([*known, *created])
    again = [run.name for run in known if run.name in added]
    others = [run.name for run in known if run.name not in added]
    return Queued([run.name for run in created], again, others)


def _free_names(name: str) -> Iterator[str]:
    from rnnlm_tui.store.runs import check_name_free

    for number in count(1):
        with suppress(RunNameError):
            check_name_free(f"{name}-{number}")
            yield f"{name}-{number}"


# what a sweep found

READS: Mapping[str, Callable[[RunSummary], float | None]] = {
    "ppl": best_perplexity,
    "bits": lambda run: run.validation.bits_per_byte,
}
"""A run's figure by the name of the measure."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs of a sweep with the same values of its keys, which differ in their seeds at most."""

    values: tuple[tuple[str, str], ...]
    """(key, value) of each swept key."""
    runs: tuple[RunSummary, ...]
    """The best first."""
    figure: float | None
    """The run's, or the mean over the seeds; None if none was evaluated."""
    deviation: float | None
    """The standard deviation over the seeds; None with fewer than two."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a swept key does: the best figure of the settings with each of its values."""

    key: str
    figures: tuple[tuple[str, float], ...]
    """(value, best figure), the best first; at least one."""

    @property
    def spread(self) -> float | None:
        """The worst of the best figures minus the best one; None with fewer than two."""
        return self.figures[-1][1] - self.figures[0][1] if len(self.figures) > 1 else None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep's runs by their settings."""

    name: str
    runs: tuple[RunSummary, ...]
    keys: tuple[str, ...]
    """The swept keys, without seeds."""
    seeds: int
    """The number of different seeds."""
    measure: str
    """The figure: `ppl`, or `bits` per byte if texts or tokenizers differ."""
    settings: tuple[Setting, ...]
    """The best first."""
    effects: tuple[Effect, ...]
    """The largest spread first."""


def sweeps_in(runs: Iterable[RunSummary]) -> dict[str, list[RunSummary]]:
    """The runs of each sweep by its name, in their order."""
    found: dict[str, list[RunSummary]] = {}
    for run in runs:
        for tag in run.tags:
            if tag.startswith(SWEEP):
                found.setdefault(tag.removeprefix(SWEEP), []).append(run)
    return found


def find_sweep(name: str, known: Collection[str]) -> str:
    """The sweep of this name, or the only one whose name starts with it.

    Raises:
        InputError: no sweep matches, or several do.
    """
    matches = [one for one in known if name and one.startswith(name)]
    if name in known or len(matches) == 1:
        return name if name in known else matches[0]
    if matches:
        found = f'"{name}" matches {counted(len(matches), "sweep")}: {", ".join(matches)}'
        raise InputError(found, hint="type more of the name")
    hint = did_you_mean(name, known) or "`rnnlm-tui sweep` lists them"
    raise InputError(f'no sweep "{name}"', hint=hint)


def read_sweep(name: str, runs: Sequence[RunSummary], config_of: ConfigOf) -> Sweep:
    """Group a sweep's runs by the keys in which their configs differ."""
    from rnnlm_tui.schema.validation import fields

    configs = [config for run in runs if (config := config_of(run.run)) is not None]
    values = {path: set(map(attrgetter(path), configs)) for path in fields()}
    differ = [path for path, found in values.items() if len(found) > 1]
    keys = [find_key(path) for path in differ if not path.endswith(SEED)]
    seeds = max((len(values[path]) for path in differ if path.endswith(SEED)), default=1)
    texts = {run.corpus_hash for run in runs if run.corpus_hash}
    measure = "ppl" if len(texts) < 2 else "bits"
    read = READS[measure]

    paths = [key.name for key in keys]
    settings = [
        _setting(group, tuple(zip(paths, map(itemgetter(1), group.values), strict=True)), read)
        for group in group_runs(reversed(runs), keys, config_of)  # oldest first
    ]
    effects = [effect for path in paths if (effect := _effect(path, settings)).figures]
    return Sweep(
        name=name,
        runs=tuple(runs),
        keys=tuple(paths),
        seeds=seeds,
        measure=measure,
        settings=tuple(sorted(settings, key=lambda one: _rank(one.figure))),
        effects=tuple(sorted(effects, key=lambda one: -(one.spread or 0.0))),
    )


def _setting(
    group: RunGroup, values: tuple[tuple[str, str], ...], read: Callable[[RunSummary], float | None]
) -> Setting:
    runs = sorted(group.runs, key=lambda run: _rank(read(run)))
    figures = [figure for run in runs if (figure := read(run)) is not None]
    return Setting(
        values,
        tuple(runs),
        mean(figures) if figures else None,
        stdev(figures) if len(figures) > 1 else None,
    )


def _effect(path: str, settings: Iterable[Setting]) -> Effect:
    best: dict[str, float] = {}
    for setting in settings:
        value, figure = dict(setting.values)[path], setting.figure
        if figure is not None:
            best[value] = min(figure, best.get(value, figure))
    if len(best) > MOST_VALUES and all(read_number(value) is not None for value in best):
        ordered = sorted(best, key=float)
        third = math.ceil(len(ordered) / 3)
        parts = [ordered[at : at + third] for at in range(0, len(ordered), third)]
        best = {f"{part[0]}…{part[-1]}": min(map(best.__getitem__, part)) for part in parts}
    return Effect(path, tuple(sorted(best.items(), key=lambda one: _rank(one[1]))))


def _rank(figure: float | None) -> float:
    return math.inf if figure is None or math.isnan(figure) else figure


def state_of(run: RunSummary, waiting: Collection[str]) -> str:
    """`waiting`, `pruned`, or a run's status.

    Args:
        waiting: the runs that wait in the queue.
    """
    if run.run in waiting:
        return "waiting"
    pruned = run.status == "stopped" and (run.message or "").startswith(PRUNED)
    return "pruned" if pruned else run.status


def states_words(sweep: Sweep, waiting: Collection[str]) -> str:
    """`8 runs: 5 finished, 1 failed, 2 waiting`."""
    states = Counter(state_of(run, waiting) for run in sweep.runs)
    found = ", ".join(f"{number} {state}" for state, number in states.most_common())
    return f"{counted(len(sweep.runs), 'run')}: {found}"


def figure_text(sweep: Sweep, figure: float | None, deviation: float | None = None) -> str:
    """`41.2`, `41.2 ± 0.3`; three decimals of bits per byte."""
    write = perplexity_text if sweep.measure == "ppl" else partial(figure_of, digits=3)
    return write(figure) + ("" if deviation is None else f" ± {write(deviation)}")
