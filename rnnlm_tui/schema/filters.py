"""Filter and sort lists of runs: `otter`, `ppl<80`, `hidden_size>=256 finished`, `!draft`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from time import time
from typing import TYPE_CHECKING, Literal, Protocol

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.cells import CELL_NAMES
from rnnlm_tui.schema.formatting import (
    DAY,
    HOUR,
    MINUTE,
    counted,
    number_hint,
    read_number,
    safe,
)
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary


Value = float | str | tuple[str, ...] | None
"""A number, a text, or several texts of which one has to match; None if there is no value (yet)."""
Quantity = Literal["number", "seconds", "bytes", "words"]
"""The units of a key's values; "words" are texts, compared with = and != only."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """A key to filter and sort runs by."""

    name: str
    """The dotted path for config keys."""
    quantity: Quantity
    read: Callable[[RunSummary, RunConfig | None], Value]
    """Returns the value for a run, given its config if `needs_config` (None if unreadable)."""
    aliases: tuple[str, ...] = ()
    needs_config: bool = False


def _figure(
    name: str,
    read: Callable[[RunSummary], float | None],
    *aliases: str,
    quantity: Quantity = "number",
) -> RunKey:
    return RunKey(name, quantity, lambda summary, _config: read(summary), aliases)


def _words(
    name: str, read: Callable[[RunSummary], str | tuple[str, ...] | None], *aliases: str
) -> RunKey:
    return RunKey(name, "words", lambda summary, _config: read(summary), aliases)


def best_perplexity(summary: RunSummary) -> float | None:
    """A run's best validation perplexity, or that of the evaluated set if there is none."""
    validation, judged = summary.validation, summary.evaluation
    return next(
        (
            value
            for value in (validation.best_perplexity, validation.perplexity, judged.best_perplexity)
            if value is not None
        ),
        None,
    )


FIGURES: tuple[RunKey, ...] = (
    _figure("ppl", best_perplexity, "perplexity", "val_ppl", "best"),
    _figure("loss", lambda run: run.train.loss, "train_loss"),
    _figure("train_ppl", lambda run: run.train.perplexity),
    _figure("test_ppl", lambda run: run.test.perplexity),
    _figure(
        "bits",
        lambda run: run.validation.bits_per_byte or run.evaluation.bits_per_byte,
        "bits_per_byte",
        "bpb",
    ),
    _figure("step", lambda run: run.step, "steps"),
    _figure("best_step", lambda run: run.validation.best_step or run.evaluation.best_step),
    _figure("max_steps", lambda run: run.max_steps),
    _figure("done", lambda run: 100 * run.step / run.max_steps if run.max_steps else None),
    _figure("epoch", lambda run: run.epoch),
    _figure("tokens", lambda run: run.tokens_seen, "tokens_seen"),
    _figure("speed", lambda run: run.tokens_per_second, "tok/s", "tokens_per_second", "tps"),
    _figure("time", lambda run: run.active_seconds, "active", "active_seconds", quantity="seconds"),
    _figure("left", lambda run: run.eta_seconds, "eta", "eta_seconds", quantity="seconds"),
    _figure(
        "age", lambda run: None if run.updated is None else time() - run.updated, quantity="seconds"
    ),
    _figure("grad_norm", lambda run: run.train.grad_norm),
    _figure("parameters", lambda run: run.model.parameters, "params"),
    _figure("layers", lambda run: run.model.num_layers or None, "num_layers"),
    _figure("hidden_size", lambda run: run.model.hidden_size or None, "hidden"),
    _figure("vocab_size", lambda run: run.model.vocab_size, "vocab"),
    _figure("checkpoints", lambda run: run.checkpoints.count),
    _figure("size", lambda run: run.checkpoints.bytes, "bytes", quantity="bytes"),
    _figure("attempt", lambda run: run.attempt, "attempts"),
    _words("name", lambda run: run.run, "run"),
    _words("status", lambda run: ("lost", "lost contact") if run.status == "lost" else run.status),
    _words("tag", lambda run: run.tags, "tags"),
    _words("note", lambda run: run.note),
    _words("corpus", lambda run: (run.corpus, run.corpus_source)),
    _words(
        "cell",
        lambda run: (run.model.cell_type, CELL_NAMES.get(run.model.cell_type, run.model.cell_type)),
    ),
    _words("preset", lambda run: run.preset),
    _words("device", lambda run: run.device),
    _words("parent", lambda run: run.parent),
    _words("pinned", lambda run: ("yes", "true") if run.pinned else ("no", "false")),
)
"""The metrics and texts of a summary."""


