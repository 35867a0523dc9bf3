"""The pane Config."""

from __future__ import annotations

from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen


class ConfigScreen(PaneScreen):
    """Config."""

    PANE = "config"
    BINDINGS = bindings_for("config")
