"""Paths of the data home and its folders. Nothing is created."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from rnnlm_tui.contract.outside_text import user_path

HOME_VARIABLE = "RNNLM_TUI_HOME"
"""Environment variable: the data home; empty counts as not set."""


def home() -> Path:
    """The data home: `RNNLM_TUI_HOME`, else the user's data directory for `rnnlm-tui`. Always absolute."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    return user_path(chosen).absolute() if chosen else user_data_path("rnnlm-tui", appauthor=False)


def runs_dir() -> Path:
    """One folder for each run."""
    return home() / "runs"


def corpora_dir() -> Path:
    """One folder for each prepared corpus, named by its hash."""
    return home() / "corpora"


def trash_dir() -> Path:
    """Deleted runs, until they are purged."""
    return home() / "trash"


def state_file() -> Path:
    """The app's state between starts."""
    return home() / "app-state.json"


def keymap_file() -> Path:
    """The user's key bindings for the app."""
    return home() / "keymap.toml"


def history_file() -> Path:
    """The prompt history, one JSON object per line."""
    return home() / "prompt-history.jsonl"


def summaries_file() -> Path:
    """Cache of ended runs' summaries, so that a list of hundreds of runs is fast. Safe to delete."""
    return home() / "summaries.json"


def calibration_file() -> Path:
    """Measurements of probes."""
    return home() / "calibration.json"
