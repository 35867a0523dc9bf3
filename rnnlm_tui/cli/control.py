"""The verbs that control runs: `pause`, `resume`, `stop`, `checkpoint`, `evaluate`, `set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.options import (
    DetachOption,
    FollowOption,
    JsonOption,
    RunArgument,
    RunsArgument,
    check_exclusive,
)

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import CommandResult, Verb
    from rnnlm_tui.store.paths import RunDirectory


def complete_settable(incomplete: str) -> list[str]:
    """Complete, for the shell, a setting that can change while a run trains."""
    from rnnlm_tui.schema.protocol import SETTABLE

    return [f"{path}=" for path in SETTABLE if path.startswith(incomplete)]


def pause(runs: RunsArgument, json: JsonOption = False) -> None:
    """Pause runs between two steps."""
    _send_to_each(
        runs, "pause", json, "{run} is paused at step {step:,}: `rnnlm-tui resume {run}` resumes it"
    )


def resume(
    run: RunArgument,
    follow: FollowOption = False,
    detach: DetachOption = False,
    json: JsonOption = False,
) -> None:
    """Resume a paused, stopped, crashed or failed run.

    Without --follow or --detach, `resume` opens the app on the run or, without a terminal, prints
    its progress until it ends, like `train`. --json prints the run as one object and exits; with
    --follow it prints one object per line.
    """
    from rnnlm_tui.cli.output import note, warn_of_logout
    from rnnlm_tui.cli.start import open_app, should_open_app
    from rnnlm_tui.cli.train import print_run
    from rnnlm_tui.client.estimate import warning_before_start
    from rnnlm_tui.client.start import PendingResume
    from rnnlm_tui.schema.status import RESUMABLE
    from rnnlm_tui.store.runs import find_run

    check_exclusive(follow=follow, detach=detach)
    directory = find_run(run)
    showing = should_open_app(follow, detach, json)
    resuming = PendingResume.of(directory)
    before = resuming.before
    if (
        before.status in {"draft", *RESUMABLE}
        and (warning := warning_before_start(directory.read_config())) is not None
    ):
        note(f"warning: {warning}")
    if before.diverged:
        note(
            f"{directory.name} resumes with the weights and settings it diverged with, and will"
            f" probably fail again. {before.hint or ''}"
        )
    pid = resuming.start()
    if before.status != "paused":  # a new worker, started in this login session
        warn_of_logout()
    if showing:
        try:
            open_app(directory, "train")
        finally:
            if aside := resuming.damaged_files():
                note(aside)
    if follow or not (detach or json):
        from rnnlm_tui.cli.watch import follow_run

        code = follow_run(
            directory, json=json, attempt=before.attempt + (before.status in RESUMABLE)
        )
        if aside := resuming.damaged_files():
            note(aside)
        raise typer.Exit(code)
    begun = resuming.wait()
    print_run(
        directory,
        f"{begun}, worker {pid}: `rnnlm-tui follow {{run}}` shows its progress, `rnnlm-tui open"
        " {run}` its charts",
        json=json,
    )
    if aside := resuming.damaged_files():
        note(aside)


def stop(runs: RunsArgument, json: JsonOption = False) -> None:
    """Stop runs; returns when their checkpoints are on disk."""
    _send_to_each(
        runs,
        "stop",
        json,
        "{run} stopped at step {step:,}, saved in {checkpoint}: `rnnlm-tui resume {run}` resumes"
        " from there",
        unsaved="{run} stopped before its first step: `rnnlm-tui resume {run}` starts it again",
    )


def checkpoint(runs: RunsArgument, json: JsonOption = False) -> None:
    """Save a checkpoint now; returns when it is on disk."""
    _send_to_each(runs, "checkpoint", json, "{run} saved {checkpoint}")


def evaluate(runs: RunsArgument, json: JsonOption = False) -> None:
    """Evaluate runs now and print the results."""
    _send_to_each(runs, "evaluate", json, "{run} at step {step:,}: {text}")


def change(
    run: RunArgument,
    assignments: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="optimizer.learning_rate=1e-3, evaluation.every=…, checkpoint.every=…",
            show_default=False,
            autocompletion=complete_settable,
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Change the learning rate or an interval while a run trains."""
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.client.control import send
    from rnnlm_tui.store.runs import find_run

    directory = find_run(run)
    changes = parse_settings(directory.read_config(), assignments)
    results = [send(directory, "set", path=path, value=value) for path, value in changes.items()]
    if json:
        print_json(
            [
                {"run": directory.name, "path": path, "value": value, "step": result.step}
                for (path, value), result in zip(changes.items(), results, strict=True)
            ]
        )
    else:
        for (path, value), result in zip(changes.items(), results, strict=True):
            line(
                f"{directory.name}: {path} is {value:g} from step"
                f" {result.step + 1:,}{_schedule_note(directory, path, value, result.step + 1)}"
            )


