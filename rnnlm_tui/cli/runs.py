"""The verbs about runs on disk: `runs`, `show`, `metrics`, `checkpoints`, `delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from rnnlm_tui.cli.arguments import JsonOption, RunArgument, complete_run


def runs(json: JsonOption = False) -> None:
    """List the runs, newest first."""
    from rnnlm_tui.cli.output import line, note, print_json, table
    from rnnlm_tui.cli.summaries import RUN_COLUMNS, RUN_COLUMNS_RIGHT, run_cells
    from rnnlm_tui.supervisor.monitor import summaries

    found = summaries()
    if json:
        print_json([summary.model_dump(mode="json") for summary in found])
    elif found:
        table(RUN_COLUMNS, [run_cells(summary) for summary in found], right=RUN_COLUMNS_RIGHT)
        for summary in found:
            if summary.unreadable:
                note(f"{summary.message}{'; ' if summary.hint else ''}{summary.hint or ''}")
    else:
        line("no runs yet: `rnnlm-tui train` starts the demo")


def show(run: RunArgument, json: JsonOption = False) -> None:
    """Show a run's figures."""
    from rnnlm_tui.cli.output import facts, print_json
    from rnnlm_tui.cli.summaries import summary_lines
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.monitor import summarize

    summary = summarize(find_run(run))
    if json:
        print_json(summary.model_dump(mode="json"))
    else:
        facts(summary_lines(summary))


def metrics(
    run: RunArgument,
    csv: Annotated[bool, typer.Option("--csv", help="Every step as CSV.")] = False,
    evaluations: Annotated[bool, typer.Option("--evaluations", help="The evaluations instead of the steps.")] = False,
    json: JsonOption = False,
) -> None:
    """Write out metrics: the newest, or all as CSV or JSON."""
    from rnnlm_tui.cli import metric_rows
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.store.reader import RunReader
    from rnnlm_tui.store.runs import find_run

    if csv and json:
        raise InputError("--csv and --json can't both be on standard output", hint="leave out one of them")
    with RunReader(find_run(run)) as reader:
        if evaluations:
            columns, rows = metric_rows.EVALUATION_COLUMNS, metric_rows.evaluation_rows(reader)
        else:
            columns, rows = metric_rows.STEP_COLUMNS, metric_rows.step_rows(reader, newest=None if csv or json else 20)
        if csv:
            metric_rows.write_csv(columns, rows)
        elif json:
            metric_rows.write_json(columns, rows)
        else:
            metric_rows.write_table(columns, rows)


def checkpoints(run: RunArgument, json: JsonOption = False) -> None:
    """List a run's checkpoints: best, last and pinned ones marked."""
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
        line(f"{directory.name} has no checkpoint yet: `rnnlm-tui checkpoint {directory.name}` saves one now")
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


def delete(run: Annotated[str, typer.Argument(metavar="RUN", help="The run's whole name.", show_default=False, autocompletion=complete_run)]) -> None:
    """Move a run that is not running to the trash."""
    from rnnlm_tui.cli.output import line
    from rnnlm_tui.errors import UnknownRunError
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.store.trash import delete_run

    directory = find_run(run)
    if directory.name != run:
        raise UnknownRunError(f'no run is called "{run}"', hint=f'to delete "{directory.name}", write its whole name')
    line(f"{directory.name} is in the trash: {delete_run(directory).path}")