def find_key(name: str) -> RunKey:
    """Find a metric by name, or a config key by its path or its last part if that is unique.

    Raises:
        InputError: the name is unknown (with similar names as a hint) or ambiguous.
    """
    from rnnlm_tui.schema.validation import did_you_mean_key, field_paths

    wanted = name.strip().lower()
    found = _by_name().get(wanted)
    if found is not None:
        return found
    shown = safe(name.strip()[:64], keep="")
    ending = [path for path in field_paths() if path.rpartition(".")[2] == wanted]
    if ending:
        raise InputError(
            f'"{shown}" is ambiguous: {" or ".join(ending)}', hint="write the full key"
        )
    raise InputError(
        f'unknown key "{shown}"',
        hint=did_you_mean_key(wanted[:64], _by_name()) or f"try {', '.join(figure_names())}",
    )


def key_names() -> tuple[str, ...]:
    """All names that `find_key` accepts, including aliases."""
    return tuple(_by_name())


def figure_names() -> tuple[str, ...]:
    """The names of the summary's keys, without aliases."""
    return tuple(key.name for key in FIGURES)


@cache
def _by_name() -> dict[str, RunKey]:
    from rnnlm_tui.schema.validation import field_paths

    paths = field_paths()
    last_words = [path.rpartition(".")[2] for path in paths]
    by_name = {}
    for path, word in zip(paths, last_words, strict=True):
        key = RunKey(path, _quantity(path), partial(_config_value, path), needs_config=True)
        by_name[path] = key
        if last_words.count(word) == 1:
            by_name[word] = key
    for key in FIGURES:
        by_name.update(dict.fromkeys((key.name, *key.aliases), key))
    return by_name


def _quantity(path: str) -> Quantity:
    from rnnlm_tui.schema.validation import section_model

    section, _, name = path.partition(".")
    return (
        "number"
        if section_model(section).model_fields[name].annotation in (int, float, int | None)
        else "words"
    )


