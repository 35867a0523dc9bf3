"""The Textual application.

Only the sizes at which its screens change are here, because the command line uses them too.
"""

from __future__ import annotations

SMALLEST = (60, 15)
"""Columns and rows below which the app shows one sentence and nothing else."""
WIDE_FROM = 110
"""Columns from which panels are side by side and rows have all their columns."""
