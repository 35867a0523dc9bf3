"""The verbs that open the app: none at all, and `open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from rnnlm_tui.cli.arguments import FPS, THEME, AsciiOption, FpsOption, NoMouseOption, RunArgument, ThemeOption, check_fps
from rnnlm_tui.tui.sizes import SMALLEST

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def open_run(run: RunArgument, ascii_only: AsciiOption = None, theme: ThemeOption = THEME, fps: FpsOption = FPS, no_mouse: NoMouseOption = False) -> None:
    """Open the app on a run."""
    from rnnlm_tui.store.runs import find_run

    open_app(find_run(run), ascii_only=ascii_only, theme=theme, fps=fps, mouse=not no_mouse)


def open_app(
    run: RunDirectory | None, pane: str | None = None, *, ascii_only: bool | None = None, theme: str = THEME, fps: float = FPS, mouse: bool = True
) -> NoReturn:
    """Give the terminal to the app until it is left.

    Raises:
        TerminalError: no terminal, or one that is too small.
        InputError: `fps` that no screen can show, colours that there are not.
    """
    import gc
    import os

    from rnnlm_tui.errors import InputError
    from rnnlm_tui.tui.terminal_kind import COLOUR_NAMES, terminal_kind

    check_terminal()
    check_fps(fps)
    if theme not in (THEME, *COLOUR_NAMES):
        raise InputError(f"--theme is {theme}, must be {THEME}, {', '.join(COLOUR_NAMES[:-1])} or {COLOUR_NAMES[-1]}")
    if terminal_kind(os.environ).depth == "256":  # Textual counts 16 in many that have 256
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")
    gc.disable()  # of what imports make nothing is garbage: to look for it takes a tenth of the start,
    from rnnlm_tui.tui.run_app import run_app

    gc.freeze()  # and, each time, as long as a picture
    gc.enable()
    raise typer.Exit(run_app(run, pane, ascii=ascii_only, fps=fps, mouse=mouse, colours=theme))


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
