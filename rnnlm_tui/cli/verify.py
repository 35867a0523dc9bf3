"""The verb `verify`: check a run's logs, and its checkpoints against their manifests."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.manage import AddressArgument
from rnnlm_tui.cli.options import JsonOption, checkpoint_path, split_address
from rnnlm_tui.cli.output import line, print_json, table
from rnnlm_tui.errors import CheckpointError, StorageError
from rnnlm_tui.schema.formatting import NOTHING, counted, disk
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.verify import CheckpointCheck


def verify(run: AddressArgument, json: JsonOption = False) -> None:
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
    if json:
        print_json(
            {
                "run": directory.name,
                "whole": damaged is None,
                "checkpoints": [{**asdict(check), "whole": not check.problem} for check in checks],
                "kept_aside": aside,
                "damaged_lines": lines,
            }
        )
    else:
        _write(checks)
        for path in aside:
            line(f"damaged, moved aside: {path}")
        if only is None:
            line(f"log: {_lines_text(lines) if lines else 'ok'}")
    if damaged is not None:
        raise damaged


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
    if not checks:
        line("no checkpoints yet")
        return
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
