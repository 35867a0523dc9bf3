"""The verbs `checkpoints` and `prune`, and what other verbs do to RUN@CHECKPOINT."""

from __future__ import annotations

from dataclasses import asdict
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli import output
from rnnlm_tui.cli.manage import confirmed
from rnnlm_tui.cli.options import JsonOption, RunArgument, YesOption
from rnnlm_tui.cli.output import line, print_json, table
from rnnlm_tui.schema.formatting import age, change, counted, disk, figure, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.client.checkpoints import ListedCheckpoint
    from rnnlm_tui.store.checkpoint_trash import TrashedCheckpoint
    from rnnlm_tui.store.paths import RunDirectory


def complete_column(incomplete: str) -> list[str]:
    """Complete a column's name for the shell."""
    from rnnlm_tui.client.checkpoints import CHECKPOINT_KEYS

    names = ("delta" if key == "Δ best" else key for key in CHECKPOINT_KEYS)
    return [name for name in names if name.startswith(incomplete)]


def checkpoints(
    run: RunArgument,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="step, epoch, tokens, ppl, delta, train, size, age, mark or note; -COLUMN:"
            " descending.",
            autocompletion=complete_column,
            show_default=False,
        ),
    ] = "",
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    json: JsonOption = False,
) -> None:
    """List a run's checkpoints, newest first.

    Marked are the best, the last, pinned and damaged ones; `verify` reads all of their bytes.
    """
    from rnnlm_tui.client.checkpoints import checkpoint_key, list_run, rises, sorted_checkpoints
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    items = list_run(directory)
    if sort:
        key, descending = checkpoint_key(sort)
        items = list(sorted_checkpoints(items, key, backwards=descending == rises(key)))
    if reverse:
        items.reverse()
    if json:
        print_json([_as_json(item, directory) for item in items])
    elif items:
        write_table(items)
    else:
        line(
            f"{directory.name} has no checkpoints yet: `rnnlm-tui checkpoint {directory.name}`"
            " saves one now"
        )


HEADS = ("step", "epoch", "tokens", "val ppl", "Δ best", "train", "size", "age", "mark", "note")


def write_table(items: Sequence[ListedCheckpoint]) -> None:
    """Write checkpoints as a table; narrow terminals get fewer columns."""
    from rnnlm_tui.client.checkpoints import MARK_SIGNS

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
        "marks": list(item.marks),
        "note": item.note,
        "problem": item.problem or None,
        "path": str(run.path / item.row.path),
    }


