"""The verb `metrics`: print a run's metrics, or export all of them as files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import JsonOption, RunArgument, check_exclusive, flag, opt
from rnnlm_tui.cli.output import (
    Answer,
    ProgressLine,
    json_text,
    note,
    reading_log,
    shown,
    table,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import NOTHING, counted, figure, user_path

if TYPE_CHECKING:
    from rnnlm_tui.client.metric_tables import Cell
    from rnnlm_tui.store.paths import RunDirectory


def metrics(
    run: RunArgument,
    csv: bool = flag("--csv", "Print all steps as CSV."),
    evaluations: bool = flag("--evaluations", "Print evaluations instead of steps."),
    format: Literal["csv", "parquet", "tensorboard", "wandb"] | None = opt(
        "--format csv|parquet|tensorboard|wandb",
        "Export everything as files of this format, into the folder --to.",
        None,
    ),
    to: Path | None = opt(
        "--to FOLDER", "A new folder, or an earlier export of the run, which is continued.", None
    ),
    follow: bool = flag(
        "--follow", "With --format: export until the run ends; Ctrl-C stops, and the run continues."
    ),
    json: JsonOption = False,
) -> None:
    """Print metrics, or export them as files.

    Prints the latest steps, or all as CSV or JSON. With --format, steps, evaluations, samples,
    events, machine readings and the config are exported.
    """
    from rnnlm_tui.client.metric_tables import EVALUATIONS, STEPS

    check_exclusive(csv=csv, json=json)
    if format is not None or to is not None or follow:
        check_exclusive(csv=csv, format=True)
        check_exclusive(evaluations=evaluations, format=True)
        if format is None or to is None:
            raise InputError(
                f"--{'format' if format is None else 'to'} is missing",
                hint=f"rnnlm-tui metrics {run.name} --format {format or 'csv'} --to"
                f" {'FOLDER' if to is None else shlex.quote(str(to))}"
                f"{' --follow' if follow else ''}",
            )
        export(run, format, user_path(str(to)).absolute(), follow=follow, json=json)
        return
    with store.reader.RunReader(run) as reader:
        with reading_log(run) as report:
            reader.refresh(report)
        newest = replace(STEPS, read=lambda reader: reader.recent_steps(20))
        series = EVALUATIONS if evaluations else STEPS if csv or json else newest
        columns, rows = tuple(series.columns), series.rows(reader)
        if csv:
            write_csv(columns, rows)
        elif json:
            write_json(columns, rows)
        else:
            write_table(columns, rows)


def export(
    directory: RunDirectory,
    format: Literal["csv", "parquet", "tensorboard", "wandb"],
    folder: Path,
    *,
    follow: bool,
    json: bool,
) -> None:
    """Export a run's metrics, and report what is in the folder."""
    try:
        with ProgressLine() as progress:
            found = client.metrics_export.export_metrics(
                directory,
                format,
                folder,
                follow=follow,
                report=lambda step: progress(f"exporting {directory.name}: step {step:,}"),
            )
    except KeyboardInterrupt:
        note("the same command exports the run again")
        raise
    names = {"machine": "machine reading"}
    parts = [
        counted(number, names.get(name, name.removesuffix("s")))
        for name, number in found.rows.items()
        if number
    ]
    text = f"{folder}: {', '.join(parts) or 'no rows'}"
    again = f"{directory.name} is running: export again, or use --follow"
    value = {"run": directory.name, **asdict(found)}
    Answer(value, text, "" if found.ended else again).print(json=json)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a header and one line per row to stdout."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [shown(cell, keep="") if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    sys.stdout.flush()


def write_json(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a JSON list of objects to stdout, row by row."""
    lead = "["
    for row in rows:
        sys.stdout.write(f"{lead}\n{json_text(dict(zip(columns, row, strict=True)))}")
        lead = ","
    sys.stdout.write("[]\n" if lead == "[" else "\n]\n")
    sys.stdout.flush()


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table to stdout; Unix times become times of day."""
    cells = [tuple(map(_cell, columns, row)) for row in rows]
    heads = [name if name in ("split", "name") else f">{name}" for name in columns]
    table(heads, cells, none="no metrics yet")


def _cell(name: str, value: Cell) -> str:
    if value is None:
        return NOTHING
    if name == "time" and isinstance(value, float):
        return datetime.fromtimestamp(value).strftime("%H:%M:%S")
    if isinstance(value, float):
        rounded = name in ("tokens_per_second", "perplexity", "active_seconds")
        return figure(value, 1 if rounded else 3)
    return f"{value:,}" if isinstance(value, int) else str(value)
