"""The verbs `train` and `follow`."""

from __future__ import annotations

from typing import Annotated

import typer

from rnnlm_tui.cli.arguments import ConfigOption, JsonOption, PresetOption, RunArgument, SetOption

BEGINNING_SECONDS = 10.0
"""`--detach` waits this long for the first step at most, so that what only the worker can see to be wrong is told where it was asked for."""


def train(
    preset: PresetOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name; one is made up otherwise.", show_default=False)] = None,
    parent: Annotated[
        str | None, typer.Option("--from", metavar="RUN@CHECKPOINT", help="Start from this checkpoint's weights and that run's config.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print its progress until it ends; Ctrl-C leaves, and the run goes on.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its name and leave.")] = False,
    json: JsonOption = False,
) -> None:
    """Start a training run.

    It belongs to this machine and not to this terminal. With neither --follow nor --detach the app opens on it, or, where there is no terminal, its progress
    is printed until it ends.
    """
    from rnnlm_tui.cli.configs import build_config
    from rnnlm_tui.cli.output import interactive, line, note, print_json
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.supervisor.monitor import summarize
    from rnnlm_tui.supervisor.start import await_beginning, discard_refused, start_run

    if follow and detach:
        raise InputError("--follow and --detach exclude each other", hint="leave out one of them")
    if parent is not None:
        from rnnlm_tui.cli.parents import config_of_parent

        if preset is not None:
            raise InputError("--preset and --from exclude each other: a run from a checkpoint starts from that run's config")
        address, base = config_of_parent(parent)
        wanted = build_config(None, config, assignments, base=base)
    else:
        address, base = None, None
        wanted = build_config(preset, config, assignments)
    showing = not (follow or detach or json) and interactive()
    if showing:
        from rnnlm_tui.cli.start import check_terminal

        check_terminal()
    if base is not None:
        from rnnlm_tui.cli.parents import check_fits_parent

        check_fits_parent(wanted, base)
    directory = start_run(wanted, name, address)
    if detach:
        await_beginning(directory, BEGINNING_SECONDS)
        if json:
            print_json(summarize(directory).model_dump(mode="json"))
        else:
            line(directory.name)
            note(f"started; `rnnlm-tui show {directory.name}` tells how it is, `rnnlm-tui open {directory.name}` shows its charts")
    elif showing:
        from rnnlm_tui.cli.start import open_app

        open_app(directory, "train")
    else:
        from rnnlm_tui.cli.follow import follow_run

        code = follow_run(directory, json=json)
        if discard_refused(directory) is not None:
            note(f"{directory.name} never began and is in the trash")
        raise typer.Exit(code)


def follow(run: RunArgument, json: JsonOption = False) -> None:
    """Print a run's progress until it ends; Ctrl-C only leaves."""
    from rnnlm_tui.cli.follow import follow_run
    from rnnlm_tui.store.runs import find_run

    raise typer.Exit(follow_run(find_run(run), json=json))
