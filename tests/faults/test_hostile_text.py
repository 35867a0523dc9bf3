"""Text that would control a terminal is escaped in every view of the app and by every verb."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from tests.faults.hostile import TEXTS, copied, leaks, seen, without_copied
from tests.integration.runs import tiny_config
from tests.terminal import Terminal

pytestmark = pytest.mark.fault("text contains control bytes, escape sequences or markup")

DEADLINE = 60.0
ESCAPE, UP, DOWN, RIGHT = "\x1b", "\x1b[A", "\x1b[B", "\x1b[C"


class Tour:
    """A walk through the app on a real pseudo-terminal."""

    def __init__(self, opened: Terminal, text: str) -> None:
        self.opened = opened
        self.beginning = seen(text)[:5]
        """The start of the hostile text as shown on the screen."""

    def go(self, keys: str, until: str, *, shown: bool = True) -> None:
        """Type, wait for a word and, if `shown`, for the hostile text."""
        self.opened.send(keys)
        self.opened.wait_for(until, DEADLINE)
        if shown:
            self.opened.wait_for(lambda: self.beginning in self.opened.text, DEADLINE)

    def gone(self, keys: str, words: str) -> None:
        """Type, and wait until the words disappear."""
        self.opened.send(keys)
        self.opened.wait_for(lambda: words not in self.opened.text, DEADLINE)

    def click_everywhere(self) -> None:
        """Click on each hostile text, except in the top and bottom lines of keys and fields."""
        for y, row in enumerate(self.opened.screen.display[2:-6], start=3):
            x = row.find(self.beginning)
            if x >= 0:
                self.opened.send(f"\x1b[<0;{x + 3};{y}M\x1b[<0;{x + 3};{y}m")


@contextmanager
def touring(kind: str, pane: str, size: tuple[int, int]) -> Iterator[Tour]:
    """Run the app on hostile runs; at the end it must quit by its key and have leaked nothing."""
    command = [sys.executable, "-m", "tests.faults.hostile_app", kind, pane]
    with Terminal(command, columns=size[0], rows=size[1]) as opened:
        yield Tour(opened, TEXTS[kind])
        opened.send("\x11")  # ctrl+q: beside a text box, q is text
        opened.wait_for("Leave rnnlm-tui?", DEADLINE)
        opened.send("\r")
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(without_copied(bytes(opened.raw))) == []
    for text in copied(bytes(opened.raw)):
        assert seen(text.replace("\n", "")) == text.replace("\n", ""), (
            "the clipboard got control characters"
        )


@pytest.mark.parametrize(
    ("kind", "size"), [("acts", (120, 40)), ("markup", (120, 40)), ("acts", (80, 24))], ids=str
)
def test_hostile_text_is_shown_literally_on_the_panes_of_a_run(
    kind: str, size: tuple[int, int]
) -> None:
    with touring(kind, "train", size) as tour:
        tour.go("", "● running")
        tour.click_everywhere()
        tour.go("s", "refused")  # an error's message and hint
        tour.go("c", "3,752", shown=False)  # a command's answer
        tour.go("h", "step by step")
        tour.gone(ESCAPE, "step by step")
        tour.go("L", "follows")
        tour.gone(ESCAPE, "follows")
        tour.go("z" + RIGHT, "Close cursor", shown=False)
        tour.gone(ESCAPE, "Close cursor")
        tour.go("3", "change per layer" if size[1] > 24 else "★ best")
        tour.go("C", "is damaged")
        tour.go("1", "frozen")
        tour.go("n", "draft, not started")
        tour.go("\rzzz", "zzz", shown=False)  # a text field
        tour.gone(ESCAPE, "zzz")
        tour.go("P", "esc cancel", shown=False)
        tour.gone(ESCAPE, "esc cancel")
        tour.go("\x13", "not created")
        tour.go("\t" * 6 + 3 * DOWN, "Prompts to continue at", shown=False)
        tour.go("\r", "esc cancel", shown=False)  # a box for several texts
        tour.gone(ESCAPE, "esc cancel")


@pytest.mark.parametrize("kind", TEXTS)
def test_hostile_prompts_and_generated_text_are_shown_literally(kind: str) -> None:
    with touring(kind, "prompt", (120, 40)) as tour:
        tour.go("", "@best")
        tour.go("go\r", "stopped at")
        tour.click_everywhere()
        tour.go("\r", "esc Back")
        tour.go("\x19", "copied ", shown=False)  # to the clipboard
        tour.go("\x13", "saved as")
        tour.go("\x15fail\r", "✗ failed")
        # An earlier prompt, without control characters.
        tour.go("\x15" + UP * 3, "an old", shown=False)
        tour.go("\x15\x1b[200~pasted\x9b31m\u202e\x1b[201~", "from the paste")
        tour.go("\t" * 11, "between several", shown=False)  # a text setting
        tour.gone(ESCAPE, "between several")
        tour.go("\x1b[18~", "enter reuse")  # the kept samples
        tour.go("/zzz", "no sample has", shown=False)
        tour.gone(ESCAPE, "no sample has")
        tour.gone(ESCAPE, "enter reuse")
        tour.go("\x1b[19~", "initial state")  # the kept states
        tour.gone(ESCAPE, "initial state")
        tour.go(ESCAPE, "q Leave", shown=False)


@pytest.mark.parametrize("kind", TEXTS)
def test_hostile_text_is_shown_literally_in_the_runs_list_and_its_overlays(kind: str) -> None:
    with touring(kind, "runs", (120, 40)) as tour:
        tour.go("", "▴ age")
        for name in (
            "a-stalled-run",
            "a-degraded-run",
            "a-preparing-run",
            "a-failed-run",
            "a-crashed-run",
            "a-lost-run",
            "a-draft-run",
        ):
            tour.go("j", f"╭─ {name} ─")
        tour.go("d", "not deleted")
        for key, title in (("t", "Tags of a-draft-run"), ("m", "Note on a-draft-run")):
            tour.go(key, title, shown=False)
            tour.gone(ESCAPE, title)
        tour.go("?", "Keys: Runs", shown=False)
        tour.gone("q", "Keys: Runs")
        tour.go("\x10open", "Open a-lost-run", shown=False)
        tour.gone(ESCAPE, "Open a-lost-run")


def test_a_hostile_path_is_shown_literally_at_the_first_launch(tmp_path: Path) -> None:
    home = tmp_path / TEXTS["acts"].replace("\0", "")
    command = [sys.executable, "-m", "rnnlm_tui"]
    with Terminal(
        command,
        columns=120,
        rows=40,
        environment={"RNNLM_TUI_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""},
    ) as opened:
        opened.wait_for("no runs yet", DEADLINE)
        opened.wait_for("free in", DEADLINE)
        opened.send("q")
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(bytes(opened.raw)) == []


def test_no_verb_lets_hostile_text_reach_the_terminal(tmp_path: Path) -> None:
    with Terminal(
        [sys.executable, "-m", "tests.faults.hostile_home", "acts", str(tmp_path / "config.toml")],
        columns=160,
        rows=24,
    ) as opened:
        opened.wait_for(", codes [", 4 * DEADLINE)  # some hundred commands
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(bytes(opened.raw), lines=True) == []
    assert bytes(opened.raw).count(seen(TEXTS["acts"])[:5].encode()) > 50
    assert b"internal error" not in opened.raw


def test_hostile_text_from_a_corpus_and_its_model_is_shown_literally(tmp_path: Path) -> None:
    corpus = tmp_path / "hostile.txt"
    corpus.write_text(
        f"{TEXTS['acts'].replace(chr(0), '')} {TEXTS['markup']}\n" * 400, encoding="utf-8"
    )
    file = tmp_path / "config.toml"
    config = tiny_config(
        corpus,
        {
            "tokenizer.kind": "byte",
            "training.max_steps": 40,
            "evaluation.prompts": [*TEXTS.values()],
            "sampling.greedy": True,
        },
    )
    file.write_text(toml_text(config_to_raw(config)), encoding="utf-8")
    raw = bytearray()
    for arguments in (
        ["train", "--config", str(file), "--follow", "--name", "hostile"],
        [
            "sample",
            "hostile@last",
            TEXTS["acts"].replace("\0", ""),
            "--temperature",
            "9",
            "--max-new-tokens",
            "400",
        ],
    ):
        with Terminal(
            [sys.executable, "-m", "rnnlm_tui", *arguments], columns=160, rows=24
        ) as opened:
            assert opened.wait(DEADLINE) == 0, opened.text
            raw += opened.raw
    assert leaks(bytes(raw), lines=True) == []
    assert "‹9b›".encode() in raw
