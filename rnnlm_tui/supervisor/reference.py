"""The book's own run beside this one: only where the whole run followed its protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rnnlm_tui.contract.commands import SETTINGS_KEY
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.reference_curve import first_pass_sentences, follows_reference, nearest_reference_point
from rnnlm_tui.contract.summary import ReferenceFigures


def reference_figures(config: RunConfig, meta: Mapping[str, str], evaluated_step: int | None, steps_per_epoch: float | None = None) -> ReferenceFigures | None:
    """The reference's figure nearest to the run's newest evaluation, without one before the first and after the first epoch: the reference saw no sentence twice.

    None where the two can't be compared at all: another config, other weights at the start, or a rate that was changed.
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
    """What `set` changed in this run."""
    try:
        found = json.loads(meta.get(SETTINGS_KEY) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
