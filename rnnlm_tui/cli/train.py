"""The verbs that start, follow and steer runs: `train` to `set`."""

from __future__ import annotations

import math
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from rnnlm_tui import client
from rnnlm_tui.cli import start
from rnnlm_tui.cli.config import allow_datasets, resolve
from rnnlm_tui.cli.follow import follow_run
from rnnlm_tui.cli.options import (
    DetachOption,
    FollowOption,
    JsonOption,
    NewRunOptions,
    RunArgument,
    RunsArgument,
    TextArgument,
    TrustOption,
    arg,
    check_exclusive,
    checkpoint_path,
    complete_field,
    flag,
    grouped,
    opt,
    split_address,
    with_text,
)
from rnnlm_tui.cli.output import (
    Answer,
    Answers,
    ProgressLine,
    check_agreed,
    line,
    note,
    table,
    warn,
    warn_of_logout,
)
from rnnlm_tui.cli.summaries import STOPS
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, scientific
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import Setting, Verb
    from rnnlm_tui.store.lineage import ParentCheckpoint
    from rnnlm_tui.store.paths import RunDirectory


FIRST_STEP_SECONDS = 10.0
"""Maximum wait of `--detach` for the first step, to report errors that only the worker detects."""


ASK_ABOVE = 100
"""A sweep of more runs is asked about."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The options that make a sweep of a new run."""

    sweep: list[str] | None = grouped(
        "--sweep KEY=A,B,…", "Queue a run for each value; can be repeated.", complete=complete_field
    )
    sweep_random: int = grouped("--sweep-random N", "Draw N settings; KEY=A..B, KEY=log:A..B.", 0)
    sweep_seed: int | None = grouped("--sweep-seed N", "Seed of --sweep-random.")
    sweep_name: str = grouped("--sweep-name NAME", "The sweep's name, for tag and runs.", "")
    sweep_prune: int = grouped("--sweep-prune STEP", "Stop runs above the median at this step.", 0)
    yes: bool = grouped("--yes -y", f"Don't ask before more than {ASK_ABOVE} runs.", False)

    def check(self) -> None:
        """Refuse options that need another one."""
        given = [f"--{name.replace('_', '-')}" for name, value in asdict(self).items() if value]
        if given and not self.sweep:
            raise InputError(f"{', '.join(given)} without --sweep", hint="add --sweep KEY=A,B,…")
        if self.sweep_random < 0 or (self.sweep_seed is not None and not self.sweep_random):
            raise InputError("--sweep-seed needs --sweep-random N, with N above 0")


