"""Notifications for a terminal without focus: the bell, and a desktop notification if the terminal can show one.

OSC 9 (iTerm2, kitty, WezTerm, Ghostty) and OSC 777 (urxvt, foot, VTE) do the same: one of them is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from rnnlm_tui.contract.outside_text import safe

BELL = "\x07"
TITLE = "rnnlm-tui"
LONGEST = 160
"""Characters of a notification: GNU screen passes on about 250 at most."""
BELL_ALONE = ("linux", "dumb", "vt")
"""Terminals, by the beginning of TERM, that print unknown sequences or can show nothing."""
OSC_9 = ("iTerm.app", "WezTerm", "ghostty", "kitty", "vscode", "WarpTerminal")
"""Values of TERM_PROGRAM."""


def notification(text: str, environment: Mapping[str, str], *, ascii_only: bool = False) -> str:
    """Return the bell and a notification, wrapped for tmux or GNU screen.

    Nothing in `text` can act on the terminal.
    """
    shown = safe(text, keep="").replace(";", ",")  # a semicolon separates the parts of a notification
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    if ascii_only:
        shown = shown.replace("…", "~").encode("ascii", "replace").decode("ascii")
    return BELL + "".join(_through(sequence, environment) for sequence in _notifications(shown, environment))


def _notifications(text: str, environment: Mapping[str, str]) -> list[str]:
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    nine, triple = f"\x1b]9;{TITLE}: {text}{BELL}", f"\x1b]777;notify;{TITLE};{text}{BELL}"  # to some, a text that begins with a digit is another command
    if "TMUX" in environment or "STY" in environment:
        return [nine]  # the terminal behind the multiplexer is unknown
    if not term or term.startswith(BELL_ALONE) or program == "Apple_Terminal":
        return []
    if program in OSC_9 or environment.get("LC_TERMINAL") == "iTerm2" or term in ("xterm-kitty", "xterm-ghostty"):
        return [nine]
    if "VTE_VERSION" in environment or term.startswith(("rxvt", "foot")):
        return [triple]
    return [nine]  # never both: a terminal that knows both would notify twice


def _through(sequence: str, environment: Mapping[str, str]) -> str:
    """Pass a sequence through a multiplexer; tmux allows it only with `allow-passthrough`."""
    if "TMUX" in environment:
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    if "STY" in environment:
        return f"\x1bP{sequence}\x1b\\"
    return sequence
