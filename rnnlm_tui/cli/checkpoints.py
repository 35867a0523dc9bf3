"""The verbs `checkpoints`, `prune` and `verify`."""

from __future__ import annotations

from dataclasses import asdict, replace
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.manage import AddressArgument, check_agreed
from rnnlm_tui.cli.options import (
    JsonOption,
    ReverseOption,
    RunArgument,
    YesOption,
    checkpoint_path,
    flag,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import Answer, line, note, table
from rnnlm_tui.client.checkpoints import (
    COLUMN_NAMES,
    MARK_SIGNS,
    checkpoint_key,
    list_run,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.errors import CheckpointError, RunStateError, StorageError
from rnnlm_tui.schema.formatting import NOTHING, age, change, counted, disk, figure, short
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.client.checkpoints import ListedCheckpoint
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.verify import CheckpointCheck


def checkpoints(
    run: RunArgument,
    sort: str = opt(
        "--sort COLUMN",
        "step, epoch, tokens, ppl, delta, train, size, age, mark or note; -COLUMN: descending.",
        "",
        lambda: COLUMN_NAMES,
    ),
    reverse: ReverseOption = False,
) -> Answer:
    """List a run's checkpoints, newest first.

    Marked are the best, the last, pinned and damaged ones; `verify` reads all of their bytes.
    """
    items = list_run(run)
    if sort:
        key, descending = checkpoint_key(sort)
        items = list(sorted_checkpoints(items, key, backwards=descending == rises(key)))
    if reverse:
        items.reverse()
    none = f"{run.name} has no checkpoints yet: `rnnlm-tui checkpoint {run.name}` saves one now"
    return Answer([_as_json(item, run) for item in items], lambda: write_table(items, none))


HEADS = ("step", "epoch", "tokens", "val ppl", "Δ best", "train", "size", "age", "mark", "note")


def write_table(items: Sequence[ListedCheckpoint], none: str = "") -> None:
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
    table(HEADS[:last], [row[:last] for row in cells], right=range(8), spare=(2, 5, 4), none=none)


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
    keep_last: int = opt("--keep-last N", "Keep this many of the newest, at least 2.", 2),
    keep_every: int = opt("--keep-every STEPS", "Keep multiples of this step.", 0, shown=False),
    dry_run: bool = flag("--dry-run", "Only print what would be deleted."),
    purge: bool = flag("--purge", "Remove them permanently, not to the trash."),
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
        write_table(items)
        kept = "; ".join(f"{step:,} ({why})" for step, why in sorted(plan.kept.items()))
        line(f"deletes {count}, {disk(plan.bytes)}; keeps {kept}" if goes else "nothing to delete")
    question = f"delete {count} of {run.name}, {disk(plan.bytes)}?"
    check_agreed(question, "prune deletes checkpoints", yes=yes or dry_run or not goes)
    done, spared = ([], {}) if dry_run else store.trash.delete_checkpoints(run, goes)
    count, size = counted(len(done), "checkpoint"), disk(sum(one.bytes for one in done))
    freed = store.trash.purge(done) if purge else 0
    value = {
        "run": run.name,
        "deletes": goes,
        "bytes": plan.bytes,
        "keeps": dict(sorted({**plan.kept, **spared}.items())),
        "deleted": [one.step for one in done],
        "freed": freed,
    }
    text = (
        f"{count} moved to the trash for {store.trash.KEPT_DAYS} days: `rnnlm-tui restore"
        f" {run.name}@all` restores them, `rnnlm-tui purge {run.name}@all` frees {size} now"
    )
    if purge:
        text = f"{count} permanently removed, {disk(freed)} freed"
    for step, why in spared.items():
        note(f"{run.name}@{step} was not deleted: {why}")
    Answer(value, text if done else "").print(json=json)
    if spared:
        raise SystemExit(RunStateError.exit_code)


def verify(run: AddressArgument) -> Answer:
    """Check a run's checkpoints, byte by byte, and its logs.

    With @CHECKPOINT, check only that one. A damaged checkpoint is moved aside when the run is
    resumed; damaged lines of the logs are skipped. Exits with 5 if anything is damaged.
    """
    directory, which = split_address(run)
    only = None if which is None else checkpoint_path(directory, which)
    checks = [
        replace(check, problem=check.problem.replace(f"{directory.path}/", ""))
        for check in store.verify.check_checkpoints(directory, only)
    ]
    aside, lines = [], 0
    if only is None:
        aside = store.verify.damaged_folders(directory)
        with store.reader.RunReader(directory) as reader:
            lines = reader.damaged_lines
    damaged = damage_error(directory, checks, lines)

    def text() -> None:
        _write(checks)
        for path in aside:
            line(f"damaged, moved aside: {path}")
        if only is None:
            line(f"log: {_lines_text(lines) if lines else 'ok'}")

    value = {
        "run": directory.name,
        "whole": damaged is None,
        "checkpoints": [{**asdict(check), "whole": not check.problem} for check in checks],
        "kept_aside": aside,
        "damaged_lines": lines,
    }
    return Answer(value, text, failure=damaged)


def damage_error(
    run: RunDirectory, checks: list[CheckpointCheck], lines: int
) -> StorageError | None:
    """Return an error that sums up the damage and says what to do; None if nothing is damaged.

    Args:
        lines: those of the run's logs that can't be read.
    """
    bad = [check for check in checks if check.problem]
    if not bad:
        if not lines:
            return None
        return StorageError(
            f"the log of {run.name} has {_lines_text(lines)}",
            hint="all other rows are shown, and the run can be resumed",
        )
    count = "the only checkpoint"
    if len(checks) > 1:
        count = f"{len(bad)} of {counted(len(checks), 'checkpoint')}"
    verdict = "is damaged" if len(bad) == 1 else "are damaged"
    if all(check.newer for check in bad):
        verdict = "can't be checked"
    also = f", and its log has {_lines_text(lines)}" if lines else ""
    hint = "update rnnlm-tui: this version can't resume from an older checkpoint instead"
    if not bad[-1].newer:
        intact = max((check.step for check in checks if not check.problem), default=None)
        hint = _advice(run, intact)
    return CheckpointError(f"{count} of {run.name} {verdict}{also}", hint=hint)


def _advice(run: RunDirectory, step: int | None) -> str:
    """Say how to use the latest intact checkpoint, depending on the run's status."""
    status = client.monitor.summary_or_problem(run).status
    if status == "finished":
        if step is None:
            return "no intact checkpoint is left: start a new run"
        return (
            f"use step {step:,}, the latest intact one: `rnnlm-tui sample {run.name}@{step}` or"
            f" `rnnlm-tui train --from {run.name}@{step}`"
        )
    if step is None:
        return f"no intact checkpoint is left: `rnnlm-tui resume {run.name}` restarts from step 0"
    if status in LIVING:
        return (
            f"training isn't affected: `rnnlm-tui checkpoint {run.name}` saves a new one; step"
            f" {step:,} is the latest intact one"
        )
    return f"`rnnlm-tui resume {run.name}` continues from step {step:,}, the latest intact one"


def _write(checks: list[CheckpointCheck]) -> None:
    table(
        ("step", "state", "files", "size", "pin", "parent"),
        [
            (
                f"{check.step:,}",
                "? newer" if check.newer else "✗ damaged" if check.problem else "✓ ok",
                str(check.files) if check.files else NOTHING,
                disk(check.bytes) if check.files else NOTHING,
                "⚑" if check.pinned else "",
                _parent_text(check.parent)
                + ("" if check.parent_kept or not check.parent else ", deleted"),
            )
            for check in checks
        ],
        right=(0, 2, 3),
        colours={1: {"✓ ok": "good", "✗ damaged": "bad", "? newer": "warn"}},
        none="no checkpoints yet",
    )
    for check in checks:
        if check.problem:
            line(f"step {check.step:,}: {check.problem}")


def _parent_text(parent: str) -> str:
    """Format `1,500` for a checkpoint of the same run, `run@step` for one of another run."""
    digits = parent.removeprefix("step-")
    return f"{int(digits):,}" if digits.isascii() and digits.isdecimal() else parent


def _lines_text(lines: int) -> str:
    return f"{counted(lines, 'line')} that can't be read"
