"""Filter and sort lists of runs: `otter`, `ppl<80`, `hidden_size>=256 finished`, `!draft`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter, itemgetter
from string import ascii_letters
from time import time
from typing import TYPE_CHECKING, Literal, TypeVar, cast

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


Value = bool | float | str | tuple[str, ...] | None
"""A switch, a number, a text, or several texts of which one has to match; None if there is no value
(yet)."""
Quantity = Literal["number", "seconds", "bytes", "words"]
"""The units of a key's values; "words" are texts and switches, compared with = and != only."""
ConfigOf = Callable[[str], "RunConfig | None"]
"""The config of a run by its name; None: it is unreadable, or not read yet."""
Condition = Callable[["RunSummary", ConfigOf], bool]
"""Whether a run matches."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """A key to filter and sort runs by."""

    name: str
    """The dotted path for config keys."""
    quantity: Quantity
    read: Callable[[RunSummary, ConfigOf], Value]
    """Returns the value for a run; only keys of the config call the function."""
    aliases: tuple[str, ...] = ()


def _figure(
    name: str,
    read: Callable[[RunSummary], float | None],
    *aliases: str,
    quantity: Quantity = "number",
) -> RunKey:
    return RunKey(name, quantity, lambda summary, _: read(summary), aliases)


def _words(
    name: str, read: Callable[[RunSummary], bool | str | tuple[str, ...] | None], *aliases: str
) -> RunKey:
    return RunKey(name, "words", lambda summary, _: read(summary), aliases)


def best_perplexity(summary: RunSummary) -> float | None:
    """A run's best validation perplexity, or that of the evaluated set if there is none."""
    validation = summary.validation
    own = validation.best_perplexity or validation.perplexity
    return own or summary.evaluation.best_perplexity


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
    _words("pinned", lambda run: run.pinned),
)
"""The metrics and texts of a summary."""


def find_key(name: str) -> RunKey:
    """Find a metric by name, or a config key by its path or its last part if that is unique.

    Raises:
        InputError: the name is unknown (with similar names as a hint) or ambiguous.
    """
    from rnnlm_tui.schema.validation import did_you_mean_key, fields

    wanted = name.strip().lower()
    found = _by_name().get(wanted)
    if found is not None:
        return found
    shown = _shown(name.strip())
    ending = [path for path in fields() if path.rpartition(".")[2] == wanted]
    if ending:
        raise InputError(
            f'"{shown}" is ambiguous: {" or ".join(ending)}', hint="write the full key"
        )
    raise InputError(
        f'unknown key "{shown}"',
        hint=did_you_mean_key(wanted[:64], _by_name())
        or f"try {', '.join(key.name for key in FIGURES)}",
    )


def key_names() -> tuple[str, ...]:
    """All names that `find_key` accepts, including aliases."""
    return tuple(_by_name())


@cache
def _by_name() -> dict[str, RunKey]:
    from rnnlm_tui.schema.validation import fields

    paths = fields()
    last_words = [path.rpartition(".")[2] for path in paths]
    by_name = {}
    for path, word in zip(paths, last_words, strict=True):
        is_number = paths[path].kind in ("whole", "number")
        read = partial(_config_value, path)
        key = RunKey(path, "number" if is_number else "words", read)
        by_name[path] = key
        if last_words.count(word) == 1:
            by_name[word] = key
    for key in FIGURES:
        by_name.update(dict.fromkeys((key.name, *key.aliases), key))
    return by_name


def _config_value(path: str, summary: RunSummary, config_of: ConfigOf) -> Value:
    config = config_of(summary.run)
    return None if config is None else cast(Value, attrgetter(path)(config))


_Item = TypeVar("_Item")


def in_order(
    items: Iterable[_Item], read: Callable[[_Item], Value], *, descending: bool = False
) -> list[_Item]:
    """Sort by a value; the sort is stable, and what has no value comes last."""
    known: list[tuple[float | str, _Item]] = []
    unknown = []
    for item in items:
        value = read(item)
        value = " ".join(value) if isinstance(value, tuple) else value
        value = value.lower() if isinstance(value, str) else value
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            unknown.append(item)
        else:
            known.append((value, item))
    known.sort(key=itemgetter(0), reverse=descending)
    return [item for _, item in known] + unknown


def parse_order(text: str) -> tuple[RunKey, bool]:
    """Parse `ppl`, or `-ppl` for descending order: the key, and whether values decrease.

    Raises:
        InputError: unknown key.
    """
    return find_key(text.removeprefix("-")), text.startswith("-")


