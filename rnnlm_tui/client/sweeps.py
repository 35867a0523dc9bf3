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
from hashlib import sha256
from itertools import count, product
from operator import attrgetter
from random import Random
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnlm_tui.client.arrangement import RunGroup, group_runs
from rnnlm_tui.errors import Adjustment, ConfigError, Problem, RnnlmError, RunStateError
from rnnlm_tui.schema.filters import ConfigOf, best_perplexity, find_key
from rnnlm_tui.schema.formatting import counted, figure, first_of, plain
from rnnlm_tui.schema.status import PRUNED
from rnnlm_tui.store.labels import SWEEP, check_tags
from rnnlm_tui.store.log import logs_of
from rnnlm_tui.store.paths import runs_dir

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.lineage import ParentCheckpoint
    from rnnlm_tui.store.paths import RunDirectory

SEED = ".seed"
"""How keys end that aren't settings: runs that differ in them alone have a mean and a spread."""
_RANGE = re.compile(r"(?P<log>log:)?(?P<low>.+?)\.\.(?P<high>.+)")


class Range(NamedTuple):
    """Numbers to draw from."""

    low: float
    high: float
    log: bool
    """Whether their logarithms are uniform."""
    whole: bool

    def draw(self, source: Random) -> float:
        """A number between both ends, of four digits or whole."""
        low, high = self.low, self.high + self.whole  # a whole number is rounded down
        if self.log:
            drawn = math.exp(source.uniform(math.log(low), math.log(high)))
        else:
            drawn = source.uniform(low, high)
        found = int(drawn) if self.whole else float(f"{drawn:.4g}")
        return min(self.high, max(low, found))


Choices = Sequence[object] | Range


def parse_sweep(assignments: Iterable[str], *, drawn: bool) -> dict[str, Choices]:
    """Parse `KEY=a,b,c`, and for random draws also `KEY=a..b` and `KEY=log:a..b`.

    Raises:
        ConfigError: all unknown keys, and all values that are invalid on their own.
    """
    from rnnlm_tui.schema.validation import fields, parse_assignments, value_problems

    found: dict[str, Choices] = {}
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path, values, before = path.strip(), list[Any](), len(problems)
        kind = fields()[path].kind if path in fields() else ""
        ends = _RANGE.fullmatch(text.strip()) if kind in ("whole", "number") else None
        # a value with a comma is in double quotes
        parts = ends.group("low", "high") if ends else next(csv.reader([text]), []) or [""]
        if path in found:
            problems.append(Problem(path, "is given twice", "give all of its values at once"))
        for part in parts:
            try:
                values += parse_assignments([f"{path}{equals}{part}"]).values()
                problems += value_problems(path, values[-1])
            except ConfigError as error:
                problems += error.problems
        if ends is None or len(problems) > before:
            found[path] = values
            continue
        low, high = values
        if not drawn:
            problems.append(Problem(path, "has a range", "--sweep-random N draws from it"))
        elif low >= high or (ends["log"] and low <= 0):
            least = f"below {plain(high)}" if low >= high else "above 0 for log:"
            problems.append(Problem(path, f"starts at {plain(low)}, must start {least}"))
        found[path] = Range(low, high, bool(ends["log"]), kind == "whole")
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return found


def settings_of(
    choices: Mapping[str, Choices], draws: int = 0, seed: int = 0
) -> Iterator[dict[str, object]]:
    """All settings of a grid, or random draws: values of the swept keys by dotted path."""
    rows: Iterable[Sequence[object]] = product(*choices.values())
    if draws:
        source = Random(seed)
        rows = ([_drawn(one, source) for one in choices.values()] for _ in range(draws))
    return (dict(zip(choices, row, strict=True)) for row in rows)


def _drawn(choices: Choices, source: Random) -> object:
    return choices.draw(source) if isinstance(choices, Range) else source.choice(choices)


