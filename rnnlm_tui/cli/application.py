"""The typer application, made from the table of verbs, with its help in families."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Protocol, cast

import typer
from typer.core import TyperGroup

from rnnlm_tui.cli.arguments import FPS, AsciiOption, FpsOption, NoMouseOption
from rnnlm_tui.cli.start import open_app
from rnnlm_tui.cli.verbs import FAMILIES, VERBS

HELP = """Train, watch and sample recurrent language models in one terminal.

Without a verb the app opens. A run belongs to the machine and not to the terminal: training goes on when you leave,
and after a crash `resume` goes on from the last verified checkpoint."""

EPILOG = """Exit codes: 0 done, 1 failed, 2 wrong input (nothing was done), 3 the run is not in a state for it, 4 a worker failed,
5 files can't be read, written or trusted, 130 interrupted (a run that was followed goes on)."""


def build() -> typer.Typer:
    """A fresh application with every verb."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    application = typer.Typer(
        cls=GroupInFamilies,
        help=HELP,
        epilog=EPILOG,
        context_settings=settings,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    application.callback()(start)
    groups: dict[str, typer.Typer] = {}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(help="Show a config, or the presets that one starts from.", no_args_is_help=True, rich_markup_mode=None)
            application.add_typer(groups[group], name=group)
        parent = groups[group] if group else application
        parent.command(name, help=verb.call.__doc__, context_settings=settings)(verb.call)
    return application


def start(
    context: typer.Context,
    ascii_only: AsciiOption = False,
    fps: FpsOption = FPS,
    no_mouse: NoMouseOption = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and leave.", is_eager=True)] = False,
) -> None:
    """Without a verb: the app."""
    if version:
        from rnnlm_tui import __version__

        typer.echo(f"rnnlm-tui {__version__}")
    elif context.invoked_subcommand is None:
        open_app(None, ascii_only=ascii_only, fps=fps, mouse=not no_mouse)


class _Formatter(Protocol):
    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class GroupInFamilies(TyperGroup):
    """A group whose help lists its verbs under the headings of their families."""

    def format_commands(self, ctx: object, formatter: object) -> None:  # noqa: ARG002  typer's signature
        """Write one section a family, their columns in line."""
        writer = cast(_Formatter, formatter)
        width = max(len(verb.name) for verb in VERBS)
        for family in FAMILIES:
            with writer.section(family):
                writer.write_dl([(verb.name.ljust(width), verb.summary) for verb in VERBS if verb.family == family])
