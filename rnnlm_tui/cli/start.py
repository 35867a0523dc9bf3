"""The verbs that open the app: none at all, and `open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from rnnlm_tui.cli.arguments import FPS, AsciiOption, FpsOption, NoMouseOption, RunArgument
from rnnlm_tui.tui.sizes import SMALLEST

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def open_run(run: RunArgument, ascii_only: AsciiOption = False, fps: FpsOption = FPS, no_mouse: NoMouseOption = False) -> None:
    """Open the app on a run."""
    from rnnlm_tui.store.runs import find_run

    open_app(find_run(run), ascii_only=ascii_only, fps=fps, mouse=not no_mouse)


def open_app(run: RunDirectory | None, pane: str | None = None, *, ascii_only: bool = False, fps: float = FPS, mouse: bool = True) -> NoReturn:
    """Give the terminal to the app until it is left.

    Raises:
        TerminalError: no terminal, or one that is too small.
        InputError: `fps` that no screen can show.
    """
    from rnnlm_tui.errors import InputError

    check_terminal()
    if not 0.1 <= fps <= 60:
        raise InputError(f"--fps is {fps:g}, must be 0.1 … 60")
    from rnnlm_tui.tui.app import run_app

    raise typer.Exit(run_app(run, pane, ascii=ascii_only, fps=fps, mouse=mouse))


def check_terminal() -> None:
    """Raise TerminalError where the app could not be seen or steered."""
    import os
    import shutil
    import sys

    from rnnlm_tui.errors import TerminalError

    hint = "`rnnlm-tui train`, `runs`, `show` and `sample` need no terminal; `rnnlm-tui --help` lists them all"
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if not stream.isatty():
            raise TerminalError(f"the app needs a terminal, and its {name} is none", hint=hint)
    kind = os.environ.get("TERM", "")
    if kind in ("", "dumb"):
        raise TerminalError(f'the terminal says TERM="{kind}", so it can\'t place a cursor', hint=hint)
    columns, rows = shutil.get_terminal_size()
    if columns < SMALLEST[0] or rows < SMALLEST[1]:
        raise TerminalError(f"the terminal has {columns}×{rows} cells, the app needs {SMALLEST[0]}×{SMALLEST[1]}", hint="enlarge it, or " + hint)
