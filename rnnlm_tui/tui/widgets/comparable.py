"""Which runs compare: a perplexity is one of a text in tokens, so only runs on the same text with the same tokens have a best one among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary


def best_of_comparable(runs: Sequence[RunSummary]) -> dict[str, float]:
    """By a run's name the best validation perplexity among the runs it compares with; a run that compares with no other is left out."""
    groups: dict[tuple[str, float | None], list[tuple[str, float]]] = {}
    for run in runs:
        if run.validation.best_perplexity is not None:
            groups.setdefault((run.corpus, run.baseline.validation_perplexity), []).append((run.run, run.validation.best_perplexity))
    best = {key: min(value for _, value in group) for key, group in groups.items() if len(group) > 1}
    return {name: value for key, value in best.items() for name, _ in groups[key]}
