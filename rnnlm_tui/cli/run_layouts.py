"""`runs --tree` and `runs --group-by`: forks below their parents, and groups with their best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.cli.output import as_ascii, has_block_characters, line, print_json, table
from rnnlm_tui.cli.summaries import perplexity_text, status_colour, status_text
from rnnlm_tui.client.arrangement import ArrangedRun, changed_words, group_runs, tree_of
from rnnlm_tui.schema.filters import best_perplexity
from rnnlm_tui.schema.formatting import NOTHING, change, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.schema.filters import ConfigOf, RunKey
    from rnnlm_tui.schema.summary import RunSummary

_ASCII_LEADS = str.maketrans({"├": "|", "│": "|", "└": "`"})


def print_tree(runs: Sequence[RunSummary], *, json: bool) -> None:
    """Print the runs as a tree: name, status, step, perplexity, difference and changed settings."""
    rows = tree_of(runs)
    if json:
        print_json(_nested(rows))
        return
    blocks = has_block_characters()
    table(
        ("name", "status", "step", "val ppl", "Δ parent", "changed"),
        [_tree_cells(row, blocks=blocks) for row in rows],
        right=(2, 3, 4),
        spare=(2,),
        colours={1: {status_text(row.run): status_colour(row.run) for row in rows}},
    )


def print_groups(
    runs: Sequence[RunSummary], keys: Sequence[RunKey], config_of: ConfigOf, *, json: bool
) -> None:
    """Print the groups, each with its best run and the others below."""
    groups = group_runs(runs, keys, config_of)
    if json:
        print_json(
            [
                {
                    "values": dict(group.values),
                    "best": group.best.run,
                    "best_perplexity": best_perplexity(group.best),
                    "runs": group.runs,
                }
                for group in groups
            ]
        )
        return
    for place, group in enumerate(groups):
        if place:
            line()
        best = best_perplexity(group.best)
        found = f"best {perplexity_text(best)} {group.best.run}" if best is not None else "none yet"
        line(f"{group.label}: {counted(len(group.runs), 'run')}, {found}")
        table(
            ("  name", "status", "step", "val ppl"),
            [
                (
                    f"  {run.run}",
                    status_text(run),
                    f"{run.step:,}",
                    perplexity_text(best_perplexity(run)) + (" *" if run is group.best else "  "),
                )
                for run in group.runs
            ],
            right=(2, 3),
            colours={1: {status_text(run): status_colour(run) for run in group.runs}},
        )


def _tree_cells(row: ArrangedRun, *, blocks: bool) -> tuple[str, ...]:
    run = row.run
    lead = row.lead if blocks else as_ascii(row.lead.translate(_ASCII_LEADS))
    return (
        f"{lead}{run.run}",
        status_text(run),
        f"{run.step:,}",
        perplexity_text(best_perplexity(run)),
        NOTHING if row.delta is None else change(row.delta),
        f"{run.parent}: {changed_words(run)}" if run.parent and run.lineage else run.parent or "",
    )


def _nested(rows: Sequence[ArrangedRun]) -> list[dict[str, object]]:
    """The tree as objects with their children."""
    roots: list[dict[str, object]] = []
    above: list[list[dict[str, object]]] = [roots]
    for row in rows:
        depth = len(row.lead) // 2
        children: list[dict[str, object]] = []
        above[depth].append({"run": row.run, "delta": row.delta, "children": children})
        above[depth + 1 :] = [children]
    return roots
