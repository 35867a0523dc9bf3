"""Which runs are comparable: only runs on the same text with the same tokens share a best
perplexity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary


def best_of_comparable(runs: Sequence[RunSummary]) -> dict[str, float]:
    """Map each run to the best validation perplexity among the runs it is comparable with.

    Runs that are comparable with no other are left out.
    """
    groups: dict[tuple[str, float | None], list[tuple[str, float]]] = {}
    for run in runs:
        if run.validation.best_perplexity is not None:
            groups.setdefault((run.corpus, run.baseline.validation_perplexity), []).append((run.run, run.validation.best_perplexity))
    best = {key: min(value for _, value in group) for key, group in groups.items() if len(group) > 1}
    return {name: value for key, value in best.items() for name, _ in groups[key]}
