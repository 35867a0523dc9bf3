"""The orders of the list of runs: by each column, either way; what a person pinned stays on top, and what has no figure stays at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from rnnlm_tui.contract.run_keys import RunKey, RunOrder
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui.widgets.identity import corpus_name, model_name

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary

SortKey = Literal["age", "perplexity", "name", "status", "progress", "Δ best", "tok/s", "time", "model", "corpus", "tags"]
SORT_KEYS: tuple[SortKey, ...] = ("age", "perplexity", "name", "status", "progress", "Δ best", "tok/s", "time", "model", "corpus", "tags")
"""In the order in which one goes through them."""
STATUS_ORDER = ("running", "preparing", "paused", "stalled", "degraded", "lost", "crashed", "failed", "stopped", "draft", "finished")
ORDER_SETTING = "runs order"
"""Key of the setting that keeps it."""
_CENTURY = 3e9
"""Seconds by which a living run comes before every other."""


def sorted_runs(runs: Sequence[RunSummary], key: SortKey, *, backwards: bool = False, best: Mapping[str, float] | None = None) -> tuple[RunSummary, ...]:
    """The runs by one column: the newest, the best, the furthest first, words by the alphabet; `backwards` turns that around.

    Args:
        best: by a run's name the best perplexity that it compares with, for the order by `Δ best`.
    """
    order = _order(key, best or {})
    ordered = [run for run, _ in replace(order, descending=order.descending != backwards).sorted((run, None) for run in runs)]
    return tuple(sorted(ordered, key=lambda run: not run.pinned))


def rises(key: SortKey, *, backwards: bool = False) -> bool:
    """Whether the values of the column grow from row to row, as they stand there: A to Z, the lowest perplexity or the smallest age first."""
    return _order(key, {}).descending == backwards


def saved_order(settings: Mapping[str, object]) -> tuple[SortKey, bool]:
    """The order that a person has chosen, and whether it is turned around; that by age where what was written down is none."""
    match settings.get(ORDER_SETTING):
        case [str() as key, bool() as backwards] if key in SORT_KEYS:
            return key, backwards
    return "age", False


def behind_best(run: RunSummary, best: Mapping[str, float]) -> float | None:
    """Perplexity that the run is behind the best one that it compares with; None where it compares with no other."""
    value, least = run.validation.best_perplexity, best.get(run.run)
    return None if value is None or least is None else value - least


def _order(key: SortKey, best: Mapping[str, float]) -> RunOrder:
    words: dict[SortKey, Callable[[RunSummary], str]] = {
        "name": lambda run: run.run,
        "model": model_name,
        "corpus": lambda run: corpus_name(run.corpus_source or run.corpus),
        "tags": lambda run: " ".join(run.tags),
    }
    least_first: dict[SortKey, Callable[[RunSummary], float | None]] = {
        "age": lambda run: -(run.updated or 0.0) - (_CENTURY if run.status in LIVING else 0.0),
        "perplexity": lambda run: run.validation.best_perplexity,
        "status": lambda run: STATUS_ORDER.index(run.status),
        "Δ best": lambda run: behind_best(run, best),
    }
    most_first: dict[SortKey, Callable[[RunSummary], float | None]] = {
        "progress": lambda run: run.step / run.max_steps if run.max_steps else None,
        "tok/s": lambda run: run.tokens_per_second,
        "time": lambda run: run.active_seconds or None,
    }
    if key in words:
        return RunOrder(RunKey(key, "words", lambda run, _config: words[key](run)))
    reads = {**least_first, **most_first}
    return RunOrder(RunKey(key, "number", lambda run, _config: reads[key](run)), descending=key in most_first)
