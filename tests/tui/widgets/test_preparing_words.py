"""Words for every phase of a run that has no steps yet."""

from __future__ import annotations

from typing import get_args, get_type_hints

from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.tui.views.train import PHASES


def test_every_phase_of_preparing_has_words() -> None:
    phases = get_args(get_type_hints(Progress)["phase"])
    assert set(PHASES) == set(phases)
    assert all(len(words) <= 30 for words in PHASES.values()), "the bar begins at column 32"
