"""The verbs `open`, `runs`, `show`, `metrics` and `checkpoints`."""

from __future__ import annotations

from typing import Annotated

import typer

from rnnlm_tui.cli.arguments import AsciiOption, FpsOption, JsonOption, NoMouseOption, RunArgument, ThemeOption, check_exclusive
from rnnlm_tui.cli.start import FPS, THEME, check_fps
from rnnlm_tui.contract.figures import counted


def open_run(run: RunArgument, ascii_only: AsciiOption = None, theme: ThemeOption = THEME, fps: FpsOption = FPS, no_mouse: NoMouseOption = False) -> None:
    """Open the app on a run."""
    from rnnlm_tui.cli import start

    start.open_run(run, ascii_only=ascii_only, theme=theme, fps=fps, mouse=not no_mouse)


def complete_key(incomplete: str) -> list[str]:
    """Complete a figure or config key for the shell."""
    from rnnlm_tui.contract.run_keys import key_names

    return [name for name in key_names() if name.startswith(incomplete)]


def runs(
    filters: Annotated[
        str,
        typer.Option("--filter", "-f", metavar="FILTER", help="Such as 'otter ppl<80 !draft': words, figures, config keys and statuses.", show_default=False),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="Sort by this figure or config key, ascending; -KEY: descending.",
            autocompletion=complete_key,
            show_default=False,
        ),
    ] = "",
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    json: JsonOption = False,
) -> None:
    """List runs: newest first, filtered, sorted.

    Pinned runs come first.
    """
    from rnnlm_tui.cli.output import line, note, print_json, table
    from rnnlm_tui.cli.summaries import RUN_COLUMNS, RUN_COLUMNS_RIGHT, RUN_COLUMNS_SPARE, run_cells, status_colour, status_text
    from rnnlm_tui.supervisor.listing import listed_runs

    listing = listed_runs(filters, sort, reverse=reverse)
    found = listing.runs
    if json:
        print_json([summary.model_dump(mode="json") for summary in found])
    elif found:
        colours = {status_text(summary): status_colour(summary) for summary in found}
        table(RUN_COLUMNS, [run_cells(summary) for summary in found], right=RUN_COLUMNS_RIGHT, spare=RUN_COLUMNS_SPARE, colours={1: colours})
        for summary in found:
            if summary.unreadable:
                note(f"{summary.message}{'; ' if summary.hint else ''}{summary.hint or ''}")
    elif listing.known:
        line(f'no run matches "{filters}" ({counted(listing.known, "run")})')
    else:
        line("no runs yet: `rnnlm-tui train` starts the demo")


def show(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the dashboard's figures until the run ends; Ctrl-C exits, and the run continues.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show the dashboard's current figures.")] = False,
    ascii_only: AsciiOption = None,
    fps: FpsOption = FPS,
    json: JsonOption = False,
) -> None:
    """Show a run's figures, once or live."""
    from rnnlm_tui.cli.output import facts, has_block_characters, print_json
    from rnnlm_tui.cli.summaries import status_colour, summary_lines
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.monitor import summarize

    directory = find_run(run)
    check_exclusive(watch=watch, once=once)
    check_fps(fps)
    ascii_only = not has_block_characters() if ascii_only is None else ascii_only
    if watch:
        from rnnlm_tui.cli.follow import follow_run
        from rnnlm_tui.cli.watch import watch_run

        raise typer.Exit(follow_run(directory, json=True) if json else watch_run(directory, fps=fps, ascii_only=ascii_only))
    if once and not json:
        from rnnlm_tui.cli.watch import print_frame

        print_frame(directory, ascii_only=ascii_only)
        return
    summary = summarize(directory)
    if json:
        print_json(summary.model_dump(mode="json"))
    else:
        facts(summary_lines(summary), colours={"status": status_colour(summary)})


def metrics(
    run: RunArgument,
    csv: Annotated[bool, typer.Option("--csv", help="Print all steps as CSV.")] = False,
    evaluations: Annotated[bool, typer.Option("--evaluations", help="Print evaluations instead of steps.")] = False,
    json: JsonOption = False,
) -> None:
    """Print metrics: the latest, or all as CSV or JSON."""
    from rnnlm_tui.cli.metric_rows import EVALUATION_COLUMNS, STEP_COLUMNS, evaluation_rows, step_rows, write_csv, write_json, write_table
    from rnnlm_tui.store.reader import RunReader
    from rnnlm_tui.store.runs import find_run

    check_exclusive(csv=csv, json=json)
    with RunReader(find_run(run)) as reader:
        if evaluations:
            columns, rows = EVALUATION_COLUMNS, evaluation_rows(reader)
        else:
            columns, rows = STEP_COLUMNS, step_rows(reader, newest=None if csv or json else 20)
        if csv:
            write_csv(columns, rows)
        elif json:
            write_json(columns, rows)
        else:
            write_table(columns, rows)


def checkpoints(run: RunArgument, json: JsonOption = False) -> None:
    """List a run's checkpoints; marks best, last and pinned ones."""
    from dataclasses import asdict
    from time import time

    from rnnlm_tui.cli.output import line, print_json, table
    from rnnlm_tui.contract.figures import NOTHING, age, disk, figure
    from rnnlm_tui.contract.metrics import perplexity
    from rnnlm_tui.store.pins import pinned_steps
    from rnnlm_tui.store.reader import RunReader
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    pinned = pinned_steps(directory)
    with RunReader(directory) as reader:
        rows = sorted(reader.checkpoints(), key=lambda row: row.step, reverse=True)
    if json:
        figures = (
            {"validation_perplexity": None if row.validation_loss is None else perplexity(row.validation_loss), "pinned": row.step in pinned} for row in rows
        )
        print_json([{**asdict(row), **more, "path": str(directory.path / row.path)} for row, more in zip(rows, figures, strict=True)])
        return
    if not rows:
        line(f"{directory.name} has no checkpoints yet: `rnnlm-tui checkpoint {directory.name}` saves one now")
        return
    cells = [
        (
            f"{row.step:,}",
            f"{row.epoch:.1f}",
            NOTHING if row.validation_loss is None else figure(perplexity(row.validation_loss)),
            disk(row.bytes),
            age(time() - row.time),
            " ".join(mark for mark, marked in (("★ best", row.best), ("▸ last", row.last), ("⚑ pinned", row.step in pinned)) if marked),
        )
        for row in rows
    ]
    table(("step", "epoch", "val ppl", "size", "age", "mark"), cells, right=range(5))
