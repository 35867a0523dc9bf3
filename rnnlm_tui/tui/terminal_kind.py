"""What the environment says of the terminal: how many colours it has, whether its background is bright, and whether it can show braille."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

ColourName = Literal["dark", "light", "ansi-dark", "ansi-light", "none"]
"""The choices of colours: as `--theme` takes them, and as they are kept for the next start."""
COLOUR_NAMES: tuple[ColourName, ...] = get_args(ColourName)
Depth = Literal["none", "16", "256", "16 million"]
"""How many colours."""
COLOURLESS = ("vt52", "vt100", "vt102", "vt220")
"""Terminals of a time before colour, of which emulators may take the name."""
UTF8_LOCALES = ("c.utf-8", "c.utf8", "utf-8")
"""What Python itself puts into LC_CTYPE where the locale is C."""
BRAILLE = "⣿"


@dataclass(frozen=True, slots=True)
class TerminalKind:
    """What there is to know of a terminal before anything is drawn."""

    depth: Depth
    """Its colours; none where NO_COLOR is set to anything."""
    light: bool
    """Its background is bright; only a few terminals say so."""
    braille: bool
    """Charts in braille can be shown."""
    hint: str = ""
    """How it would have more colours; empty where it has all that the app is drawn in, or wants none."""

    def colours(self, wanted: ColourName | None = None, kept: ColourName | None = None) -> ColourName:
        """What to draw in: what was asked for at this start, none where the terminal has or wants none, what was kept from the last time, what the background asks for."""
        chosen = wanted or ("none" if self.depth == "none" else kept) or ("light" if self.light else "dark")
        if self.depth == "16" and chosen in ("dark", "light"):  # exact colours need 256
            return "ansi-light" if chosen == "light" else "ansi-dark"
        return chosen


def terminal_kind(environment: Mapping[str, str], encoding: str = "utf-8", listed: Callable[[str], int] | None = None) -> TerminalKind:
    """From the variables, the encoding of standard output, and what `listed` knows of a terminal's colours by its name (terminfo)."""
    depth = _depth(environment, listed or listed_colours)
    hint = ""
    if depth == "16":
        inside = bool(environment.get("TMUX"))
        hint = "in ~/.tmux.conf: set -g default-terminal tmux-256color" if inside else "export TERM=xterm-256color, if this terminal can"
    return TerminalKind(depth, _is_light(environment), _has_braille(environment, encoding), hint)


def listed_colours(term: str) -> int:
    """Colours of the terminal of that name in the system's list; -1 where it has none, is unknown or there is no list."""
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
    if environment.get("NO_COLOR") or term in ("", "dumb") or term in COLOURLESS or term.endswith(("-m", "-mono")):
        return "none"
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "16 million"
    return "256" if "256color" in term or "kitty" in term or "direct" in term or listed(term) >= 256 else "16"


def _is_light(environment: Mapping[str, str]) -> bool:
    """Konsole, rxvt and a few others tell their colours as `foreground;background`, numbers of the 16."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background in ("7", "15")


def _has_braille(environment: Mapping[str, str], encoding: str) -> bool:
    """The Linux console has no letters for it, and a locale that is set to C or to one of the old encodings can't spell it; no locale at all is most often a container behind a modern terminal."""
    if environment.get("TERM") == "linux":
        return False
    try:
        BRAILLE.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    language = environment.get("LANG", "")
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or language
    if not environment.get("LC_ALL") and locale.lower() in UTF8_LOCALES and language in ("C", "POSIX"):
        locale = language
    return not locale or "utf" in locale.lower()
