"""The terminal: its kind, and what happens when it is gone or when the app has failed."""

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Literal, NamedTuple, get_args

from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.store.paths import home
from rnnlm_tui.tui import ColourName as ColourName

COLOUR_NAMES: tuple[ColourName, ...] = get_args(ColourName)
Depth = Literal["none", "16", "256", "16 million"]
"""The number of colours."""
COLOURLESS = ("", "dumb", "vt52", "vt100", "vt102", "vt220")
"""Terminals without colours, whose names emulators may use."""
UTF8_LOCALES = ("c.utf-8", "c.utf8", "utf-8")
"""What Python sets LC_CTYPE to if the locale is C."""
BRAILLE = "⣿"


class TerminalKind(NamedTuple):
    """What is known of a terminal before anything is drawn."""

    depth: Depth
    """Its colours; none if NO_COLOR is set to anything."""
    light: bool
    """Whether its background is bright; only a few terminals report it."""
    braille: bool
    """Whether it can show braille charts; else marks, panels and charts are drawn in ASCII."""
    hint: str = ""
    """How to get more colours; empty if it has enough, or wants none."""

    def colours(
        self, wanted: ColourName | None = None, kept: ColourName | None = None
    ) -> ColourName:
        """Choose the colours.

        Those requested at this start come first, then none if the terminal has or wants none, then
        the saved ones, then those for the terminal's background.
        """
        kept = "none" if self.depth == "none" else kept
        chosen = wanted or kept or ("light" if self.light else "dark")
        if self.depth == "16" and chosen in ("dark", "light"):  # exact colours need 256
            return "ansi-light" if chosen == "light" else "ansi-dark"
        return chosen


FULL = TerminalKind("16 million", light=False, braille=True)
"""A terminal that shows everything."""


def terminal_kind(
    environment: Mapping[str, str],
    encoding: str = "utf-8",
    listed: Callable[[str], int] | None = None,
) -> TerminalKind:
    """Return the kind of terminal, by environment variables and the encoding of standard output.

    `listed` returns the colours of a terminal by its name (terminfo).
    """
    depth = _depth(environment, listed or listed_colours)
    hint = "export TERM=xterm-256color, if this terminal can"
    if environment.get("TMUX"):
        hint = "in ~/.tmux.conf: set -g default-terminal tmux-256color"
    hint = hint if depth == "16" else ""
    # Konsole, rxvt and a few others set `foreground;background`, numbers of the 16 colours
    light = environment.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
    return TerminalKind(depth, light, _has_braille(environment, encoding), hint)


def listed_colours(term: str) -> int:
    """Return a terminal's number of colours by terminfo; -1 if unknown or there is no terminfo."""
    try:
        import curses
    except ImportError:
        return -1
    try:
        curses.setupterm(term, 1)
    except curses.error:
        return -1
    return curses.tigetnum("colors")


def _depth(environment: Mapping[str, str], listed: Callable[[str], int]) -> Depth:
    term = environment.get("TERM", "").lower()
    if environment.get("NO_COLOR") or term in COLOURLESS or term.endswith(("-m", "-mono")):
        return "none"
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "16 million"
    named = any(name in term for name in ("256color", "kitty", "direct"))
    return "256" if named or listed(term) >= 256 else "16"


def _has_braille(environment: Mapping[str, str], encoding: str) -> bool:
    """Whether braille can be shown.

    The Linux console has no glyphs for it, and a locale of C or an old encoding can't encode it. No
    locale at all is most often a container in a modern terminal.
    """
    if environment.get("TERM") == "linux":
        return False
    try:
        BRAILLE.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    language, whole = environment.get("LANG", ""), environment.get("LC_ALL")
    locale = whole or environment.get("LC_CTYPE") or language
    if not whole and locale.lower() in UTF8_LOCALES and language in ("C", "POSIX"):
        locale = language
    return not locale or "utf" in locale.lower()


CHECK_SECONDS = 5.0
"""Seconds between checks of stdin: a terminal may disappear without a signal, and the app must not
run for ever."""
EXIT_SECONDS = 1.5
"""The process is ended this long after a signal: the app may wait for ever for a terminal that
takes no more output."""


def leave_on_hangup(leave: Callable[[], object]) -> None:
    """Call `leave` in the running loop when the terminal hangs up or disappears, or on SIGTERM.

    The process ends soon after in any case. The loop's own signal handlers can't be used: the loop
    is blocked while a terminal takes no output.
    """
    loop = asyncio.get_running_loop()

    def leave_now(code: int) -> None:
        exit_later = threading.Timer(EXIT_SECONDS, os._exit, (code,))
        exit_later.daemon = True
        exit_later.start()
        with suppress(RuntimeError):  # the loop is closed: the app is leaving
            loop.call_soon_threadsafe(leave)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        leave_now(128 + number)

    def watch() -> None:
        while not terminal_is_gone():
            sleep(CHECK_SECONDS)
        leave_now(128 + signal.SIGHUP)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, on_signal)
    threading.Thread(target=watch, name="hangup", daemon=True).start()


def terminal_is_gone() -> bool:
    """Whether stdin is no longer a terminal."""
    with suppress(OSError, ValueError):  # it is closed
        return sys.__stdin__ is None or not sys.__stdin__.isatty()
    return True


MOST_BYTES = 1_000_000
"""A longer log is overwritten."""


def log_traceback(error: BaseException) -> Path | None:
    """Append the traceback to the app's log in the data home; None if it can't be written."""
    path = home() / "app.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = "a" if not path.exists() or path.stat().st_size < MOST_BYTES else "w"
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as log:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            log.write(f"{now}\n{''.join(traceback.format_exception(error))}\n")
        path.chmod(0o600)
    except OSError:
        return None
    return path


REINSTALLED = (
    "rnnlm-tui was installed again while the app was open: restart the app. Runs keep training."
)
"""What an ImportError means: the installed version is another than the one that runs."""


def crash_report(error: BaseException, log: Path | None) -> str:
    """Return two lines for the terminal after the app has failed."""
    where = f"Details: {safe(str(log))}" if log is not None else "Details could not be written."
    if isinstance(error, ImportError):
        return f"{REINSTALLED}\n{where}"
    return (
        f"rnnlm-tui: the app failed ({type(error).__name__}). Runs keep training; start rnnlm-tui"
        f" again to come back.\n{where}"
    )