def _schedule_note(run: RunDirectory, path: str, value: float, step: int) -> str:
    """Describe the scheduled learning rate for a new peak; empty if equal or for other settings."""
    from rnnlm_tui.client.monitor import summarize
    from rnnlm_tui.engine.optim import learning_rate
    from rnnlm_tui.schema.estimates import planned_warmup
    from rnnlm_tui.schema.formatting import scientific

    config, summary = run.read_config(), summarize(run)
    schedule = config.schedule
    if path != "optimizer.learning_rate" or not summary.max_steps:
        return ""
    warmup = planned_warmup(config, summary.max_steps)
    rate = learning_rate(
        step,
        peak=value,
        kind=schedule.kind,
        warmup_steps=warmup,
        total_steps=summary.max_steps,
        final_fraction=schedule.final_fraction,
        steps_per_epoch=(
            max(1, round(summary.max_steps / summary.epochs))
            if summary.epochs
            else summary.max_steps
        ),
        decay_after=schedule.decay_after,
        decay_factor=schedule.decay_factor,
    )
    if rate == value:
        return ""
    shape = "warm-up" if step <= warmup else f"{schedule.kind} schedule"
    return f" (peak; the {shape} makes it {scientific(rate)} now)"


def parse_settings(config: RunConfig, assignments: list[str]) -> dict[str, float]:
    """Parse and validate changes for a run that is training.

    Raises:
        ConfigError: every assignment that is malformed, out of range or to a fixed field.
    """
    from rnnlm_tui.errors import ConfigError, Problem
    from rnnlm_tui.schema.protocol import SETTABLE
    from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config

    changes = parse_assignments(assignments)
    fixed = [
        Problem(path, "can't change during a run", f"can change: {', '.join(SETTABLE)}")
        for path in changes
        if path not in SETTABLE
    ]
    if fixed:
        raise ConfigError(fixed)
    parse_config(merge(config, changes))
    empty = [
        Problem(path, "has no value", "write it as key=value")
        for path, value in changes.items()
        if not isinstance(value, int | float)
    ]
    if empty:
        raise ConfigError(empty)
    return {path: float(value) for path, value in changes.items() if isinstance(value, int | float)}


def _send_to_each(
    names: list[str], verb: Verb, json: bool, words: str, *, unsaved: str = ""
) -> None:
    """Send a command to each run and report the answer as `words`, or `unsaved` without
    checkpoint."""
    from rnnlm_tui.cli.output import act_on_each
    from rnnlm_tui.client.control import send
    from rnnlm_tui.client.monitor import summarize
    from rnnlm_tui.store.runs import find_run

    def act(run: RunDirectory) -> tuple[object, str]:
        result: CommandResult = send(run, verb)
        template = words if result.checkpoint or not unsaved else unsaved
        message = template.format(
            run=run.name, step=result.step, checkpoint=result.checkpoint, text=result.text
        )
        if not json:
            return None, message
        summary = summarize(run)
        answer = {
            "run": run.name,
            **result.model_dump(mode="json", exclude={"id", "ok", "error", "hint"}),
            "status": summary.status,
        }
        figures = (
            {
                split: getattr(summary, split).model_dump(mode="json")
                for split in ("validation", "test")
            }
            if verb == "evaluate"
            else {}
        )
        return {**answer, **figures}, message

    act_on_each([find_run(name) for name in names], act, json=json)
