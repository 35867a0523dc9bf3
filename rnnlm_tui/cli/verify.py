"""The verb `verify`: every byte of a run's checkpoints against their manifests, and its database."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rnnlm_tui.cli.arguments import JsonOption, RunArgument
from rnnlm_tui.contract.figures import counted

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
    from rnnlm_tui.store.verification import check_checkpoints, damaged_folders

    directory = find_run(run)
    checks = [replace(check, problem=check.problem.replace(f"{directory.path}/", "")) for check in check_checkpoints(directory)]
    aside = damaged_folders(directory)
    database, verdict, advice = _look_at_database(directory)
    damaged = damage_of(directory, checks, verdict, advice)
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


def damage_of(run: RunDirectory, checks: list[CheckpointCheck], database: str, advice: str) -> StorageError | None:
    """The error that counts what is damaged, which was told in full, and says what to do next; None where nothing is.

    Args:
        database: what is to be said of it, and what to do, in `advice`; both empty where it is whole.
    """
    from rnnlm_tui.errors import CheckpointError, DatabaseError

    bad = [check for check in checks if check.problem]
    whole = [check for check in checks if not check.problem]
    if not bad:
        return DatabaseError(f"the database of {run.name} {database}", hint=advice) if database else None
    count = f"{len(bad)} of {counted(len(checks), 'checkpoint')}" if len(checks) > 1 else "the only checkpoint"
    also = f", and its database {database}" if database else ""
    if bad[-1].newer:
        hint = "update rnnlm-tui: this version goes on from no checkpoint before it"
    elif whole:
        hint = _instead(run, whole[-1].step)
    else:
        anew = "only a new run gives its weights again" if _status(run) == "finished" else f"`rnnlm-tui resume {run.name}` begins anew"
        hint = f"none is whole: {anew}"
    verdict = "can't be checked" if all(check.newer for check in bad) else f"{'is' if len(bad) == 1 else 'are'} damaged"
    return CheckpointError(f"{count} of {run.name} {verdict}{also}", hint=hint)


def _instead(run: RunDirectory, step: int) -> str:
    """What the newest whole checkpoint is good for, as the run stands."""
    from rnnlm_tui.contract.status import LIVING

    status = _status(run)
    if status == "finished":
        return f"step {step:,} is the newest that is whole: `rnnlm-tui sample {run.name}@{step}` or `rnnlm-tui train --from {run.name}@{step}`"
    if status in LIVING:
        return f"its worker is not touched by it: `rnnlm-tui checkpoint {run.name}` saves a whole one now; step {step:,} is the newest that is whole"
    return f"`rnnlm-tui resume {run.name}` goes on from step {step:,}, the newest that is whole"


def _status(run: RunDirectory) -> str:
    from rnnlm_tui.supervisor.monitor import summary_or_problem

    return summary_or_problem(run).status


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
        table(
            ("step", "files are", "files", "size", "pin", "follows"),
            cells,
            right=(0, 2, 3),
            colours={1: {"✓ whole": "good", "✗ damaged": "bad", "? newer": "warn"}},
        )
    else:
        line("no checkpoint yet")
    for check in checks:
        if check.problem:
            line(f"step {check.step:,}: {check.problem}")


def _in_words(parent: str) -> str:
    """`1,500` for a checkpoint of the same run, `run@step` for one of another."""
    digits = parent.removeprefix("step-")
    return f"{int(digits):,}" if digits.isascii() and digits.isdecimal() else parent


def _look_at_database(run: RunDirectory) -> tuple[str, str, str]:
    """What was wrong with the database, and what was done about it; the same in three words; what to do next. Empty where it is whole."""
    from rnnlm_tui.errors import RunStateError, StorageError
    from rnnlm_tui.store.rebuild import repair_database

    try:
        rebuilt = repair_database(run)
    except (RunStateError, StorageError) as error:
        verdict = "is not whole" if isinstance(error, RunStateError) else "can't be checked or rebuilt here"
        return error.message.replace(f"{run.path}/", ""), verdict, error.hint
    if rebuilt is None:
        return "", "", ""
    return str(rebuilt).replace(f"{run.path}/", ""), "was not whole", f"it was rebuilt: `rnnlm-tui show {run.name}` shows what is there"
