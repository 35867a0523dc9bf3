"""A terminal that changes size in a loop, on every screen, while data arrives: nothing fails."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from functools import partial

import pytest

from tests.terminal import Terminal

pytestmark = pytest.mark.fault("the terminal changes its size, the clock jumps")

DEADLINE = 60.0
PATIENCE = 5.0
"""How long to wait for an overlay that may have closed."""
ESC = "\x1b[27u"
"""As a terminal with Kitty's protocol sends it: a key right after a plain esc is one with alt."""
EXTREMES = (
    (1, 1),
    (300, 1),
    (1, 100),
    (300, 100),
    (2, 2),
    (59, 15),
    (60, 14),
    (60, 15),
    (79, 24),
    (120, 40),
)
LARGEST = (300, 100)
OTHERS, SIZES = 4, 4
SCREENS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("", "Perplexity, log"),),
    "samples step by step": (("h", "Samples, step by step"),),
    "the worker's log": ((ESC, "-Samples, step by step"), ("L", "Log, plain-otter")),
    "one chart with a cursor": ((ESC, "-Log, plain-otter"), ("z\x1b[C", "Close cursor")),
    "config": ((ESC, "-Close cursor"), (ESC, "Machine"), ("1", "Tokenizer")),
    "a field of a draft": (("n", "draft, not started"), ("\r", "enter Keep")),
    "presets": ((ESC, "enter Edit"), ("P", "esc cancel")),
    "checkpoints": ((ESC, "-esc cancel"), ("3", "kept, newest")),
    "prompt": (("4", "@best"),),
    "settings": (("\t", "enter Keep"),),
    "a prompt being written": (
        (ESC, "-enter Keep"),
        (ESC, "enter Write"),
        ("\r", "enter Generate"),
        ("The state of", "The state of"),
    ),
    "runs": ((ESC, "q Leave"), ("\x0c", "progress")),
    "the filter": ((ESC, ""), ("/", "name, tag, ppl<80")),
    "a run's tags": ((ESC, "-name, tag, ppl<80"), ("t", "Tags of")),
    "the trash": ((ESC, "-Tags of"), ("T", "╭─ Trash")),
    "runs compared": ((ESC, "-╭─ Trash"), ("=", "comparing")),
    "keys": (("r", "progress"), ("?", "Keys: Runs")),
    "palette": ((ESC, "-Keys: Runs"), ("\x10", "type to search")),
    "the question before leaving": (
        (ESC, "-type to search"),
        ("k", "╭─ plain-otter"),
        ("2", "Perplexity, log"),
        ("q", "Leave rnnlm-tui?"),
    ),
}
"""What is on the screen, and how to get there from the previous one: keys, and the words that show
their effect; `-` before words that must be gone."""
BACK = ((ESC, "-Leave rnnlm-tui?"),)


def sizes(draw: random.Random) -> list[tuple[int, int]]:
    """Some extremes and others, in random order."""
    others = [(draw.randint(1, LARGEST[0]), draw.randint(1, LARGEST[1])) for _ in range(OTHERS)]
    return draw.sample([*EXTREMES, *others], SIZES)


def settle(opened: Terminal) -> None:
    """Back to the usual size, painted down to the row above the footer, which has no keys under a
    box."""
    opened.resize(120, 40)
    opened.wait_for(
        lambda: (
            opened.screen.display[0].rstrip().endswith(("NVIDIA L4", "─╮"))
            and bool(opened.screen.display[38].strip())
        ),
        DEADLINE,
    )


def walk(opened: Terminal, way: tuple[tuple[str, str], ...]) -> None:
    """Type and wait for each key's effect: none is lost."""
    settle(opened)
    for keys, words in way:
        opened.send(keys)
        opened.wait_for(partial(_stands, opened, words), DEADLINE)


def _stands(opened: Terminal, words: str) -> bool:
    return words[1:] not in opened.text if words.startswith("-") else words in opened.text


def resize_everywhere(opened: Terminal, draw: random.Random) -> None:
    """Run one round over all screens."""
    for name, way in SCREENS.items():
        walk(opened, way)
        for columns, rows in sizes(draw):
            opened.resize(columns, rows)
            opened.read(draw.choice((0.0, 0.0, 0.02)))
            assert opened.alive, (
                f"the app ended with {opened.exit_code} on {name} at"
                f" {columns}×{rows}\n{opened.raw[-2_000:].decode(errors='replace')}"
            )
        settle(opened)
        with suppress(AssertionError):  # an overlay may have closed
            opened.wait_for(partial(_stands, opened, way[-1][1]), PATIENCE)
    walk(opened, BACK)


def open_app() -> Terminal:
    """The app on a run that trains."""
    return Terminal([sys.executable, "-m", "tests.faults.resizing_app"], columns=120, rows=40)


def test_resizing_on_every_screen_while_data_arrives_raises_nothing(draw: random.Random) -> None:
    with open_app() as opened:
        opened.wait_for("plain-otter ● running", DEADLINE)
        resize_everywhere(opened, draw)
        opened.send("q")
        opened.wait_for("Leave rnnlm-tui?", DEADLINE)
        opened.send("\r")
        assert opened.wait(DEADLINE) == 0
    assert b"the app failed" not in opened.raw


def test_a_window_made_small_and_large_again_at_once_shows_everything() -> None:
    with open_app() as opened:
        opened.wait_for("Perplexity, log", DEADLINE)
        walk(opened, (("1", "frozen"), ("", "ln V")))  # nothing moves there
        for small in ((60, 15), (119, 40), (120, 39), (1, 1)):
            opened.resize(*small)
            opened.resize(120, 40)
            opened.wait_for(lambda: is_whole(opened.screen.display), DEADLINE)


def is_whole(rows: list[str]) -> bool:
    """Whether every row of the config pane reaches from edge to edge."""
    frame = [row.strip() for row in rows[2:-1]]
    edges = {row[0] + row[-1] for row in frame[1:-1] if row}
    return (
        (frame[0][:6], frame[0][-1:], edges, frame[-1][:2]) == ("╭─ Con", "╮", {"││"}, "╰─")
        and all(frame)
        and "Leave" in rows[-1]
        and "plain-otter" in rows[0]
    )
