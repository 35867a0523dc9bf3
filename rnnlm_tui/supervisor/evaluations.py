"""Evaluations: all of a run's evaluations with what is drawn from the whole of them, worked out once until a new one comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rnnlm_tui.contract.metrics import EvaluationRow, evaluations_during_run, evaluations_without_improvement, perplexity
from rnnlm_tui.contract.summary import EvaluationFigures

_NONE = EvaluationFigures()
COSTED = 10
"""What an evaluation costs is the mean of so many newest ones."""


@dataclass(frozen=True, slots=True)
class Evaluations:
    """A run's evaluations, by step, and their figures."""

    rows: tuple[EvaluationRow, ...] = ()
    validation: EvaluationFigures = _NONE
    test: EvaluationFigures = _NONE
    judged: EvaluationFigures = _NONE
    """Of the set that the run is judged by while it trains."""
    waited: int = 0
    """Evaluations of the validation set in a row, up to the newest, that brought no lower loss."""
    best_step: int | None = None
    """The step of the lowest loss among those that early stopping looks at."""
    seconds: float = 0.0
    """What all sets of a step take together, by the newest ones; 0 before the first."""


def read_evaluations(rows: Sequence[EvaluationRow], split: str) -> Evaluations:
    """The figures of these rows; `split` is the set that the config says a run is judged by."""
    by_step: dict[int, float] = {}
    for row in rows:
        by_step[row.step] = by_step.get(row.step, 0.0) + row.seconds
    return Evaluations(
        rows=tuple(rows),
        validation=_figures([row for row in rows if row.split == "validation"]),
        test=_figures([row for row in rows if row.split == "test"]),
        judged=_figures(evaluations_during_run(rows, split)),
        waited=evaluations_without_improvement(rows),
        best_step=_figures(evaluations_during_run(rows, "validation")).best_step,
        seconds=fmean(list(by_step.values())[-COSTED:]) if by_step else 0.0,
    )


def known_perplexity(loss: float | None) -> float | None:
    """exp(loss); None where the loss is not known, or NaN."""
    return None if loss is None or math.isnan(loss) else perplexity(loss)


def _figures(rows: Sequence[EvaluationRow]) -> EvaluationFigures:
    """Of the newest evaluation; the best is taken among those that measured the same set."""
    if not rows:
        return EvaluationFigures()
    newest = rows[-1]
    finite = [row for row in rows if row.name == newest.name and math.isfinite(row.loss)]
    best = min(finite, key=lambda row: row.loss, default=None)
    return EvaluationFigures(
        name=newest.name,
        step=newest.step,
        loss=newest.loss,
        perplexity=known_perplexity(newest.loss),
        bits_per_byte=newest.bits_per_byte,
        unknown_share=newest.unknown_share,
        best_step=None if best is None else best.step,
        best_perplexity=None if best is None else best.perplexity,
    )