def _config_value(path: str, _summary: RunSummary, config: RunConfig | None) -> Value:
    if config is None:
        return None
    section, _, name = path.partition(".")
    value: object = getattr(getattr(config, section), name)
    if isinstance(value, bool):
        return ("true", "yes", "on") if value else ("false", "no", "off")
    if value is None or isinstance(value, int | float):
        return value
    return tuple(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A sort order of runs by one key; runs without a value always come last."""

    key: RunKey
    descending: bool = False

    @property
    def needs_config(self) -> bool:
        """Whether `sorted` needs the runs' configs."""
        return self.key.needs_config

    def turned(self) -> RunOrder:
        """The reverse order."""
        return RunOrder(self.key, not self.descending)

    def sorted(
        self, runs: Iterable[tuple[RunSummary, RunConfig | None]]
    ) -> list[tuple[RunSummary, RunConfig | None]]:
        """Sort the runs; the sort is stable and ignores pins."""
        known: list[tuple[float | str, tuple[RunSummary, RunConfig | None]]] = []
        unknown = []
        for run in runs:
            value = self.key.read(*run)
            value = " ".join(value) if isinstance(value, tuple) else value
            value = value.lower() if isinstance(value, str) else value
            if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
                unknown.append(run)
            elif value is not None:
                known.append((value, run))
        known.sort(key=lambda item: item[0], reverse=self.descending)
        return [run for _, run in known] + unknown


def parse_order(text: str) -> RunOrder:
    """Parse `ppl`, or `-ppl` for descending order.

    Raises:
        InputError: unknown key.
    """
    return RunOrder(find_key(text.removeprefix("-")), descending=text.startswith("-"))


MAX_FILTER_CHARACTERS = 1_000
NO_VALUE = "none"
"""`test_ppl=none` finds the runs without a test perplexity."""
SHORTEST_STATUS = 3
"""A status can be shortened to this many letters."""
ENDED_STATUSES: frozenset[str] = frozenset({"stopped", "finished", "failed", "crashed"})
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*(?:"|$)|'[^']*(?:'|$))+""")
_QUOTED = re.compile(r""""([^"]*)(?:"|$)|'([^']*)(?:'|$)""")
_COMPARISON = re.compile(r"""(?P<key>[^<>=!"']+)(?P<sign><=|>=|!=|<|>|=)(?P<value>.*)""", re.DOTALL)
_NUMBER = re.compile(r"(.*?)\s*([a-z%]*)", re.IGNORECASE)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_UNITS: dict[Quantity, dict[str, float]] = {
    "number": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "%": 1},
    "seconds": {"": 1, "s": 1, "sec": 1, "min": MINUTE, "m": MINUTE, "h": HOUR, "d": DAY},
    "bytes": {
        "": 1,
        "b": 1,
        "k": 1e3,
        "kb": 1e3,
        "m": 1e6,
        "mb": 1e6,
        "g": 1e9,
        "gb": 1e9,
        "t": 1e12,
        "tb": 1e12,
    },
}
_EXAMPLES: dict[Quantity, str] = {
    "number": "80, 1e-3, 27.6k or 1.2M",
    "seconds": "40s, 5min, 2h or 1d",
    "bytes": "39MB or 1.2GB",
}


class Condition(Protocol):
    """One word of a filter."""

    @property
    def needs_config(self) -> bool:
        """Whether `holds` needs the run's config."""
        ...

    def holds(self, summary: RunSummary, config: RunConfig | None) -> bool:
        """Whether the run matches."""
        ...


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Conditions that must all hold; without conditions every run matches."""

    conditions: tuple[Condition, ...] = ()

    @property
    def needs_config(self) -> bool:
        """Whether `matches` needs the runs' configs."""
        return any(condition.needs_config for condition in self.conditions)

    def matches(self, summary: RunSummary, config: RunConfig | None = None) -> bool:
        """Whether a run matches; without its config, config keys have no value."""
        return all(condition.holds(summary, config) for condition in self.conditions)


def parse_filter(text: str) -> RunFilter:
    """Parse a filter: words that must all match.

    A plain word is searched in the run's name, tags, note, corpus, cell and preset, or is the
    beginning of its status (`running`, `living`, `ended`, `pinned`). `key<80` compares a metric
    (`ppl`, `loss`, `step`, `tokens`, `age` …) or a config key (`training.seed`, `hidden_size`) with
    < <= > >= = !=; text values compare with = and != only; `none` means no value. `!` before a word
    negates it; quotes keep spaces together.

    Raises:
        InputError: an unknown key (with similar names as a hint), an invalid value or a filter that
            is too long.
    """
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InputError(
            f"the filter has {counted(len(text), 'character')}, must have at most"
            f" {MAX_FILTER_CHARACTERS:,}",
            hint="use a shorter filter",
        )
    return RunFilter(tuple(_condition(word) for word in _WORD.findall(text)))


