"""Compare runs: the settings in which they differ, and their final and best results."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Literal

from pydantic import JsonValue

from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.formatting import (
    NOTHING,
    TEXT_NOT_KEPT,
    count,
    counted,
    disk,
    duration,
    exact,
    figure,
    perplexity_text,
    safe,
    scored_part_text,
    scored_share_text,
    share,
    short,
)
from rnnlm_tui.schema.metrics import MAX_UNKNOWN_SHARE, SAME_BYTES
from rnnlm_tui.schema.steering import JournalledChange, config_in_effect, kept_changes
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.validation import fields
from rnnlm_tui.store.paths import RunDirectory

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NEARLY = 0.05
"""Tokens, times or parameters are called equal up to this share."""
Better = Literal["lower", "higher", ""]


@dataclass(frozen=True, slots=True)
class Change:
    """A setting's new value from a step on."""

    step: int
    value: JsonValue


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the compared runs."""

    letter: str
    name: str
    summary: RunSummary
    config: RunConfig
    best_seconds: float | None
    """Training time at its best evaluation; None if unknown."""
    changes: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    """Settings changed by `set` during the run, by path, in order."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A config key in which the runs differ."""

    key: str
    """Dotted path, or `preset`."""
    values: tuple[str, ...]
    """Each run's value, formatted; not yet safe for a terminal."""
    found: tuple[object, ...]
    """Each run's value as in its config; one changed during the run is `{"value": 0.003, "changed":
    [{"step": 943, "value": 0.001}]}`."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A result of each run."""

    name: str
    values: tuple[float | None, ...]
    """None if a run has none (yet)."""
    shown: Callable[[float | None], str]
    """Formats a value."""
    better: Better = ""
    """Which values are better; empty: neither."""
    label: str = ""
    """The name with the evaluated split: `best test ppl`."""

    @property
    def words(self) -> tuple[str, ...]:
        """The values, formatted."""
        return tuple(NOTHING if value is None else self.shown(value) for value in self.values)

    @property
    def best(self) -> int | None:
        """Index of the best run; None if there is none, or the runs are equal."""
        known = [
            (value, index)
            for index, value in enumerate(self.values)
            if value is not None and math.isfinite(value)
        ]
        if not self.better or len({value for value, _ in known}) < 2:
            return None
        return (min if self.better == "lower" else max)(known)[1]

    @property
    def differences(self) -> tuple[str, ...]:
        """Each run's difference to the best, with the value's decimals: `+2.7`, `−17.7k`; empty for
        the best, for one that is shown as equal, and if nothing is comparable."""
        words, best = self.words, self.best
        top = None if best is None else self.values[best]
        if best is None or top is None:
            return ("",) * len(words)
        return tuple(
            ""
            if value is None or not math.isfinite(value) or shown == words[best]
            else f"{'−' if value < top else '+'}{self._as_fine(abs(value - top), shown)}"
            for value, shown in zip(self.values, words, strict=True)
        )

    def _as_fine(self, value: float, beside: str) -> str:
        _, point, decimals = beside.partition(".")
        fine = point and decimals.isdecimal()
        return f"{value:,.{len(decimals)}f}" if fine else self.shown(value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side."""

    runs: tuple[ComparedRun, ...]
    settings: tuple[SettingRow, ...]
    """The keys in which the runs differ, in the config's order."""
    figures: tuple[FigureRow, ...]
    """The results that at least one run has."""
    remark: str = ""
    """Which results aren't comparable and why; empty if all are."""

    @property
    def equal(self) -> tuple[str, ...]:
        """Which of tokens, time and parameters are equal for several runs, within `NEARLY`."""
        rows = {row.name: row.values for row in self.figures} if len(self.runs) > 1 else {}
        sizes = (("tokens", "tokens"), ("time", "active time"), ("parameters", "parameters"))
        return tuple(word for word, name in sizes if _nearly_equal(rows.get(name, (None,))))

    @property
    def equal_words(self) -> str:
        """What is equal, in a line: a difference of perplexities means more the more is."""
        named = ", ".join(self.equal) or "neither tokens, time nor parameters"
        return f"equal within {NEARLY:.0%}: {named}".replace("%", " %")


def _nearly_equal(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return len(known) == len(values) and min(known) >= (1 - NEARLY) * max(known)


def compare_runs(runs: Sequence[RunDirectory]) -> Comparison:
    """Compare runs in this order, with letters A, B, C and so on.

    Raises:
        InputError: no runs, more than 26, or the same run twice.
        RnnlmError: a run's config or a log can't be read.
    """
    names = [run.name for run in runs]
    check_count(names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice", hint="name each run once")
    return comparison_of(
        [_compared(run, letter) for run, letter in zip(runs, LETTERS, strict=False)]
    )


def check_count(compared: Sequence[object]) -> None:
    """
    Raises:
        InputError: nothing to compare, or more than there are letters.
    """
    if not compared or len(compared) > len(LETTERS):
        raise InputError(
            f"cannot compare {counted(len(compared), 'run')}: give 1 to {len(LETTERS)}",
            hint="name the runs",
        )


def comparison_of(runs: Sequence[ComparedRun]) -> Comparison:
    """Compare runs that have already been read."""
    remark, incomparable = _comparability(runs)
    return Comparison(
        tuple(runs), tuple(_settings(runs)), tuple(_figures(runs, incomparable)), remark
    )


def _compared(run: RunDirectory, letter: str) -> ComparedRun:
    with closing(RunMonitor(run)) as monitor:
        summary, reader = monitor.summary(), monitor.reader
        changes = changed_settings(reader.changes())
        step = _best(summary)[0] or 0
        seconds = next((row.active_seconds for row in reader.steps(step, step)), None)
    return ComparedRun(letter, run.name, summary, run.read_config(), seconds, changes)


def changed_settings(changes: Iterable[JournalledChange]) -> dict[str, list[Change]]:
    """Settings changed by `set`, by path, from a run's journal."""
    found: dict[str, list[Change]] = {}
    for change in kept_changes(list(changes)):
        for one in change.settings:
            found.setdefault(one.path, []).append(Change(change.step + 1, one.new))
    return found


def config_at_start(config: RunConfig, changes: Sequence[JournalledChange]) -> RunConfig:
    """The config before the first change of settings, from the one in effect."""
    kept = reversed(kept_changes(changes))
    return config_in_effect(config, {one.path: one.old for each in kept for one in each.settings})


def setting_words(value: object) -> str:
    """Format a config value: `on`, `3,000`, `3e-4`, `none`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return exact(value)
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _settings(runs: Sequence[ComparedRun]) -> list[SettingRow]:
    rows = []
    for path in ("preset", *fields()):
        found = [(value_of(run.config, path), [*run.changes.get(path, ())]) for run in runs]
        if any(one != found[0] for one in found):
            rows.append(
                SettingRow(
                    path,
                    tuple(
                        ", ".join((setting_words(value), *map(_changed_words, changes)))
                        for value, changes in found
                    ),
                    tuple(
                        {"value": value, "changed": list(map(asdict, changes))}
                        if changes
                        else value
                        for value, changes in found
                    ),
                )
            )
    return rows


def _changed_words(change: Change) -> str:
    return f"{setting_words(change.value)} from step {change.step:,}"


def _best(summary: RunSummary) -> tuple[int | None, float | None]:
    """Step and perplexity of the best evaluation on the run's evaluation split."""
    judged = summary.evaluation if summary.evaluation.best_step is not None else summary.validation
    return judged.best_step, judged.best_perplexity


_ONLY_IF: dict[str, Callable[[float | None], object]] = {
    "unknown": bool,
    "scored": scored_part_text,
}
"""Rows that are shown only if any run has such a value: unknown tokens, or a part left out."""
_ROWS: tuple[
    tuple[str, Callable[[ComparedRun], float | None], Callable[[float | None], str], Better], ...
] = (
    ("best val ppl", lambda run: _best(run.summary)[1], perplexity_text, "lower"),
    ("best at step", lambda run: _best(run.summary)[0], count, ""),
    ("best after", lambda run: run.best_seconds, duration, ""),
    ("final val ppl", lambda run: run.summary.evaluation.perplexity, perplexity_text, "lower"),
    (
        "bits per byte",
        lambda run: run.summary.evaluation.bits_per_byte,
        lambda value: figure(value, 3),
        "lower",
    ),
    ("scored", lambda run: run.summary.evaluation.scored_share, scored_share_text, ""),
    (
        "unknown",
        lambda run: run.summary.evaluation.unknown_share,
        lambda value: share(value or 0.0),
        "",
    ),
    ("test ppl", lambda run: run.summary.test.perplexity, perplexity_text, "lower"),
    ("train loss", lambda run: run.summary.train.loss, lambda value: figure(value, 3), "lower"),
    ("train ppl", lambda run: run.summary.train.perplexity, perplexity_text, "lower"),
    (
        "n-gram ppl",
        lambda run: run.summary.baseline.validation_perplexity or run.summary.baseline.perplexity,
        perplexity_text,
        "",
    ),
    ("steps", lambda run: run.summary.step, count, ""),
    ("epochs", lambda run: run.summary.epoch, lambda value: figure(value, 1), ""),
    ("tokens", lambda run: run.summary.tokens_seen, short, ""),
    ("tokens/s", lambda run: run.summary.tokens_per_second, short, "higher"),
    ("active time", lambda run: run.summary.active_seconds, duration, ""),
    ("parameters", lambda run: run.summary.model.parameters, short, ""),
    ("vocabulary", lambda run: run.summary.model.vocab_size, count, ""),
    ("on disk", lambda run: run.summary.checkpoints.bytes, disk, ""),
)

_PER_TOKEN = frozenset({"best val ppl", "final val ppl", "test ppl", "train loss", "train ppl"})
_OF_THE_TEXT = _PER_TOKEN | {"bits per byte"}


def _figures(runs: Sequence[ComparedRun], incomparable: Collection[str]) -> list[FigureRow]:
    rows = []
    for name, read, words, better in _ROWS:
        values = tuple(read(run) for run in runs)
        known = [value for value in values if value is not None]
        if any(map(_ONLY_IF.get(name, lambda _: True), known)):
            compared = "" if name in incomparable else better
            rows.append(FigureRow(name, values, words, compared, _label(name, runs)))
    return rows


def _label(name: str, runs: Sequence[ComparedRun]) -> str:
    """The row's shown name, with the evaluation split if the row depends on it."""
    if name not in ("best val ppl", "final val ppl"):
        return {"on disk": "checkpoints"}.get(name, name)
    splits = {run.config.evaluation.split for run in runs}
    sets = ("val" if splits == {"validation"} else "test") if len(splits) == 1 else "val or test"
    return name.replace("val", sets)


def _comparability(runs: Sequence[ComparedRun]) -> tuple[str, frozenset[str]]:
    """Why some results aren't comparable, and which: they have no best run."""
    if len({run.config.corpus.model_dump_json() for run in runs}) > 1:
        return "different texts: perplexities aren't comparable", _OF_THE_TEXT
    tokens = ""
    if len({run.config.tokenizer for run in runs}) > 1:
        tokens = "different tokens"
    elif len({_scored(run.config) for run in runs}) > 1:
        tokens = "different scored tokens"
    sets = sorted({run.summary.evaluation.name for run in runs if run.summary.evaluation.name})
    other_sets = f"of different sets: {safe(', '.join(sets), keep='')}" if len(sets) > 1 else ""
    hidden = ", ".join(filter(None, map(_hidden, runs)))
    hidden = hidden or other_sets or _different_bytes(runs)
    if tokens and hidden:
        words = f"neither perplexities ({tokens}) nor bits per byte are comparable: {hidden}"
        return words, _OF_THE_TEXT
    if tokens:
        return f"{tokens}: perplexities aren't comparable, bits per byte are", _PER_TOKEN
    if other_sets:
        return f"perplexities are {other_sets}", frozenset(
            {"best val ppl", "final val ppl", "bits per byte"}
        )
    if hidden:
        return f"bits per byte aren't comparable: {hidden}", frozenset({"bits per byte"})
    return "", frozenset()


def _different_bytes(runs: Sequence[ComparedRun]) -> str:
    """Why bits per byte are of different parts of the text; empty if they are of the same."""
    found = [run for run in runs if run.summary.evaluation.bits_per_byte is not None]
    counts = [run.summary.evaluation.scored_bytes or 0 for run in found]
    if not counts or max(counts) - min(counts) <= SAME_BYTES * max(counts):
        return ""
    words = [scored_share_text(run.summary.evaluation.scored_share) for run in found]
    if len(set(words)) == 1:
        words = [counted(count, "byte") for count in counts]
    parts = [f"{run.letter} scored {one}" for run, one in zip(found, words, strict=True)]
    return f"{', '.join(parts)} of the text"


def _scored(config: RunConfig) -> int | None:
    """The setting that decides which tokens are scored: sentences skip the first token and those
    cut off."""
    return config.training.kept_tokens


def _hidden(run: ComparedRun) -> str:
    """Why a run's bits per byte miss part of the text; empty if they cover all of it."""
    judged = run.summary.evaluation
    if judged.scored_share == 0:
        return f"for {run.letter} {TEXT_NOT_KEPT}"
    unknown = judged.unknown_share or 0.0
    many = unknown > MAX_UNKNOWN_SHARE
    return f"{share(unknown)} of {run.letter}'s tokens are unknown" if many else ""
