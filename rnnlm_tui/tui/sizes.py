"""The sizes of a terminal at which the screens change; nothing is imported, so that the command line can ask too."""

from __future__ import annotations

SMALLEST = (60, 15)
"""Columns and rows below which the app says one sentence and nothing else."""
WIDE_FROM = 110
"""Columns from which panels stand beside each other and rows have all their columns."""
