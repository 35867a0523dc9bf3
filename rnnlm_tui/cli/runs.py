"""The verbs `open`, `runs`, `show`, `sweep` and `compare`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.options import (
    AddressesArgument,
    ReverseOption,
    RunArgument,
    ScreenOptions,
    arg,
    check_exclusive,
    flag,
    opt,
    run_named,
)
from rnnlm_tui.cli.output import (
    Answer,
    ProgressLine,
    clipped,
    columns,
    fits,
    line,
    reading_log,
    table,
)
from rnnlm_tui.cli.start import open_app
from rnnlm_tui.cli.summaries import (
    print_runs,
    print_summary,
    queue_places,
    status_colours,
    status_text,
)
from rnnlm_tui.errors import InputError, did_you_mean
from rnnlm_tui.schema.filters import best_perplexity, key_names
from rnnlm_tui.schema.formatting import NOTHING, change, counted, perplexity_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnnlm_tui.client.arrangement import ArrangedRun, RunGroup
    from rnnlm_tui.client.comparison import Comparison, FigureRow
    from rnnlm_tui.client.sweeps import Sweep


def open_run(run: RunArgument, screen: ScreenOptions = ScreenOptions()) -> None:
    """Open the app on a run."""
    open_app(run, **asdict(screen))


def runs(
    filters: str = opt(
        "--filter -f FILTER",
        "Such as 'otter ppl<80 !draft': words, figures, config keys and statuses.",
        "",
    ),
    sort: str = opt(
        "--sort KEY",
        "Sort by this figure or config key, ascending; -KEY: descending.",
        "",
        key_names,
    ),
    reverse: ReverseOption = False,
    tree: bool = flag("--tree", "Forks below their parents, and what each changed."),
    group_by: str = opt(
        "--group-by KEY[,KEY]",
        "Group by figures or config keys, such as hidden_size,cell; the best first.",
        "",
        key_names,
    ),
) -> Answer:
    """List runs: newest first, filtered, sorted.

    Pinned runs come first.
    """
    check_exclusive(tree=tree, group_by=group_by)
    keys = client.arrangement.parse_group_keys(group_by) if group_by else ()
    listing = client.listing.listed_runs(filters, sort, reverse=reverse)
    found = listing.runs
    none = "no runs yet: `rnnlm-tui train` starts the demo"
    if listing.known:
        none = f'no run matches "{filters}" ({counted(listing.known, "run")})'
    if tree:
        rows = client.arrangement.tree_of(found)
        return Answer(_nested(rows), partial(_print_tree, rows) if found else none)
    if keys:
        groups = client.arrangement.group_runs(found, keys, listing.config_of)
        value = [
            {
                "values": dict(group.values),
                "best": group.best.run,
                "best_perplexity": best_perplexity(group.best),
                "runs": group.runs,
            }
            for group in groups
        ]
        return Answer(value, partial(_print_groups, groups) if found else none)
    return Answer(found, partial(print_runs, found) if found else none)


def show(
    run: RunArgument,
    health: bool = flag("--health", "Show the net's health: gates, memory, dead units, gradients."),
) -> Answer:
    """Show a run's figures."""
    if health:
        return _health(run)
    with reading_log(run) as report:
        (summary,) = client.listing.with_jobs([client.monitor.summarize(run, report)])
    return Answer(summary, lambda: print_summary(summary))


FULL_WIDTH = 120
"""Line width if no terminal reports its size."""


def _health(run: RunArgument) -> Answer:
    """The net's health at the newest evaluation; with `--json`, at all of the newest ones."""
    from rnnlm_tui.schema.health import readings
    from rnnlm_tui.tui.views.health import health_legend, health_lines

    with reading_log(run) as report, closing(client.monitor.RunMonitor(run, report=report)) as one:
        snapshot = one.snapshot()
    value = {
        "run": run.name,
        "evaluations": [row._asdict() for row in snapshot.health],
        "advice": [reading.words for reading in readings(snapshot.health) if reading.advice],
    }
    rows = [row.plain for row in health_lines(snapshot, columns(sys.stdout) or FULL_WIDTH)]
    text = "\n".join(filter(None, (health_legend(snapshot), *map(str.rstrip, rows))))
    return Answer(value, lambda: line(text, wrap=False))


def _print_tree(rows: Sequence[ArrangedRun]) -> None:
    """Print the runs as a tree: name, status, step, perplexity, difference and changed settings."""
    table(
        ("name", "status", ">step", ">val ppl", ">Δ parent", "changed"),
        list(map(_tree_cells, rows)),
        spare=(2,),
        colours=status_colours(row.run for row in rows),
    )


def _print_groups(groups: Sequence[RunGroup]) -> None:
    """Print the groups, each with its best run and the others below."""
    for place, group in enumerate(groups):
        if place:
            line()
        best = best_perplexity(group.best)
        found = f"best {perplexity_text(best)} {group.best.run}" if best is not None else "none yet"
        line(f"{group.label}: {counted(len(group.runs), 'run')}, {found}")
        table(
            ("  name", "status", ">step", ">val ppl"),
            [
                (
                    f"  {run.run}",
                    status_text(run),
                    f"{run.step:,}",
                    perplexity_text(best_perplexity(run)) + (" *" if run is group.best else "  "),
                )
                for run in group.runs
            ],
            colours=status_colours(group.runs),
        )


