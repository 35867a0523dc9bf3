"""The arguments and options that several verbs share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rnnlm_tui.cli.start import THEME


def complete_run(incomplete: str) -> list[str]:
    """The names of runs that begin so, for the shell's completion."""
    from rnnlm_tui.store.runs import list_runs

    return [run.name for run in list_runs() if run.name.startswith(incomplete)]


def complete_preset(incomplete: str) -> list[str]:
    """The names of presets that begin so, for the shell's completion."""
    from rnnlm_tui.contract.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_theme(incomplete: str) -> list[str]:
    """The names of colours that begin so, for the shell's completion."""
    from rnnlm_tui.tui.terminal_kind import COLOUR_NAMES

    return [name for name in (THEME, *COLOUR_NAMES) if name.startswith(incomplete)]


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or the beginning of one.", show_default=False, autocompletion=complete_run)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help="Start from this preset: demo (the default), elman or book.", show_default=False, autocompletion=complete_preset
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file laid over the preset; what it leaves out stays as it is.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one field, such as training.seed=3; may be repeated.", show_default=False)
]
AsciiOption = Annotated[
    bool | None,
    typer.Option("--ascii/--no-ascii", help="Draw with ASCII characters alone, or never; by itself where braille can't be shown.", show_default=False),
]
FpsOption = Annotated[float, typer.Option("--fps", metavar="N", help="Repaints a second at most.")]
ThemeOption = Annotated[
    str,
    typer.Option(
        "--theme", metavar="NAME", help="Colours: auto, dark, light, ansi-dark, ansi-light (the terminal's 16) or none.", autocompletion=complete_theme
    ),
]
NoMouseOption = Annotated[bool, typer.Option("--no-mouse", help="Leave the mouse to the terminal.")]
