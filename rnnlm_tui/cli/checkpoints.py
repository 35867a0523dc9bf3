"""The verbs `checkpoints`, `prune`, `verify` and `average`."""

from __future__ import annotations

from dataclasses import asdict, replace
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import (
    AddressArgument,
    JsonOption,
    ReverseOption,
    RunArgument,
    TrustOption,
    YesOption,
    arg,
    check_exclusive,
    checkpoint_path,
    complete_address,
    flag,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import (
    Answer,
    ProgressLine,
    check_agreed,
    check_can_ask,
    confirmed,
    line,
    note,
    print_json,
    table,
)
from rnnlm_tui.client.checkpoints import (
    COLUMN_NAMES,
    MARK_SIGNS,
    checkpoint_key,
    list_run,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.errors import CheckpointError, InputError, RunStateError, StorageError
from rnnlm_tui.schema.formatting import NOTHING, age, change, counted, disk, figure, short
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.client.checkpoints import ListedCheckpoint
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.store.checkpoints import CheckpointEntry
    from rnnlm_tui.store.lineage import ParentCheckpoint
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


HEADS = (
    *(">step", ">epoch", ">tokens", ">val ppl", ">Δ best", ">train", ">size", ">age"),
    *("mark", "note"),
)


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
    table(HEADS[:last], [row[:last] for row in cells], spare=(2, 5, 4), none=none)


def _as_json(item: ListedCheckpoint, run: RunDirectory) -> dict[str, object]:
    return {
        "name": item.name,
        **item.row._asdict(),
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
        (">step", "state", ">files", ">size", "pin", "parent"),
        [
            (
                f"{check.step:,}",
                "? newer" if check.newer else "✗ damaged" if check.problem else "✓ ok",
                str(check.files) if check.files else NOTHING,
                disk(check.bytes) if check.files else NOTHING,
                "⚑" if check.pinned else "",
                _parent_text(check),
            )
            for check in checks
        ],
        colours={1: {"✓ ok": "good", "✗ damaged": "bad", "? newer": "warn"}},
        none="no checkpoints yet",
    )
    for check in checks:
        if check.problem:
            line(f"step {check.step:,}: {check.problem}")


def _parent_text(check: CheckpointCheck) -> str:
    """Format `1,500` for a parent of the same run, `run@step` for one of another run."""
    digits = check.parent.removeprefix("step-")
    parent = f"{int(digits):,}" if digits.isascii() and digits.isdecimal() else check.parent
    return f"{parent}, deleted" if parent and not check.parent_kept else parent


def _lines_text(lines: int) -> str:
    return f"{counted(lines, 'line')} that can't be read"


def average(
    checkpoints: list[str] = arg(
        "RUN@CHECKPOINT...",
        "Checkpoints of one architecture and tokenizer; a run alone with --last.",
        complete=complete_address,
    ),
    last: int | None = opt("--last N", "Average the run's newest N checkpoints.", None),
    keep: bool = flag("--keep", "Keep the average without a question."),
    if_better: bool = flag("--if-better", "Keep it if its loss is lower than that of each part."),
    remove: bool = flag("--remove", "Permanently remove averages: RUN@average-STEP."),
    yes: bool = flag("--yes -y", "With --remove: don't ask for confirmation."),
    trust_dataset: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Average the weights of checkpoints, and keep the result.

    The average and its parts are evaluated on the run's validation set before you decide. It is
    kept beside the first checkpoint's run as RUN@average-STEP, with weights only: it can be
    sampled, scored, exported and forked from, but not resumed.
    """
    from rnnlm_tui.cli.config import allow_datasets

    check_exclusive(keep=keep, if_better=if_better, remove=remove)
    check_exclusive(remove=remove, last=last is not None)
    if remove:
        _remove(checkpoints, yes=yes, json=json)
        return
    parts = _parts(checkpoints, last)
    if not (keep or if_better):
        check_can_ask(
            "average", "add --keep, or --if-better to keep it if it is better than its parts"
        )
    allow_datasets(parts[0].run.read_config().corpus, trust=trust_dataset)
    with ProgressLine() as progress:
        staged = client.average.average_checkpoints(parts, lambda at: progress(progress_text(at)))
    with staged.place:  # removes it, unless it is kept
        kept = _decide(staged, keep=keep, if_better=if_better, json=json)
    value, text, remark = _average_json(staged, kept), "", "not kept"
    if kept is not None:
        text = f"{staged.run.name}@{kept.name}"
        remark = (
            f"kept, {disk(kept.bytes)}: `rnnlm-tui sample {text}` samples from it, `rnnlm-tui train"
            f" --from {text}` trains on"
        )
    Answer(value, text, remark).print(json=json)


def _parts(addresses: Sequence[str], last: int | None) -> list[ParentCheckpoint]:
    """Return the checkpoints that are averaged.

    Raises:
        InputError: a run without a checkpoint, or `--last` with several runs or a checkpoint.
    """
    if last is not None:
        if len(addresses) != 1 or "@" in addresses[0]:
            raise InputError(
                "--last takes one run, without a checkpoint",
                hint="`rnnlm-tui average RUN --last 3` averages its newest three",
            )
        return client.average.newest_parts(split_address(addresses[0])[0], last)
    parts = []
    for address in addresses:
        run, which = split_address(address)
        if which is None:
            raise InputError(
                f'"{address}" names no checkpoint',
                hint=f"use {run.name}@STEP for each, or --last N with one run",
            )
        parts.append(store.lineage.ParentCheckpoint(run, checkpoint_path(run, which)))
    return parts


def progress_text(at: TaskProgress) -> str:
    """Return `evaluating 2 of 4`, or how much of the text has been prepared."""
    if at.phase in ("verifying", "evaluating"):
        return f"{at.phase} {at.done + 1} of {at.total}"
    return f"{at.phase} {at.done / at.total:.0%}" if at.total > 1 else at.phase


def _decide(
    staged: StagedAverage, *, keep: bool, if_better: bool, json: bool
) -> CheckpointEntry | None:
    """Print the losses, and keep the average as the options or the user say."""
    if not json:
        table(("checkpoint", ">val ppl", ">to the best part"), staged.lines())
        note(f"on {counted(staged.result.tokens, 'token')} of the validation set")
    if if_better and not staged.is_better:
        note("the average is not better than its best part")
        return None
    if not (keep or if_better):
        better = "" if staged.is_better else ", which is not better than its best part"
        if not confirmed(f"keep the average{better}?", "average"):
            return None
    return staged.keep()


def _remove(addresses: Sequence[str], *, yes: bool, json: bool) -> None:
    question = f"permanently remove {', '.join(addresses)}?"
    what = "average --remove removes averages permanently"
    check_agreed(question, what, yes=yes, otherwise="nothing was removed")
    removed = []
    for address in addresses:
        run, which = split_address(address)
        entry = client.average.remove(run, which or "")
        removed.append({"run": run.name, "average": entry.name, "bytes": entry.bytes})
        if not json:
            line(f"{run.name}@{entry.name} removed, {disk(entry.bytes)} freed")
    if json:
        print_json({"removed": removed})


def _average_json(staged: StagedAverage, kept: CheckpointEntry | None) -> dict[str, object]:
    result = staged.result

    def figures(loss: float) -> dict[str, float]:
        return {"validation_loss": loss, "validation_perplexity": perplexity(loss)}

    return {
        "run": staged.run.name,
        "kept": kept is not None,
        "average": None if kept is None else f"{staged.run.name}@{kept.name}",
        "path": None if kept is None else kept.path,
        "step": result.step,
        "better": staged.is_better,
        "tokens": result.tokens,
        **figures(result.loss),
        "parts": [{"checkpoint": part.address, **figures(part.loss)} for part in result.parts],
    }
