"""Filters for lists of runs, in the app and the CLI: `otter`, `ppl<80`, `hidden_size>=256 finished`, `!draft`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rnnlm_tui.contract.computing import CELL_NAMES
from rnnlm_tui.contract.figures import DAY, HOUR, MINUTE, counted
from rnnlm_tui.contract.numbers import number_hint, read_number
from rnnlm_tui.contract.outside_text import safe
from rnnlm_tui.contract.run_keys import Quantity, RunKey, find_key
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.errors import InputError

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.summary import RunSummary

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
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_UNITS: dict[Quantity, dict[str, float]] = {
    "number": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "%": 1},
    "seconds": {"": 1, "s": 1, "sec": 1, "min": MINUTE, "m": MINUTE, "h": HOUR, "d": DAY},
    "bytes": {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12},
}
_EXAMPLES: dict[Quantity, str] = {"number": "80, 1e-3, 27.6k or 1.2M", "seconds": "40s, 5min, 2h or 1d", "bytes": "39MB or 1.2GB"}


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

    A plain word is searched in the run's name, tags, note, corpus, cell and preset, or is the beginning
    of its status (`running`, `living`, `ended`, `pinned`). `key<80` compares a metric (`ppl`, `loss`,
    `step`, `tokens`, `age` …) or a config key (`training.seed`, `hidden_size`) with < <= > >= = !=;
    text values compare with = and != only; `none` means no value. `!` before a word negates it; quotes
    keep spaces together.

    Raises:
        InputError: an unknown key (with similar names as a hint), an invalid value or a filter that is too long.
    """
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InputError(f"the filter has {counted(len(text), 'character')}, must have at most {MAX_FILTER_CHARACTERS:,}", hint="use a shorter filter")
    return RunFilter(tuple(_condition(word) for word in _WORD.findall(text)))


@dataclass(frozen=True, slots=True)
class _Word:
    """A plain word."""

    word: str
    """In lower case."""
    needs_config: bool = False

    def holds(self, summary: RunSummary, config: RunConfig | None) -> bool:  # noqa: ARG002 (the signature of conditions)
        states = {summary.status: True, "living": summary.status in LIVING, "ended": summary.status in ENDED_STATUSES, "pinned": summary.pinned}
        found = len(self.word) >= SHORTEST_STATUS and any(holds and state.startswith(self.word) for state, holds in states.items())
        cell = summary.model.cell_type
        texts = (summary.run, summary.note, summary.corpus, summary.preset, cell, CELL_NAMES.get(cell, ""), *summary.tags)
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
            same = any(self.value == word.lower() for word in words) or (not self.value and not any(words))
            return same if self.sign == "=" else not same
        if not isinstance(found, int | float):
            return self.sign == "!="
        same = math.isclose(found, self.value, rel_tol=1e-9)
        return same if self.sign == "=" else not same if self.sign == "!=" else _SIGNS[self.sign](found, self.value)


def _condition(word: str) -> Condition:
    bare = word.lstrip("!")
    negations = len(word) - len(bare)
    if negations and bare and bare[0] not in "=<>":
        return _Not(_condition(bare)) if negations % 2 else _condition(bare)
    match = _COMPARISON.fullmatch(word)
    if match is None:
        if word[:1] in "<>=!":
            raise InputError(f'"{safe(word[:64], keep="")}" has no key to compare', hint="write a key before it, such as ppl<80")
        return _Word(_plain(word).lower())
    key, sign = find_key(match["key"]), match["sign"]
    written = _plain(match["value"]).strip()
    if key.quantity == "words":
        if sign not in ("=", "!="):
            raise InputError(f"{key.name} is text, but {sign} compares numbers", hint=f"use {key.name}= or {key.name}!=")
        return _Comparison(key, sign, written.lower())
    if written.lower() == NO_VALUE and sign in ("=", "!="):
        return _Comparison(key, sign, "")
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
        message = f'"{shown}" is not a valid number for {key.name}' if shown else f"{key.name}{sign} has no value"
        hint = "" if match is None else number_hint(match[1], whole=False)
        raise InputError(message, hint=hint if number is None and hint else f"write {key.name}{sign}{_EXAMPLES[key.quantity]}")
    return number * units[match[2].lower()]