def _tree_cells(row: ArrangedRun) -> tuple[str, ...]:
    run = row.run
    changed = client.arrangement.changed_words(run)
    return (
        f"{row.lead}{run.run}",
        status_text(run),
        f"{run.step:,}",
        perplexity_text(best_perplexity(run)),
        NOTHING if row.delta is None else change(row.delta),
        ": ".join(filter(None, (run.parent, changed))),
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


def complete_sweep() -> list[str]:
    """List the names of sweeps, for the shell."""
    return list(client.sweeps.sweeps_in(client.listing.listed_runs().runs))


def sweep(name: str = arg("[NAME]", "A sweep's name.", "", complete_sweep)) -> Answer:
    """Show a sweep, the best settings first, or list sweeps.

    The spread of a key is the difference between the best settings with each of its values. Runs
    that differ in their seeds alone are one setting with mean and standard deviation.
    """
    listing, places = client.listing.listed_runs(), queue_places()
    known = client.sweeps.sweeps_in(listing.runs)
    if name and name not in known:
        hint = did_you_mean(name[:64], known) or "`rnnlm-tui sweep` lists them"
        raise InputError(f'no sweep "{name[:64]}"', hint=hint)
    wanted = {name: known[name]} if name else known
    read = client.sweeps.read_sweep
    found = [read(one, members, listing.config_of) for one, members in wanted.items()]
    if name:
        return Answer(found[0], lambda: _print_sweep(found[0], places))
    none = "no sweeps yet: `rnnlm-tui train --sweep KEY=A,B` starts one"
    rows = [(one.name, one.states_words(places)) for one in found]
    return Answer(found, lambda: table(("sweep", "runs"), rows, none=none))


def _print_sweep(found: Sweep, places: Mapping[str, int]) -> None:
    line(f"{found.name}: {found.states_words(places)}")
    rows = [(run.run, *cells) for run, *cells in found.rows(places)]
    table(("run", "state", f">{found.measure}", "setting"), rows)
    line()
    table(("key", ">spread", "best"), found.effect_cells(), none="nothing was evaluated yet")


MOST_CELL, LEAST_CELL = 32, 10
"""Maximum and minimum width of a setting in the table, in characters."""


def compare(
    runs: AddressesArgument,
    test: bool = flag(
        "--test", "Score the test text with each, and test whether they differ from the first."
    ),
    model: list[str] | None = opt(
        "--model DIR", "Test a causal model in a local folder, too; can be repeated.", None
    ),
) -> Answer:
    """Compare runs: settings that differ, final and best metrics.

    With --test, the best or named checkpoints score the same test text, sentence by sentence: is
    the difference real, and where is it?
    """
    if not (test or model):
        comparison = client.comparison.compare_runs([run_named(one) for one in runs])
        text = partial(_print_comparison, comparison)
        return Answer(_as_json(comparison), text, comparison.remark)
    from rnnlm_tui.cli.checkpoints import progress_text

    client.comparison.check_count([*runs, *(model or ())])
    with ProgressLine() as progress:
        done = client.significance.find_differences(
            dict(zip(client.comparison.LETTERS, runs, strict=False)),
            lambda at: progress(progress_text(at)),
            model or (),
        )
    return Answer(done, "\n".join(done.lines()))


def _print_comparison(comparison: Comparison) -> None:
    room = _cell_width(comparison, columns(sys.stdout))
    heads = [f">{run.letter} {_short(run.name, room - 2)}" for run in comparison.runs]
    if comparison.settings:
        rows = [
            (row.key, *(_short(value, room) for value in row.values)) for row in comparison.settings
        ]
        table(("differing settings", *heads), rows)
    elif len(heads) > 1:
        line("the runs have the same settings")
    else:
        line("nothing to compare: name a second run")
    line()
    figures = [(row.label, *_cells(row)) for row in comparison.figures]
    if not fits(("figures", *heads), figures):
        figures = [(row.label, *_cells(row, differences=False)) for row in comparison.figures]
    table(("figures", *heads), figures)
    if len(heads) > 1:
        line()
        line(comparison.equal_words)


def _cell_width(comparison: Comparison, width: int | None) -> int:
    """Return the width of a setting at which the table fits the terminal, if possible."""
    if width is None:
        return MOST_CELL
    keys = max((len(row.key) for row in comparison.settings), default=0)
    return max(LEAST_CELL, min(MOST_CELL, (width - keys) // len(comparison.runs) - 2))


def _short(text: str, room: int) -> str:
    """Shorten a text: a path keeps its end, anything else its start."""
    flat = " ".join(text.split())
    ends = "/" in flat and len(flat) > room
    return f"…{flat[1 - room :]}" if ends else clipped(flat, room)


def _cells(row: FigureRow, *, differences: bool = True) -> list[str]:
    """Format each run's figure: the best with a star, the others with the difference.

    Two trailing characters keep the digits aligned.
    """
    return [
        f"{words} ({difference})  "
        if difference and differences
        else f"{words} {'★' if run == row.best else ' '}"
        for run, (words, difference) in enumerate(zip(row.words, row.differences, strict=True))
    ]


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {
        "runs": [
            {"letter": run.letter, "run": run.name, "summary": run.summary}
            for run in comparison.runs
        ],
        "settings": {row.key: row.found for row in comparison.settings},
        "figures": {
            row.name: {
                "values": row.values,
                "best": None if row.best is None else comparison.runs[row.best].name,
            }
            for row in comparison.figures
        },
        "remark": comparison.remark or None,
        "equal": comparison.equal,
    }
