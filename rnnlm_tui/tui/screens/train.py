"""The training run as it goes: figures, charts, machine, samples."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen


class TrainScreen(PaneScreen):
    """One run while it trains, and after."""

    PANE = "train"
    BINDINGS = bindings_for("train")

    def compose_body(self) -> ComposeResult:
        yield Static(id="figures")
