"""What makes a terminal that nobody looks at call for its user: the bell, and a notification of the desktop where the terminal can show one.

OSC 9 (iTerm2, kitty, WezTerm, Ghostty) and OSC 777 (urxvt, foot, VTE) name the same thing: one of them is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from rnnlm_tui.contract.outside_text import safe

BELL = "\x07"
TITLE = "rnnlm-tui"
LONGEST = 160
"""Characters of a notification: GNU screen hands on no more than some 250."""
BELL_ALONE = ("linux", "dumb", "vt")
"""Terminals, by the beginning of TERM, that would print what they don't know, or can show nothing."""
OSC_9 = ("iTerm.app", "WezTerm", "ghostty", "kitty", "vscode", "WarpTerminal")
"""Values of TERM_PROGRAM."""


def call_for_user(text: str, environment: Mapping[str, str], *, ascii_only: bool = False) -> str:
    """The bell, then the notification in the terminal's way, wrapped where tmux or GNU screen stands between; nothing of `text` can act on the terminal."""
    shown = safe(text, keep="").replace(";", ",")  # a semicolon separates the parts of a notification
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    if ascii_only:
        shown = shown.replace("…", "~").encode("ascii", "replace").decode("ascii")
    return BELL + "".join(_through(sequence, environment) for sequence in _notifications(shown, environment))


def _notifications(text: str, environment: Mapping[str, str]) -> list[str]:
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    nine, triple = f"\x1b]9;{TITLE}: {text}{BELL}", f"\x1b]777;notify;{TITLE};{text}{BELL}"  # a text that begins with a digit is another command to some
    if "TMUX" in environment or "STY" in environment:
        return [nine]  # which terminal lies behind it is not known
    if not term or term.startswith(BELL_ALONE) or program == "Apple_Terminal":
        return []
    if program in OSC_9 or environment.get("LC_TERMINAL") == "iTerm2" or term in ("xterm-kitty", "xterm-ghostty"):
        return [nine]
    if "VTE_VERSION" in environment or term.startswith(("rxvt", "foot")):
        return [triple]
    return [nine]  # never both: a terminal that knows both would notify twice


def _through(sequence: str, environment: Mapping[str, str]) -> str:
    """Past a multiplexer to the terminal: tmux lets it through where `allow-passthrough` is on."""
    if "TMUX" in environment:
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    if "STY" in environment:
        return f"\x1bP{sequence}\x1b\\"
    return sequence