def prune(
    run: RunArgument,
    keep_last: Annotated[
        int,
        typer.Option("--keep-last", metavar="N", help="Keep this many of the newest, at least 2."),
    ] = 2,
    keep_every: Annotated[
        int,
        typer.Option(
            "--keep-every",
            metavar="STEPS",
            help="Keep multiples of this step.",
            show_default=False,
        ),
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be deleted.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove them permanently, not to the trash.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete a run's older checkpoints; asks for confirmation.

    The best, the pinned and the newest two valid ones are always kept. Deleted checkpoints go to
    the run's trash for a week: `restore` returns them.
    """
    from rnnlm_tui.client.checkpoints import list_run
    from rnnlm_tui.store.checkpoint_trash import (
        KEPT_DAYS,
        delete_checkpoints,
        plan_prune,
        purge_checkpoints,
    )
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    plan = plan_prune(directory, keep_last, keep_every)
    goes = [entry.step for entry in plan.goes]
    count = counted(len(goes), "checkpoint")
    if not json:
        items = [item for item in list_run(directory) if item.row.step in goes]
        if items:
            write_table(items)
        kept = "; ".join(f"{step:,} ({why})" for step, why in sorted(plan.kept.items()))
        line(f"deletes {count}, {disk(plan.bytes)}; keeps {kept}" if goes else "nothing to delete")
    question = f"delete {count} of {directory.name}, {disk(plan.bytes)}?"
    if goes and not dry_run and not yes and not confirmed(question, "prune deletes checkpoints"):
        output.note("nothing was deleted")
        raise typer.Exit(1)
    done = [] if dry_run else delete_checkpoints(directory, goes)
    freed = purge_checkpoints(directory, done) if purge else 0
    if json:
        print_json(
            {
                "run": directory.name,
                "deletes": goes,
                "bytes": plan.bytes,
                "keeps": {str(step): why for step, why in sorted(plan.kept.items())},
                "deleted": [one.step for one in done],
                "freed": freed,
            }
        )
    elif purge and done:
        line(f"{count} permanently removed, {disk(freed)} freed")
    elif done:
        line(
            f"{count} moved to the trash for {KEPT_DAYS} days: `rnnlm-tui restore"
            f" {directory.name}@all` restores them, `rnnlm-tui purge {directory.name}@all` frees"
            f" {disk(plan.bytes)} now"
        )


def delete_one(run: RunDirectory, which: str) -> tuple[object, str]:
    """Move a checkpoint to its run's trash; return the result as JSON and as a sentence."""
    from rnnlm_tui.store.checkpoint_trash import delete_checkpoints
    from rnnlm_tui.store.verify import resolve_folder

    step = int(resolve_folder(run, which).name.rpartition("-")[2])
    trashed = delete_checkpoints(run, [step])[0]
    return trashed_json(run, trashed), (
        f"{run.name}@{step} moved to the trash ({disk(trashed.bytes)}): `rnnlm-tui restore"
        f" {run.name}@{step}` restores it"
    )


def write_trash(run: RunDirectory, *, json: bool) -> None:
    """List a run's deleted checkpoints."""
    from rnnlm_tui.store.checkpoint_trash import KEPT_DAYS, list_trashed

    found = list_trashed(run)
    if json:
        print_json([trashed_json(run, one) for one in found])
        return
    if not found:
        line(f"the trash of {run.name} is empty")
        return
    table(
        ("step", "deleted", "size", "kept for"),
        [
            (
                f"{one.step:,}",
                _ago(age(time() - one.deleted)),
                disk(one.bytes),
                _kept_for(one.deleted + KEPT_DAYS * 86_400 - time()),
            )
            for one in found
        ],
        right=(0, 2, 3),
    )
    line(
        f"{counted(len(found), 'deleted checkpoint')}, {disk(sum(one.bytes for one in found))}:"
        f" `rnnlm-tui restore {run.name}@STEP` restores one, `rnnlm-tui purge {run.name}@STEP`"
        " removes it permanently; @all takes all"
    )


def trashed_of(run: RunDirectory, which: str) -> list[TrashedCheckpoint]:
    """The deleted checkpoints that `@STEP` or `@all` names; of each step the last deleted.

    Raises:
        UnknownCheckpointError: there is none in the trash.
    """
    from rnnlm_tui.store.checkpoint_trash import find_trashed, list_trashed

    known = list_trashed(run)
    if which == "all" and known:
        return list({one.step: one for one in reversed(known)}.values())
    return [find_trashed(run, which)]


def restore_some(run: RunDirectory, which: str) -> tuple[object, str]:
    """Restore deleted checkpoints; return the result as JSON and as a sentence."""
    from rnnlm_tui.store.checkpoint_trash import restore_checkpoints

    found = trashed_of(run, which)
    restore_checkpoints(run, found)
    steps = [one.step for one in found]
    names = f"{run.name}@{steps[0]}" if len(steps) == 1 else counted(len(steps), "checkpoint")
    return {"run": run.name, "steps": steps}, f"{names} restored"


def trashed_json(run: RunDirectory, one: TrashedCheckpoint) -> dict[str, object]:
    """A deleted checkpoint as JSON."""
    return {
        "run": run.name,
        "step": one.step,
        "deleted": one.deleted,
        "bytes": one.bytes,
        "path": str(one.path),
    }


def _ago(words: str) -> str:
    return words if words == "now" else f"{words} ago"


def _kept_for(seconds: float) -> str:
    return age(seconds) if seconds > 0 else "until the next deletion"