MAX_FILTER_CHARACTERS = 1_000
NO_VALUE = "none"
"""`test_ppl=none` finds the runs without a test perplexity."""
SHORTEST_STATUS = 3
"""A status can be shortened to this many letters."""
ENDED_STATUSES: frozenset[str] = frozenset({"stopped", "finished", "failed", "crashed"})
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*(?:"|$)|'[^']*(?:'|$))+""")
_QUOTED = re.compile(r""""([^"]*)(?:"|$)|'([^']*)(?:'|$)""")
_COMPARISON = re.compile(r"""(?P<key>[^<>=!"']+)(?P<sign><=|>=|!=|<|>|=)(?P<value>.*)""", re.DOTALL)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_UNITS: dict[Quantity, dict[str, float]] = {
    "number": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "%": 1},
    "seconds": {"": 1, "s": 1, "sec": 1, "min": MINUTE, "m": MINUTE, "h": HOUR, "d": DAY},
    "bytes": {
        f"{letter}{unit}": 1000.0**power
        for power, letter in enumerate(("", "k", "m", "g", "t"))
        for unit in ("", "b")
    },
}
_EXAMPLES: dict[Quantity, str] = {
    "number": "80, 1e-3, 27.6k or 1.2M",
    "seconds": "40s, 5min, 2h or 1d",
    "bytes": "39MB or 1.2GB",
}


def parse_filter(text: str) -> Condition:
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
    conditions = [_condition(word) for word in _WORD.findall(text)]
    return lambda run, config_of: all(holds(run, config_of) for holds in conditions)


def _has_word(word: str, run: RunSummary, _: ConfigOf) -> bool:
    """Whether a run's texts contain a word in lower case, or its status begins with it."""
    states = {
        run.status: True,
        "living": run.status in LIVING,
        "ended": run.status in ENDED_STATUSES,
        "pinned": run.pinned,
    }
    found = len(word) >= SHORTEST_STATUS and any(
        holds and state.startswith(word) for state, holds in states.items()
    )
    cell = run.model.cell_type
    texts = (run.run, run.note, run.corpus, run.preset, cell, CELL_NAMES.get(cell, ""), *run.tags)
    return found or any(word in text.lower() for text in texts)


def _has_text(key: RunKey, wanted: str, run: RunSummary, config_of: ConfigOf) -> bool:
    """Whether one of a key's texts is this one, in lower case."""
    found = key.read(run, config_of)
    if isinstance(found, bool):
        return wanted in (("true", "yes", "on") if found else ("false", "no", "off"))
    words = found if isinstance(found, tuple) else () if found is None else (str(found),)
    return wanted in map(str.lower, words) or (wanted in ("", NO_VALUE) and not any(words))


def _compares(key: RunKey, sign: str, wanted: float, run: RunSummary, config_of: ConfigOf) -> bool:
    found = key.read(run, config_of)
    if not isinstance(found, int | float):
        return sign == "!="
    same = math.isclose(found, wanted, rel_tol=1e-9)
    return same == (sign == "=") if sign in ("=", "!=") else _SIGNS[sign](found, wanted)


def _negated(condition: Condition) -> Condition:
    return lambda run, config_of: not condition(run, config_of)


def _condition(word: str) -> Condition:
    bare = word.lstrip("!")
    negations = len(word) - len(bare)
    if negations and bare and bare[0] not in "=<>":
        return _negated(_condition(bare)) if negations % 2 else _condition(bare)
    match = _COMPARISON.fullmatch(word)
    if match is None:
        if word[:1] in "<>=!":
            raise InputError(
                f'"{_shown(word)}" has no key to compare',
                hint="write a key before it, such as ppl<80",
            )
        key_name, colon, rest = word.partition(":")
        if colon and key_name.lower() in _by_name():
            raise InputError(
                f'"{_shown(word)}" compares nothing',
                hint=f"write {key_name}={_shown(rest)}, or put it in quotes to search for it",
            )
        return partial(_has_word, _plain(word).lower())
    key, sign = find_key(match["key"]), match["sign"]
    written = _plain(match["value"]).strip()
    if key.quantity == "words":
        if sign not in ("=", "!="):
            raise InputError(
                f"{key.name} is text, but {sign} compares numbers",
                hint=f"use {key.name}= or {key.name}!=",
            )
    elif written.lower() != NO_VALUE or sign not in ("=", "!="):
        return partial(_compares, key, sign, _number(written, key, sign))
    equal = partial(_has_text, key, written.lower())
    return equal if sign == "=" else _negated(equal)


def _plain(word: str) -> str:
    """The word without its quotes."""
    return _QUOTED.sub(lambda match: match[1] or match[2] or "", word)


def _number(text: str, key: RunKey, sign: str) -> float:
    plain = text.rstrip(f"{ascii_letters}%")
    number, unit = read_number(plain.rstrip()), text[len(plain) :].lower()
    if number is not None and unit in _UNITS[key.quantity]:
        return number * _UNITS[key.quantity][unit]
    hint = number_hint(plain, whole=False) if number is None else ""
    raise InputError(
        f'"{_shown(text)}" is not a valid number for {key.name}'
        if text
        else f"{key.name}{sign} has no value",
        hint=hint or f"write {key.name}{sign}{_EXAMPLES[key.quantity]}",
    )


def _shown(text: str) -> str:
    """What was typed, for an error."""
    return safe(text[:64], keep="")
