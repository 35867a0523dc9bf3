"""The verbs `train` and `follow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import ConfigOption, JsonOption, PresetOption, RunArgument, SetOption

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.store.run_directory import RunDirectory


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
    directory = start_run(wanted, name, address, base)
    if detach:
        if json:
            print_json(summarize(directory).model_dump(mode="json"))
        else:
            line(directory.name)
            note(f"started; `rnnlm-tui show {directory.name}` tells how it is, `rnnlm-tui open {directory.name}` shows its charts")
    elif follow or json or not interactive():
        from rnnlm_tui.cli.follow import follow_run

        code = follow_run(directory, json=json)
        if code == InputError.exit_code:
            discard(directory)
        raise typer.Exit(code)
    else:
        from rnnlm_tui.cli.start import open_app

        open_app(directory, "train")


def follow(run: RunArgument, json: JsonOption = False) -> None:
    """Print a run's progress until it ends; Ctrl-C only leaves."""
    from rnnlm_tui.cli.follow import follow_run
    from rnnlm_tui.store.runs import find_run

    raise typer.Exit(follow_run(find_run(run), json=json))


def start_run(config: RunConfig, name: str | None, parent: str | None, base: RunConfig | None) -> RunDirectory:
    """Create a run and start its worker; with `base`, the parent's config, only what its weights allow may differ."""
    from rnnlm_tui.cli.parents import check_fits_parent
    from rnnlm_tui.store.runs import create_run
    from rnnlm_tui.supervisor.launch import launch
    from rnnlm_tui.supervisor.preflight import check_before_start

    if base is not None:
        check_fits_parent(config, base)
    check_before_start(config)
    directory = create_run(config, name, parent)
    launch(directory)
    return directory


def discard(directory: RunDirectory) -> None:
    """Put a run that could not begin, for wrong input that only its worker could see, out of the way: nothing half-made stays."""
    from rnnlm_tui.cli.output import note
    from rnnlm_tui.store.runs import delete_run
    from rnnlm_tui.supervisor.monitor import summarize

    summary = summarize(directory)
    if summary.status == "failed" and summary.attempt <= 1 and summary.step == 0:
        note(f"{directory.name} never began; what is left of it is in the trash: {delete_run(directory)}")
