"""The verbs that steer a run: `pause`, `resume`, `stop`, `checkpoint`, `evaluate`, `set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import DetachOption, FollowOption, JsonOption, RunArgument, RunsArgument, keep_one

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import CommandResult, Verb
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.store.run_directory import RunDirectory


def complete_settable(incomplete: str) -> list[str]:
    """Complete a setting that can change while a run trains, for the shell."""
    from rnnlm_tui.contract.commands import SETTABLE

    return [f"{path}=" for path in SETTABLE if path.startswith(incomplete)]


def pause(runs: RunsArgument, json: JsonOption = False) -> None:
    """Pause runs between two steps."""
    _steer(runs, "pause", json, "{run} is paused at step {step:,}: `rnnlm-tui resume {run}` resumes it")


def resume(
    run: RunArgument,
    follow: FollowOption = False,
    detach: DetachOption = False,
    json: JsonOption = False,
) -> None:
    """Resume a paused, stopped, crashed or failed run.

    Without --follow and --detach, `resume` opens the app on the run or, without a terminal, prints its progress until it ends, as `train` does.
    --json prints the run as one object and exits; with --follow it prints one object per line.
    """
    from rnnlm_tui.cli.output import note, warn_of_logout
    from rnnlm_tui.cli.start import open_app, opens_app
    from rnnlm_tui.cli.train import print_run
    from rnnlm_tui.contract.status import RESUMABLE
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.estimate import warning_before_start
    from rnnlm_tui.supervisor.resuming import PendingResume

    keep_one(follow=follow, detach=detach)
    directory = find_run(run)
    showing = opens_app(follow, detach, json)
    resuming = PendingResume.of(directory)
    before = resuming.before
    if before.status in {"draft", *RESUMABLE} and (warning := warning_before_start(directory.read_config())) is not None:
        note(f"warning: {warning}")
    if before.diverged:
        note(f"{directory.name} goes on with the weights and settings that it failed with, and will most likely fail again. {before.hint or ''}")
    pid = resuming.start()
    if before.status != "paused":  # a new worker, started from this login
        warn_of_logout()
    if showing:
        try:
            open_app(directory, "train")
        finally:
            if aside := resuming.damaged_files():
                note(aside)
    if follow or not (detach or json):
        from rnnlm_tui.cli.follow import follow_run

        code = follow_run(directory, json=json, attempt=before.attempt + (before.status in RESUMABLE))
        if aside := resuming.damaged_files():
            note(aside)
        raise typer.Exit(code)
    begun = resuming.wait()
    print_run(directory, f"{begun}, worker {pid}: `rnnlm-tui follow {{run}}` shows its progress, `rnnlm-tui open {{run}}` its charts", json=json)
    if aside := resuming.damaged_files():
        note(aside)


def stop(runs: RunsArgument, json: JsonOption = False) -> None:
    """Stop runs at a checkpoint.

    Returns once the checkpoints are on disk.
    """
    _steer(
        runs,
        "stop",
        json,
        "{run} stopped at step {step:,}, saved in {checkpoint}: `rnnlm-tui resume {run}` resumes from there",
        unsaved="{run} stopped before its first step: `rnnlm-tui resume {run}` starts it again",
    )


def checkpoint(runs: RunsArgument, json: JsonOption = False) -> None:
    """Save a checkpoint of each run now; returns when it is on disk."""
    _steer(runs, "checkpoint", json, "{run} saved {checkpoint}")


def evaluate(runs: RunsArgument, json: JsonOption = False) -> None:
    """Evaluate runs now; returns with the figures."""
    _steer(runs, "evaluate", json, "{run} at step {step:,}: {text}")


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
    """Change the learning rate and the like while it runs."""
    from rnnlm_tui.cli.output import line, print_json
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.control_client import send

    directory = find_run(run)
    changes = settings(directory.read_config(), assignments)
    results = [send(directory, "set", path=path, value=value) for path, value in changes.items()]
    if json:
        print_json(
            [{"run": directory.name, "path": path, "value": value, "step": result.step} for (path, value), result in zip(changes.items(), results, strict=True)]
        )
    else:
        for (path, value), result in zip(changes.items(), results, strict=True):
            line(f"{directory.name}: {path} is {value:g} from step {result.step + 1:,} on{_scheduled(directory, path, value, result.step + 1)}")


def _scheduled(run: RunDirectory, path: str, value: float, step: int) -> str:
    """What the schedule makes of a new peak rate at a step; nothing of another setting, and where the rate is the peak itself."""
    from rnnlm_tui.contract.estimates import planned_warmup
    from rnnlm_tui.contract.figures import scientific
    from rnnlm_tui.engine.schedule import learning_rate
    from rnnlm_tui.supervisor.monitor import summarize

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
        steps_per_epoch=max(1, round(summary.max_steps / summary.epochs)) if summary.epochs else summary.max_steps,
        decay_after=schedule.decay_after,
        decay_factor=schedule.decay_factor,
    )
    if rate == value:
        return ""
    shape = "warm-up" if step <= warmup else f"{schedule.kind} schedule"
    return f": that is the peak, of which the {shape} makes {scientific(rate)} there"


def settings(config: RunConfig, assignments: list[str]) -> dict[str, float]:
    """The changes that a living run takes, validated as the config's fields are.

    Raises:
        ConfigError: every assignment that is malformed, out of range or to a field that can't change.
    """
    from rnnlm_tui.contract.commands import SETTABLE
    from rnnlm_tui.contract.validation import merge, parse_assignments, parse_config
    from rnnlm_tui.errors import ConfigError, Problem

    changes = parse_assignments(assignments)
    fixed = [Problem(path, "can't change while a run goes on", f"these can: {', '.join(SETTABLE)}") for path in changes if path not in SETTABLE]
    if fixed:
        raise ConfigError(fixed)
    parse_config(merge(config, changes))
    empty = [Problem(path, "has no value", "write it as key=value") for path, value in changes.items() if not isinstance(value, int | float)]
    if empty:
        raise ConfigError(empty)
    return {path: float(value) for path, value in changes.items() if isinstance(value, int | float)}


def _steer(names: list[str], verb: Verb, json: bool, words: str, *, unsaved: str = "") -> None:
    """Send a command to each run and report its answer: with `words`, or with `unsaved` if the answer has no checkpoint."""
    from rnnlm_tui.cli.output import act_on_each
    from rnnlm_tui.store.runs import find_run
    from rnnlm_tui.supervisor.control_client import send
    from rnnlm_tui.supervisor.monitor import summarize

    def act(run: RunDirectory) -> tuple[object, str]:
        result: CommandResult = send(run, verb)
        template = words if result.checkpoint or not unsaved else unsaved
        message = template.format(run=run.name, step=result.step, checkpoint=result.checkpoint, text=result.text)
        if not json:
            return None, message
        summary = summarize(run)
        answer = {"run": run.name, **result.model_dump(mode="json", exclude={"id", "ok", "error", "hint"}), "status": summary.status}
        figures = {split: getattr(summary, split).model_dump(mode="json") for split in ("validation", "test")} if verb == "evaluate" else {}
        return {**answer, **figures}, message

    act_on_each([find_run(name) for name in names], act, json=json)
