"""The kind of terminal, from the environment: number of colours, bright background, braille."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

ColourName = Literal["dark", "light", "ansi-dark", "ansi-light", "none"]
"""The choices of colours, as in `--theme` and in the settings."""
COLOUR_NAMES: tuple[ColourName, ...] = get_args(ColourName)
Depth = Literal["none", "16", "256", "16 million"]
"""The number of colours."""
COLOURLESS = ("vt52", "vt100", "vt102", "vt220")
"""Terminals without colours, whose names emulators may use."""
UTF8_LOCALES = ("c.utf-8", "c.utf8", "utf-8")
"""What Python sets LC_CTYPE to if the locale is C."""
BRAILLE = "⣿"


@dataclass(frozen=True, slots=True)
class TerminalKind:
    """What is known of a terminal before anything is drawn."""

    depth: Depth
    """Its colours; none if NO_COLOR is set to anything."""
    light: bool
    """Whether its background is bright; only a few terminals tell."""
    braille: bool
    """Whether it can show braille charts."""
    hint: str = ""
    """How to get more colours; empty if it has enough, or wants none."""

    def colours(self, wanted: ColourName | None = None, kept: ColourName | None = None) -> ColourName:
        """Choose the colours.

        Requested ones come first, then none if the terminal has or wants none, those saved, or by
        the background.
        """
        chosen = wanted or ("none" if self.depth == "none" else kept) or ("light" if self.light else "dark")
        if self.depth == "16" and chosen in ("dark", "light"):  # exact colours need 256
            return "ansi-light" if chosen == "light" else "ansi-dark"
        return chosen


def terminal_kind(environment: Mapping[str, str], encoding: str = "utf-8", listed: Callable[[str], int] | None = None) -> TerminalKind:
    """Return the kind of terminal, by environment variables and the encoding of standard output.

    `listed` returns the colours of a terminal by its name (terminfo).
    """
    depth = _depth(environment, listed or listed_colours)
    hint = ""
    if depth == "16":
        inside = bool(environment.get("TMUX"))
        hint = "in ~/.tmux.conf: set -g default-terminal tmux-256color" if inside else "export TERM=xterm-256color, if this terminal can"
    return TerminalKind(depth, _is_light(environment), _has_braille(environment, encoding), hint)


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
    if environment.get("NO_COLOR") or term in ("", "dumb") or term in COLOURLESS or term.endswith(("-m", "-mono")):
        return "none"
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "16 million"
    return "256" if "256color" in term or "kitty" in term or "direct" in term or listed(term) >= 256 else "16"


def _is_light(environment: Mapping[str, str]) -> bool:
    """Konsole, rxvt and a few others set `foreground;background`, numbers of the 16 colours."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background in ("7", "15")


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
    language = environment.get("LANG", "")
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or language
    if not environment.get("LC_ALL") and locale.lower() in UTF8_LOCALES and language in ("C", "POSIX"):
        locale = language
    return not locale or "utf" in locale.lower()
