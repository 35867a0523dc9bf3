"""The verbs `checkpoints` and `prune`."""

from __future__ import annotations

from dataclasses import asdict
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui import store
from rnnlm_tui.cli import output
from rnnlm_tui.cli.manage import check_agreed
from rnnlm_tui.cli.options import JsonOption, RunArgument, YesOption, opt
from rnnlm_tui.cli.output import line, print_json, table
from rnnlm_tui.client.checkpoints import (
    COLUMN_NAMES,
    MARK_SIGNS,
    checkpoint_key,
    list_run,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.formatting import age, change, counted, disk, figure, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.client.checkpoints import ListedCheckpoint
    from rnnlm_tui.store.paths import RunDirectory


def complete_column() -> tuple[str, ...]:
    """List the columns, for the shell."""
    return COLUMN_NAMES


def checkpoints(
    run: RunArgument,
    sort: Annotated[
        str,
        opt(
            "--sort COLUMN",
            "step, epoch, tokens, ppl, delta, train, size, age, mark or note; -COLUMN: descending.",
            complete_column,
        ),
    ] = "",
    reverse: Annotated[bool, opt("--reverse", "Reverse the order.")] = False,
    json: JsonOption = False,
) -> None:
    """List a run's checkpoints, newest first.

    Marked are the best, the last, pinned and damaged ones; `verify` reads all of their bytes.
    """
    items = list_run(run)
    if sort:
        key, descending = checkpoint_key(sort)
        items = list(sorted_checkpoints(items, key, backwards=descending == rises(key)))
    if reverse:
        items.reverse()
    if json:
        print_json([_as_json(item, run) for item in items])
    elif items:
        write_table(items)
    else:
        line(f"{run.name} has no checkpoints yet: `rnnlm-tui checkpoint {run.name}` saves one now")


HEADS = ("step", "epoch", "tokens", "val ppl", "Δ best", "train", "size", "age", "mark", "note")


def write_table(items: Sequence[ListedCheckpoint]) -> None:
    """Write checkpoints as a table; narrow terminals get fewer columns."""
    cells = [
        (
            item.label,
            figure(item.row.epoch, 1),
            short(item.row.tokens_seen or None),
            figure(item.perplexity),
            "0.0" if item.delta == 0 else change(item.delta),
            figure(item.row.train_loss, 2),
            disk(item.row.bytes),
            age(time() - item.row.time),
            " ".join(f"{MARK_SIGNS[mark]} {mark}" for mark in item.marks),
            item.note or item.problem,
        )
        for item in items
    ]
    last = len(HEADS) if any(row[-1] for row in cells) else len(HEADS) - 1
    table(HEADS[:last], [row[:last] for row in cells], right=range(8), spare=(2, 5, 4))


def _as_json(item: ListedCheckpoint, run: RunDirectory) -> dict[str, object]:
    return {
        "name": item.name,
        **asdict(item.row),
        "validation_perplexity": item.perplexity,
        "delta": item.delta,
        "pinned": "pinned" in item.marks,
        "marks": item.marks,
        "note": item.note,
        "problem": item.problem or None,
        "path": run.path / item.row.path,
    }


def prune(
    run: RunArgument,
    keep_last: Annotated[
        int, opt("--keep-last N", "Keep this many of the newest, at least 2.")
    ] = 2,
    keep_every: Annotated[
        int, opt("--keep-every STEPS", "Keep multiples of this step.", default=False)
    ] = 0,
    dry_run: Annotated[bool, opt("--dry-run", "Only print what would be deleted.")] = False,
    purge: Annotated[bool, opt("--purge", "Remove them permanently, not to the trash.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete a run's older checkpoints; asks for confirmation.

    The best, the pinned and the newest two valid ones are always kept. Deleted checkpoints go to
    the run's trash for a week: `restore` returns them.
    """
    plan = store.retention.plan_prune(run, keep_last, keep_every)
    goes = [entry.step for entry in plan.goes]
    count = counted(len(goes), "checkpoint")
    if not json:
        items = [item for item in list_run(run) if item.row.step in goes]
        if items:
            write_table(items)
        kept = "; ".join(f"{step:,} ({why})" for step, why in sorted(plan.kept.items()))
        line(f"deletes {count}, {disk(plan.bytes)}; keeps {kept}" if goes else "nothing to delete")
    question = f"delete {count} of {run.name}, {disk(plan.bytes)}?"
    check_agreed(question, "prune deletes checkpoints", yes=yes or dry_run or not goes)
    done, spared = ([], {}) if dry_run else store.trash.delete_checkpoints(run, goes)
    count, size = counted(len(done), "checkpoint"), disk(sum(one.bytes for one in done))
    freed = store.trash.purge(done) if purge else 0
    if json:
        print_json(
            {
                "run": run.name,
                "deletes": goes,
                "bytes": plan.bytes,
                "keeps": dict(sorted({**plan.kept, **spared}.items())),
                "deleted": [one.step for one in done],
                "freed": freed,
            }
        )
    elif purge and done:
        line(f"{count} permanently removed, {disk(freed)} freed")
    elif done:
        line(
            f"{count} moved to the trash for {store.trash.KEPT_DAYS} days: `rnnlm-tui restore"
            f" {run.name}@all` restores them, `rnnlm-tui purge {run.name}@all` frees"
            f" {size} now"
        )
    for step, why in spared.items():
        output.note(f"{run.name}@{step} was not deleted: {why}")
    if spared:
        raise typer.Exit(RunStateError.exit_code)
