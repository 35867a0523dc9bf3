"""The verb `verify`: check a run's database, and its checkpoints against their manifests."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rnnlm_tui.cli.manage import AddressArgument
from rnnlm_tui.cli.options import JsonOption, split_address
from rnnlm_tui.cli.output import line, print_json, table
from rnnlm_tui.errors import CheckpointError, DatabaseError, RunStateError, StorageError
from rnnlm_tui.schema.formatting import NOTHING, counted, disk

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.verify import CheckpointCheck


def verify(run: AddressArgument, json: JsonOption = False) -> None:
    """Check a run's checkpoints and database, byte by byte.

    With @CHECKPOINT, check only that one. A damaged database is rebuilt unless a worker is using
    it; a damaged checkpoint is moved aside when the run is resumed. Exits with 5 if anything is
    damaged.
    """
    from rnnlm_tui.store.verify import check_checkpoints, damaged_folders, resolve_folder

    directory, which = split_address(run)
    only = None if which is None else resolve_folder(directory, which)
    checks = [
        replace(check, problem=check.problem.replace(f"{directory.path}/", ""))
        for check in check_checkpoints(directory, only)
    ]
    aside = damaged_folders(directory) if only is None else []
    database, verdict, advice = _check_database(directory) if only is None else ("", "", "")
    damaged = damage_error(directory, checks, verdict, advice)
    if json:
        found = [
            {**asdict(check), "path": str(check.path), "whole": not check.problem}
            for check in checks
        ]
        print_json(
            {
                "run": directory.name,
                "whole": damaged is None,
                "checkpoints": found,
                "kept_aside": [str(path) for path in aside],
                "database": database or None,
            }
        )
    else:
        _write(checks)
        for path in aside:
            line(f"damaged, moved aside: {path}")
        if only is None:
            line(f"database: {database or 'ok'}")
    if damaged is not None:
        raise damaged


def damage_error(
    run: RunDirectory, checks: list[CheckpointCheck], database: str, advice: str
) -> StorageError | None:
    """Return an error that sums up the damage and says what to do; None if nothing is damaged.

    Args:
        database: what is wrong with it, and what to do (`advice`); both empty if it is intact.
    """
    bad = [check for check in checks if check.problem]
    intact = [check for check in checks if not check.problem]
    if not bad:
        return (
            DatabaseError(f"the database of {run.name} {database}", hint=advice)
            if database
            else None
        )
    count = (
        f"{len(bad)} of {counted(len(checks), 'checkpoint')}"
        if len(checks) > 1
        else "the only checkpoint"
    )
    also = f", and its database {database}" if database else ""
    if bad[-1].newer:
        hint = "update rnnlm-tui: this version can't resume from an older checkpoint instead"
    elif intact:
        hint = _advice(run, intact[-1].step)
    else:
        if _status(run) == "finished":
            hint = "no intact checkpoint is left: start a new run"
        else:
            hint = (
                f"no intact checkpoint is left: `rnnlm-tui resume {run.name}` restarts from step 0"
            )
    verdict = (
        "can't be checked"
        if all(check.newer for check in bad)
        else f"{'is' if len(bad) == 1 else 'are'} damaged"
    )
    return CheckpointError(f"{count} of {run.name} {verdict}{also}", hint=hint)


def _advice(run: RunDirectory, step: int) -> str:
    """Say how to use the latest intact checkpoint, depending on the run's status."""
    from rnnlm_tui.schema.status import LIVING

    status = _status(run)
    if status == "finished":
        return (
            f"use step {step:,}, the latest intact one: `rnnlm-tui sample {run.name}@{step}` or"
            f" `rnnlm-tui train --from {run.name}@{step}`"
        )
    if status in LIVING:
        return (
            f"training isn't affected: `rnnlm-tui checkpoint {run.name}` saves a new one; step"
            f" {step:,} is the latest intact one"
        )
    return f"`rnnlm-tui resume {run.name}` continues from step {step:,}, the latest intact one"


def _status(run: RunDirectory) -> str:
    from rnnlm_tui.client.monitor import summary_or_problem

    return summary_or_problem(run).status


def _write(checks: list[CheckpointCheck]) -> None:

    cells = [
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
    ]
    if cells:
        table(
            ("step", "state", "files", "size", "pin", "parent"),
            cells,
            right=(0, 2, 3),
            colours={1: {"✓ ok": "good", "✗ damaged": "bad", "? newer": "warn"}},
        )
    else:
        line("no checkpoints yet")
    for check in checks:
        if check.problem:
            line(f"step {check.step:,}: {check.problem}")


def _parent_text(parent: str) -> str:
    """Format `1,500` for a checkpoint of the same run, `run@step` for one of another run."""
    digits = parent.removeprefix("step-")
    return f"{int(digits):,}" if digits.isascii() and digits.isdecimal() else parent


def _check_database(run: RunDirectory) -> tuple[str, str, str]:
    """Check the database, and rebuild it if damaged.

    Returns what was wrong and what was done, the same in a few words, and what to do next;
    all empty if the database is intact.
    """
    from rnnlm_tui.store.recovery import repair_database

    try:
        rebuilt = repair_database(run)
    except (RunStateError, StorageError) as error:
        verdict = (
            "is damaged" if isinstance(error, RunStateError) else "can't be checked or rebuilt here"
        )
        return error.message.replace(f"{run.path}/", ""), verdict, error.hint
    if rebuilt is None:
        return "", "", ""
    return (
        str(rebuilt).replace(f"{run.path}/", ""),
        "was damaged",
        f"it was rebuilt: `rnnlm-tui show {run.name}` shows what was recovered",
    )
