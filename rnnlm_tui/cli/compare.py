"""The verb `compare`: runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_run

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.comparison import Comparison, FigureRow


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs' names, or the beginnings of them.", show_default=False, autocompletion=complete_run)
    ],
    json: JsonOption = False,
) -> None:
    """Put runs side by side: the settings that differ, final and best figures."""
    from rnnlm_tui.cli.output import line, note, print_json, table
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.comparison import compare_runs

    comparison = compare_runs([find_run(run) for run in runs])
    if json:
        print_json(_as_json(comparison))
        return
    heads = [f"{run.letter} {run.name}" for run in comparison.runs]
    right = range(1, len(heads) + 1)
    if comparison.settings:
        table(("differing settings", *heads), [(row.key, *map(_short, row.values)) for row in comparison.settings], right=right)
    else:
        line("the runs have the same settings" if len(heads) > 1 else "one run alone differs from none")
    line()
    table(("figures", *heads), [(row.name, *_cells(row)) for row in comparison.figures], right=right)
    if comparison.remark:
        note(comparison.remark)


MOST_CELL = 24
"""Letters of a setting that the table shows."""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    if len(flat) <= MOST_CELL:
        return flat
    return "…" + flat[1 - MOST_CELL :] if "/" in flat else flat[: MOST_CELL - 1] + "…"


def _cells(row: FigureRow) -> list[str]:
    """Each run's figure: the best one with its star, the others with their distance to it; the last two letters stand below each other."""
    return [
        f"{words} ({difference})  " if difference else f"{words} ★" if row.best is not None and words == row.words[row.best] else f"{words}  "
        for words, difference in zip(row.words, row.differences, strict=True)
    ]


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {
        "runs": [{"letter": run.letter, "run": run.name, "summary": run.summary.model_dump(mode="json")} for run in comparison.runs],
        "settings": {row.key: list(row.values) for row in comparison.settings},
        "figures": {row.name: {"values": list(row.values), "best": None if row.best is None else comparison.runs[row.best].name} for row in comparison.figures},
        "remark": comparison.remark or None,
    }
