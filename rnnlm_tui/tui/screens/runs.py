"""The list of runs, what the chosen one is up to, and the first launch."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen


class RunsScreen(PaneScreen):
    """All runs."""

    PANE = "runs"
    BINDINGS = bindings_for("runs")

    def compose_body(self) -> ComposeResult:
        yield Static(id="first-launch")
