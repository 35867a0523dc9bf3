"""The verb `average`: the mean of several checkpoints, evaluated beside them before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.manage import check_agreed, check_can_ask, confirmed
from rnnlm_tui.cli.options import (
    JsonOption,
    TrustOption,
    arg,
    check_exclusive,
    checkpoint_path,
    complete_address,
    flag,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import Answer, ProgressLine, line, note, print_json, table
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, disk
from rnnlm_tui.schema.metrics import perplexity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.store.checkpoints import CheckpointEntry
    from rnnlm_tui.store.lineage import ParentCheckpoint


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
    value, text, remark = _as_json(staged, kept), "", "not kept"
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
        table(("checkpoint", "val ppl", "to the best part"), staged.lines(), right=(1, 2))
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


def _as_json(staged: StagedAverage, kept: CheckpointEntry | None) -> dict[str, object]:
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