def configs_of(
    base: RunConfig,
    settings: Iterable[Mapping[str, object]],
    parent: ParentCheckpoint | None = None,
) -> list[RunConfig]:
    """The different configs of a sweep's runs with absolute paths, checked as a new run's is.

    Raises:
        ConfigError: all settings that contradict each other, the text or the parent.
        InputError: as `check_before_start`.
    """
    from rnnlm_tui.client.start import check_before_start
    from rnnlm_tui.schema.rules import dependent_fields
    from rnnlm_tui.schema.validation import merge, parse_config
    from rnnlm_tui.store.lineage import check_fits
    from rnnlm_tui.store.runs import with_absolute_paths

    configs: dict[RunConfig, None] = {}
    problems: dict[Problem, None] = {}
    checked: set[object] = set()
    for one in settings:
        try:
            config = with_absolute_paths(parse_config(merge(base, one)))
            parts = config.corpus, config.tokenizer, config.training.model_copy(update={"seed": 0})
            if parts not in checked:
                checked.add(parts)
                check_before_start(config)
            if parent is not None:
                check_fits(config, parent)
            configs[config] = None
        except ConfigError as error:
            for problem in error.problems:
                related = {problem.path, *dependent_fields(problem.path)} & one.keys() or one
                own = Adjustment.of({path: one[path] for path in one if path in related})
                words = str(own).removeprefix("--set ").replace(" --set ", ", ")
                problem = Problem(words, f"{problem.path} {problem.message}", problem.hint)
                problems[problem] = None
    if problems:
        raise ConfigError(problems)
    return list(configs)


def name_of(configs: Iterable[RunConfig], parent: ParentCheckpoint | None = None) -> str:
    """A sweep's name if none is given: the same for the same configs and parent, so that the same
    command completes a sweep that was interrupted."""
    texts = sorted(repr(config.model_dump()) for config in configs)
    texts += [parent.address, parent.optimizer] if parent is not None else []
    return f"sweep-{sha256(repr(texts).encode()).hexdigest()[:8]}"


def queue_sweep(
    name: str, configs: Iterable[RunConfig], parent: ParentCheckpoint | None = None
) -> Iterator[tuple[str, bool]]:
    """Create the runs that a sweep doesn't have yet, and put all of its drafts into the queue.

    A run appears with its tag, or not at all: an interrupted call is completed by the next.

    Yields:
        The name of each run, and whether it was put into the queue.

    Raises:
        InputError: the name is invalid.
        StorageError: a run or the queue can't be written.
        WorkerError: the queue's process failed to start; the runs wait.
    """
    from rnnlm_tui.client.queue import add_run, ensure_running
    from rnnlm_tui.store.lineage import read_parent
    from rnnlm_tui.store.runs import create_run, tagged_runs

    tags = check_tags([SWEEP + name])
    start = (parent.address, parent.optimizer) if parent is not None else None
    there: dict[RunConfig, RunDirectory] = {}
    for run in tagged_runs(*tags):
        with suppress(RnnlmError):
            its = read_parent(run)
            if start == (its and (f"{its.run}@{its.checkpoint}", its.optimizer)):
                there[run.read_config()] = run
    names = (f"{name}-{number}" for number in count(1))
    free = (one for one in names if not (runs_dir() / one).exists())
    for config in configs:
        run = there.get(config) or create_run(config, next(free), parent, tags=tags)
        added = False
        if not logs_of(run):
            with suppress(RunStateError):  # it waits already
                added = bool(add_run(run))
        yield run.name, added
    ensure_running()


# what a sweep found

