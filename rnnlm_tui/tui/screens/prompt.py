"""The pane Prompt."""

from __future__ import annotations

from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen


class PromptScreen(PaneScreen):
    """Prompt."""

    PANE = "prompt"
    BINDINGS = bindings_for("prompt")