@dataclass(frozen=True, slots=True)
class _Word:
    """A plain word."""

    word: str
    """In lower case."""
    needs_config: bool = False

    def holds(self, summary: RunSummary, config: RunConfig | None) -> bool:  # noqa: ARG002 (the signature of conditions)
        states = {
            summary.status: True,
            "living": summary.status in LIVING,
            "ended": summary.status in ENDED_STATUSES,
            "pinned": summary.pinned,
        }
        found = len(self.word) >= SHORTEST_STATUS and any(
            holds and state.startswith(self.word) for state, holds in states.items()
        )
        cell = summary.model.cell_type
        texts = (
            summary.run,
            summary.note,
            summary.corpus,
            summary.preset,
            cell,
            CELL_NAMES.get(cell, ""),
            *summary.tags,
        )
        return found or any(self.word in text.lower() for text in texts)


@dataclass(frozen=True, slots=True)
class _Not:
    """The opposite of a condition."""

    condition: Condition

    @property
    def needs_config(self) -> bool:
        return self.condition.needs_config

    def holds(self, summary: RunSummary, config: RunConfig | None) -> bool:
        return not self.condition.holds(summary, config)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """`key<value`."""

    key: RunKey
    sign: str
    value: float | str
    """A number, or text in lower case."""

    @property
    def needs_config(self) -> bool:
        return self.key.needs_config

    def holds(self, summary: RunSummary, config: RunConfig | None) -> bool:
        found = self.key.read(summary, config)
        if isinstance(self.value, str):
            words = found if isinstance(found, tuple) else () if found is None else (str(found),)
            same = any(self.value == word.lower() for word in words) or (
                self.value in ("", NO_VALUE) and not any(words)
            )
            return same if self.sign == "=" else not same
        if not isinstance(found, int | float):
            return self.sign == "!="
        same = math.isclose(found, self.value, rel_tol=1e-9)
        return (
            same
            if self.sign == "="
            else not same
            if self.sign == "!="
            else _SIGNS[self.sign](found, self.value)
        )


def _condition(word: str) -> Condition:
    bare = word.lstrip("!")
    negations = len(word) - len(bare)
    if negations and bare and bare[0] not in "=<>":
        return _Not(_condition(bare)) if negations % 2 else _condition(bare)
    match = _COMPARISON.fullmatch(word)
    if match is None:
        if word[:1] in "<>=!":
            raise InputError(
                f'"{safe(word[:64], keep="")}" has no key to compare',
                hint="write a key before it, such as ppl<80",
            )
        key_name, colon, rest = word.partition(":")
        if colon and key_name.lower() in _by_name():
            raise InputError(
                f'"{safe(word[:64], keep="")}" compares nothing',
                hint=f"write {key_name}={safe(rest[:64], keep='')}, or put it in quotes to search"
                " for it",
            )
        return _Word(_plain(word).lower())
    key, sign = find_key(match["key"]), match["sign"]
    written = _plain(match["value"]).strip()
    if key.quantity == "words":
        if sign not in ("=", "!="):
            raise InputError(
                f"{key.name} is text, but {sign} compares numbers",
                hint=f"use {key.name}= or {key.name}!=",
            )
        return _Comparison(key, sign, written.lower())
    if written.lower() == NO_VALUE and sign in ("=", "!="):
        return _Comparison(key, sign, NO_VALUE)
    return _Comparison(key, sign, _number(written, key, sign))


def _plain(word: str) -> str:
    """The word without its quotes."""
    return _QUOTED.sub(lambda match: match[1] or match[2] or "", word)


def _number(text: str, key: RunKey, sign: str) -> float:
    units = _UNITS[key.quantity]
    match = _NUMBER.fullmatch(text)
    number = None if match is None else read_number(match[1])
    if match is None or number is None or match[2].lower() not in units:
        shown = safe(text[:64], keep="")
        message = (
            f'"{shown}" is not a valid number for {key.name}'
            if shown
            else f"{key.name}{sign} has no value"
        )
        hint = "" if match is None else number_hint(match[1], whole=False)
        raise InputError(
            message,
            hint=(
                hint
                if number is None and hint
                else f"write {key.name}{sign}{_EXAMPLES[key.quantity]}"
            ),
        )
    return number * units[match[2].lower()]