READS: Mapping[str, Callable[[RunSummary], float | None]] = {
    "ppl": best_perplexity,
    "bits/byte": lambda run: run.validation.bits_per_byte,
}
"""A run's figure by the name of the measure; perplexities of different texts don't compare."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs of a sweep with the same values of its keys, which differ in their seeds at most."""

    group: RunGroup
    figure: float | None
    """The run's, or the mean over the seeds; None if none was evaluated."""
    deviation: float | None
    """The standard deviation over the seeds; None with fewer than two."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a swept key does."""

    key: str
    spread: float
    """The worst of the figures minus the best."""
    figures: tuple[tuple[str, float], ...]
    """Each value with the figure of its best setting, the best first."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep's runs by their settings."""

    name: str
    measure: str
    """One of `READS`."""
    settings: tuple[Setting, ...]
    """The best first."""
    effects: tuple[Effect, ...]
    """The largest spread first."""

    def rows(self, waiting: Collection[str]) -> Iterator[tuple[RunSummary, str, str, str]]:
        """Each run with its state (`waiting` in the queue, `pruned`, or its status), its figure and
        its setting."""
        for one in self.settings:
            several = "" if one.deviation is None else f": {self._text(one.figure, one.deviation)}"
            for run in one.group.runs:
                pruned = run.status == "stopped" and (run.message or "").startswith(PRUNED)
                state = "waiting" if run.run in waiting else "pruned" if pruned else run.status
                yield run, state, self._text(READS[self.measure](run)), one.group.label + several

    def effect_cells(self) -> list[tuple[str, str, str]]:
        """`optimizer.learning_rate`, `12.4`, `0.003 41.2, 0.01 43.0 and 2 more` of each key."""
        return [
            (
                effect.key,
                self._text(effect.spread),
                first_of([f"{one} {self._text(found)}" for one, found in effect.figures], 3),
            )
            for effect in self.effects
        ]

    def states_words(self, waiting: Collection[str]) -> str:
        """`8 runs: 5 finished, 1 failed, 2 waiting`."""
        states = Counter(state for _, state, *_ in self.rows(waiting))
        found = ", ".join(f"{number} {state}" for state, number in states.most_common())
        return f"{counted(states.total(), 'run')}: {found}"

    def _text(self, *figures: float | None) -> str:
        """`41.2 ± 0.30`; three decimals of bits per byte."""
        return " ± ".join(figure(one, None if self.measure == "ppl" else 3) for one in figures)


def sweeps_in(runs: Iterable[RunSummary]) -> dict[str, list[RunSummary]]:
    """The runs of each sweep by its name, in their order."""
    found: dict[str, list[RunSummary]] = {}
    for run in runs:
        for tag in run.tags:
            if tag.startswith(SWEEP):
                found.setdefault(tag.removeprefix(SWEEP), []).append(run)
    return found


def read_sweep(name: str, runs: Sequence[RunSummary], config_of: ConfigOf) -> Sweep:
    """Group a sweep's runs by the keys in which their configs differ."""
    from rnnlm_tui.schema.validation import fields

    configs = [config for run in runs if (config := config_of(run.run)) is not None]
    differ = [path for path in fields() if len(set(map(attrgetter(path), configs))) > 1]
    keys = [find_key(path) for path in differ if not path.endswith(SEED)]
    measure = (
        "ppl" if len({run.corpus_hash for run in runs if run.corpus_hash}) < 2 else "bits/byte"
    )
    groups = group_runs(reversed(runs), keys, config_of)  # oldest first
    settings = [_setting(group, READS[measure]) for group in groups]
    settings.sort(key=lambda one: math.inf if one.figure is None else one.figure)
    effects = (_effect(key.name, place, settings) for place, key in enumerate(keys))
    ordered = sorted(filter(None, effects), key=lambda one: -one.spread)
    return Sweep(name, measure, tuple(settings), tuple(ordered))


def _setting(group: RunGroup, read: Callable[[RunSummary], float | None]) -> Setting:
    figures = [found for run in group.runs if (found := read(run)) is not None]
    deviation = stdev(figures) if len(figures) > 1 and math.isfinite(sum(figures)) else None
    return Setting(group, mean(figures) if figures else None, deviation)


def _effect(key: str, place: int, settings: Iterable[Setting]) -> Effect | None:
    """None if nothing was evaluated."""
    best: dict[str, float] = {}
    for one in settings:
        if one.figure is not None and math.isfinite(one.figure):
            best.setdefault(one.group.values[place][1], one.figure)  # the first is the best
    figures = tuple(best.items())
    return Effect(key, figures[-1][1] - figures[0][1], figures) if figures else None
