"""The Textual application.

Only what the command line uses too is here.
"""

from __future__ import annotations

from typing import Literal

SMALLEST = (60, 15)
"""Columns and rows below which the app shows one sentence and nothing else."""
WIDE_FROM = 110
"""Columns from which panels are side by side and rows have all their columns."""

ColourName = Literal["dark", "light", "ansi-dark", "ansi-light", "none"]
"""The choices of colours, as in `--theme` and in the settings."""
