"""Open the app. Doesn't import typer, which takes a fifth of the time to the first screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn

from rnnlm_tui.tui import SMALLEST, ColourName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.store.paths import RunDirectory


FPS = 2.0
"""Default of --fps, low enough for any SSH connection."""
GARBAGE_SECONDS = 2.0
"""Delay after the start until garbage collection is enabled."""
COMPLETING = "_RNNLM_TUI_COMPLETE"
"""Environment variable by which a shell asks typer for completions."""
Theme = Literal["auto", ColourName]
"""Values of --theme; `auto` detects the terminal's colours."""


def opens_without_options(arguments: Sequence[str]) -> bool:
    """Whether the arguments are empty or `open RUN`, so that no options need parsing.

    A shell that asks for completions passes no arguments either.
    """
    import os

    if COMPLETING in os.environ:
        return False
    return not arguments or (
        len(arguments) == 2 and arguments[0] == "open" and not arguments[1].startswith("-")
    )


def open_app(
    run: RunDirectory | None,
    pane: str | None = None,
    *,
    ascii_only: bool | None = None,
    theme: Theme = "auto",
    fps: float = FPS,
    no_mouse: bool = False,
) -> NoReturn:
    """Run the app in the terminal and exit with its code.

    Raises:
        TerminalError: no terminal, or too small.
        InputError: `fps` is out of range.
    """
    import gc
    import os
    import threading

    from rnnlm_tui.tui.terminal import terminal_kind

    check_terminal()
    check_fps(fps)
    # Searching for plugins reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    if terminal_kind(os.environ).depth == "256":
        # Textual detects 16 colours in many terminals that have 256.
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")
    gc.disable()  # collecting takes a tenth of the time to the first screen
    collecting = threading.Timer(GARBAGE_SECONDS, _enable_collection)
    collecting.daemon = True
    collecting.start()
    from rnnlm_tui.tui.app import run_app

    try:
        raise SystemExit(
            run_app(run, pane, ascii=ascii_only, fps=fps, mouse=not no_mouse, colours=theme)
        )
    finally:
        collecting.cancel()
        gc.enable()


def _enable_collection() -> None:
    import gc

    gc.freeze()  # without it, each full collection takes as long as a repaint
    gc.enable()


def check_fps(fps: float) -> None:
    """Raise InputError if `--fps` is out of range."""
    if not 0.1 <= fps <= 60:
        from rnnlm_tui.errors import InputError

        raise InputError(f"--fps is {fps:g}, must be 0.1 … 60")


def should_open_app(*other_ways: bool) -> bool:
    """Whether a verb that starts a run opens the app: on a terminal, without `other_ways`.

    Raises:
        TerminalError: the terminal is too small; nothing was started.
    """
    from rnnlm_tui.cli.output import interactive

    if any(other_ways) or not interactive():
        return False
    check_terminal()
    return True


def check_terminal() -> None:
    """Raise TerminalError if the app can't run in this terminal."""
    import os
    import shutil
    import sys

    from rnnlm_tui.errors import TerminalError

    hint = (
        "`rnnlm-tui train`, `runs`, `show` and `sample` need no terminal; `rnnlm-tui --help` lists"
        " them all"
    )
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if not stream.isatty():
            raise TerminalError(
                f"the app needs a terminal, but standard {name} is not one", hint=hint
            )
    kind = os.environ.get("TERM", "")
    if kind in ("", "dumb"):
        raise TerminalError(
            f'the app can\'t run with TERM="{kind}": no cursor addressing', hint=hint
        )
    columns, rows = shutil.get_terminal_size()
    if columns < SMALLEST[0] or rows < SMALLEST[1]:
        raise TerminalError(
            f"the terminal has {columns}×{rows} cells, the app needs {SMALLEST[0]}×{SMALLEST[1]}",
            hint="enlarge the terminal; " + hint,
        )
