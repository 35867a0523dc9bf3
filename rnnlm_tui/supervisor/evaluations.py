"""Evaluations: a run's evaluations and the results computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rnnlm_tui.contract.metrics import EvaluationRow, evaluations_during_run, evaluations_without_improvement, perplexity
from rnnlm_tui.contract.summary import EvaluationFigures

_NONE = EvaluationFigures()
COSTED = 10
"""Number of newest evaluations in the mean duration."""


@dataclass(frozen=True, slots=True)
class Evaluations:
    """A run's evaluations by step, with summaries."""

    rows: tuple[EvaluationRow, ...] = ()
    validation: EvaluationFigures = _NONE
    test: EvaluationFigures = _NONE
    judged: EvaluationFigures = _NONE
    """On the split that the config evaluates during training."""
    waited: int = 0
    """Consecutive evaluations on the validation set without a lower loss, up to the newest."""
    best_step: int | None = None
    """The step of the lowest loss for early stopping."""
    seconds: float = 0.0
    """Mean duration of all evaluations of a step; 0 before the first."""


def read_evaluations(rows: Sequence[EvaluationRow], split: str) -> Evaluations:
    """Summarize evaluations; `split` is the config's evaluation split."""
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
    """exp(loss); None if the loss is unknown or NaN."""
    return None if loss is None or math.isnan(loss) else perplexity(loss)


def _figures(rows: Sequence[EvaluationRow]) -> EvaluationFigures:
    """Summarize the newest evaluation, and the best one on the same set."""
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
