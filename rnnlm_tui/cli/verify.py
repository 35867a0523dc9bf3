"""The verb `verify`: every byte of a run's checkpoints against their manifests, and its database."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rnnlm_tui.cli.arguments import JsonOption, RunArgument

if TYPE_CHECKING:
    from rnnlm_tui.errors import StorageError
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.store.verification import CheckpointCheck


def verify(run: RunArgument, json: JsonOption = False) -> None:
    """Check a run's checkpoints and database, byte by byte.

    A damaged database is rebuilt where no worker holds the run; a damaged checkpoint is put aside when the run is resumed.
    Leaves with 5 where anything is damaged.
    """
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.store.verification import check_checkpoints, kept_aside

    directory = find_run(run)
    checks = [replace(check, problem=check.problem.replace(f"{directory.path}/", "")) for check in check_checkpoints(directory)]
    aside = kept_aside(directory)
    database = _database_problem(directory)
    damaged = damage_of(directory, checks, database)
    if json:
        found = [{**asdict(check), "path": str(check.path), "whole": not check.problem} for check in checks]
        print_json(
            {"run": directory.name, "whole": damaged is None, "checkpoints": found, "kept_aside": [str(path) for path in aside], "database": database or None}
        )
    else:
        _write(checks)
        for path in aside:
            line(f"kept aside as damaged: {path}")
        line(f"database: {database or 'whole'}")
    if damaged is not None:
        raise damaged


def damage_of(run: RunDirectory, checks: list[CheckpointCheck], database: str) -> StorageError | None:
    """The error that tells of all damage and what to do next; None where everything is whole."""
    from rnnlm_tui.errors import CheckpointError, DatabaseError

    bad = [check for check in checks if check.problem]
    whole = [check for check in checks if not check.problem]
    if not bad:
        return DatabaseError(f"the database of {run.name}: {database}", hint=f"`rnnlm-tui show {run.name}` shows what is there") if database else None
    count = f"{len(bad)} of {len(checks)} checkpoints" if len(checks) > 1 else "the only checkpoint"
    also = f"; its database too: {database}" if database else ""
    if bad[-1].newer:
        hint = "update rnnlm-tui: this version goes on from no checkpoint before it"
    elif whole:
        hint = f"`rnnlm-tui resume {run.name}` goes on from step {whole[-1].step:,}, the newest that is whole"
    else:
        hint = "none is whole: a resume would begin anew"
    verdict = "can't be checked" if all(check.newer for check in bad) else f"{'is' if len(bad) == 1 else 'are'} damaged"
    return CheckpointError(f"{count} of {run.name} {verdict}: {bad[-1].problem}{also}", hint=hint)


def _write(checks: list[CheckpointCheck]) -> None:
    from rnnlm_tui.cli.output import line, table
    from rnnlm_tui.contract.figures import NOTHING, disk

    cells = [
        (
            f"{check.step:,}",
            "? newer" if check.newer else "✗ damaged" if check.problem else "✓ whole",
            str(check.files) if check.files else NOTHING,
            disk(check.bytes) if check.files else NOTHING,
            "⚑" if check.pinned else "",
            _in_words(check.parent) + ("" if check.parent_kept or not check.parent else ", not kept"),
        )
        for check in checks
    ]
    if cells:
        table(("step", "files are", "files", "size", "pin", "follows"), cells, right=(0, 2, 3))
    else:
        line("no checkpoint yet")
    for check in checks:
        if check.problem:
            line(f"step {check.step:,}: {check.problem}")


def _in_words(parent: str) -> str:
    """`1,500` for a checkpoint of the same run, `run@step` for one of another."""
    digits = parent.removeprefix("step-")
    return f"{int(digits):,}" if digits.isascii() and digits.isdecimal() else parent


def _database_problem(run: RunDirectory) -> str:
    """What was wrong with the database, and what was done about it; empty where it is whole."""
    from rnnlm_tui.errors import RunStateError, StorageError
    from rnnlm_tui.store.rebuild import repair_database

    try:
        rebuilt = repair_database(run)
    except RunStateError as error:
        return error.message.replace(f"{run.path}/", "")
    except StorageError as error:
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return "" if rebuilt is None else str(rebuilt).replace(f"{run.path}/", "")
