"""The pane Checkpoints."""

from __future__ import annotations

from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen


class CheckpointsScreen(PaneScreen):
    """Checkpoints."""

    PANE = "checkpoints"
    BINDINGS = bindings_for("checkpoints")
