"""The verb `compare`: runs side by side."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rnnlm_tui.cli.arguments import JsonOption, RunsArgument

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.comparison import Comparison, FigureRow

MOST_CELL, LEAST_CELL = 32, 10
"""Maximum and minimum width of a setting in the table, in characters."""


def compare(
    runs: RunsArgument,
    json: JsonOption = False,
) -> None:
    """Compare runs: settings that differ, final and best metrics."""
    from dataclasses import replace

    from rnnlm_tui.cli.output import columns, fits, line, note, print_json, table
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.comparison import compare_runs

    comparison = compare_runs([find_run(run) for run in runs])
    if json:
        print_json(_as_json(comparison))
        return
    room = _cell_width(comparison, columns(sys.stdout))
    heads = [f"{run.letter} {_short(run.name, room - 2)}" for run in comparison.runs]
    right = range(1, len(heads) + 1)
    if comparison.settings:
        table(("differing settings", *heads), [(row.key, *(_short(value, room) for value in row.values)) for row in comparison.settings], right=right)
    else:
        line("the runs have the same settings" if len(heads) > 1 else "nothing to compare: name a second run")
    line()
    figures = [(row.label, *_cells(row)) for row in comparison.figures]
    if not fits(("figures", *heads), figures):
        figures = [(row.label, *_cells(replace(row, differences=("",) * len(row.words)))) for row in comparison.figures]
    table(("figures", *heads), figures, right=right)
    if comparison.remark:
        note(comparison.remark)


def _cell_width(comparison: Comparison, width: int | None) -> int:
    """Return the width of a setting at which the table fits the terminal, if possible."""
    if width is None:
        return MOST_CELL
    keys = max((len(row.key) for row in comparison.settings), default=0)
    return max(LEAST_CELL, min(MOST_CELL, (width - keys) // len(comparison.runs) - 2))


def _short(text: str, room: int) -> str:
    """Shorten a text: a path keeps its end, anything else its start."""
    flat = " ".join(text.split())
    if len(flat) <= room:
        return flat
    return "…" + flat[1 - room :] if "/" in flat else flat[: room - 1] + "…"


def _cells(row: FigureRow) -> list[str]:
    """Format each run's figure: the best with a star, the others with the difference.

    Two trailing characters keep the digits aligned.
    """
    return [
        f"{words} ({difference})  " if difference else f"{words} ★" if row.best is not None and words == row.words[row.best] else f"{words}  "
        for words, difference in zip(row.words, row.differences, strict=True)
    ]


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {
        "runs": [{"letter": run.letter, "run": run.name, "summary": run.summary.model_dump(mode="json")} for run in comparison.runs],
        "settings": {row.key: list(row.found) for row in comparison.settings},
        "figures": {row.name: {"values": list(row.values), "best": None if row.best is None else comparison.runs[row.best].name} for row in comparison.figures},
        "remark": comparison.remark or None,
    }
