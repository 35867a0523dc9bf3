"""Sort the list of runs by a column; pinned runs come first, runs without a value last."""

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
"""In the order in which the key cycles through them."""
STATUS_ORDER = ("running", "preparing", "paused", "stalled", "degraded", "lost", "crashed", "failed", "stopped", "draft", "finished")
ORDER_SETTING = "runs order"
"""Name of the saved setting."""
_CENTURY = 3e9
"""Seconds added to sort running runs first."""


def sorted_runs(runs: Sequence[RunSummary], key: SortKey, *, backwards: bool = False, best: Mapping[str, float] | None = None) -> tuple[RunSummary, ...]:
    """Sort runs by a column: newest, best or furthest first, text alphabetically.

    Args:
        backwards: reverse the order.
        best: by run, the best perplexity it is comparable with, for the order by `Δ best`.
    """
    order = _order(key, best or {})
    ordered = [run for run, _ in replace(order, descending=order.descending != backwards).sorted((run, None) for run in runs)]
    return tuple(sorted(ordered, key=lambda run: not run.pinned))


def rises(key: SortKey, *, backwards: bool = False) -> bool:
    """Whether the column's values increase from row to row: A to Z, lowest perplexity or age first."""
    return _order(key, {}).descending == backwards


def saved_order(settings: Mapping[str, object]) -> tuple[SortKey, bool]:
    """Return the saved order and whether it is reversed; by age if there is none."""
    match settings.get(ORDER_SETTING):
        case [str() as key, bool() as backwards] if key in SORT_KEYS:
            return key, backwards
    return "age", False


def behind_best(run: RunSummary, best: Mapping[str, float]) -> float | None:
    """Return the distance from the best comparable perplexity; None if there is none."""
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
