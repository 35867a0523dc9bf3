"""The verbs `train` and `follow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import (
    ConfigOption,
    DetachOption,
    FollowOption,
    JsonOption,
    PresetOption,
    RunArgument,
    SetOption,
    check_exclusive,
    complete_address,
)

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

FIRST_STEP_SECONDS = 10.0
"""Maximum wait of `--detach` for the first step, to report errors that only the worker detects."""


def train(
    preset: PresetOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name (default: a random one).", show_default=False)] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN[@CHECKPOINT]",
            help="Start from this checkpoint's weights (default: @best) and its run's config.",
            show_default=False,
            autocompletion=complete_address,
        ),
    ] = None,
    follow: FollowOption = False,
    detach: DetachOption = False,
    draft: Annotated[bool, typer.Option("--draft", help="Create the run without starting it; `resume` starts it.")] = False,
    json: JsonOption = False,
) -> None:
    """Start a training run.

    The run trains in the background and continues when you close the terminal. Without --follow or
    --detach the app opens on the run or, without a terminal, its progress is printed until it ends.
    """
    from rnnlm_tui.cli.configs import build_config, runnable_config
    from rnnlm_tui.cli.output import note, warn_of_logout
    from rnnlm_tui.cli.start import open_app, should_open_app
    from rnnlm_tui.store.runs import create_run
    from rnnlm_tui.supervisor.preflight import check_before_start
    from rnnlm_tui.supervisor.start import discard_refused, start_run, wait_for_training

    check_exclusive(follow=follow, detach=detach, draft=draft)
    check_exclusive("--from uses the config of its run", preset=preset is not None, **{"from": parent is not None})
    if parent is not None:
        from rnnlm_tui.cli.parents import config_of_parent

        address, base = config_of_parent(parent)
        if "@" not in parent:
            note(f"starting from {address} (the default is @best, or @last if no checkpoint was evaluated)")
        wanted = build_config(None, config, assignments, base=base)
    else:
        address, base = None, None
        wanted = runnable_config(preset, config, assignments)
    showing = should_open_app(follow, detach, draft, json)
    if base is not None:
        from rnnlm_tui.cli.parents import check_fits_parent

        check_fits_parent(wanted, base)
    if draft:
        check_before_start(wanted)
        print_run(create_run(wanted, name, address), "draft created; `rnnlm-tui resume {run}` starts it", json=json)
        return
    directory = start_run(wanted, name, address, warn=lambda words: note(f"warning: {words}"))
    warn_of_logout()
    if detach:
        wait_for_training(directory, FIRST_STEP_SECONDS)
        print_run(directory, "started; `rnnlm-tui show {run}` shows its figures, `rnnlm-tui open {run}` its charts", json=json)
    elif showing:
        open_app(directory, "train")
    else:
        from rnnlm_tui.cli.follow import follow_run

        code = follow_run(directory, json=json)
        if discard_refused(directory) is not None:
            note(f"{directory.name} never started and was moved to the trash")
        raise typer.Exit(code)


def print_run(directory: RunDirectory, words: str, *, json: bool) -> None:
    """Print a run's name, or its summary as JSON, on stdout, and what to do next on stderr."""
    from rnnlm_tui.cli.output import line, note, print_json
    from rnnlm_tui.supervisor.monitor import summarize

    if json:
        print_json(summarize(directory).model_dump(mode="json"))
    else:
        line(directory.name)
        note(words.format(run=directory.name))


def follow(run: RunArgument, json: JsonOption = False) -> None:
    """Print a run's progress until it ends; Ctrl-C detaches."""
    from rnnlm_tui.cli.follow import follow_run
    from rnnlm_tui.store.runs import find_run

    raise typer.Exit(follow_run(find_run(run), json=json))
