"""The bell and desktop notifications of each terminal, also through multiplexers."""

from __future__ import annotations

import pytest

from rnnlm_tui.tui.alerts import notification

NINE, TRIPLE = (
    "\x1b]9;rnnlm-tui: plain-otter finished\x07",
    "\x1b]777;notify;rnnlm-tui;plain-otter finished\x07",
)


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
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
    ],
)
def test_each_terminal_gets_the_bell_and_the_notification_it_supports(
    environment: dict[str, str], sent: str
) -> None:
    assert notification("plain-otter finished", environment) == "\x07" + sent


def test_tmux_and_screen_pass_the_notification_on() -> None:
    within = notification(
        "plain-otter finished", {"TERM": "tmux-256color", "TMUX": "/tmp/tmux-0/default,1,0"}
    )
    assert within == f"\x07\x1bPtmux;\x1b{NINE}\x1b\\"
    assert (
        notification("plain-otter finished", {"TERM": "screen", "STY": "1.pts-0"})
        == f"\x07\x1bP{NINE}\x1b\\"
    )


def test_text_from_outside_is_escaped_and_shortened() -> None:
    sent = notification("a\x07b\x1b]0;owned\x1b\\c\x9b2J\n;" + "d" * 500, {"TERM": "xterm-kitty"})
    body = sent.removeprefix("\x07\x1b]9;rnnlm-tui: ").removesuffix("\x07")
    assert not set(body) & {"\x07", "\x1b", "\x9b", "\n", ";"}
    assert len(body) == 160
    assert body.endswith("…")


def test_a_terminal_without_unicode_gets_none() -> None:
    assert notification(
        "größer – 55 · " + "x" * 300, {"TERM": "xterm-kitty"}, ascii_only=True
    ).isascii()
