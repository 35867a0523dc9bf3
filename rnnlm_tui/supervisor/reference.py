"""Compare a run with the book's published run, if it follows the same protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rnnlm_tui.contract.commands import SETTINGS_KEY
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.reference_curve import first_pass_sentences, follows_reference, nearest_reference_point
from rnnlm_tui.contract.summary import ReferenceFigures


def reference_figures(config: RunConfig, meta: Mapping[str, str], evaluated_step: int | None, steps_per_epoch: float | None = None) -> ReferenceFigures | None:
    """The reference's result nearest to the run's newest evaluation; no result before the first
    evaluation and after the first epoch, because the reference saw no sentence twice.

    None if they aren't comparable: another config, initial weights, or a changed learning rate.
    """
    if not follows_reference(config) or meta.get("parent") or "optimizer.learning_rate" in _changed(meta):
        return None
    if evaluated_step is None:
        return ReferenceFigures()
    sentences = evaluated_step * config.training.batch_size
    if sentences > first_pass_sentences(config.training.batch_size, steps_per_epoch):
        return ReferenceFigures(sentences=sentences)
    near = nearest_reference_point(sentences)
    return ReferenceFigures(sentences=sentences, perplexity=near.perplexity, reference_sentences=near.sentences)


def _changed(meta: Mapping[str, str]) -> Mapping[str, object]:
    """Settings changed by `set`."""
    try:
        found = json.loads(meta.get(SETTINGS_KEY) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
