"""The bell and desktop notifications of each terminal, also through multiplexers."""

from __future__ import annotations

from rnnlm_tui.tui.alerts import notification

NINE, TRIPLE = (
    "\x1b]9;rnnlm-tui: plain-otter finished\x07",
    "\x1b]777;notify;rnnlm-tui;plain-otter finished\x07",
)


TERMINALS: tuple[tuple[dict[str, str], str], ...] = (
    ({"TERM": "xterm-256color"}, NINE),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, NINE),
    ({"TERM": "xterm-kitty"}, NINE),
    ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, TRIPLE),
    ({"TERM": "rxvt-unicode-256color"}, TRIPLE),
    ({"TERM": "foot"}, TRIPLE),
    ({"TERM": "linux"}, ""),
    ({"TERM": "dumb"}, ""),
    ({"TERM": "vt220"}, ""),
    ({}, ""),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, ""),
    # multiplexers pass it on
    ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux-0/default,1,0"}, f"\x1bPtmux;\x1b{NINE}\x1b\\"),
    ({"TERM": "screen", "STY": "1.pts-0"}, f"\x1bP{NINE}\x1b\\"),
)


def test_each_terminal_gets_the_bell_and_the_notification_it_supports() -> None:
    for environment, sent in TERMINALS:
        assert notification("plain-otter finished", environment) == "\x07" + sent


def test_text_from_outside_is_escaped_and_shortened_and_ascii_where_the_terminal_needs_it() -> None:
    for ascii_only in (False, True):
        text = "größer – 55 a\x07b\x1b]0;owned\x1b\\c\x9b2J\n;" + "d" * 500
        sent = notification(text, {"TERM": "xterm-kitty"}, ascii_only=ascii_only)
        body = sent.removeprefix("\x07\x1b]9;rnnlm-tui: ").removesuffix("\x07")
        assert not set(body) & {"\x07", "\x1b", "\x9b", "\n", ";"}
        assert len(body) == 160
        assert body.isascii() == ascii_only