def train(
    text: TextArgument = None,
    new: NewRunOptions = NewRunOptions(),
    follow: FollowOption = False,
    detach: DetachOption = False,
    draft: bool = flag("--draft", "Create the run without starting it; `resume` starts it."),
    sweep: SweepOptions = SweepOptions(),
    trust_dataset: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Start a training run.

    The run trains in the background and continues when you close the terminal. Without --follow or
    --detach the app opens on the run or, without a terminal, its progress is printed until it ends.
    With --sweep, several runs are put into the queue instead.
    """
    check_exclusive(follow=follow, detach=detach, draft=draft, sweep=sweep.sweep)
    sweep.check()
    if sweep.sweep:
        check_exclusive("--sweep-name names the sweep and its runs", sweep=True, name=new.name)
        base, parent = wanted_run(with_text(new, text), trust_dataset=trust_dataset)
        queue_sweep(sweep, base, parent).print(json=json)
        return
    showing = start.should_open_app(follow, detach, draft, json)
    wanted, fork = wanted_run(with_text(new, text), trust_dataset=trust_dataset)
    if draft:
        client.start.check_before_start(wanted)
        created = create_run(wanted, new.name, fork)
        print_run(created, f"draft created; `rnnlm-tui resume {created.name}` starts it", json=json)
        return
    directory = client.start.start_run(wanted, new.name, fork, warn=warn)
    warn_of_logout()
    if detach:
        client.start.wait_for_training(directory, FIRST_STEP_SECONDS)
        print_run(
            directory,
            f"started; `rnnlm-tui show {directory.name}` shows its figures,"
            f" `rnnlm-tui open {directory.name}` its charts",
            json=json,
        )
    elif showing:
        start.open_app(directory, "train")
    else:
        code = follow_run(directory, json=json)
        if client.start.discard_refused(directory) is not None:
            note(f"{directory.name} never started and was moved to the trash")
        raise SystemExit(code)


def queue_sweep(options: SweepOptions, base: RunConfig, parent: ParentCheckpoint | None) -> Answer:
    """Put the runs of a sweep into the queue.

    Args:
        base: the config of which the swept keys change.

    Raises:
        ConfigError: all problems of the swept keys, values and combinations; nothing was created.
        InputError: too many runs, or the user can't be asked.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    draws, seed, sweeps = options.sweep_random, options.sweep_seed, client.sweeps
    if options.sweep_prune:
        base = parse_config(merge(base, {"evaluation.prune_step": options.sweep_prune}))
    choices = sweeps.parse_sweep(options.sweep or (), drawn=draws > 0)
    number = draws or math.prod(map(len, choices.values()))
    if number > ASK_ABOVE:
        question = f"Put {counted(number, 'run')} into the queue?"
        check_agreed(question, "sweep", yes=options.yes, otherwise="nothing was created")
    seed = secrets.randbelow(10**6) if seed is None else seed
    configs = sweeps.configs_of(base, sweeps.settings_of(choices, draws, seed), parent)
    name, runs = options.sweep_name or sweeps.name_of(configs, parent), dict[str, bool]()
    with ProgressLine() as shown:
        for run, added in sweeps.queue_sweep(name, configs, parent):
            runs[run] = added
            shown(f"{len(runs):,} of {counted(len(configs), 'run')} in the queue")
    warn_of_logout()
    new = [run for run, added in runs.items() if added]
    words = (
        f"sweep {name}: {counted(len(new), 'run')} put into the queue",
        f"drawn with --sweep-seed {seed}" if draws else "",
        f"left out {counted(number - len(runs), 'duplicate')}" if number > len(runs) else "",
        f"{len(runs) - len(new):,} were there already" if len(runs) > len(new) else "",
        f"`rnnlm-tui sweep {name}` shows it",
    )
    value = {"sweep": name, "seed": seed if draws else None, "runs": list(runs), "added": new}
    return Answer(value, "\n".join(new), "; ".join(filter(None, words)))


def wanted_run(
    new: NewRunOptions, *, trust_dataset: bool
) -> tuple[RunConfig, ParentCheckpoint | None]:
    """Return the config that these options make, and the checkpoint to start from: the best one, or
    else the last, if only a run is named.

    Raises:
        UntrustedDatasetError: as `allow_datasets`.
        InputError: `--preset` with `--from`, `--optimizer` without it, unknown run or checkpoint,
            or an invalid config.
        CheckpointError: the checkpoint is damaged.
        ConfigError: the config doesn't fit the parent.
    """
    from rnnlm_tui.schema.steering import settings_of, settings_text
    from rnnlm_tui.store.lineage import ParentCheckpoint, check_fits
    from rnnlm_tui.store.manifest import verify_checkpoint

    check_exclusive("--from uses the config of its run", preset=new.preset, from_=new.from_)
    if new.optimizer is not None and new.from_ is None:
        raise InputError(
            "--optimizer needs --from: a run from initial weights has a fresh optimizer",
            hint="name a checkpoint with --from RUN@CHECKPOINT, or leave out --optimizer",
        )
    if new.from_ is None:
        wanted, fork = resolve(new).config, None
    else:
        run, which = split_address(new.from_)
        fork = ParentCheckpoint(run, checkpoint_path(run, which), new.optimizer or "fresh")
        verify_checkpoint(fork.path)
        if which is None:
            words = "(default: @best, or @last if nothing was evaluated)"
            note(f"starting from {fork.address} {words}")
        base = fork.config()
        if steered := settings_of(run.read_config(), base):
            note(f"as changed while {run.name} trained: {settings_text(steered)}")
        wanted = resolve(new, run=(run.name, base)).config
        check_fits(wanted, fork)
    allow_datasets(wanted.corpus, new.set_, trust=trust_dataset)
    return wanted, fork


def print_run(directory: RunDirectory, words: str, *, json: bool) -> None:
    """Print a run's name, or its summary as JSON, on stdout, and what to do next on stderr."""
    Answer(partial(client.monitor.summarize, directory), directory.name, words).print(json=json)


def follow(run: RunArgument, json: JsonOption = False) -> None:
    """Print a run's progress until it ends; Ctrl-C detaches."""
    raise SystemExit(follow_run(run, json=json))


def pause(runs: RunsArgument) -> Answers[RunDirectory]:
    """Pause runs between two steps."""
    words = "{run} is paused at step {step:,}: `rnnlm-tui resume {run}` resumes it"
    return _send_to_each(runs, "pause", words)


def resume(
    run: RunArgument,
    follow: FollowOption = False,
    detach: DetachOption = False,
    device: str = opt(
        "--device NAME",
        "Continue on another device from now on: cpu, cuda, cuda:N, mps or auto.",
        "",
    ),
    trust_dataset: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Resume a paused, stopped, crashed or failed run.

    Without --follow or --detach, `resume` opens the app on the run or, without a terminal, prints
    its progress until it ends, like `train`. --json prints the run as one object and exits; with
    --follow it prints one object per line.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    check_exclusive(follow=follow, detach=detach)
    showing = start.should_open_app(follow, detach, json)
    resuming = client.start.PendingResume.of(run)
    before = resuming.before
    if before.status in {"draft", *RESUMABLE}:
        config = run.read_config()
        if device:
            config = parse_config(merge(config, {"training.device": device}))
        allow_datasets(config.corpus, trust=trust_dataset)
        warn(client.estimate.warning_before_start(config))
    if before.diverged:
        note(
            f"{run.name} resumes with the weights and settings it diverged with, and will"
            f" probably fail again. {before.hint or ''}"
        )
    pid = resuming.start(device)
    if before.status != "paused":  # a new worker, started in this login session
        warn_of_logout()
    try:
        if showing:
            start.open_app(run, "train")
        if follow or not (detach or json):
            attempt = before.attempt + (before.status in RESUMABLE)
            raise SystemExit(follow_run(run, json=json, attempt=attempt))
        words = f"{resuming.wait()}, worker {pid}: `rnnlm-tui follow {run.name}` shows its progress"
        print_run(run, f"{words}, `rnnlm-tui open {run.name}` its charts", json=json)
    finally:
        if aside := resuming.damaged_files():
            note(aside)


def stop(
    runs: RunsArgument,
    after: Literal["epoch", "evaluation"] | None = opt(
        "--after MARK",
        "Stop after this `epoch`, or after the next `evaluation`; returns at once.",
        None,
    ),
    cancel: bool = flag("--cancel", "Cancel a stop planned with --after."),
) -> Answers[RunDirectory]:
    """Stop runs; returns when their checkpoints are on disk."""
    check_exclusive(after=after, cancel=cancel)
    if after or cancel:

        def act(run: RunDirectory) -> tuple[object, str]:
            result = client.control.send(run, "stop_after", after=after)
            value = {"run": run.name, "stop_after": after, "step": result.step, "text": result.text}
            return value, f"{run.name} {result.text}"

        return Answers(runs, act)
    return _send_to_each(
        runs,
        "stop",
        "{run} stopped at step {step:,}, saved in {checkpoint}: `rnnlm-tui resume {run}` resumes"
        " from there",
        unsaved="{run} stopped before its first step: `rnnlm-tui resume {run}` starts it again",
    )


def checkpoint(runs: RunsArgument) -> Answers[RunDirectory]:
    """Save a checkpoint now; returns when it is on disk."""
    return _send_to_each(runs, "checkpoint", "{run} saved {checkpoint}{kept}")


def evaluate(runs: RunsArgument) -> Answers[RunDirectory]:
    """Evaluate runs now and print the results."""
    return _send_to_each(runs, "evaluate", "{run} at step {step:,}: {text}")


_NOT_PRINTED = {"id", "ok", "error", "hint", "change", "problems"}
"""Fields of a worker's answer that JSON doesn't have."""


def _send_to_each(
    runs: list[RunDirectory], verb: Verb, words: str, *, unsaved: str = ""
) -> Answers[RunDirectory]:
    """Send a command to each run; report the answer as `words`, or `unsaved` if none was saved."""

    def act(run: RunDirectory) -> tuple[object, str]:
        result = client.control.send(run, verb)
        template = words if result.checkpoint or not unsaved else unsaved
        message = template.format(
            run=run.name,
            step=result.step,
            checkpoint=result.checkpoint,
            text=result.text,
            kept=kept_words(run, result.step) if verb == "checkpoint" else "",
        )

        def value() -> object:
            summary = client.monitor.summarize(run)
            evaluated = {"validation": summary.validation, "test": summary.test}
            return {
                "run": run.name,
                **result.model_dump(exclude=_NOT_PRINTED),
                "status": summary.status,
                **(evaluated if verb == "evaluate" else {}),
            }

        return value, message

    return Answers(runs, act)


FIGURES = ("status", "step", "max_steps", "stop_after", "requests")
"""The figures of a run's summary that JSON has beside its settings."""
CHANGE = ("number", "step", "time", "who", "undoes", "settings")
"""The fields of a change in JSON."""


def complete_settable() -> list[str]:
    """List the settings that can change while a run trains, for the shell."""
    from rnnlm_tui.schema.steering import STEERABLE

    return [f"{path}=" for path in STEERABLE]


def change(
    run: RunArgument,
    assignments: list[str] | None = arg(
        "[KEY=VALUE]...",
        "optimizer.learning_rate=1e-3 training.max_steps=5000 …; all or none.",
        None,
        complete_settable,
    ),
    undo: bool = flag("--undo", "Restore the values from before the last change."),
) -> Answer:
    """Change settings while a run trains, or list them.

    Without KEY=VALUE, `set` lists the keys that can change, their values, and all changes so far. A
    checkpoint is saved before each change. Later attempts keep the changed values.
    """
    check_exclusive(undo=undo, KEY=assignments)
    if undo:
        result = client.control.send(run, "undo")
    elif assignments:
        result = client.steering.steer(run, parse_settings(assignments))
    else:
        return _list(run)
    change = result.change
    if change is None:
        raise InputError("the worker changed nothing", hint="it may run another version")
    first, state = change.step + 1, client.steering.read_steering(run)
    done = "\n".join(
        f"{run.name}: {_setting_text(one)} from step {first:,}{_consequence(state, one, first)}"
        for one in change.settings
    )
    kept = kept_words(run, change.step)
    saved = f"saved before in {result.checkpoint}{kept}; " if result.checkpoint else ""
    undone = f"`rnnlm-tui set {run.name} --undo` undoes it"
    if change.undoes:
        undone = f"change {change.undoes} is undone"
    value = {"run": run.name, **change.model_dump(), "checkpoint": result.checkpoint}
    return Answer(value, done, f"{saved}{undone}")


def kept_words(run: RunDirectory, step: int) -> str:
    """Say how long a checkpoint stays, and the verb that keeps it; empty if it stays for good."""
    stays = run.read_config().checkpoint.stays(step)
    return f", kept {stays} (`rnnlm-tui pin {run.name}@{step}` keeps it)" if stays else ""


def _setting_text(one: Setting) -> str:
    from rnnlm_tui.schema.steering import value_text

    return f"{one.path} {value_text(one.path, one.old)} → {value_text(one.path, one.new)}"


def _consequence(state: SteeringState, one: Setting, step: int) -> str:
    """What the schedule makes of a new peak, and of which length; empty for other settings."""
    total = state.steps(state.config)
    if one.path.startswith("training.") and one.path != "training.patience":
        return f" (the run has {counted(total, 'step')})" if total else ""
    if one.path != "optimizer.learning_rate" or not total:
        return ""
    (rate,) = state.rates(state.config, [step])
    if rate == state.config.optimizer.learning_rate:
        return ""
    warming = step <= state.position.warmup_steps
    shape = "warm-up" if warming else f"{state.config.schedule.kind} schedule"
    return f" (peak; the {shape} makes it {scientific(rate)} now)"


def _list(run: RunDirectory) -> Answer:
    """List the keys that can change, their values, and the journal."""
    from rnnlm_tui.schema.config import value_of
    from rnnlm_tui.schema.steering import STEERABLE, value_text
    from rnnlm_tui.schema.validation import allowed_range

    state, start = client.steering.read_steering(run), run.read_config()
    summary = state.summary
    values = [(path, value_of(state.config, path), value_of(start, path)) for path in STEERABLE]

    def text() -> None:
        rows = []
        for path, now, before in values:
            was = value_text(path, before) if now != before else ""
            rows.append((path, value_text(path, now), was, allowed_range(path)))
        table(("key", ">value", ">at start", "allowed"), rows, spare=(3,))
        if state.journal:
            line()
            made = [
                (
                    str(change.number),
                    f"{change.step:,}",
                    datetime.fromtimestamp(change.time).strftime("%Y-%m-%d %H:%M:%S"),
                    _setting_text(one) + (f" (undoes {change.undoes})" if change.undoes else ""),
                    change.who,
                )
                for change in state.journal
                for one in change.settings
            ]
            table((">change", ">step", "time", "what", "who"), made)
        if summary.stop_after:
            line(f"\nstops {STOPS[summary.stop_after]}")
        if summary.status not in LIVING:
            note(f"{run.name} is {summary.status}: only a run that trains can be steered")

    value = {
        "run": run.name,
        **{name: getattr(summary, name) for name in FIGURES},
        "settings": [{"path": path, "value": now, "start": before} for path, now, before in values],
        "changes": [{name: getattr(one, name) for name in CHANGE} for one in state.journal],
    }
    return Answer(value, text)


def parse_settings(assignments: list[str]) -> dict[str, JsonValue]:
    """Parse changes for a run that trains.

    Raises:
        ConfigError: every assignment to a fixed or unknown field, or every malformed one.
    """
    from rnnlm_tui.schema.steering import check_keys
    from rnnlm_tui.schema.validation import parse_assignments

    check_keys(assignment.partition("=")[0].strip() for assignment in assignments)
    return cast("dict[str, JsonValue]", parse_assignments(assignments))
